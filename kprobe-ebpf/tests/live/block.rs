//! Requests to block devices.

use kprobe_core::event::{BlockFlags, BlockMerge, BlockOp, BlockRequest, Syscall};
use kprobe_ebpf::{Block, Filter, Recorder, Syscalls, filter::SyscallSet};

use super::syscalls::name;
use crate::support::{
    recording::{Recorded, Recording},
    rungs::{check_whole, record, rungs},
    workload::block::{READ, WRITE},
};

crate::trials!(direct_io_under_its_calls, short_ones_left_out, every_rung_of_requests);

const COUNT: usize = 8;

fn is_data(request: &BlockRequest, op: BlockOp) -> bool {
    request.op == op
        && request.bytes > 0
        && !request.flags.has(BlockFlags::META)
        && !request.flags.has(BlockFlags::BIO)
}

/// What any request's record says, if the process was selected.
fn check(recorded: &Recorded, tgid: u32) -> Vec<BlockRequest> {
    let requests: Vec<BlockRequest> = recorded.all();
    for request in &requests {
        let submitter = request.submitter.unwrap_or_else(|| panic!("{request:?}"));
        assert_eq!((submitter.tgid.0, submitter.is_kernel_thread), (tgid, false), "{request:?}");
        assert_eq!((request.status, request.error()), (0, None));
        let queued = request.queued_ns.unwrap();
        assert!(queued <= request.origin.ktime_ns, "{request:?}");
        if let Some(issued) = request.issued_ns {
            assert!(queued <= issued && issued <= request.origin.ktime_ns, "{request:?}");
            let parts = request.queue_duration_ns().unwrap() + request.device_duration_ns().unwrap();
            assert_eq!(parts, request.duration_ns().unwrap());
        } else {
            // Only what is nothing but a flush: the device gets a request of the kernel's own.
            assert!(request.flags.has(BlockFlags::PREFLUSH) && request.bytes == 0, "{request:?}");
        }
    }
    requests
}

fn direct_io_under_its_calls() {
    let calls = SyscallSet::named(["pwrite64", "pread64"]).unwrap();
    let builder =
        Recorder::builder().probe(Block::default()).probe(Syscalls::of(calls)).filter(Filter::none());
    let (recorded, lines, tgid) = Recording::of_workload(builder, &format!("direct-io {COUNT}"));
    let recorded = recorded.lossless();
    let requests = check(&recorded, tgid);
    let calls = recorded.all::<Syscall>();
    let mut transfers = 0;
    for call in calls {
        let (op, bytes) = match name(&call) {
            "pwrite64" => (BlockOp::Write, WRITE),
            "pread64" => (BlockOp::Read, READ),
            other => panic!("{other}"),
        };
        if call.ret != Some(bytes as i64) {
            continue;
        }
        let within = requests.iter().filter(|request| {
            is_data(request, op)
                && request.queued_ns.unwrap() >= call.enter_ns
                && request.origin.ktime_ns <= call.origin.ktime_ns
        });
        assert_eq!(within.map(|request| request.bytes).sum::<u64>(), bytes as u64, "{call:?}");
        transfers += 1;
    }
    assert_eq!(transfers, 2 * COUNT);
    // All that it read, to start with itself. What was merged is in the request that it was merged into.
    let read =
        requests.iter().filter(|request| request.op == BlockOp::Read && !request.flags.has(BlockFlags::BIO));
    assert_eq!(lines, [read.map(|request| request.bytes).sum::<u64>().to_string()]);
    let merges = recorded.all::<BlockMerge>();
    assert!(merges.iter().all(|merge| merge.submitter.is_some_and(|submitter| submitter.tgid.0 == tgid)));
}

fn short_ones_left_out() {
    let hour = std::time::Duration::from_secs(3600);
    let builder = Recorder::builder().probe(Block::default().min_duration(hour)).filter(Filter::none());
    let (recorded, ..) = Recording::of_workload(builder, "direct-io 1");
    assert_eq!(recorded.lossless().all::<BlockRequest>(), []);
}

fn every_rung_of_requests() {
    let rungs = rungs(Block::default());
    assert_eq!(rungs, ["tp_btf", "raw_tp"]);
    let mut whole = 0;
    for rung in &rungs {
        // What another process writes on a busy disk takes one into its own request now and then.
        let (expected, mut written) = ((COUNT * WRITE) as u64, Vec::new());
        while written.len() < 5 && written.last() != Some(&expected) {
            let workload = format!("direct-io {COUNT}");
            let Some((recorded, _, tgid)) = record(Block::default(), &rungs, rung, &workload) else { break };
            let requests = check(&recorded, tgid);
            assert!(requests.iter().all(|request| request.charged_cgroup_id.is_some()), "{rung}");
            let is_written = |request: &&BlockRequest| {
                is_data(request, BlockOp::Write) && request.flags.has(BlockFlags::SYNC)
            };
            written.push(requests.iter().filter(is_written).map(|request| request.bytes).sum::<u64>());
        }
        let Some(last) = written.last() else { continue };
        assert_eq!(*last, expected, "{rung}: {written:?}");
        whole += 1;
    }
    check_whole(whole);
}
