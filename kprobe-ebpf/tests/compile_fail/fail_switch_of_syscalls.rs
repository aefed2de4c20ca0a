//~ this recorder has no probe that yields `kprobe_core::event::SchedSwitch`
use kprobe_core::{event::SchedSwitch, pipeline::Batch};
use kprobe_ebpf::{Recorder, Syscalls};

fn switches(recorder: &Recorder<(Syscalls, ())>, batch: &Batch) {
    recorder.events::<SchedSwitch, _>(batch).for_each(drop);
}

fn main() {}
