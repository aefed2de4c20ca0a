//! The rim of the program: arguments in, one-line messages and exit codes out.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    fmt,
    io::{self, Read, Write},
    os::unix::{net::UnixStream, process::ExitStatusExt},
    path::Path,
    process::{Child, Command, ExitCode, ExitStatus},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::Context;
use clap::{Parser, error::ErrorKind};
use kprobe_core::{
    capture::CaptureWriter,
    event::Registry,
    pipeline::{Finished, Only, Pipeline, PipelineBuilder, Source, StreamInfo, Trouble},
    spill::Spill,
};
use kprobe_ebpf::{
    AttachError, IrqCounters, IrqSum, ProbeReport, Report, SpawnError, host::command::CommandError,
};
use kprobe_sinks::stdout::{Destination, Lines, Opened, Waiting, describe_events};
use serde::Serialize;
use signal_hook::{
    consts::{SIGCHLD, SIGHUP, SIGINT, SIGTERM, SIGXFSZ},
    flag,
    low_level::pipe,
};

use crate::{
    cost::Cost,
    options::{Cli, Form, Options},
};

/// It ran, but what it gave is not whole: a damaged capture, a full disk.
const INCOMPLETE: u8 = 1;
/// It could not start.
const FAILED: u8 = 2;
/// It failed before the command could be started, as with `env` and `timeout`.
const FAILED_BEFORE_COMMAND: u8 = 125;

/// A message for people, one line on standard error.
pub(crate) fn say(message: fmt::Arguments<'_>) {
    let mut line = String::from("kprobe-agent: ");
    // Names of files are in it: they must not end the line, nor talk to the terminal.
    for character in message.to_string().chars() {
        match character {
            '\n' => line.push(' '),
            character if character.is_control() => line.extend(character.escape_default()),
            character => line.push(character),
        }
    }
    say_raw(&line);
}

/// Lines on standard error as they are.
fn say_raw(text: &str) {
    // Nobody is left to be told if this fails; nor is one that does not read worth more than a moment.
    let _unheard =
        Waiting::stderr().and_then(|err| err.until(|| true).write_all(format!("{text}\n").as_bytes()));
}

/// What `--probes help` or `--check-config` asks for.
pub(crate) fn answer(options: &Options) -> anyhow::Result<()> {
    if !options.wants_probe_list() {
        say(format_args!("the options are good"));
        return Ok(());
    }
    match write!(io::stdout(), "{}", describe_events(&Registry::builtin())) {
        // Who reads has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => Ok(result?),
    }
}

/// A report or a ledger on standard error, if it is wanted.
pub(crate) fn show(form: Option<Form>, what: &(impl Serialize + fmt::Display)) -> anyhow::Result<()> {
    match form {
        Some(Form::Json) => say_raw(&serde_json::to_string(what)?),
        Some(Form::Human) => say_raw(&what.to_string()),
        None => {}
    }
    Ok(())
}

/// Interrupts on all CPUs together, most time first.
#[derive(Serialize)]
pub(crate) struct IrqTable {
    irqs: Vec<IrqSum>,
}

impl IrqTable {
    pub(crate) fn of(counters: &IrqCounters) -> Self {
        let mut irqs = counters.sums();
        irqs.sort_by_key(|sum| (Reverse(sum.total_ns), sum.cpu));
        Self { irqs }
    }
}

impl fmt::Display for IrqTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<28} {:>4} {:>12} {:>14}", "interrupt", "cpu", "count", "time in us")?;
        for sum in &self.irqs {
            let (kind, us) = (sum.source.to_string(), sum.total_ns / 1000);
            write!(f, "\n{kind:<28} {:>4} {:>12} {us:>14}", sum.cpu, sum.count)?;
        }
        Ok(())
    }
}

/// The report, if it is wanted, and what is off in any case.
///
/// # Errors
/// Nothing is recorded at all.
pub(crate) fn tell(form: Option<Form>, report: &Report) -> anyhow::Result<()> {
    show(form, report)?;
    note_what_is_off(report)
}

