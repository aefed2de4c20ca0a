//! Threads that wait, wake each other and move.

use super::{sys, wait};

/// Two processes on one CPU hand a byte to and fro `rounds` times, then wait until the test has looked at them.
pub fn ping_pong(rounds: u64) {
    let cpu = sys::cpus()[0];
    let (there, back) = (sys::pipe(), sys::pipe());
    let player = |read: i32, write: i32, begins: bool| {
        move || {
            sys::pin_to(cpu);
            let mut byte = [0_u8; 1];
            let at = byte.as_mut_ptr() as i64;
            if begins {
                sys::must(libc::SYS_write, [write.into(), at, 1, 0, 0, 0]);
            }
            for _ in 0..rounds {
                sys::must(libc::SYS_read, [read.into(), at, 1, 0, 0, 0]);
                sys::must(libc::SYS_write, [write.into(), at, 1, 0, 0, 0]);
            }
            // One byte of the pair is left over.
            wait();
        }
    };
    let one = sys::fork(player(back[0], there[1], true));
    let two = sys::fork(player(there[0], back[1], false));
    println!("{one} {two}");
    assert_eq!((sys::wait_for(one), sys::wait_for(two)), (0, 0));
}

/// Sleeps `count` times for 3 ms.
pub fn naps(count: u64) {
    for _ in 0..count {
        assert_eq!(sys::nanosleep(3_000_000), 0);
    }
}

/// Goes to the first CPU, then `count` times to the other.
pub fn moves(count: u64) {
    let cpus = sys::cpus();
    sys::pin_to(cpus[0]);
    println!("{} {}", cpus[0], cpus[1]);
    for number in 0..count {
        sys::pin_to(cpus[usize::try_from((number + 1) % 2).unwrap()]);
    }
}
