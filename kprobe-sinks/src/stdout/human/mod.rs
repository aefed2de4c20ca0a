mod line;
mod lock;
mod render;
mod syscall;
mod text;
mod wait;

use std::io::Write;

use kprobe_core::{
    event::{Event, Origin, Registry},
    pipeline::{Batch, Enriched, Ledger, Sink, SinkError, SinkRow, StreamInfo, Tally},
};

use self::{
    line::{ALARM, Line, TIME, Thread, WHO},
    render::Scene,
    text::Visible,
};
use super::{
    outlet::{Outlet, Reason},
    stream::Streams,
    time::{CLOCK, Rfc3339},
    who,
};

/// Lines for people: when, who, what.
///
/// ```text
///     0.001234 ls:1234         openat(AT_FDCWD)         = 3                  12.3us
/// ```
///
/// Text that comes from the recorded machine, such as the name of a thread, cannot steer the terminal: control characters
/// are shown as escapes. Only the record's own numbers and names decide the text, so a capture gives the same lines on
/// every machine. See the [module](super) for what counts as delivered.
#[derive(Debug)]
pub struct HumanSink<W: Write> {
    outlet: Outlet<W>,
    streams: Streams,
    lines: Lines,
    each_batch: bool,
}

/// What the first column of a line for people says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Times {
    /// Seconds since the first event.
    #[default]
    Relative,
    /// Time of day in UTC.
    Wall,
}

#[derive(Debug)]
struct Lines {
    info: StreamInfo,
    registry: Registry,
    colour: bool,
    times: Times,
    seeds: bool,
    clock: Rfc3339,
    /// Time of the first event.
    start_ns: Option<u64>,
    /// Columns that the longest name so far has taken.
    who_width: usize,
}

impl<W: Write> HumanSink<W> {
    /// Writes to `out` the events that kprobe defines and those that `registry` knows; without colour, with relative times.
    pub fn new(out: W, info: &StreamInfo, registry: &Registry) -> Self {
        Self {
            outlet: Outlet::new("human", out),
            streams: Streams::new(info),
            lines: Lines {
                info: info.clone(),
                registry: registry.clone(),
                colour: false,
                times: Times::default(),
                seeds: false,
                clock: Rfc3339::new(),
                start_ns: None,
                who_width: 14,
            },
            each_batch: false,
        }
    }

    /// Uses colour.
    #[must_use]
    pub fn with_colour(mut self, colour: bool) -> Self {
        self.lines.colour = colour;
        self
    }

    /// Says when in the given manner.
    #[must_use]
    pub fn with_times(mut self, times: Times) -> Self {
        self.lines.times = times;
        self
    }

    /// Shows the seeds of the process table, `meta.thread` and `meta.cgroup`, as well.
    #[must_use]
    pub fn with_seeds(mut self, shown: bool) -> Self {
        self.lines.seeds = shown;
        self
    }

    /// Hands the lines of each batch on at its end: for a terminal.
    #[must_use]
    pub fn flush_each_batch(mut self, each: bool) -> Self {
        self.each_batch = each;
        self
    }

    /// The books of this sink.
    #[must_use]
    pub fn row(&self) -> SinkRow {
        self.outlet.row()
    }
}

impl<W: Write> Sink for HumanSink<W> {
    fn name(&self) -> &str {
        self.outlet.name()
    }

    fn write(&mut self, batch: &Batch) -> Result<(), SinkError> {
        let lines = &mut self.lines;
        if let Some(info) = self.streams.changed(batch) {
            // A line that is about no record comes behind whole lines of records only.
            self.outlet.drain()?;
            let colour = lines.colour;
            let (host, boot) = (Visible(info.host.as_bytes()), info.boot);
            self.outlet.own_line(|buf| {
                Line::new(buf, colour)
                    .styled(ALARM, format_args!("*** FROM HERE ON: {host}, boot {boot} ***"));
            });
            (lines.info, lines.start_ns) = (info.clone(), None);
        }
        let result = self.outlet.write_batch(batch, |record, buf| lines.put_line(record, buf));
        if self.each_batch { result.and(self.outlet.flush()) } else { result }
    }

    fn flush(&mut self) -> Result<(), SinkError> {
        self.outlet.flush()
    }

    fn missed(&mut self, records: u64) {
        self.outlet.miss(records);
    }

