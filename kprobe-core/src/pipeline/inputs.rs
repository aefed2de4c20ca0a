use std::{collections::BTreeMap, time::Duration};

use super::{
    Batch, BatchBuf, GapReport, Merge, Polled, ProbeRow, Source, SourceError, StageRow,
    drain::{Drain, Left},
    driver::{End, Pace},
};

/// The sources of a pipeline, which are asked in turn.
///
/// Each has a buffer and a drain of its own: what it numbered is watched apart from what others did.
pub(super) struct Inputs<S> {
    first: Input<S>,
    others: Vec<Box<Input<Other>>>,
    /// Whose turn it is.
    turn: usize,
    /// How often it was asked in this turn.
    asked: u32,
}

pub(super) type Other = dyn Source + Send;

/// A source, and what came out of it so far.
pub(super) struct Input<S: ?Sized> {
    drain: Drain,
    buf: BatchBuf,
    /// When the first record came into the buffer, by the stream's clock.
    opened_ns: Option<u64>,
    /// All records up to this time went on their way: what waits in the buffer has not.
    passed_until_ns: u64,
    /// It gave something when it was asked last.
    is_busy: bool,
    state: State,
    source: S,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    Running,
    /// It has said that there is no more.
    Ended,
    /// With what it said.
    Failed(String),
}

/// Where several sources are asked: the time that one has while another has something, and the least that is waited for one
/// that has nothing, so that nobody is asked all the time.
const SLICE: Duration = Duration::from_millis(1);
/// How often one is asked in a turn at most, which may not say what time it is.
const MOST_ASKED: u32 = 16;
/// The least that is waited for what is held back to be complete.
const LEAST: Duration = Duration::from_micros(100);

impl<S> Input<S> {
    pub(super) fn new(source: S) -> Self {
        Self {
            drain: Drain::default(),
            buf: BatchBuf::default(),
            opened_ns: None,
            passed_until_ns: 0,
            is_busy: false,
            state: State::Running,
            source,
        }
    }
}

impl<S: Source + ?Sized> Input<S> {
    fn is_running(&self) -> bool {
        self.state == State::Running
    }

    /// A batch of it waits for more records.
    fn is_open(&self) -> bool {
        self.opened_ns.is_some()
    }

    /// One that does not lose what waits in it is not asked while it is ahead of the others, which are complete until `earliest_ns`:
    /// what it gave would have to wait for them in the merge.
    fn is_to_be_asked(&self, earliest_ns: u64) -> bool {
        self.is_running() && (self.source.is_live() || self.drain.complete_until_ns <= earliest_ns)
    }

    /// How long the batch may still wait.
    fn left(&self, pace: &Pace) -> Option<Duration> {
        let age_ns = self.drain.complete_until_ns.saturating_sub(self.opened_ns?);
        Some(pace.batch_age.saturating_sub(Duration::from_nanos(age_ns)))
    }

    /// Asks for records; then says whether the batch is due.
    fn poll(&mut self, pace: &Pace, longest: Duration) -> Result<bool, SourceError> {
        let before = self.buf.len();
        self.buf.make_room(pace.batch_bytes);
        let polled = self.source.poll(&mut self.buf, Some(longest));
        self.is_busy = self.buf.len() > before;
        match &polled {
            Ok(Polled { complete_until_ns, end }) => {
                // At its end it may be complete for ever, which is no time.
                if *complete_until_ns != u64::MAX {
                    self.drain.complete_until_ns = *complete_until_ns;
                }
                if *end {
                    self.state = State::Ended;
                }
            }
            Err(error) => {
                self.state = State::Failed(error.to_string());
                // Nobody will ask it again: what it costs others is for nothing.
                self.source.stop();
            }
        }
        self.opened_ns.get_or_insert(self.drain.complete_until_ns);
        polled?;
        let is_old = self.left(pace).is_some_and(|left| left.is_zero());
        Ok(!self.is_busy || is_old || self.buf.len() >= pace.batch_bytes || !self.is_running())
    }

    fn close(&mut self) -> (Batch, u64) {
        self.opened_ns = None;
        self.passed_until_ns = self.drain.complete_until_ns;
        self.drain.count(self.buf.take())
    }

    /// The row of its drain, when it counted so much.
    fn row(&self, probes: &[ProbeRow], left: Left) -> StageRow {
        let left = match self.state {
            State::Ended if !self.source.leaves_some() => Left::Nothing,
            State::Failed(_) => Left::Behind,
            _ => left,
        };
        let mut row = self.drain.row(drained(probes), left);
        row.counts = self.source.counts();
        row
    }

