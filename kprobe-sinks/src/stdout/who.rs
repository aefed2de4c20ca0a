use kprobe_core::{
    abi::Kind,
    event::{Comm, ProcessExec, ThreadSeed, TypedEvent},
    pipeline::Enriched,
};

/// Seeds of the process table: of use to a stage, of none to a reader of lines.
pub(super) fn is_seed(kind: Kind) -> bool {
    kind == Kind::META_THREAD || kind == Kind::META_CGROUP
}

/// Name of a record's thread. Two kinds say it themselves, which counts where no process table has.
pub(super) fn comm(enriched: &Enriched<'_>) -> Comm {
    if !enriched.context.comm.is_empty() {
        return enriched.context.comm;
    }
    match enriched.record.kind() {
        Kind::PROCESS_EXEC => ProcessExec::decode(enriched.record).map(|event| event.comm),
        Kind::META_THREAD => ThreadSeed::decode(enriched.record).map(|event| event.comm),
        _ => return Comm::default(),
    }
    .unwrap_or_default()
}
