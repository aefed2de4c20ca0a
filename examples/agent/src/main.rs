//! The reference agent: options in, a recorder or a capture, a run, an exit code.

mod cli;
mod options;

use std::{
    os::unix::process::CommandExt,
    process::{Child, Command, ExitCode, Stdio},
    time::Instant,
};

use anyhow::{Context, Result};
use cli::{Signals, say};
use kprobe_core::{
    capture::{CaptureReader, CaptureWriter},
    event::{Registry, Tgid},
    pipeline::{Merge, Only, Run, RunBuilder, Source},
    process::ProcessTable,
};
use kprobe_ebpf::{Filter, Recorder, host};
use kprobe_sinks::stdout::{Destination, Lines};
use options::{Cli, Options, Target};

/// What `--demo` records, and what the shipped capture shows.
const WORKLOAD: &str = "ls / | wc -l; cat /proc/uptime /nowhere; sleep 0.05; exit 3";
static SHIPPED: &[u8] = include_bytes!("../demo.kcap");

fn main() -> ExitCode {
    match cli::parse() {
        Ok(cli) => run(cli).map_or_else(|error| cli::failure(&error), ExitCode::from),
        Err(code) => code,
    }
}

fn run(cli: Cli) -> Result<u8> {
    let check_only = cli.check_config;
    let (options, target) = cli.resolve()?;
    if check_only || options.wants_probe_list() {
        return cli::answer(&options).map(|()| 0);
    }
    match target.context("nothing to record: give `-- CMD`, --pid, --cgroup, --system, --from or --demo")? {
        Target::Capture(path) => play(&options, CaptureReader::open(path)?),
        Target::Demo => demo(&options),
        Target::Command(command) => {
            let mut started = Command::new(host::command::resolve(&command[0])?);
            started.arg0(&command[0]).args(&command[1..]);
            record(&options, attach(&options, Filter::none())?, Some(started), &Destination::Stderr)
        }
        Target::Pids(pids) => watch(&options, Filter::tgids(pids.into_iter().map(Tgid))),
        Target::Cgroup(path) => watch(&options, Filter::cgroup(path)?),
        Target::System => watch(&options, Filter::all()),
    }
}

fn demo(options: &Options) -> Result<u8> {
    match attach(options, Filter::none()) {
        Ok(recorder) => {
            say(format_args!("recording `sh -c '{WORKLOAD}'` live on kernel {}", recorder.info().kernel));
            let mut command = Command::new(host::command::resolve("sh")?);
            command.arg("-c").arg(WORKLOAD).stdout(Stdio::null()).stderr(Stdio::null());
            record(options, recorder, Some(command), &Destination::Stdout).map(|_| 0)
        }
        Err(why) => {
            let capture = CaptureReader::new(SHIPPED, "the shipped capture")?;
            say(format_args!("cannot record here: {why:#}"));
            say(format_args!("playing the shipped capture, recorded on kernel {}", capture.info().kernel));
            say(format_args!("to go live run the same as root"));
            play(options, capture)
        }
    }
}

fn watch(options: &Options, filter: Filter) -> Result<u8> {
    record(options, attach(options, filter)?, None, &Destination::Stdout)
}

fn attach(options: &Options, filter: Filter) -> Result<Recorder<impl Sized + use<>>> {
    let recorder = options.recorder(filter)?.attach()?;
    cli::show(options.report, recorder.report())?;
    Ok(recorder)
}

fn record<P>(
    options: &Options,
    recorder: Recorder<P>,
    command: Option<Command>,
    to: &Destination,
) -> Result<u8> {
    let registry = recorder.registry().clone();
    let mut run = outputs(options, Run::builder(recorder).merge(Merge::default()), &registry, to)?.build();
    let signals = Signals::install()?;
    let mut start = |mut command: Command| {
        run.source_mut().spawn(&mut command).map_err(|error| cli::not_started(&command, error))
    };
    let mut child = command.map(&mut start).transpose()?;
    let driven = drive(options, &signals, run, child.as_mut());
    let status = child.as_mut().map(|child| cli::wait(child, &signals)).transpose()?;
    driven.map(|code| status.map_or(code, cli::code_of))
}

fn play(options: &Options, capture: CaptureReader<impl std::io::Read>) -> Result<u8> {
    let run = outputs(options, Run::builder(capture), &Registry::builtin(), &Destination::Stdout)?.build();
    drive(options, &Signals::install()?, run, None)
}

/// What is behind the source.
fn outputs<S: Source>(
    options: &Options,
    run: RunBuilder<S>,
    registry: &Registry,
    to: &Destination,
) -> Result<RunBuilder<S>> {
    let (info, families) = (run.info().clone(), options.families()?);
    let mut run = run.stage(ProcessTable::new(info.boot)).stage(Only::new(move |kind| families.show(kind)));
    if let Some(path) = &options.capture {
        let cannot = || format!("cannot write the capture {}", path.display());
        run = run.raw_sink(CaptureWriter::create(path, &info).with_context(cannot)?);
    }
    let to = options.output_file.clone().map_or_else(|| to.clone(), Destination::File);
    let Some(form) = options.lines() else { return Ok(run) };
    let lines = Lines::open(&to, form, options.times(), &info, registry);
    Ok(run.sink(lines.with_context(|| format!("cannot write to {to}"))?))
}

/// Until the source ends, the command has ended, the time is over, or a signal comes.
fn drive<S: Source>(
    options: &Options,
    signals: &Signals,
    mut run: Run<S>,
    mut child: Option<&mut Child>,
) -> Result<u8> {
    let deadline = options.duration.map(|span| Instant::now() + span.0);
    let over = || deadline.is_some_and(|deadline| Instant::now() >= deadline);
    let mut ended = || child.as_mut().is_some_and(|child| !matches!(child.try_wait(), Ok(None)));
    let mut troubles = cli::Troubles::default();
    let driven = run.drive(|| ended() || over() || signals.stop(), |failure| troubles.note(failure));
    let code = troubles.settle(options.stats, &run.finish())?;
    Ok(driven.map(|()| code)?)
}