    /// Nothing can be said of numbers that several sources gave.
    fn gaps(&self, at: usize) -> Vec<GapReport> {
        if self.source.info().sources > 1 {
            return Vec::new();
        }
        // The last number of what was left behind is not that of what came.
        let is_whole = self.state == State::Ended;
        let next = |cpu| if is_whole { self.source.next_seq(cpu) } else { None };
        let gaps = self.drain.gaps.report(&self.source.probes(), next);
        gaps.into_iter().map(|gap| GapReport { source: at, ..gap }).collect()
    }
}

impl<S: Source> Inputs<S> {
    pub(super) fn new(first: S, others: Vec<Box<Input<Other>>>) -> Self {
        Self { first: Input::new(first), others, turn: 0, asked: 0 }
    }

    pub(super) fn first(&self) -> &S {
        &self.first.source
    }

    pub(super) fn first_mut(&mut self) -> &mut S {
        &mut self.first.source
    }

    fn iter(&self) -> impl Iterator<Item = &Input<dyn Source + '_>> {
        let first: &Input<dyn Source + '_> = &self.first;
        std::iter::once(first).chain(self.others.iter().map(|other| -> &Input<dyn Source + '_> { &**other }))
    }

    fn get(&mut self, at: usize) -> &mut Input<dyn Source + '_> {
        match at.checked_sub(1) {
            None => &mut self.first,
            Some(at) => &mut *self.others[at],
        }
    }

    /// Asks the one whose turn it is: then says of which one a batch is due. It may wait as long as a step may, as its batch may, or as
    /// what the merge holds may; where there are others, only for a while.
    pub(super) fn poll(
        &mut self,
        pace: &Pace,
        merge: Option<&Merge>,
    ) -> (Option<usize>, Result<(), SourceError>) {
        let held = merge.and_then(Merge::patience);
        let earliest_ns = merge.map_or(u64::MAX, |_| self.complete_until_ns());
        // What one has that is not asked now does not wait for its turn.
        let kept = |input: &Input<dyn Source + '_>| {
            input.is_running() && input.is_open() && !input.is_to_be_asked(earliest_ns)
        };
        if let Some(at) = self.iter().position(kept) {
            return (Some(at), Ok(()));
        }
        let Some(at) = self.next(earliest_ns) else { return (None, Ok(())) };
        let others = || {
            let all = self.iter().enumerate();
            all.filter(|(of, other)| *of != at && other.is_to_be_asked(earliest_ns)).map(|(_, other)| other)
        };
        let most = match others().count() {
            0 => pace.wait,
            _ if others().any(|other| other.is_busy) => SLICE.min(pace.wait),
            _ => {
                // A batch of another one may wait no longer than its own time.
                let left = others().filter_map(|other| other.left(pace)).fold(pace.batch_age, Duration::min);
                left.max(SLICE).min(pace.wait)
            }
        };
        let input = self.get(at);
        let longest =
            input.left(pace).or(held.map(|held| held.max(LEAST))).map_or(most, |left| left.min(most));
        let from_ns = input.drain.complete_until_ns;
        let polled = input.poll(pace, longest);
        // One that gives little at a time keeps its turn for a while.
        let took_ns = input.drain.complete_until_ns.saturating_sub(from_ns);
        self.asked = if self.turn == at { self.asked + 1 } else { 1 };
        let has_time = Duration::from_nanos(took_ns) < SLICE && self.asked < MOST_ASKED;
        (self.turn, self.asked) = match polled {
            Ok(false) if has_time => (at, self.asked),
            _ => (at + 1, 0),
        };
        match polled {
            Ok(is_due) => (is_due.then_some(at), Ok(())),
            Err(error) => (Some(at), Err(error)),
        }
    }

    fn next(&mut self, earliest_ns: u64) -> Option<usize> {
        let count = 1 + self.others.len();
        let turn = self.turn;
        (turn..turn + count).map(|at| at % count).find(|at| self.get(*at).is_to_be_asked(earliest_ns))
    }

    /// Ends the batch of one of them; with it, how many records came.
    pub(super) fn close(&mut self, at: usize) -> (Batch, u64) {
        self.get(at).close()
    }

    /// One whose batch still waits for more records.
    pub(super) fn open(&self) -> Option<usize> {
        self.iter().position(Input::is_open)
    }

    /// All records up to this time came, from each that is not at its end.
    pub(super) fn complete_until_ns(&self) -> u64 {
        self.earliest(|input| input.drain.complete_until_ns)
    }

    /// All records up to this time went on their way, of each that is not at its end.
    pub(super) fn passed_until_ns(&self) -> u64 {
        self.earliest(|input| input.passed_until_ns)
    }

    fn earliest(&self, of: impl Fn(&Input<dyn Source + '_>) -> u64) -> u64 {
        let running = self.iter().filter(|input| input.is_running()).map(&of).min();
        running.or_else(|| self.iter().map(of).max()).unwrap_or_default()
    }

    /// `None` while there is one to ask.
    pub(super) fn over(&self) -> Option<End> {
        if self.iter().any(Input::is_running) {
            return None;
        }
        Some(if self.has_failed() { End::SourceFailed } else { End::Source })
    }

    pub(super) fn has_failed(&self) -> bool {
        self.iter().any(|input| matches!(input.state, State::Failed(_)))
    }

    pub(super) fn is_live(&self) -> bool {
        self.iter().any(|input| input.source.is_live())
    }

    pub(super) fn stop(&mut self) {
        for at in 0..=self.others.len() {
            let input = self.get(at);
            if input.is_running() {
                input.source.stop();
            }
        }
    }

    /// The books up to here. What a source counts goes on while it is looked at, so it is asked once.
    pub(super) fn books(&self, left: Left) -> Drained {
        let each = self.iter().map(|input| {
            let probes = input.source.probes();
            let row = input.row(&probes, left);
            (probes, row)
        });
        let each: Vec<_> = each.collect();
        let faults: u64 = each.iter().map(|(probes, row)| faults(probes, row)).sum();
        let (probes, rows): (Vec<_>, Vec<_>) = each.into_iter().unzip();
        let probes = probes.into_iter().flatten();
        let probes = if self.others.is_empty() { probes.collect() } else { by_probe_and_cpu(probes) };
        let row = rows.into_iter().reduce(sum).unwrap_or_default();
        let hidden = faults.saturating_sub(self::faults(&probes, &row));
        Drained { probes, row, hidden }
    }

    pub(super) fn uncounted(&self) -> u64 {
        self.iter().map(|input| input.source.uncounted()).sum()
    }

    pub(super) fn gaps(&self) -> Vec<GapReport> {
        self.iter().enumerate().flat_map(|(at, input)| input.gaps(at)).collect()
    }

    pub(super) fn incomplete(&self) -> Option<String> {
        let reasons = self.iter().flat_map(|input| {
            let failed = match &input.state {
                State::Failed(why) => Some(why.clone()),
                _ => None,
            };
            failed.into_iter().chain(input.source.incomplete())
        });
        let reasons: Vec<String> = reasons.collect();
        (!reasons.is_empty()).then(|| reasons.join("; "))
    }
}

