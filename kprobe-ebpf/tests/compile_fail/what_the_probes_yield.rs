//! Each event of each probe, wherever the probe is in the list.

use kprobe_core::{
    abi::Kind,
    decode::{DecodeError, Record},
    event::{
        Arch, Field, MemoryCompaction, MemoryFaultMajor, MemoryFaultMinor, MemoryOomKill, MemoryReclaim, Origin, ProcessExec, ProcessExit, ProcessFork, ProcessRename, SchedMigrate, SchedSwitch, SchedWaking,
        SecurityCapability, Syscall, TypedEvent, Value,
    },
    pipeline::Batch,
};
use kprobe_ebpf::{Memory, Probe, Process, Recorder, Sched, Security, Syscalls};

struct Own(Origin);

impl TypedEvent for Own {
    const KIND: Kind = Kind::USER;
    const NAME: &'static str = "own.event";
    const FIELDS: &'static [Field] = &[];
    fn decode(record: Record<'_>) -> Result<Self, DecodeError> {
        Ok(Self(Origin::of(&record)))
    }
    fn origin(&self) -> &Origin {
        &self.0
    }
    fn fields(&self, _: Arch, _: &mut dyn FnMut(&'static str, Value<'_>)) {}
}

type All = (Probe<Own>, (Sched, (Process, (Syscalls, (Security, (Memory, ()))))));

fn all(recorder: &Recorder<All>, batch: &Batch) {
    recorder.events::<Own, _>(batch).for_each(drop);
    recorder.events::<SchedSwitch, _>(batch).for_each(drop);
    recorder.events::<SchedWaking, _>(batch).for_each(drop);
    recorder.events::<SchedMigrate, _>(batch).for_each(drop);
    recorder.events::<ProcessFork, _>(batch).for_each(drop);
    recorder.events::<ProcessExec, _>(batch).for_each(drop);
    recorder.events::<ProcessExit, _>(batch).for_each(drop);
    recorder.events::<ProcessRename, _>(batch).for_each(drop);
    recorder.events::<Syscall, _>(batch).for_each(drop);
    recorder.events::<MemoryFaultMajor, _>(batch).for_each(drop);
    recorder.events::<MemoryFaultMinor, _>(batch).for_each(drop);
    recorder.events::<MemoryReclaim, _>(batch).for_each(drop);
    recorder.events::<MemoryOomKill, _>(batch).for_each(drop);
    recorder.events::<MemoryCompaction, _>(batch).for_each(drop);
    recorder.events::<SecurityCapability, _>(batch).for_each(drop);
    for switch in recorder.events(batch) {
        let switch: SchedSwitch = switch.expect("a whole batch");
        drop(switch);
    }
}

fn main() {
    let _ = all;
    let _ = || Recorder::builder().probe(Syscalls::io()).probe(Process::default()).require(Sched::default());
}