    fn tally(&self) -> Option<Tally> {
        Some(self.outlet.tally())
    }

    /// Writes everything that is buffered and then, unmistakably, what is missing from it: lost records, events that
    /// are in no sum, a stream that was not whole, books that do not balance. Nothing if nothing is.
    fn finish(&mut self, ledger: &Ledger, incomplete: Option<&str>) -> Result<(), SinkError> {
        self.outlet.drain()?;
        let (colour, missed) = (self.lines.colour, self.outlet.missed());
        let mut alarm = |text: std::fmt::Arguments<'_>| {
            self.outlet.own_line(|buf| Line::new(buf, colour).styled(ALARM, format_args!("*** {text} ***")));
        };
        if ledger.lost() > 0 {
            alarm(format_args!("LOST {} of {} records", ledger.lost(), ledger.submitted()));
        }
        if ledger.uncounted > 0 {
            alarm(format_args!("UNCOUNTED {} events that found no room for a sum", ledger.uncounted));
        }
        if missed > 0 {
            alarm(format_args!("DROPPED {missed} records: they found no room in the queue of this output"));
        }
        if let Some(reason) = incomplete {
            alarm(format_args!("INCOMPLETE: {}", Visible(reason.as_bytes())));
        }
        if ledger.balance != 0 {
            alarm(format_args!("{} records are unaccounted for: this is a bug in kprobe", ledger.balance));
        }
        self.outlet.flush()
    }
}

impl Lines {
    fn put_line(&mut self, enriched: &Enriched<'_>, buf: &mut Vec<u8>) -> Result<(), Reason> {
        let kind = enriched.record.kind();
        if !self.seeds && who::is_seed(kind) {
            return Err(Reason::NotShown);
        }
        let event = Event::decode(enriched.record).map_err(|_| Reason::Undecodable)?;
        let entry = self.registry.get(kind).copied();
        if event.is_none() && entry.is_none() {
            return Err(Reason::UnknownKind);
        }
        if let Some(Event::ClockChange(change)) = &event {
            self.info.clocks = change.into();
        }
        let origin = Origin::of(&enriched.record);
        let mut line = Line::new(buf, self.colour);
        self.put_time(&mut line, &origin);
        self.put_who(&mut line, enriched, &origin);
        let scene = Scene { enriched, origin: &origin, arch: self.info.arch };
        match (event, entry) {
            (Some(event), _) if scene.put_event(&mut line, &event) => Ok(()),
            (_, Some(entry)) => scene.put_fields(&mut line, &entry).map_err(|_| Reason::Undecodable),
            _ => Err(Reason::UnknownKind),
        }
    }

    fn put_time(&mut self, line: &mut Line<'_>, origin: &Origin) {
        let width = match self.times {
            Times::Wall => {
                let text = self.clock.text(self.info.clocks.wall_ns(origin.ktime_ns));
                // To the microsecond, without the date.
                let text = std::str::from_utf8(&text[CLOCK..CLOCK + 15]).unwrap_or_default();
                line.styled(TIME, format_args!("{text}"));
                15
            }
            Times::Relative => {
                // What user space puts into the stream before the first event has no time on this scale.
                if self.start_ns.is_none() && origin.cpu.is_some() {
                    self.start_ns = Some(origin.ktime_ns);
                }
                if let Some(start) = self.start_ns {
                    let us = origin.ktime_ns.abs_diff(start) / 1_000;
                    let sign = if origin.ktime_ns < start { "-" } else { "" };
                    let seconds = format_args!("{sign}{}", us / 1_000_000).to_string();
                    line.styled(TIME, format_args!("{seconds:>5}.{:06}", us % 1_000_000));
                }
                12
            }
        };
        line.pad_to(width + 1);
    }

    fn put_who(&mut self, line: &mut Line<'_>, enriched: &Enriched<'_>, origin: &Origin) {
        let start = line.width();
        if origin.cpu.is_some() || origin.tid.0 != 0 {
            let comm = who::comm(enriched);
            let thread = Thread { comm, tgid: origin.tgid, tid: origin.tid, cpu: origin.cpu };
            line.styled(WHO, format_args!("{thread}"));
        }
        // The column grows with what is in it, so that later lines stay aligned.
        self.who_width = (line.width() - start).clamp(self.who_width, 24);
        line.pad_to(start + self.who_width + 1);
    }
}
