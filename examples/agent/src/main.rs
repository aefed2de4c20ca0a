//! The reference agent: options in, a recorder or a capture, a run, an exit code.

mod cli;
mod cost;
mod options;
mod paths;
mod reload;

use std::{
    os::unix::process::CommandExt,
    process::{Child, Command, ExitCode, Stdio},
};

use anyhow::{Context, Result};
use cli::{Outputs, Signals, say};
use cost::Cost;
use kprobe_core::{
    capture::CaptureReader,
    event::Registry,
    pipeline::{Pipeline, Source, Stop},
};
use kprobe_ebpf::{Filter, Recorder, host};
use kprobe_sinks::stdout::Destination;
use options::{Cli, Options, Target};
use reload::Reload;

/// What `--demo` records, and what the shipped capture shows.
const WORKLOAD: &str = "ls / | wc -l; cat /proc/uptime /nowhere; sleep 0.05; exit 3";
static SHIPPED: &[u8] = include_bytes!("../demo.kcap");

fn main() -> ExitCode {
    match cli::parse() {
        Ok(cli) => run(&cli).map_or_else(|error| cli::failure(&error), ExitCode::from),
        Err(code) => code,
    }
}

fn run(cli: &Cli) -> Result<u8> {
    let check_only = cli.check_config;
    let (options, target) = cli.resolve()?;
    if check_only || options.wants_probe_list() {
        return cli::answer(&options).map(|()| 0);
    }
    let target =
        target.context("nothing to record: give `-- CMD`, --pid, --cgroup, --system, --from or --demo")?;
    // Before anything is attached: from here on every end is an orderly one.
    let signals = Signals::install(cli.config.is_some())?;
    let run = Run { reload: Reload::of(cli, &options), options, signals };
    match target {
        Target::Capture(path) => run.play(CaptureReader::open(path)?),
        Target::Demo => run.demo(),
        Target::Command(ref command) => {
            let mut started = Command::new(host::command::resolve(&command[0])?);
            started.arg0(&command[0]).args(&command[1..]);
            run.record(run.attach(target.filter()?)?, Some(started), Destination::Stderr)
        }
        target => run.record(run.attach(target.filter()?)?, None, Destination::Stdout),
    }
}

/// What is the same wherever records come from.
struct Run {
    options: Options,
    signals: Signals,
    reload: Option<Reload>,
}

impl Run {
    fn demo(&self) -> Result<u8> {
        match self.attach(Filter::none()) {
            Ok(recorder) => {
                say(format_args!("recording `sh -c '{WORKLOAD}'` live on kernel {}", recorder.info().kernel));
                let mut command = Command::new(host::command::resolve("sh")?);
                command.arg("-c").arg(WORKLOAD).stdout(Stdio::null()).stderr(Stdio::null());
                self.record(recorder, Some(command), Destination::Stdout).map(|_| 0)
            }
            Err(why) if cli::cannot_record_here(&why) => {
                let capture = CaptureReader::new(SHIPPED, "the shipped capture")?;
                cli::say_why_not_live(&why, capture.info());
                self.play(capture)
            }
            Err(why) => Err(why),
        }
    }

    fn attach(&self, filter: Filter) -> Result<Recorder<impl Sized + use<>>> {
        let recorder = self.options.recorder(filter)?.attach()?;
        cli::tell(self.options.report, recorder.report()).map(|()| recorder)
    }

    fn record<P>(&self, mut recorder: Recorder<P>, command: Option<Command>, to: Destination) -> Result<u8> {
        let registry = recorder.registry().clone();
        let irqs = recorder.irq_counters();
        let mut cost = Cost::of(Some(recorder.program_watch()), &self.options)?;
        // Emptied and written when the command has been started: until then nothing is lost if something fails.
        let outputs = Outputs::open(&self.options, &self.signals, to)?;
        let mut start = |mut command: Command| {
            self.signals.before_command()?;
            recorder.spawn(&mut command).map_err(|error| cli::not_started(&command, error))
        };
        let mut child = command.map(&mut start).transpose()?;
        let builder = Pipeline::builder(recorder).merge(self.options.merge());
        let pipeline = outputs.begin(&self.options, builder, &registry);
        let reload = |recorder: &mut Recorder<P>| self.reload.as_ref().map(|reload| reload.apply(recorder));
        let driven = pipeline.and_then(|pipeline| self.drive(pipeline, &mut cost, child.as_mut(), reload));
        let status = child.as_mut().map(|child| cli::wait(child, &self.signals)).transpose()?;
        irqs.map_or(Ok(()), |irqs| cli::show(self.options.stats, &cli::IrqTable::of(&irqs)))?;
        driven.map(|code| status.map_or(code, cli::code_of))
    }

    fn play(&self, capture: CaptureReader<impl std::io::Read>) -> Result<u8> {
        let mut cost = Cost::of(None, &self.options)?;
        let outputs = Outputs::open(&self.options, &self.signals, Destination::Stdout)?;
        let pipeline = outputs.begin(&self.options, Pipeline::builder(capture), &Registry::builtin())?;
        self.drive(pipeline, &mut cost, None, |_| None)
    }

    /// Until the source ends, the command has ended, the time is over, or a signal comes.
    fn drive<S: Source>(
        &self,
        mut pipeline: Pipeline<S>,
        cost: &mut Cost,
        mut child: Option<&mut Child>,
        mut reload: impl FnMut(&mut S) -> Option<Result<Vec<String>>>,
    ) -> Result<u8> {
        let served = cost.serve(pipeline.monitor())?;
        self.signals.begin(self.options.duration.map(|span| span.0));
        let mut ended = || child.as_mut().is_some_and(|child| !matches!(child.try_wait(), Ok(None)));
        let stop = |source: &mut S| {
            if self.signals.reload() {
                cli::note_reload(reload(source));
            }
            match self.signals.stop() {
                true => Stop::InTime,
                // When the command has ended, whoever reads gets all of it, in his own time.
                false if ended() => Stop::AtLeisure,
                false => Stop::No,
            }
        };
        let mut troubles = cli::Troubles::default();
        let driven = pipeline.drive(stop, |trouble| troubles.note(trouble));
        let finished = pipeline.finish();
        served.iter().for_each(|server| server.finished(&finished));
        let code = troubles.settle(self.options.stats, &finished, cost)?;
        Ok(driven.map(|()| code)?)
    }
}