/// One line for each family of which something is not recorded.
///
/// # Errors
/// Nothing is recorded at all.
fn note_what_is_off(report: &Report) -> anyhow::Result<()> {
    let mut off: BTreeMap<&str, Vec<&ProbeReport>> = BTreeMap::new();
    for probe in report.probes.iter().filter(|probe| probe.rung.is_none()) {
        off.entry(probe.probe.split('.').next().unwrap_or_default()).or_default().push(probe);
    }
    let lines = off.values().map(|probes| {
        let names: Vec<_> = probes.iter().map(|probe| probe.probe.as_str()).collect();
        let mut reasons: Vec<_> = probes.iter().map(|probe| probe.refusal()).collect();
        reasons.dedup();
        format!("{} cannot be recorded ({})", names.join(", "), reasons.join("; "))
    });
    let lines: Vec<_> = lines.collect();
    anyhow::ensure!(report.attached().next().is_some(), "nothing could be attached: {}", lines.join("; "));
    lines.iter().for_each(|line| say(format_args!("{line}")));
    Ok(())
}

/// The machine, or who asks, is what stands in the way of recording, not what was asked for.
pub(crate) fn cannot_record_here(error: &anyhow::Error) -> bool {
    use AttachError::{Btf, Capability, Kernel, Lockdown};
    matches!(error.downcast_ref(), Some(Capability { .. } | Kernel { .. } | Lockdown | Btf(_)))
}

/// Why the demonstration is not live, and what it is instead.
pub(crate) fn say_why_not_live(why: &anyhow::Error, played: &StreamInfo) {
    say(format_args!("cannot record here: {why:#}"));
    say(format_args!("playing the shipped capture, recorded on kernel {}", played.kernel));
    say(format_args!("to go live run the same as root"));
}

/// What goes wrong at sinks: each trouble is said once, however many batches meet it.
#[derive(Debug, Default)]
pub(crate) struct Troubles {
    told: BTreeSet<String>,
}

impl Troubles {
    /// More different ones than this nobody reads.
    const MOST: usize = 16;

    pub(crate) fn note(&mut self, trouble: &Trouble) {
        let text = trouble.to_string();
        if self.told.len() < Self::MOST && !self.told.contains(&text) {
            say(format_args!("{text}"));
            self.told.insert(text);
        }
    }

    /// The end of a run: what failed, the books, and whether they balance. The exit code is 1 if what was given is not
    /// whole, but for what the kernel lost: that is in the stream.
    pub(crate) fn settle(
        mut self,
        form: Option<Form>,
        finished: &Finished,
        cost: &Cost,
    ) -> anyhow::Result<u8> {
        finished.troubles.iter().for_each(|trouble| self.note(trouble));
        if form.is_some() {
            show(form, &cost.beside(&finished.ledger))?;
        }
        // Numbers are missing wherever a part of the stream is.
        let whole = finished.incomplete.is_none();
        for gap in finished.gaps.iter().filter(|gap| whole && !gap.agrees()) {
            let (cpu, missing, lost) = (gap.cpu, gap.missing, gap.lost);
            say(format_args!(
                "CPU {cpu}: {missing} record numbers are missing where {lost} records were lost"
            ));
        }
        if let Some(why) = &finished.incomplete {
            say(format_args!("incomplete: {why}"));
        }
        let balance = finished.ledger.balance;
        if balance != 0 {
            say(format_args!(
                "{balance} records are unaccounted for; this is a bug in kprobe, please report it"
            ));
        }
        let uncounted = finished.ledger.uncounted;
        if uncounted > 0 {
            say(format_args!(
                "{uncounted} events are in no sum, for want of room: record with a larger --aggregate-keys or a shorter --interval"
            ));
        }
        let mut undelivered = 0;
        let stages = finished.ledger.stages.iter().map(|row| (&row.stage, &row.dropped, &["shutdown"][..]));
        // What a sink itself did not deliver it has said, and that a reader has gone is no failure.
        let of_pipeline = &["queue_full", "shutdown", "failed"][..];
        let sinks = finished.ledger.sinks.iter().map(|row| (&row.sink, &row.dropped, of_pipeline));
        for (name, dropped, told) in stages.chain(sinks) {
            for (reason, count) in dropped.iter().filter(|(reason, _)| told.contains(&reason.as_str())) {
                undelivered += count;
                say(format_args!("{name}: {count} records were dropped ({reason})"));
            }
        }
        let is_whole = undelivered == 0
            && balance == 0
            && uncounted == 0
            && finished.incomplete.is_none()
            && self.told.is_empty();
        Ok(if is_whole { 0 } else { INCOMPLETE })
    }
}

