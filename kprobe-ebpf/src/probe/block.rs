use std::time::Duration;

use kprobe_core::{
    abi::{Family, Kind},
    event::{BlockMerge, BlockRequest},
};

use super::{
    EventPlan, FamilyPlan, Needs, ObjectBytes, ProbeFamily, ProgramPlan, RungPlan, When, Yields, plan::sealed,
};

/// Bios and requests that are remembered at a time, each.
const MOST_PENDING: u32 = 8192;

/// Requests to block devices: one [`BlockRequest`] for each that was completed, with the time it was queued and the time the
/// device had it, and one [`BlockMerge`] for what became part of another's request.
///
/// Selected are requests whose submitter is, and those that are charged to a selected cgroup: write-back is done by threads
/// of the kernel.
///
/// Targets: tracepoints of the block layer. Kernel 5.10 or later.
#[derive(Clone, Debug)]
pub struct Block {
    min_duration: Duration,
    sample_one_in: u32,
}

impl Default for Block {
    /// Every request, not sampled.
    fn default() -> Self {
        Self { min_duration: Duration::ZERO, sample_one_in: 1 }
    }
}

impl Block {
    /// Only requests that took this long or longer, from the submission to the completion. Merges take no time and are
    /// all kept.
    #[must_use]
    pub fn min_duration(self, min_duration: Duration) -> Self {
        Self { min_duration, ..self }
    }

    /// Keeps one record in `one_in`, counted on each CPU and for each event; 0 and 1 keep all.
    #[must_use]
    pub fn sample(self, one_in: u32) -> Self {
        Self { sample_one_in: one_in, ..self }
    }
}

impl sealed::Sealed for Block {}

/// Offsets that programs need: what tells the device, the bio, the request, and who waits for a flush.
const DISK: Needs = Needs(
    When::Always,
    &["OFF_GENDISK_MAJOR", "OFF_GENDISK_FIRST_MINOR", "OFF_REQUEST_Q", "OFF_REQUEST_QUEUE_DISK"],
);
const BIO: Needs = Needs(
    When::Always,
    &[
        "OFF_TASK_STRUCT_FLAGS",
        "OFF_BIO_BI_BDEV",
        "OFF_BIO_BI_OPF",
        "OFF_BIO_BI_STATUS",
        "OFF_BIO_BI_ITER_BI_SECTOR",
        "OFF_BIO_BI_ITER_BI_SIZE",
        "OFF_BIO_BI_PRIVATE",
        "OFF_BLOCK_DEVICE_BD_DISK",
        "OFF_GENDISK_QUEUE",
        "OFF_REQUEST_QUEUE_MQ_OPS",
    ],
);
const REQUEST: Needs = Needs(
    When::Always,
    &["OFF_REQUEST_BIO", "OFF_REQUEST___SECTOR", "OFF_REQUEST___DATA_LEN", "OFF_BIO_BI_NEXT"],
);
const ISSUED: Needs = Needs(
    When::Always,
    &[
        "OFF_REQUEST_CMD_FLAGS",
        "OFF_REQUEST_START_TIME_NS",
        "OFF_REQUEST_MQ_HCTX",
        "OFF_REQUEST_QUEUELIST",
        "OFF_BLK_MQ_HW_CTX_FQ",
        "OFF_BLK_FLUSH_QUEUE_FLUSH_PENDING_IDX",
        "OFF_BLK_FLUSH_QUEUE_FLUSH_QUEUE",
    ],
);

/// A rung of typed tracepoints and one of raw ones, from programs without their endings.
fn rungs(programs: &[[&'static str; 3]], needs: &[Needs]) -> Vec<RungPlan> {
    let rung = |name, programs| RungPlan {
        name,
        programs,
        needs: [&[Needs::IDS, Needs::CGROUP_ID], needs].concat(),
        storage: &[],
    };
    let btf = programs.iter().map(|[tracepoint, btf, _]| ProgramPlan::btf(btf, tracepoint));
    let raw = programs.iter().map(|[tracepoint, _, raw]| ProgramPlan::raw(raw, tracepoint));
    vec![rung("tp_btf", btf.collect()), rung("raw_tp", raw.collect())]
}

impl ProbeFamily for Block {
    fn plan(self) -> sealed::Plan {
        // Merges first: without them what was merged would be remembered for nothing. Within an event the beginning comes
        // before the end.
        const MERGES: [[&str; 3]; 3] = [
            ["block_bio_backmerge", "block_back_btf", "block_back_raw"],
            ["block_bio_frontmerge", "block_front_btf", "block_front_raw"],
            ["block_rq_merge", "block_merge_btf", "block_merge_raw"],
        ];
        const REQUESTS: [[&str; 3]; 6] = [
            ["block_bio_queue", "block_queue_btf", "block_queue_raw"],
            ["block_split", "block_split_btf", "block_split_raw"],
            ["block_rq_issue", "block_issue_btf", "block_issue_raw"],
            ["block_rq_requeue", "block_requeue_btf", "block_requeue_raw"],
            ["block_rq_complete", "block_complete_btf", "block_complete_raw"],
            ["block_bio_complete", "block_bio_complete_btf", "block_bio_complete_raw"],
        ];
        sealed::Plan(FamilyPlan {
            family: Family::Block,
            object: ObjectBytes::Builtin,
            events: vec![
                EventPlan::new(Kind::BLOCK_MERGE, "block.merge", rungs(&MERGES, &[REQUEST])),
                EventPlan::new(
                    Kind::BLOCK_REQUEST,
                    "block.request",
                    rungs(&REQUESTS, &[DISK, BIO, REQUEST, ISSUED, Needs::ANCESTORS]),
                ),
            ],
            sample_one_in: self.sample_one_in,
            min_duration_ns: u64::try_from(self.min_duration.as_nanos()).unwrap_or(u64::MAX),
            globals: Vec::new(),
            maps: vec![("BIOS", MOST_PENDING), ("REQUESTS", MOST_PENDING)],
            allowed: Vec::new(),
        })
    }
}

impl Yields<BlockRequest> for Block {}
impl Yields<BlockMerge> for Block {}
