//~ mismatched types
use kprobe_core::{event::SchedSwitch, pipeline::Batch};
use kprobe_ebpf::{Recorder, Syscalls};

fn switches(recorder: &Recorder<(Syscalls, ())>, batch: &Batch) {
    // What it yields is known: system calls.
    for event in recorder.events(batch) {
        let _: SchedSwitch = event.expect("a whole batch");
    }
}

fn main() {}
