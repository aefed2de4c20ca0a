//! Sampling keeps exactly one in so many, and says so.

use std::time::Duration;

use kprobe_core::{
    abi::{Family, Kind},
    event::Sampling,
};
use kprobe_ebpf::{Filter, Recorder, Syscalls, filter::SyscallSet};

use crate::support::recording::Recording;

crate::trials!(one_in_so_many_on_each_cpu, a_rate_that_changes);

fn getppid() -> Syscalls {
    Syscalls::of(SyscallSet::named(["getppid"]).unwrap())
}

fn one_in_so_many_on_each_cpu() {
    const CALLS: u64 = 100_000;
    const ONE_IN: u32 = 7;
    let builder = Recorder::builder().probe(getppid().sample(ONE_IN)).filter(Filter::none());
    let (recorded, ..) = Recording::of_workload(builder, &format!("getppid {} 4", CALLS / 4));
    let books = &recorded.books;
    assert_eq!(books.submitted(Kind::SYSCALL) + books.sampled_out(Kind::SYSCALL), CALLS);
    for row in books.rows.iter().filter(|row| row.probe == "syscall") {
        // The first of each CPU is kept.
        let considered = row.submitted + row.sampled_out;
        assert_eq!(row.submitted, considered.div_ceil(ONE_IN.into()), "{row:?}");
    }
    let said = recorded.all::<Sampling>();
    let said: Vec<_> = said.iter().map(|said| (said.family, said.one_in, said.min_duration_ns)).collect();
    assert_eq!(said, [(Family::Syscall, ONE_IN, 0)]);
}

fn a_rate_that_changes() {
    const CALLS: u64 = 1000;
    let mut recording = Recording::start(Recorder::builder().probe(getppid()).filter(Filter::none()));
    let mut workload = recording.spawn(&format!("gate {CALLS} 0"));
    assert_eq!(workload.line(), "ready");
    for one_in in [1, 100, 1] {
        recording.recorder.set_sampling(Family::Syscall, one_in, Duration::ZERO);
        workload.go();
        assert_eq!(workload.line(), "done");
        recording.poll();
    }
    workload.close_input();
    recording.run(&mut workload);
    let recorded = recording.finish().lossless();
    let books = &recorded.books;
    let (kept, out) = (books.submitted(Kind::SYSCALL), books.sampled_out(Kind::SYSCALL));
    assert_eq!(kept + out, 3 * CALLS);
    // Ten of the second thousand, and one more at most for each CPU it ran on.
    let cpus = u64::from(recording_cpus());
    assert!((2 * CALLS + 10..=2 * CALLS + 10 + cpus).contains(&kept), "{kept}");
    let said: Vec<_> = recorded.all::<Sampling>().iter().map(|said| said.one_in).collect();
    assert_eq!(said, [1, 100, 1]);
}

fn recording_cpus() -> u16 {
    u16::try_from(kprobe_ebpf::host::possible_cpus().unwrap().count()).unwrap()
}
