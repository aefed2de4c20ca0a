//! I8: nothing that a process writes, reads, names or is called with is in any record.

use std::{
    fs,
    io::{Read, Write},
    os::{fd::AsRawFd, unix::net::UnixStream},
    process::Command,
};

use kprobe_core::pipeline::{BatchBuf, Source};

use super::system::all;
use crate::support::{
    child::{WORKLOAD, Workload, own_path, workload},
    recording::Recording,
    workload::sys,
};

crate::trials!(no_secret_in_any_record, a_name_is_metadata);

/// In everything that the workload touches. Eight bytes, so that no field of a record can have half of it.
const SECRET: &str = "S3cr3t-K";

/// The workload: brings the secret onto every path there is; and into its name, if asked to.
pub fn secrets(in_name: u64) {
    if in_name == 1 {
        fs::write("/proc/self/comm", SECRET).unwrap();
        return;
    }
    let text = SECRET.repeat(512);
    // Arguments, environment, name of the program.
    let program = format!("/tmp/{SECRET}-program");
    let _ = fs::remove_file(&program);
    std::os::unix::fs::symlink(own_path(), &program).unwrap();
    let status = Command::new(own_path())
        .arg(&text)
        .env("SECRET", &text)
        .env(WORKLOAD, "secrets-of-exec")
        .status()
        .unwrap();
    assert!(status.success());
    fs::remove_file(&program).unwrap();
    // Names and contents of files.
    let folder = format!("/tmp/{SECRET}");
    fs::create_dir_all(&folder).unwrap();
    let (old, new) = (format!("{folder}/{SECRET}"), format!("{folder}/{SECRET}-2"));
    fs::write(&old, &text).unwrap();
    fs::rename(&old, &new).unwrap();
    assert_eq!(fs::read_to_string(&new).unwrap(), text);
    let file = fs::OpenOptions::new().read(true).write(true).open(&new).unwrap();
    let (fd, bytes) = (i64::from(file.as_raw_fd()), text.as_ptr() as i64);
    let vectors = [(bytes, text.len() as i64)];
    sys::must(libc::SYS_pwritev, [fd, vectors.as_ptr() as i64, 1, 0, 0, 0]);
    fs::remove_dir_all(&folder).unwrap();
    // A pipe, sockets, memory.
    let [read, write] = sys::pipe();
    sys::must(libc::SYS_write, [write.into(), bytes, 1024, 0, 0, 0]);
    let mut buffer = [0_u8; 1024];
    sys::must(libc::SYS_read, [read.into(), buffer.as_mut_ptr() as i64, 1024, 0, 0, 0]);
    let (mut here, mut there) = UnixStream::pair().unwrap();
    here.write_all(text.as_bytes()).unwrap();
    there.read_exact(&mut buffer).unwrap();
    let message = Message { name: 0, name_len: 0, vectors: vectors.as_ptr() as i64, count: 1, rest: [0; 3] };
    sys::must(libc::SYS_sendmsg, [here.as_raw_fd().into(), (&raw const message) as i64, 0, 0, 0, 0]);
    let memory = sys::must(libc::SYS_memfd_create, [c"S3cr3t-K".as_ptr() as i64, 0, 0, 0, 0, 0]);
    sys::must(libc::SYS_write, [memory, bytes, text.len() as i64, 0, 0, 0]);
    // Registers: a value that looks like text.
    let value = i64::from_le_bytes(SECRET.as_bytes().try_into().unwrap());
    sys::call(libc::SYS_prctl, [value, value, value, value, value, 0]);
}

/// `struct msghdr`.
#[repr(C)]
struct Message {
    name: i64,
    name_len: i64,
    vectors: i64,
    count: i64,
    rest: [i64; 3],
}

/// Whether the bytes of any record have the secret.
fn recorded(in_name: u64) -> (bool, u64) {
    let mut recording = Recording::keeping(all().ring_bytes(64 << 20), |_| false);
    let text = format!("secrets {in_name}");
    let mut workload = Workload::new(workload(&text).spawn().unwrap());
    let mut buf = BatchBuf::default();
    let (mut found, mut records, mut end) = (false, 0, false);
    while !end {
        if workload.child.try_wait().unwrap().is_some_and(|status| status.success() || panic!("{status}")) {
            recording.recorder.stop();
        }
        end = recording.recorder.poll(&mut buf, Some(std::time::Duration::from_millis(20))).unwrap().end;
        let batch = buf.take();
        records += batch
            .records()
            .map(|record| record.unwrap().header().tgid)
            .filter(|tgid| *tgid == workload.tgid())
            .count() as u64;
        found |= batch.bytes().windows(SECRET.len()).any(|bytes| bytes == SECRET.as_bytes());
        recording.take(&batch);
    }
    recording.finish().lossless();
    (found, records)
}

fn no_secret_in_any_record() {
    let (found, records) = recorded(0);
    assert!(records > 100);
    assert!(!found);
}

/// The control: what is meant to be recorded is found in the same way.
fn a_name_is_metadata() {
    assert!(recorded(1).0);
}