/// The arguments, or the exit code of a program that cannot use them or was only asked for help.
pub(crate) fn parse() -> Result<Cli, ExitCode> {
    Cli::try_parse().map_err(|error| match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            let _unheard = error.print();
            ExitCode::SUCCESS
        }
        _ => {
            let text = error.render().to_string();
            let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
            let told: Vec<_> = lines
                .take_while(|line| !line.starts_with("Usage:") && !line.starts_with("For more"))
                // What stands behind `--` is a command, so this is no way out.
                .filter(|line| !line.starts_with("tip: to pass"))
                .collect();
            say(format_args!("{}; see kprobe-agent --help", told.join("; ").trim_start_matches("error: ")));
            ExitCode::from(if has_command() { FAILED_BEFORE_COMMAND } else { FAILED })
        }
    })
}

/// The exit code for an error of ours.
pub(crate) fn failure(error: &anyhow::Error) -> ExitCode {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string).filter(|cause| !cause.is_empty()) {
        // Many errors already say what is behind them.
        if !text.contains(&cause) {
            text = if text.is_empty() { cause } else { format!("{text}: {cause}") };
        }
    }
    say(format_args!("{text}"));
    let of_command = error.downcast_ref::<CommandError>().map(CommandError::exit_code);
    let code = if has_command() { of_command.unwrap_or(FAILED_BEFORE_COMMAND) } else { FAILED };
    ExitCode::from(code)
}

/// The system refused to start a file that it said can be executed.
pub(crate) fn not_started(command: &Command, error: SpawnError) -> anyhow::Error {
    let SpawnError::Start(source) = error else { return error.into() };
    let source = match source.kind() {
        io::ErrorKind::NotFound => io::Error::new(source.kind(), "its interpreter was not found"),
        _ => source,
    };
    CommandError::NotExecutable { path: command.get_program().into(), source }.into()
}

/// The command's own exit code; 128 and the signal's number if a signal ended it, as shells have it.
pub(crate) fn code_of(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(u8::MAX)
}

/// What ends a recording: a signal, or that its time is over. A second signal of the same kind ends the program at once.
pub(crate) struct Signals {
    asked: Arc<Asked>,
    /// Gets a byte when the command has ended, or should.
    news: UnixStream,
}

#[derive(Default)]
struct Asked {
    interrupted: Arc<AtomicBool>,
    terminated: Arc<AtomicBool>,
    reload: Arc<AtomicBool>,
    deadline: OnceLock<Instant>,
}

impl Asked {
    fn to_stop(&self) -> bool {
        let over = |deadline: &Instant| Instant::now() >= *deadline;
        self.by_signal() || self.deadline.get().is_some_and(over)
    }

    fn by_signal(&self) -> bool {
        self.interrupted.load(Ordering::Relaxed) || self.terminated.load(Ordering::Relaxed)
    }
}

