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

/// A child sleeps `count` times, and has a signal at another moment each time, so that it is often when it is just about to give up
/// its CPU. (`nanosleep` does not look whether there is one before it does.) Another one, if there is to be one, never sleeps and is
/// preferred, so it has the CPU then. Then the first waits until the test has looked at it.
pub fn signalled(count: u64, beside_another: bool) {
    extern "C" fn comes(_: i32) {}
    sys::pin_to(sys::cpus()[0]);
    let child = sys::fork(|| {
        // SAFETY: a number only.
        assert!(unsafe { libc::nice(19) } == 19);
        // SAFETY: the handler does nothing.
        unsafe { libc::signal(libc::SIGUSR1, comes as *const () as libc::sighandler_t) };
        // SAFETY: all fields are numbers, for which 0 will do.
        let mut event: libc::sigevent = unsafe { std::mem::zeroed() };
        event.sigev_notify = libc::SIGEV_SIGNAL;
        event.sigev_signo = libc::SIGUSR1;
        let mut timer = 0_i32;
        let (event, at) = ((&raw const event) as i64, (&raw mut timer) as i64);
        sys::must(libc::SYS_timer_create, [libc::CLOCK_MONOTONIC.into(), event, at, 0, 0, 0]);
        let begin = std::time::Instant::now();
        for number in 0..count {
            // On a machine that is busy it may hardly get the CPU.
            if begin.elapsed() > std::time::Duration::from_secs(20) {
                break;
            }
            let once = [0, 0, 0, 1 + (number * 37 % 8_000) as i64];
            sys::must(libc::SYS_timer_settime, [timer.into(), 0, once.as_ptr() as i64, 0, 0, 0]);
            sys::nanosleep(100_000);
        }
        println!("{}", sys::pid());
        wait();
    });
    if !beside_another {
        return assert_eq!(sys::wait_for(child), 0);
    }
    let spins = sys::fork(|| {
        // If something goes wrong nobody is left to end it.
        sys::must(libc::SYS_prctl, [libc::PR_SET_PDEATHSIG.into(), libc::SIGKILL.into(), 0, 0, 0, 0]);
        loop {
            std::hint::spin_loop();
        }
    });
    assert_eq!(sys::wait_for(child), 0);
    sys::must(libc::SYS_kill, [spins.into(), libc::SIGKILL.into(), 0, 0, 0, 0]);
    sys::wait_for(spins);
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
