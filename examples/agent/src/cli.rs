//! The rim of the program: arguments in, one-line messages and exit codes out.

use std::{
    collections::BTreeSet,
    fmt,
    io::{self, Read, Write},
    os::unix::{net::UnixStream, process::ExitStatusExt},
    process::{Child, Command, ExitCode, ExitStatus},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use clap::{Parser, error::ErrorKind};
use kprobe_core::{
    event::Registry,
    pipeline::{Finished, SinkError},
};
use kprobe_ebpf::{SpawnError, host::command::CommandError};
use kprobe_sinks::stdout::describe_events;
use serde::Serialize;
use signal_hook::{
    consts::{SIGCHLD, SIGINT, SIGTERM},
    flag,
    low_level::pipe,
};

use crate::options::{Cli, Form, Options};

/// It ran, but what it gave is not whole: a damaged capture, a full disk.
const INCOMPLETE: u8 = 1;
/// It could not start.
const FAILED: u8 = 2;
/// It failed before the command could be started, as with `env` and `timeout`.
const FAILED_BEFORE_COMMAND: u8 = 125;

/// A message for people, one line on standard error.
pub(crate) fn say(message: fmt::Arguments<'_>) {
    say_raw(&format!("kprobe-agent: {}", message.to_string().replace('\n', " ")));
}

/// Lines on standard error as they are.
fn say_raw(text: &str) {
    // Nobody is left to be told if this fails.
    let _unheard = writeln!(std::io::stderr(), "{text}");
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

/// What goes wrong at sinks: each trouble is said once, however many batches meet it.
#[derive(Debug, Default)]
pub(crate) struct Troubles {
    told: BTreeSet<String>,
}

impl Troubles {
    /// More different ones than this nobody reads.
    const MOST: usize = 16;

    pub(crate) fn note(&mut self, failure: &SinkError) {
        let text = failure.to_string();
        if self.told.len() < Self::MOST && !self.told.contains(&text) {
            say(format_args!("{text}"));
            self.told.insert(text);
        }
    }

    /// The end of a run: what failed, the books, and whether they balance. The exit code is 1 if what was given is not
    /// whole, but for what the kernel lost: that is in the stream.
    pub(crate) fn settle(mut self, form: Option<Form>, finished: &Finished) -> anyhow::Result<u8> {
        finished.failures.iter().for_each(|failure| self.note(failure));
        show(form, &finished.ledger)?;
        for gap in finished.gaps.iter().filter(|gap| !gap.agrees()) {
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
        let is_whole = balance == 0 && finished.incomplete.is_none() && self.told.is_empty();
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

/// The signals that end a recording. A second one of the same kind ends the program at once.
pub(crate) struct Signals {
    interrupted: Arc<AtomicBool>,
    terminated: Arc<AtomicBool>,
    /// Gets a byte when the command has ended, or should.
    news: UnixStream,
}

impl Signals {
    pub(crate) fn install() -> io::Result<Self> {
        let (news, tell) = UnixStream::pair()?;
        let signals = Self { interrupted: Arc::default(), terminated: Arc::default(), news };
        for (number, seen) in [(SIGINT, &signals.interrupted), (SIGTERM, &signals.terminated)] {
            flag::register_conditional_shutdown(number, 128 + number, Arc::clone(seen))?;
            flag::register(number, Arc::clone(seen))?;
        }
        pipe::register(SIGTERM, tell.try_clone()?)?;
        // This also interrupts the wait for records.
        pipe::register(SIGCHLD, tell)?;
        Ok(signals)
    }

    pub(crate) fn stop(&self) -> bool {
        self.interrupted.load(Ordering::Relaxed) || self.terminated()
    }

    fn terminated(&self) -> bool {
        self.terminated.load(Ordering::Relaxed)
    }
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
