//! Each event of each probe, wherever the probe is in the list.

use kprobe_core::{
    abi::Kind,
    decode::{DecodeError, Record},
    event::{
        Arch, BlockMerge, BlockRequest, Field, LockContention, LockFutex, LockFutexWake, MemoryFaultMajor, MemoryFaultMinor,
        Origin, PathExec, PathOpen, PipeRead, PipeWrite, ProcessExec, ProcessExit, ProcessFork, ProcessRename, SchedMigrate, SchedSwitch, SchedWaking,
        SecurityCapability, Syscall, TcpAccept, TcpConnect, TcpRecv, TcpRetransmit, TcpSend, TcpState, TypedEvent, UdpRecv,
        UdpSend, UnixRecv, UnixSend, Value, IrqHard, IrqSoft, MemoryCompaction, MemoryOomKill, MemoryReclaim, WaitBlocked,
        WaitEpoll, WaitThrottle,
    },
    pipeline::Batch,
};
use kprobe_ebpf::{Block, Irq, Lock, Memory, Paths, Pipes, Probe, Process, Recorder, Sched, Security, Syscalls, Tcp, Udp, UnixStreams, Wait};

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

type All =
    (Probe<Own>, (Sched, (Process, (Syscalls, (Security, (Memory, (Pipes, (Block, (Tcp, (Lock, (UnixStreams, (Irq, (Udp, (Wait, (Paths, ())))))))))))))));

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
    recorder.events::<LockContention, _>(batch).for_each(drop);
    recorder.events::<LockFutex, _>(batch).for_each(drop);
    recorder.events::<LockFutexWake, _>(batch).for_each(drop);
    recorder.events::<MemoryReclaim, _>(batch).for_each(drop);
    recorder.events::<MemoryOomKill, _>(batch).for_each(drop);
    recorder.events::<MemoryCompaction, _>(batch).for_each(drop);
    recorder.events::<SecurityCapability, _>(batch).for_each(drop);
    recorder.events::<PipeWrite, _>(batch).for_each(drop);
    recorder.events::<PipeRead, _>(batch).for_each(drop);
    recorder.events::<WaitBlocked, _>(batch).for_each(drop);
    recorder.events::<WaitEpoll, _>(batch).for_each(drop);
    recorder.events::<WaitThrottle, _>(batch).for_each(drop);
    recorder.events::<UdpSend, _>(batch).for_each(drop);
    recorder.events::<UdpRecv, _>(batch).for_each(drop);
    recorder.events::<PathExec, _>(batch).for_each(drop);
    recorder.events::<PathOpen, _>(batch).for_each(drop);
    recorder.events::<UnixSend, _>(batch).for_each(drop);
    recorder.events::<UnixRecv, _>(batch).for_each(drop);
    recorder.events::<BlockRequest, _>(batch).for_each(drop);
    recorder.events::<BlockMerge, _>(batch).for_each(drop);
    recorder.events::<TcpSend, _>(batch).for_each(drop);
    recorder.events::<TcpRecv, _>(batch).for_each(drop);
    recorder.events::<TcpRetransmit, _>(batch).for_each(drop);
    recorder.events::<TcpState, _>(batch).for_each(drop);
    recorder.events::<TcpConnect, _>(batch).for_each(drop);
    recorder.events::<TcpAccept, _>(batch).for_each(drop);
    recorder.events::<IrqHard, _>(batch).for_each(drop);
    recorder.events::<IrqSoft, _>(batch).for_each(drop);
    for switch in recorder.events(batch) {
        let switch: SchedSwitch = switch.expect("a whole batch");
        drop(switch);
    }
}

fn main() {
    let _ = all;
    let _ = || Recorder::builder().probe(Syscalls::io()).probe(Process::default()).require(Sched::default());
}
