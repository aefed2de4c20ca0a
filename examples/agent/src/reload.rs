//! The configuration file, read again while a recording goes on.

use anyhow::{Context, Result};
use kprobe_ebpf::Recorder;

use crate::options::{Cli, Options};

/// What the recorder itself knows how to change, or says that it cannot.
const OF_THE_RECORDER: [&str; 15] = [
    "pid",
    "cgroup",
    "system",
    "probes",
    "paths",
    "min-duration",
    "sample",
    "minor-faults",
    "syscalls",
    "aggregate",
    "interval",
    "aggregate-keys",
    "ring-bytes",
    "include-self",
    "forbid-rung",
];

/// What the program was started with.
#[derive(Debug)]
pub(crate) struct Reload {
    cli: Cli,
    options: Options,
}

impl Reload {
    /// `None` if there is no file to read again.
    pub(crate) fn of(cli: &Cli, options: &Options) -> Option<Self> {
        cli.config.as_ref().map(|_| Self { cli: cli.clone(), options: options.clone() })
    }

    /// Has the recorder go on as the file says now. A line for each change and for each that there cannot be.
    ///
    /// # Errors
    /// The file says what nobody could be started with, and everything stays as it is.
    pub(crate) fn apply<P>(&self, recorder: &mut Recorder<P>) -> Result<Vec<String>> {
        let stays = "the configuration is as it was";
        let (options, target) = self.cli.resolve_again().context(stays)?;
        let filter = target.context("it says nothing to record").and_then(|target| target.filter());
        let wanted = options.recorder(filter.context(stays)?)?;
        let retuned = recorder.retune(&wanted).context(stays)?;
        let mut lines: Vec<String> = retuned.changed.iter().map(ToString::to_string).collect();
        let fixed = retuned.fixed.iter().map(ToString::to_string);
        let fixed = fixed.chain(self.options.names_that_differ(&options, &OF_THE_RECORDER)?);
        lines.extend(fixed.map(|what| format!("{what} cannot change while recording: restart for that")));
        if lines.is_empty() {
            lines.push("nothing has changed".to_owned());
        }
        Ok(lines)
    }
}
