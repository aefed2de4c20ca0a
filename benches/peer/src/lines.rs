//! Lines of JSON as one makes them with libbpf and serde_json: the records of a ring, each decoded into a struct with
//! `derive(Serialize)`, through `serde_json::to_writer` into a buffer that is used again.
//!
//! It is the fastest such loop: it never sleeps, and programs need not wake it. As in `benches/src/json/peer.rs` it is spared
//! the formatting of dates: the text of the current second is kept.

use std::{
    ffi::{CStr, c_char, c_int, c_void},
    fs::File,
    io::Write as _,
    mem, ptr,
};

use libbpf_sys::{ring_buffer__consume, ring_buffer__free, ring_buffer__new, size_t};
use serde::Serialize;

/// Lines are handed on when so much has come together.
const CHUNK: usize = 64 << 10;

const KIND_SYSCALL: u16 = 0x0301;
const KIND_END: u16 = 0x0f00;
const CPU_NONE: u16 = u16::MAX;
const HAS_FD: u16 = 1;
const HAS_REQUESTED: u16 = 2;
const HAS_RET: u16 = 4;

/// ABI v1: header and body of a syscall record.
#[derive(Clone, Copy)]
#[repr(C)]
struct Raw {
    ktime_ns: u64,
    cgroup_id: u64,
    tgid: u32,
    tid: u32,
    kind: u16,
    cpu: u16,
    seq: u32,
    enter_ns: u64,
    ret: i64,
    requested: u64,
    fd: i32,
    nr: u16,
    flags: u16,
}

#[derive(Serialize)]
struct Line<'a> {
    kind: &'static str,
    ktime_ns: u64,
    time: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    cpu: Option<u16>,
    tgid: u32,
    tid: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    cgroup_id: Option<u64>,
    seq: u32,
    nr: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'static str>,
    enter_ktime_ns: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    duration_ns: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    fd: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    requested: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ret: Option<i64>,
}

/// Wall-clock times as text.
struct Clock {
    /// What is between the clock of the records and the wall clock.
    offset_ns: u64,
    second: u64,
    text: String,
}

impl Clock {
    fn new() -> Self {
        let offset_ns = now(libc::CLOCK_REALTIME).wrapping_sub(now(libc::CLOCK_MONOTONIC));
        Self { offset_ns, second: u64::MAX, text: String::new() }
    }

    fn text(&mut self, ktime_ns: u64) -> &str {
        let wall_ns = ktime_ns.wrapping_add(self.offset_ns);
        let (second, mut left) = (wall_ns / 1_000_000_000, wall_ns % 1_000_000_000);
        if second != self.second {
            self.second = second;
            let time = libc::time_t::try_from(second).unwrap_or_default();
            // SAFETY: it is made of integers and a pointer, for which zeros are good.
            let mut parts: libc::tm = unsafe { mem::zeroed() };
            // SAFETY: reads one time_t and writes one tm.
            unsafe { libc::gmtime_r(&time, &mut parts) };
            let libc::tm { tm_year, tm_mon, tm_mday, tm_hour, tm_min, tm_sec, .. } = parts;
            let (year, month) = (tm_year + 1900, tm_mon + 1);
            self.text = format!("{year:04}-{month:02}-{tm_mday:02}T{tm_hour:02}:{tm_min:02}:{tm_sec:02}.");
        }
        let mut digits = [b'0'; 9];
        for digit in digits.iter_mut().rev() {
            *digit = b'0' + (left % 10) as u8;
            left /= 10;
        }
        self.text.truncate(20);
        self.text.push_str(str::from_utf8(&digits).unwrap_or_default());
        self.text.push('Z');
        &self.text
    }
}

struct Lines {
    out: File,
    buf: Vec<u8>,
    clock: Clock,
    records: u64,
    bytes: u64,
    last_ns: u64,
    ended: bool,
}