impl Signals {
    /// SIGHUP asks for the configuration to be read again, if `reloads`. Otherwise it ends the recording as the others do,
    /// unless whoever started the program had it ignored, as `nohup` does.
    pub(crate) fn install(reloads: bool) -> io::Result<Self> {
        let (news, tell) = UnixStream::pair()?;
        let asked = Arc::new(Asked::default());
        for (number, seen) in [(SIGINT, &asked.interrupted), (SIGTERM, &asked.terminated)] {
            flag::register_conditional_shutdown(number, 128 + number, Arc::clone(seen))?;
            flag::register(number, Arc::clone(seen))?;
        }
        match reloads {
            true => drop(flag::register(SIGHUP, Arc::clone(&asked.reload))?),
            false if is_ignored(SIGHUP) => {}
            false => {
                flag::register_conditional_shutdown(SIGHUP, 128 + SIGHUP, Arc::clone(&asked.interrupted))?;
                flag::register(SIGHUP, Arc::clone(&asked.interrupted))?;
            }
        }
        pipe::register(SIGTERM, tell.try_clone()?)?;
        // This also interrupts the wait for records.
        pipe::register(SIGCHLD, tell)?;
        // So that the write that a limit forbids fails, and is told of. A handler, unlike an order to ignore it, does
        // not reach the command.
        flag::register(SIGXFSZ, Arc::default())?;
        Ok(Self { asked, news })
    }

    /// The time begins. One that is too long to be told has no end.
    pub(crate) fn begin(&self, duration: Option<Duration>) {
        if let Some(deadline) = duration.and_then(|duration| Instant::now().checked_add(duration)) {
            let _first = self.asked.deadline.set(deadline);
        }
    }

    /// Whether the configuration is to be read again, since this was last asked.
    pub(crate) fn reload(&self) -> bool {
        self.asked.reload.swap(false, Ordering::Relaxed)
    }

    pub(crate) fn stop(&self) -> bool {
        self.asked.to_stop()
    }

    /// A command that has not begun does not begin any more.
    pub(crate) fn before_command(&self) -> anyhow::Result<()> {
        anyhow::ensure!(!self.asked.by_signal(), "stopped by a signal before the command was started");
        Ok(())
    }

    /// Opens a file or a stream, and does not wait for ever for who reads it.
    pub(crate) fn open(&self, destination: &Destination) -> io::Result<Opened> {
        let asked = Arc::clone(&self.asked);
        Ok(destination.open()?.until(move || asked.to_stop()))
    }

    fn terminated(&self) -> bool {
        self.asked.terminated.load(Ordering::Relaxed)
    }
}

/// What came of reading the configuration again; `None` where nothing is recorded.
pub(crate) fn note_reload(reloaded: Option<anyhow::Result<Vec<String>>>) {
    match reloaded {
        Some(Ok(lines)) => lines.iter().for_each(|line| say(format_args!("configuration: {line}"))),
        Some(Err(error)) => say(format_args!("{error:#}")),
        None => say(format_args!("configuration: nothing of it can change while a capture is played")),
    }
}

/// Whether whoever started this program had it ignore the signal. Without `/proc` nobody knows.
fn is_ignored(signal: i32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or_default();
    mask >> (signal - 1) & 1 == 1
}

/// Files and streams that are open, and still as they were.
pub(crate) struct Outputs {
    capture: Option<Opened>,
    lines: Option<(Opened, Destination)>,
    spill: Option<Spill>,
}

impl Outputs {
    /// Opens what the options name; lines go to `to` if they name nothing.
    pub(crate) fn open(options: &Options, signals: &Signals, to: Destination) -> anyhow::Result<Self> {
        let capture = options.capture.clone().map(|path| {
            let cannot = cannot_capture(&path);
            signals.open(&Destination::File(path)).context(cannot)
        });
        let to = options.output_file.clone().map_or(to, Destination::File);
        let lines = options.lines().is_some().then(|| {
            let lines = signals.open(&to).with_context(|| format!("cannot write to {to}"))?;
            anyhow::Ok((lines, to))
        });
        let (capture, lines) = (capture.transpose()?, lines.transpose()?);
        let spill = if lines.is_some() { options.claim_spill("output")? } else { None };
        Ok(Self { capture, lines, spill })
    }

