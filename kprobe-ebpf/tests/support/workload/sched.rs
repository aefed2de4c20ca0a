//! Threads that wait, wake each other and move.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

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

/// A process waits for signals until it has had `count` of them, while another one on another CPU sends it as many as it can, so
/// that now and then one comes when the first is just about to give up its CPU. Then it waits until the test has looked at it.
pub fn signalled(count: u64) {
    static COME: AtomicU64 = AtomicU64::new(0);
    extern "C" fn comes(_: i32) {
        COME.fetch_add(1, Relaxed);
    }
    let cpus = sys::cpus();
    // SAFETY: the handler adds to a number.
    unsafe { libc::signal(libc::SIGUSR1, comes as *const () as libc::sighandler_t) };
    let target = sys::fork(|| {
        sys::pin_to(cpus[0]);
        while COME.load(Relaxed) < count {
            sys::call(libc::SYS_pause, [0; 6]);
        }
        // From now on there are none.
        let mask = 1_u64 << (libc::SIGUSR1 - 1);
        let at = (&raw const mask) as i64;
        sys::must(libc::SYS_rt_sigprocmask, [libc::SIG_BLOCK.into(), at, 0, 8, 0, 0]);
        println!("{}", sys::pid());
        wait();
    });
    let sends = sys::fork(|| {
        sys::pin_to(cpus[cpus.len() - 1]);
        loop {
            sys::must(libc::SYS_kill, [target.into(), libc::SIGUSR1.into(), 0, 0, 0, 0]);
            // Long enough for the other one to be about to sleep again.
            for _ in 0..200 {
                std::hint::spin_loop();
            }
        }
    });
    assert_eq!(sys::wait_for(target), 0);
    sys::must(libc::SYS_kill, [sends.into(), libc::SIGKILL.into(), 0, 0, 0, 0]);
    sys::wait_for(sends);
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
