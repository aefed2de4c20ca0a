//! The reference agent: options in, a recorder or a capture, a run, an exit code.

mod cli;
mod options;
mod paths;

use std::{
    os::unix::process::CommandExt,
    process::{Child, Command, ExitCode, Stdio},
};

use anyhow::{Context, Result};
use cli::{Outputs, Signals, say};
use kprobe_core::{
    capture::CaptureReader,
    event::{Registry, Tgid},
    pipeline::{Merge, Pipeline, Source, Stop},
};
use kprobe_ebpf::{Filter, Recorder, host};
use kprobe_sinks::stdout::Destination;
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
    let target =
        target.context("nothing to record: give `-- CMD`, --pid, --cgroup, --system, --from or --demo")?;
    // Before anything is attached: from here on every end is an orderly one.
    let signals = Signals::install()?;
    match target {
        Target::Capture(path) => play(&options, &signals, CaptureReader::open(path)?),
        Target::Demo => demo(&options, &signals),
        Target::Command(command) => {
            let mut started = Command::new(host::command::resolve(&command[0])?);
            started.arg0(&command[0]).args(&command[1..]);
            let recorder = attach(&options, Filter::none())?;
            record(&options, &signals, recorder, Some(started), Destination::Stderr)
        }
        Target::Pids(pids) => watch(&options, &signals, Filter::tgids(pids.into_iter().map(Tgid))),
        Target::Cgroup(path) => watch(&options, &signals, Filter::cgroup(path)?),
        Target::System => watch(&options, &signals, Filter::all()),
    }
}

fn demo(options: &Options, signals: &Signals) -> Result<u8> {
    match attach(options, Filter::none()) {
        Ok(recorder) => {
            say(format_args!("recording `sh -c '{WORKLOAD}'` live on kernel {}", recorder.info().kernel));
            let mut command = Command::new(host::command::resolve("sh")?);
            command.arg("-c").arg(WORKLOAD).stdout(Stdio::null()).stderr(Stdio::null());
            record(options, signals, recorder, Some(command), Destination::Stdout).map(|_| 0)
        }
        Err(why) if cli::cannot_record_here(&why) => {
            let capture = CaptureReader::new(SHIPPED, "the shipped capture")?;
            say(format_args!("cannot record here: {why:#}"));
            say(format_args!("playing the shipped capture, recorded on kernel {}", capture.info().kernel));
            say(format_args!("to go live run the same as root"));
            play(options, signals, capture)
        }
        Err(why) => Err(why),
    }
}

fn watch(options: &Options, signals: &Signals, filter: Filter) -> Result<u8> {
    record(options, signals, attach(options, filter)?, None, Destination::Stdout)
}

fn attach(options: &Options, filter: Filter) -> Result<Recorder<impl Sized + use<>>> {
    let recorder = options.recorder(filter)?.attach()?;
    cli::show(options.report, recorder.report())?;
    cli::note_what_is_off(recorder.report())?;
    Ok(recorder)
}

fn record<P>(
    options: &Options,
    signals: &Signals,
    mut recorder: Recorder<P>,
    command: Option<Command>,
    to: Destination,
) -> Result<u8> {
    let registry = recorder.registry().clone();
    let irqs = recorder.irq_counters();
    // Emptied and written when the command has been started: until then nothing is lost if something fails.
    let outputs = Outputs::open(options, signals, to)?;
    let mut start = |mut command: Command| {
        signals.before_command()?;
        recorder.spawn(&mut command).map_err(|error| cli::not_started(&command, error))
    };
    let mut child = command.map(&mut start).transpose()?;
    let builder = Pipeline::builder(recorder).merge(Merge::default());
    let pipeline = outputs.begin(options, builder, &registry);
    let driven = pipeline.and_then(|pipeline| drive(options, signals, pipeline, child.as_mut()));
    let status = child.as_mut().map(|child| cli::wait(child, signals)).transpose()?;
    irqs.map_or(Ok(()), |irqs| cli::show(options.stats, &cli::IrqTable::of(&irqs)))?;
    driven.map(|code| status.map_or(code, cli::code_of))
}

fn play(options: &Options, signals: &Signals, capture: CaptureReader<impl std::io::Read>) -> Result<u8> {
    let outputs = Outputs::open(options, signals, Destination::Stdout)?;
    let pipeline = outputs.begin(options, Pipeline::builder(capture), &Registry::builtin())?;
    drive(options, signals, pipeline, None)
}

/// Until the source ends, the command has ended, the time is over, or a signal comes.
fn drive<S: Source>(
    options: &Options,
    signals: &Signals,
    mut pipeline: Pipeline<S>,
    mut child: Option<&mut Child>,
) -> Result<u8> {
    signals.begin(options.duration.map(|span| span.0));
    let mut ended = || child.as_mut().is_some_and(|child| !matches!(child.try_wait(), Ok(None)));
    // When the command has ended, whoever reads gets all of it, in his own time.
    let mut stop = || match signals.stop() {
        true => Stop::InTime,
        false if ended() => Stop::AtLeisure,
        false => Stop::No,
    };
    let mut troubles = cli::Troubles::default();
    let driven = pipeline.drive(&mut stop, |trouble| troubles.note(trouble));
    let code = troubles.settle(options.stats, &pipeline.finish())?;
    Ok(driven.map(|()| code)?)
}