    /// What is behind the source. What the files held is gone then: nobody else has the folder of a spill, or could take it but in
    /// the moment in which the sink does.
    pub(crate) fn begin<S: Source>(
        self,
        options: &Options,
        builder: PipelineBuilder<S>,
        registry: &Registry,
    ) -> anyhow::Result<Pipeline<S>> {
        let (info, families) = (builder.info().clone(), options.families()?);
        let mut builder = match options.shutdown_within {
            Some(longest) => builder.shutdown_within(longest.0),
            None => builder,
        };
        if has_process_events(&info) {
            builder = builder.stage(options.process_table(info.boot));
        }
        builder = builder.stage(Only::new(move |kind| families.show(kind)));
        if let Some((capture, path)) = self.capture.zip(options.capture.as_deref()) {
            let writer = capture.begin().and_then(|out| CaptureWriter::new(out, &info));
            let writer = writer.with_context(|| cannot_capture(path))?;
            builder = builder.raw_sink_with(writer, options.queue("capture"));
        }
        drop(self.spill);
        let Some(((out, to), form)) = self.lines.zip(options.lines()) else { return Ok(builder.build()?) };
        let lines = Lines::begin(out, form, options.times(), &info, registry);
        let lines = lines.with_context(|| format!("cannot write to {to}"))?;
        Ok(builder.sink_with(lines, options.queue("output").ends_pipeline()).build()?)
    }
}

fn cannot_capture(path: &Path) -> String {
    format!("cannot write the capture {}", path.display())
}

/// Without forks and execs in the stream a name that was once seen says nothing later on.
fn has_process_events(info: &StreamInfo) -> bool {
    info.reports().iter().all(has_its_processes)
}

fn has_its_processes(report: &serde_json::Value) -> bool {
    let probes = report["probes"].as_array().map_or(&[][..], Vec::as_slice);
    let is_off = |name: &str| probes.iter().any(|probe| probe["probe"] == name && probe["rung"].is_null());
    !(is_off("process.fork") || is_off("process.exec"))
}

/// Waits for the command's end, and passes SIGTERM on to it, also one that came before. SIGINT needs no passing on: a
/// terminal sends it to the command as well.
pub(crate) fn wait(child: &mut Child, signals: &Signals) -> io::Result<ExitStatus> {
    let mut told = false;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        if signals.terminated() && !told {
            told = true;
            // It is not waited for yet, so the number is its own.
            if let Some(pid) = i32::try_from(child.id()).ok().and_then(rustix::process::Pid::from_raw) {
                rustix::process::kill_process(pid, rustix::process::Signal::TERM)?;
            }
        }
        // The byte comes after the signal's other effects, so that what it is about is seen above.
        (&signals.news).read_exact(&mut [0])?;
    }
}

fn has_command() -> bool {
    std::env::args_os().any(|arg| arg == "--")
}

#[cfg(test)]
mod tests {
    use kprobe_core::{
        capture::CaptureReader,
        pipeline::{Ledger, ProbeRow, StageRow},
    };

    use super::*;

    /// Books that do not balance are a bug of somebody's, and no success.
    #[test]
    fn records_that_are_unaccounted_for() -> anyhow::Result<()> {
        let mut run = Pipeline::builder(CaptureReader::new(crate::SHIPPED, "demo")?).build()?;
        while run.step()?.end.is_none() {}
        let mut finished = run.finish();
        let row = ProbeRow { probe: "syscall".to_owned(), cpu: None, submitted: 0, lost: 5, sampled_out: 0 };
        let cost = Cost::of(None, &Options::default())?;
        assert_eq!(Troubles::default().settle(None, &finished, &cost)?, 0);
        finished.ledger = Ledger::new(vec![row], Vec::new(), Vec::new());
        assert_eq!(Troubles::default().settle(None, &finished, &cost)?, INCOMPLETE);
        // What was still in the rings when the time was over is no part of any sink's row.
        let mut drain = StageRow { received: 3, ..StageRow::named("drain") };
        drain.dropped.insert("shutdown".to_owned(), 3);
        finished.ledger = Ledger::new(Vec::new(), vec![drain], Vec::new());
        finished.ledger.balance = 0;
        assert_eq!(Troubles::default().settle(None, &finished, &cost)?, INCOMPLETE);
        Ok(())
    }
}