/// What sources counted, and what came out of them.
pub(super) struct Drained {
    /// By probe and CPU.
    pub(super) probes: Vec<ProbeRow>,
    /// Of all drains.
    pub(super) row: StageRow,
    /// What balances in the sums only because one source gave more than it counted and another less.
    pub(super) hidden: u64,
}

fn drained(probes: &[ProbeRow]) -> u64 {
    probes.iter().map(ProbeRow::drained).sum()
}

/// What of this does not balance.
fn faults(probes: &[ProbeRow], drain: &StageRow) -> u64 {
    let overdrawn: u64 = probes.iter().map(|row| row.lost.saturating_sub(row.submitted)).sum();
    overdrawn + drained(probes).abs_diff(drain.received)
}

fn by_probe_and_cpu(rows: impl Iterator<Item = ProbeRow>) -> Vec<ProbeRow> {
    let mut sums = BTreeMap::new();
    for row in rows {
        let sum = sums.entry((row.probe.clone(), row.cpu)).or_insert_with(|| ProbeRow {
            submitted: 0,
            lost: 0,
            sampled_out: 0,
            ..row.clone()
        });
        sum.submitted += row.submitted;
        sum.lost += row.lost;
        sum.sampled_out += row.sampled_out;
    }
    sums.into_values().collect()
}

fn sum(one: StageRow, other: StageRow) -> StageRow {
    let mut sum = StageRow {
        stage: one.stage,
        received: one.received + other.received,
        added: one.added + other.added,
        delivered: one.delivered + other.delivered,
        undecodable: one.undecodable + other.undecodable,
        held: one.held + other.held,
        dropped: one.dropped,
        counts: one.counts,
    };
    for (numbers, others) in [(&mut sum.dropped, other.dropped), (&mut sum.counts, other.counts)] {
        others.into_iter().for_each(|(name, count)| *numbers.entry(name).or_default() += count);
    }
    sum
}
