//! What a user's first program does: it depends on the packages alone, plays the capture in its folder through a pipeline
//! with a sink, and prints how many events there were.

use std::error::Error;

use kprobe_core::{
    capture::CaptureReader,
    event::Registry,
    pipeline::{Pipeline, Source},
    process::ProcessTable,
};
use kprobe_ebpf::{Filter, Process, Recorder, Syscalls};
use kprobe_sinks::stdout::JsonSink;

fn main() -> Result<(), Box<dyn Error>> {
    // Recording takes privileges that a build has not: here it is enough that it compiles and says why not.
    let filter = Filter::none();
    if let Err(error) = Recorder::builder().require(Process::default()).probe(Syscalls::io()).filter(filter).attach() {
        eprintln!("not recording: {error}");
    }

    let capture = CaptureReader::open("demo.kcap")?;
    let (info, registry) = (capture.info().clone(), Registry::builtin());
    let lines = JsonSink::new(std::io::sink(), &info, &registry);
    let mut pipeline = Pipeline::builder(capture).stage(ProcessTable::new(info.boot)).sink(lines).build()?;
    pipeline.drive(|_| false, |trouble| eprintln!("{trouble}"))?;
    let ledger = pipeline.finish().ledger;
    assert_eq!(ledger.balance, 0, "{ledger}");
    println!("{} events", ledger.sinks[0].delivered);
    Ok(())
}
