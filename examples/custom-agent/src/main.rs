//! An agent with a kernel program and an event of its own: runs a command and prints, as JSON, an event for each system
//! call that it enters, beside kprobe's own process events. Needs root.
//!
//! ```text
//! cargo run --release -p kprobe-custom-agent -- ls /
//! ```

mod counted;

use std::{
    env, io,
    process::{Child, Command, ExitCode},
};

use anyhow::{Context, Result};
use counted::Counted;
use kprobe_core::{
    pipeline::{Merge, Pipeline},
    process::ProcessTable,
};
use kprobe_ebpf::{Filter, Probe, Process, Recorder, host, include_object};
use kprobe_sinks::stdout::JsonSink;

/// Built from `kprobe-ebpf/programs`, as your own would be from a crate of yours on top of `kprobe-programs`.
static OBJECT: &[u8] = include_object!("../../../kprobe-ebpf/object/custom.o");

fn main() -> Result<ExitCode> {
    let mut args = env::args_os().skip(1);
    let name = args.next().context("nothing to record: give a command, for example `ls /`")?;
    let mut command = Command::new(host::command::resolve(&name)?);
    command.args(args);

    let recorder = Recorder::builder()
        .require(Probe::<Counted>::new(OBJECT).raw_tracepoint("custom_getpid", "sys_enter"))
        .require(Process::default())
        .event::<Counted>()
        .filter(Filter::none())
        .attach()?;
    let (info, registry) = (recorder.info().clone(), recorder.registry().clone());
    let mut pipeline = Pipeline::builder(recorder)
        .merge(Merge::default())
        .stage(ProcessTable::new(info.boot))
        .sink(JsonSink::new(io::stderr(), &info, &registry))
        .build()?;
    let mut child = pipeline.source_mut().spawn(&mut command)?;
    let mut troubles = Vec::new();
    pipeline.drive(|_| has_ended(&mut child), |trouble| troubles.push(trouble.to_string()))?;
    let finished = pipeline.finish();
    anyhow::ensure!(troubles.is_empty(), "not every event was printed: {}", troubles.join("; "));
    anyhow::ensure!(finished.ledger.balance == 0, "the books do not balance: {}", finished.ledger);
    let code = child.wait()?.code().unwrap_or(1);
    Ok(ExitCode::from(u8::try_from(code).unwrap_or(1)))
}

fn has_ended(child: &mut Child) -> bool {
    !matches!(child.try_wait(), Ok(None))
}
