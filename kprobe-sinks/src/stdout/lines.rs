use std::{fs::File, io};

use kprobe_core::{
    event::Registry,
    pipeline::{Batch, Ledger, Sink, SinkError, StreamInfo, Tally},
};

use super::{HumanSink, JsonSink, Opened, Times, Waiting};

/// Lines as the user of a program wants them: the choice that its options make.
#[derive(Debug)]
pub enum Lines {
    /// For people.
    Human(HumanSink<Waiting<File>>),
    /// For programs.
    Json(JsonSink<Waiting<File>>),
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
    /// Begins to write to `out`. Without a `form` people get theirs on a terminal, and programs theirs elsewhere. Colour
    /// is for terminals, unless the environment has `NO_COLOR`.
    ///
    /// # Errors
    /// What was in the file cannot be taken out.
    pub fn begin(
        out: Opened,
        form: Option<Form>,
        times: Times,
        info: &StreamInfo,
        registry: &Registry,
    ) -> io::Result<Self> {
        let terminal = out.is_terminal();
        let out = out.begin()?;
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
    fn name(&self) -> &str {
        match self {
            Self::Human(sink) => sink.name(),
            Self::Json(sink) => sink.name(),
        }
    }

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

    fn missed(&mut self, records: u64) {
        match self {
            Self::Human(sink) => sink.missed(records),
            Self::Json(sink) => sink.missed(records),
        }
    }

    fn tally(&self) -> Option<Tally> {
        match self {
            Self::Human(sink) => sink.tally(),
            Self::Json(sink) => sink.tally(),
        }
    }

    fn finish(&mut self, ledger: &Ledger, incomplete: Option<&str>) -> Result<(), SinkError> {
        match self {
            Self::Human(sink) => sink.finish(ledger, incomplete),
            Self::Json(sink) => sink.finish(ledger, incomplete),
        }
    }
}
