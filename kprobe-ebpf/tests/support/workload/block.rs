//! Processes that read and write files on a disk.

use std::{
    fs::{self, File, OpenOptions},
    os::{fd::AsRawFd, unix::fs::OpenOptionsExt},
    path::PathBuf,
};

use super::sys;
use crate::support::in_vm;

/// What each write of `direct_io` has.
pub const WRITE: usize = 64 << 10;
/// What each read has.
pub const READ: usize = 16 << 10;

/// A folder that is on a disk and not in memory.
pub fn disk() -> PathBuf {
    match in_vm() {
        true => PathBuf::from("/disk"),
        false => crate::support::child::own_path().parent().unwrap().to_owned(),
    }
}

/// Memory as `O_DIRECT` wants it.
#[repr(align(4096))]
struct Aligned([u8; WRITE]);

fn file(flags: i32) -> (PathBuf, File) {
    let path = disk().join(format!("kprobe-test-{}", std::process::id()));
    let mut options = OpenOptions::new();
    let file = options.read(true).write(true).create(true).truncate(true).custom_flags(flags).open(&path);
    (path, file.unwrap())
}

fn transfer(nr: i64, file: &File, buffer: &Aligned, bytes: usize, at: usize) {
    let moved =
        sys::must(nr, [file.as_raw_fd().into(), buffer.0.as_ptr() as i64, bytes as i64, at as i64, 0, 0]);
    assert_eq!(moved, bytes as i64);
}

fn fsync(file: &File) {
    sys::must(libc::SYS_fsync, [file.as_raw_fd().into(), 0, 0, 0, 0, 0]);
}

/// Writes past the page cache `count` times, syncs, and reads as often from there. Says how much the kernel thinks that this
/// process has had read.
pub fn direct_io(count: u64) {
    let (path, file) = file(libc::O_DIRECT);
    let buffer = Box::new(Aligned([7; WRITE]));
    for at in 0..count as usize {
        transfer(libc::SYS_pwrite64, &file, &buffer, WRITE, at * WRITE);
    }
    fsync(&file);
    for at in 0..count as usize {
        transfer(libc::SYS_pread64, &file, &buffer, READ, at * WRITE);
    }
    fs::remove_file(path).unwrap();
    let io = fs::read_to_string("/proc/self/io").unwrap();
    let read = io.lines().find_map(|line| line.strip_prefix("read_bytes: ")).unwrap();
    println!("{read}");
}

/// Writes a page and syncs it, `count` times.
pub fn fsyncs(count: u64) {
    let (path, file) = file(0);
    let buffer = Box::new(Aligned([7; WRITE]));
    for at in 0..count as usize {
        transfer(libc::SYS_pwrite64, &file, &buffer, 4096, at * 4096);
        fsync(&file);
    }
    fs::remove_file(path).unwrap();
}

/// Writes so many pages and leaves it to others to bring them to the disk.
pub fn dirty(pages: u64) {
    super::wait();
    let (_, file) = file(0);
    let buffer = Box::new(Aligned([7; WRITE]));
    for at in 0..pages as usize {
        transfer(libc::SYS_pwrite64, &file, &buffer, 4096, at * 4096);
    }
    println!("done");
    super::wait();
}

/// Writes and reads pages of the device `/dev/dm-0`, `count` times, past the page cache.
pub fn device_io(count: u64) {
    let file =
        OpenOptions::new().read(true).write(true).custom_flags(libc::O_DIRECT).open("/dev/dm-0").unwrap();
    let buffer = Box::new(Aligned([7; WRITE]));
    for at in 0..count as usize {
        transfer(libc::SYS_pwrite64, &file, &buffer, 4096, at * 4096);
        transfer(libc::SYS_pread64, &file, &buffer, 4096, at * 4096);
    }
}
