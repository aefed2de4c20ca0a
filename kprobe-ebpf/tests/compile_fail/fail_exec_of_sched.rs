//~ this recorder has no probe that yields `kprobe_core::event::ProcessExec`
use kprobe_core::{event::ProcessExec, pipeline::Batch};
use kprobe_ebpf::{Recorder, Sched};

fn execs(recorder: &Recorder<(Sched, ())>, batch: &Batch) {
    recorder.events::<ProcessExec, _>(batch).for_each(drop);
}

fn main() {}
