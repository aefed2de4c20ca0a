//! T10: records to lines of JSON.

mod peer;
mod records;

use std::{
    hint::black_box,
    io::{self, Write},
};

use anyhow::{Result, ensure};
use kprobe_core::{
    event::{Registry, SchedSwitch, Syscall, TcpSend},
    pipeline::{Batch, Sink as _},
};
use kprobe_sinks::stdout::JsonSink;

use self::peer::{Clock, Peer, put, put_line, with_lines};
use crate::{
    harness::{Effort, Rounds},
    machine::{CONSUMER_CORE, Watch, pin, thread_cpu_ns},
    report::{Goal, Report, Row},
    stats::show,
};

const GOAL: Goal = Goal::AtMost(0.5);
/// Times a turn makes lines of its batch.
const PASSES: u32 = 300;
/// Both hand their lines on when so much has come together.
const CHUNK: usize = 64 << 10;

pub(crate) fn measure(effort: Effort, report: &mut Report) -> Result<()> {
    report.peer = Some("serde_json, structs with `derive(Serialize)`".to_owned());
    pin(CONSUMER_CORE)?;
    measure_kind::<Syscall>(&records::syscalls(), effort, report)?;
    measure_kind::<SchedSwitch>(&records::switches(), effort, report)?;
    measure_kind::<TcpSend>(&records::sends(), effort, report)?;
    Ok(())
}

/// In the order of the turns.
const OURS: usize = 0;
const THEIRS: usize = 1;
/// `serde_json` with the structs of all lines made beforehand.
const ALONE: usize = 2;

fn measure_kind<E: Peer>(batch: &Batch, effort: Effort, report: &mut Report) -> Result<()> {
    let passes = effort.scale(PASSES);
    let mut expected = Vec::new();
    theirs::<E>(batch, 1, &mut expected)?;
    let run = |who| match who {
        OURS => ours,
        THEIRS => theirs::<E>,
        _ => alone::<E>,
    };
    let turn = |who, watch: &mut Watch| {
        let mut counted = Counted(0);
        let ns = watch.over(&[], || run(who)(batch, passes, &mut counted))?;
        let mut lines = Vec::new();
        run(who)(batch, 1, &mut lines)?;
        let is_right = lines == expected && counted.0 == expected.len() * passes as usize;
        ensure!(is_right, "{}: contestant {who} makes other lines", E::NAME);
        Ok(Some(ns as f64 / f64::from(passes * records::RECORDS)))
    };
    let rounds: Rounds<f64, 3> = effort.rounds(turn)?;
    let ratio = rounds.spread(|round| round[OURS] / round[THEIRS]);
    let ns = |who: usize| show(rounds.spread(|round| round[who]), 1, "ns");
    report.rows.push(Row {
        test: "T10",
        what: format!(
            "a `{}` record with its context to a line of JSON, {} bytes on average; a struct of it by `serde_json::to_writer`",
            E::NAME,
            expected.len() / records::RECORDS as usize
        ),
        ours: ns(OURS),
        theirs: ns(THEIRS),
        compared: show(ratio, 2, ""),
        goal: GOAL,
        met: GOAL.is_met(ratio),
        drops: "0, 0".to_owned(),
        cpu: "the figures are CPU time".to_owned(),
        turns: format!("{} ({} disturbed)", rounds.turns.len(), rounds.disturbed),
    });
    report.notes.push(format!(
        "T10, `{}`: `serde_json::to_writer` alone, with the structs of all lines made beforehand, takes {}; ours, with decoding and the time, is {} of that.",
        E::NAME,
        ns(ALONE),
        show(rounds.spread(|round| round[OURS] / round[ALONE]), 2, ""),
    ));
    Ok(())
}

/// Nanoseconds of CPU time for `passes` times the lines of `batch`, handed to `out` in chunks.
fn ours(batch: &Batch, passes: u32, out: &mut dyn Write) -> Result<u64> {
    let mut sink = JsonSink::new(WithoutStart { out, began: false }, &records::info(), &Registry::builtin());
    sink.flush()?;
    let from = thread_cpu_ns();
    for _ in 0..passes {
        sink.write(black_box(batch))?;
    }
    sink.flush()?;
    Ok(thread_cpu_ns() - from)
}

fn theirs<E: Peer>(batch: &Batch, passes: u32, out: &mut dyn Write) -> Result<u64> {
    let clocks = records::info().clocks;
    let mut clock = Clock::new();
    let mut lines = Reused::new(out);
    let from = thread_cpu_ns();
    for _ in 0..passes {
        for enriched in black_box(batch).enriched() {
            lines.put(|buf| put_line::<E>(enriched?, &clocks, &mut clock, buf))?;
        }
    }
    lines.hand_on()?;
    Ok(thread_cpu_ns() - from)
}

fn alone<E: Peer>(batch: &Batch, passes: u32, out: &mut dyn Write) -> Result<u64> {
    with_lines::<E, _>(batch, &records::info().clocks, |structs| {
        let mut lines = Reused::new(out);
        let from = thread_cpu_ns();
        for _ in 0..passes {
            for line in black_box(structs) {
                lines.put(|buf| put(line, buf))?;
            }
        }
        lines.hand_on()?;
        Ok(thread_cpu_ns() - from)
    })?
}

/// The peer's buffer, as the sink has one.
struct Reused<'a> {
    buf: Vec<u8>,
    out: &'a mut dyn Write,
}

impl<'a> Reused<'a> {
    fn new(out: &'a mut dyn Write) -> Self {
        Self { buf: Vec::with_capacity(CHUNK + CHUNK / 4), out }
    }

    #[inline]
    fn put(&mut self, line: impl FnOnce(&mut Vec<u8>) -> Result<()>) -> Result<()> {
        line(&mut self.buf)?;
        if self.buf.len() >= CHUNK { self.hand_on() } else { Ok(()) }
    }

    fn hand_on(&mut self) -> Result<()> {
        self.out.write_all(&self.buf)?;
        self.buf.clear();
        Ok(())
    }
}

/// Takes lines as if they were written, which is no part of the comparison.
struct Counted(usize);

impl Write for Counted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += black_box(bytes).len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Leaves out what comes first: the sink's own first line, which was flushed before any other.
struct WithoutStart<'a> {
    out: &'a mut dyn Write,
    began: bool,
}

impl Write for WithoutStart<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if std::mem::replace(&mut self.began, true) { self.out.write(bytes) } else { Ok(bytes.len()) }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
