use std::{
    fmt,
    fs::File,
    io::{self, IsTerminal},
    path::PathBuf,
};

use kprobe_core::{
    event::Registry,
    pipeline::{Batch, Ledger, Sink, SinkError, SinkRow, StreamInfo},
};

use super::{HumanSink, JsonSink, Times, Waiting};

/// Lines as the user of a program wants them: the choice that its options make.
#[derive(Debug)]
pub enum Lines {
    /// For people.
    Human(HumanSink<Waiting<File>>),
    /// For programs.
    Json(JsonSink<Waiting<File>>),
}

/// Where lines go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
    /// A file, which is created or emptied.
    File(PathBuf),
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stdout => f.write_str("standard output"),
            Self::Stderr => f.write_str("standard error"),
            Self::File(path) => path.display().fmt(f),
        }
    }
}

/// For whom lines are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// People.
    Human,
    /// Programs.
    Json,
}

impl Lines {
    /// Opens `destination`. Without a `form` people get theirs on a terminal, and programs theirs elsewhere. Colour is for
    /// terminals, unless the environment has `NO_COLOR`.
    ///
    /// # Errors
    /// The file cannot be created, or the stream is closed.
    pub fn open(
        destination: &Destination,
        form: Option<Form>,
        times: Times,
        info: &StreamInfo,
        registry: &Registry,
    ) -> io::Result<Self> {
        let (out, terminal) = match destination {
            Destination::Stdout => (Waiting::stdout()?, io::stdout().is_terminal()),
            Destination::Stderr => (Waiting::stderr()?, io::stderr().is_terminal()),
            Destination::File(path) => (Waiting::new(File::create(path)?), false),
        };
        Ok(match form.unwrap_or(if terminal { Form::Human } else { Form::Json }) {
            Form::Human => {
                let colour = terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
                let sink = HumanSink::new(out, info, registry).with_times(times).with_colour(colour);
                Self::Human(sink.flush_each_batch(terminal))
            }
            Form::Json => Self::Json(JsonSink::new(out, info, registry).flush_each_batch(terminal)),
        })
    }
}

impl Sink for Lines {
    fn write(&mut self, batch: &Batch) -> Result<(), SinkError> {
        match self {
            Self::Human(sink) => sink.write(batch),
            Self::Json(sink) => sink.write(batch),
        }
    }

    fn flush(&mut self) -> Result<(), SinkError> {
        match self {
            Self::Human(sink) => sink.flush(),
            Self::Json(sink) => sink.flush(),
        }
    }

    fn row(&self) -> SinkRow {
        match self {
            Self::Human(sink) => sink.row(),
            Self::Json(sink) => sink.row(),
        }
    }

    fn finish(&mut self, ledger: &Ledger, incomplete: Option<&str>) -> Result<(), SinkError> {
        match self {
            Self::Human(sink) => sink.finish(ledger, incomplete),
            Self::Json(sink) => sink.finish(ledger, incomplete),
        }
    }
}