impl Lines {
    #[inline]
    fn put(&mut self, raw: &Raw) {
        let has = |flag| raw.flags & flag != 0;
        let line = Line {
            kind: "syscall",
            ktime_ns: raw.ktime_ns,
            time: self.clock.text(raw.ktime_ns),
            cpu: (raw.cpu != CPU_NONE).then_some(raw.cpu),
            tgid: raw.tgid,
            tid: raw.tid,
            cgroup_id: (raw.cgroup_id != 0).then_some(raw.cgroup_id),
            seq: raw.seq,
            nr: raw.nr,
            name: name_of(raw.nr),
            enter_ktime_ns: raw.enter_ns,
            duration_ns: raw.ktime_ns.checked_sub(raw.enter_ns),
            fd: has(HAS_FD).then_some(raw.fd),
            requested: has(HAS_REQUESTED).then_some(raw.requested),
            ret: has(HAS_RET).then_some(raw.ret),
        };
        serde_json::to_writer(&mut self.buf, &line).expect("plain values, into memory");
        self.buf.push(b'\n');
        self.records += 1;
        if self.buf.len() >= CHUNK {
            self.hand_on();
        }
    }

    fn hand_on(&mut self) {
        self.out.write_all(&self.buf).expect("the destination takes lines");
        self.bytes += self.buf.len() as u64;
        self.last_ns = now(libc::CLOCK_MONOTONIC);
        self.buf.clear();
    }
}

/// The calls that the producer makes.
fn name_of(nr: u16) -> Option<&'static str> {
    match nr {
        0 => Some("read"),
        1 => Some("write"),
        _ => None,
    }
}

unsafe extern "C" fn on_record(context: *mut c_void, data: *mut c_void, size: size_t) -> c_int {
    // SAFETY: the address that was given to `ring_buffer__new`, which nobody else uses meanwhile.
    let lines = unsafe { &mut *context.cast::<Lines>() };
    assert!(size as usize >= size_of::<Raw>(), "a record has a header and a body");
    // SAFETY: so many bytes are there, 8 bytes of alignment is what rings give, and any bytes are a `Raw`.
    let raw = unsafe { &*data.cast::<Raw>() };
    match raw.kind {
        KIND_SYSCALL => lines.put(raw),
        KIND_END => {
            lines.ended = true;
            return -1;
        }
        kind => panic!("nobody makes records of the kind {kind:#x}"),
    }
    0
}

/// Makes lines of the records of a ring until the one that ends a run, says `ready` first and then what it did.
///
/// # Safety
///
/// `to` is a C string.
#[unsafe(no_mangle)]
unsafe extern "C" fn lines(ring_fd: c_int, to: *const c_char) {
    // SAFETY: the caller's promise.
    let to = unsafe { CStr::from_ptr(to) }.to_str().expect("a path of the harness");
    let mut lines = Lines {
        out: File::options().write(true).open(to).expect("the destination is there"),
        buf: Vec::with_capacity(CHUNK + CHUNK / 4),
        clock: Clock::new(),
        records: 0,
        bytes: 0,
        last_ns: 0,
        ended: false,
    };
    let context = ptr::from_mut(&mut lines);
    // SAFETY: the ring's descriptor and a callback for this context, which outlives the ring.
    let ring = unsafe { ring_buffer__new(ring_fd, Some(on_record), context.cast(), ptr::null()) };
    assert!(!ring.is_null(), "libbpf maps the ring");
    println!("ready");
    let cpu_from = now(libc::CLOCK_PROCESS_CPUTIME_ID);
    // SAFETY: `context` is the address of `lines`, which is only used through it while the ring is there.
    while !unsafe { (*context).ended } {
        // SAFETY: it was made above and is freed below.
        unsafe { ring_buffer__consume(ring) };
    }
    // SAFETY: nobody uses it any more.
    unsafe { ring_buffer__free(ring) };
    lines.hand_on();
    let cpu_ns = now(libc::CLOCK_PROCESS_CPUTIME_ID) - cpu_from;
    let Lines { records, bytes, last_ns, .. } = lines;
    println!("records {records} dropped 0 bytes {bytes} last_ns {last_ns} cpu_ns {cpu_ns}");
}

fn now(clock: libc::clockid_t) -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: writes one timespec.
    unsafe { libc::clock_gettime(clock, &mut time) };
    time.tv_sec.unsigned_abs() * 1_000_000_000 + time.tv_nsec.unsigned_abs()
}
