//! What the children do. Each workload is a function that ends the process.
//!
//! A workload makes its system calls itself and keeps the standard library out of the way where a test counts them.
#![expect(clippy::print_stdout, reason = "a workload reports on its standard output")]

pub mod block;
pub mod calls;
mod irq;
pub mod life;
mod lock;
pub mod memory;
mod netem;
mod paced;
pub mod path;
mod pipe;
mod sched;
mod security;
pub mod sys;
mod tcp;
mod udp;
mod unix;
mod wait;

use std::io::Read;

/// Runs the workload `"name arg arg"`.
pub fn run(text: &str) -> ! {
    let mut words = text.split(' ');
    let name = words.next().unwrap();
    let args: Vec<u64> = words.map(|word| word.parse().unwrap()).collect();
    let arg = |index: usize| args[index];
    match name {
        "exit" => sys::exit_group(arg(0)),
        "getppid" => calls::getppid(arg(0), arg(1)),
        "known-calls" => calls::known(),
        "sleeps" => calls::sleeps(&args),
        "killed-sleeper" => calls::killed_sleeper(),
        "forks" => life::forks(),
        "children" => life::children(arg(0)),
        "exit-codes" => life::exit_codes(),
        "signals" => life::signals(),
        "threads-end" => life::threads_end(arg(0), arg(1)),
        "thread-execs" => life::thread_execs(),
        "renames" => life::renames(),
        "two-threads" => life::two_threads(arg(0)),
        "busy-threads" => life::busy_threads(arg(0)),
        "thread-by-thread" => life::thread_by_thread(),
        "ping-pong" => sched::ping_pong(arg(0)),
        "signalled" => sched::signalled(arg(0), arg(1) != 0),
        "naps" => sched::naps(arg(0)),
        "moves" => sched::moves(arg(0)),
        "faults" => memory::faults(),
        "reclaims" => memory::reclaims(arg(0), arg(1)),
        "hog" => memory::hog(arg(0), arg(1)),
        "victim" => memory::victim(arg(0)),
        "compacts" => std::fs::write("/proc/sys/vm/compact_memory", "1").unwrap(),
        "huge-pages" => memory::huge_pages(),
        "gated-faults" => memory::gated(),
        "loopback" => irq::loopback(arg(0)),
        "direct-io" => block::direct_io(arg(0)),
        "fsyncs" => block::fsyncs(arg(0)),
        "dirty" => block::dirty(arg(0)),
        "device-io" => block::device_io(arg(0)),
        "futex-ping-pong" => lock::ping_pong(arg(0)),
        "futex-shared" => lock::shared(),
        "futex-outcomes" => lock::outcomes(),
        "futex-requeue" => lock::requeue(),
        "futex-ends" => lock::ends(),
        "futex-newer" => lock::newer(),
        "contention" => lock::contention(arg(0)),
        "capabilities" => security::capabilities(),
        "paths" => path::opens_files(arg(0)),
        "path-mounts" => path::mounts(arg(0)),
        "path-file-systems" => path::file_systems(arg(0)),
        "path-renames" => path::opens_while_renamed(arg(0), arg(1)),
        "path-some" => path::opens_some(arg(0)),
        "pipes" => pipe::transfers(arg(0)),
        "pipe-writers" => pipe::many_writers(arg(0), arg(1)),
        "reads-input" => pipe::reads_input(arg(0)),
        "tcp" => tcp::transfers(&args),
        "tcp-lives" => tcp::lives(),
        "lossy-link" => netem::lossy_link(arg(0)),
        "udp" => udp::datagrams(),
        "udp-by-ring" => udp::io_uring(),
        "waits" => wait::all(),
        "spins" => wait::spins(),
        "unix-streams" => unix::transfers(arg(0)),
        "paced" => paced::getppid(arg(0), arg(1)),
        "soak-server" => super::soak::server::serve(),
        "gate" => gate(arg(0), arg(1)),
        _ => crate::workloads::run(name, &args),
    }
    sys::exit_group(0)
}

/// Waits until the test lets it go on; `false` when the test has closed its end.
pub fn wait() -> bool {
    std::io::stdin().read(&mut [0]).unwrap() == 1
}

/// Each time that the test lets it: makes `count` calls of getppid, and as many in each of `children` children.
fn gate(count: u64, children: u64) {
    println!("ready");
    let calls = || {
        for _ in 0..count {
            sys::call(libc::SYS_getppid, [0; 6]);
        }
    };
    while wait() {
        calls();
        for _ in 0..children {
            sys::wait_for(sys::fork(calls));
        }
        println!("done");
    }
}
