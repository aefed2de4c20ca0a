//! Calls at a known rate.

use std::{
    thread,
    time::{Duration, Instant},
};

use rustix::time::{ClockId, clock_gettime};

/// Looks at the clock after so many calls at the latest.
const AT_ONCE: u64 = 1000;
/// What is missed for longer is not made up for: a burst would be another rate.
const MEMORY: Duration = Duration::from_millis(500);
const NAP: Duration = Duration::from_millis(1);

/// `rate` calls of getppid a second for so many milliseconds. Then it reports: calls, how long it took, how long it was in them,
/// and its CPU time, all in nanoseconds.
pub fn getppid(rate: u64, milliseconds: u64) {
    let length = Duration::from_millis(milliseconds);
    let due = |time: Duration| u64::try_from(u128::from(rate) * time.as_nanos() / 1_000_000_000).unwrap();
    let began = Instant::now();
    let (mut made, mut forgiven) = (0, 0);
    let mut in_calls = Duration::ZERO;
    loop {
        let elapsed = began.elapsed();
        if elapsed >= length {
            break;
        }
        let behind = due(elapsed) - made - forgiven;
        forgiven += behind.saturating_sub(due(MEMORY));
        let now = behind.min(AT_ONCE);
        if now == 0 {
            thread::sleep(NAP);
            continue;
        }
        let before = Instant::now();
        for _ in 0..now {
            // SAFETY: has no arguments.
            unsafe { libc::syscall(libc::SYS_getppid) };
        }
        in_calls += before.elapsed();
        made += now;
    }
    let cpu = clock_gettime(ClockId::ProcessCPUTime);
    let cpu_ns = cpu.tv_sec as u64 * 1_000_000_000 + cpu.tv_nsec as u64;
    println!("{made} {} {} {cpu_ns}", began.elapsed().as_nanos(), in_calls.as_nanos());
}
