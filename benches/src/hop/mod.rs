//! T8 and T9: from one thread to another, and past a third that hangs.

mod events;
mod ours;
mod peer;

use std::{
    io::{BufRead as _, stdin},
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};

use self::events::Seen;
use crate::{
    child::{Talker, say},
    harness::{Effort, Rounds, Turns},
    heap::Heap,
    machine::{PRODUCER_CORE, Switches, now_ns, pin, process_cpu_ns, thread_cpu_ns},
    outcome::{Beside, Hops, Waits},
    report::{Goal, Report, Row},
    stats::{Spread, show},
};

/// Events of a turn of T8.
const EVENTS: u32 = 10_000_000;
/// Events of a turn of T9: about a second.
const MANY: u32 = 100_000_000;
/// How long one turn takes whose sink hangs for longer than any retry or flush of a pipeline waits.
const LONG: Duration = Duration::from_secs(10);
/// Turns of it.
const LONG_TURNS: usize = 5;
/// How long a thread waits whose CPU time is looked at.
const PAUSE: Duration = Duration::from_secs(1);
/// Events that may fit into the peer's channel: it gets the one that suits it best on this machine.
const CAPACITIES: [usize; 6] = [256, 1_024, 4_096, 16_384, 65_536, 1 << 20];

/// Allocations in a million events, of which each batch of some thousands may have one or two.
const FEW: f64 = 1_000.0;
/// Percent of a core that two threads may use that wait. One that spins takes 100.
const IDLE: f64 = 1.0;

/// Serves commands until standard input ends; the thread that gives events runs on `core`.
pub(crate) fn serve(core: usize) -> Result<()> {
    pin(core)?;
    Heap::count();
    for line in stdin().lock().lines() {
        let line = line?;
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            ["ours", events] => say(ours::hop(events.parse()?)?)?,
            ["peer", events, capacity] => say(peer::hop(events.parse()?, capacity.parse()?)?)?,
            ["made", events] => say(made(events.parse()?))?,
            ["alone", events] => say(ours::beside(events.parse()?, false)?)?,
            ["beside", events] => say(ours::beside(events.parse()?, true)?)?,
            ["ours-waits"] => say(ours::waits()?)?,
            ["peer-waits", capacity] => say(peer::waits(capacity.parse()?)?)?,
            _ => bail!("unknown command {line:?}"),
        }
    }
    Ok(())
}

/// Runs `start` on that core, so that threads it starts stay there.
fn on_core<T>(core: usize, start: impl FnOnce() -> Result<T>) -> Result<T> {
    pin(core)?;
    let started = start();
    pin(PRODUCER_CORE)?;
    started
}

/// Events that are made and looked at by one thread, which is in both contestants' figures.
fn made(events: u64) -> Hops {
    let (mut block, mut seen) = (events::Block::new(), Seen::default());
    let used = Use::now();
    while seen.events < events {
        let frames = std::hint::black_box(block.next(events - seen.events));
        frames.iter().for_each(|frame| seen.on_event(&frame.event()));
    }
    used.until_now().hops(events, seen, Heap::default())
}

/// What this process has used so far, or in between.
#[derive(Clone, Copy, Debug)]
struct Use {
    ns: u64,
    cpu_ns: u64,
    /// Of the calling thread alone.
    thread_ns: u64,
    switches: Switches,
}

impl Use {
    fn now() -> Self {
        let (cpu_ns, thread_ns) = (process_cpu_ns(), thread_cpu_ns());
        Self { ns: now_ns(), cpu_ns, thread_ns, switches: Switches::now() }
    }

    fn until_now(self) -> Self {
        let now = Self::now();
        Self {
            ns: now.ns - self.ns,
            cpu_ns: now.cpu_ns - self.cpu_ns,
            thread_ns: now.thread_ns - self.thread_ns,
            switches: now.switches.since(self.switches),
        }
    }

    /// `late`: what was allocated in the second half.
    fn hops(self, events: u64, seen: Seen, late: Heap) -> Hops {
        let Switches { waited, preempted } = self.switches;
        Hops {
            events: seen.events,
            // Nothing is skipped here, and what is not there is wrong, too.
            errors: seen.errors + seen.skipped + events.abs_diff(seen.events),
            ns: self.ns,
            source_cpu_ns: self.thread_ns,
            sink_cpu_ns: self.cpu_ns.saturating_sub(self.thread_ns),
            allocations: late.times,
            allocated_bytes: late.bytes,
            waited,
            preempted,
        }
    }
}

fn start() -> Result<Talker> {
    Talker::start_own("hop", PRODUCER_CORE)
}

fn hop(process: &mut Talker, command: &str, events: u32) -> Result<Hops> {
    process.tell(command)?;
    let hops: Hops = process.answer()?;
    let is_right = hops.events == u64::from(events) && hops.errors == 0;
    ensure!(is_right, "{events} events expected: {hops}");
    Ok(hops)
}

pub(crate) fn measure_hop(effort: Effort, report: &mut Report) -> Result<()> {
    const GOAL: Goal = Goal::AtMost(0.33);
    let events = effort.scale(EVENTS);
    let (mut ours, mut theirs) = (start()?, start()?);
    let capacity = best_capacity(&mut theirs, events)?;
    report.peer = Some(format!("crossbeam-channel 0.5, `bounded({capacity})` of `[u8; 64]`"));
    let children = [ours.pid(), theirs.pid()];
    let turns: Turns<Hops> = effort.alternate(&children, |is_ours| match is_ours {
        true => hop(&mut ours, &format!("ours {events}"), events),
        false => hop(&mut theirs, &format!("peer {events} {capacity}"), events),
    })?;
    let each = |turns: &[Hops], figure: fn(&Hops) -> u64| {
        Spread::of(turns.iter().map(|hops| figure(hops) as f64 / hops.events as f64))
    };
    let both = |figure: fn(&Hops) -> u64, digits: usize, unit: &str| {
        [&turns.ours, &turns.theirs].map(|turns| show(each(turns, figure), digits, unit))
    };
    let counted = format!("{} ({} disturbed)", turns.ours.len(), turns.disturbed);
    let ratio = Spread::of(
        turns.ours.iter().zip(&turns.theirs).map(|(ours, theirs)| ours.ns as f64 / theirs.ns as f64),
    );
    let [our_ns, their_ns] = both(|hops| hops.ns, 1, "ns");
    let [our_cpu, their_cpu] = both(|hops| hops.source_cpu_ns + hops.sink_cpu_ns, 1, "ns");
    report.rows.push(Row {
        test: "T8",
        what: "an event of 64 bytes from a thread to another that looks at every byte, per event: through a pipeline with one sink, gaps and books included; `send` and `recv` of each event".to_owned(),
        ours: our_ns,
        theirs: their_ns,
        compared: show(ratio, 2, ""),
        goal: GOAL,
        met: GOAL.is_met(ratio),
        drops: "0, 0".to_owned(),
        cpu: format!("both threads per event: {our_cpu}, {their_cpu}"),
        turns: counted.clone(),
    });
    let per_million = |turns: &[Hops], figure: fn(&Hops) -> u64| {
        Spread::of(turns.iter().map(|hops| 1e6 * figure(hops) as f64 / hops.events as f64))
    };
    let allocations = |turns: &[Hops]| {
        // Of the second half.
        Spread::of(turns.iter().map(|hops| 2e6 * hops.allocations as f64 / hops.events as f64))
    };
    report.rows.push(Row {
        test: "T8",
        what: "allocations in a million events, counted in the second half of each turn".to_owned(),
        ours: show(allocations(&turns.ours), 1, ""),
        theirs: show(allocations(&turns.theirs), 1, ""),
        compared: String::new(),
        goal: Goal::Words("0 for an event: ≤ 1,000"),
        met: allocations(&turns.ours).is_some_and(|times| times.high <= FEW),
        drops: "0, 0".to_owned(),
        cpu: "no time".to_owned(),
        turns: counted,
    });
    report.rows.extend(measure_waits(effort, capacity, &mut ours, &mut theirs)?);
    let made = (0..effort.alternations)
        .map(|_| hop(&mut ours, &format!("made {events}"), events))
        .collect::<Result<Vec<_>>>()?;
    let [our_source, their_source] = both(|hops| hops.source_cpu_ns, 1, "ns");
    let [our_sink, their_sink] = both(|hops| hops.sink_cpu_ns, 1, "ns");
    let bytes = |turns: &[Hops]| {
        Spread::of(turns.iter().map(|hops| hops.allocated_bytes as f64 / hops.allocations.max(1) as f64))
    };
    let times = |turns: &[Hops], figure| show(per_million(turns, figure), 1, "");
    report.notes.push(format!(
        "T8: CPU time per event of the thread that gives is {our_source}, the peer's {their_source}; of the thread that takes \
         {our_sink}, the peer's {their_sink}. In both are the making of the events and the look at them, which take one thread \
         {} with nothing in between. An allocation of ours has {} on average, where a buffer for batches has half a mebibyte. In a million \
         events the threads of ours go to sleep {} times and are preempted {} times, those of the peer {} and {}.",
        show(each(&made, |hops| hops.ns), 1, "ns"),
        show(bytes(&turns.ours), 0, "bytes"),
        times(&turns.ours, |hops| hops.waited),
        times(&turns.ours, |hops| hops.preempted),
        times(&turns.theirs, |hops| hops.waited),
        times(&turns.theirs, |hops| hops.preempted),
    ));
    Ok(())
}

/// With which the peer's fastest turn of a few is the fastest.
fn best_capacity(theirs: &mut Talker, events: u32) -> Result<usize> {
    const TRIES: usize = 3;
    let mut fastest = CAPACITIES.map(|capacity| (u64::MAX, capacity));
    for _ in 0..TRIES {
        for (ns, capacity) in &mut fastest {
            *ns = hop(theirs, &format!("peer {events} {capacity}"), events)?.ns.min(*ns);
        }
    }
    fastest.into_iter().min().map(|(_, capacity)| capacity).context("there are capacities")
}

/// What threads use that wait: nobody spins.
fn measure_waits(
    effort: Effort,
    capacity: usize,
    ours: &mut Talker,
    theirs: &mut Talker,
) -> Result<[Row; 2]> {
    const PART: usize = 6;
    let children = [ours.pid(), theirs.pid()];
    let effort = Effort { alternations: effort.alternations.div_ceil(PART), ..effort };
    let rounds: Rounds<Waits, 2> = effort.rounds(|who, watch| {
        let (process, command) = match who {
            0 => (&mut *ours, "ours-waits".to_owned()),
            _ => (&mut *theirs, format!("peer-waits {capacity}")),
        };
        let waits = watch.over(&children, || {
            process.tell(&command)?;
            process.answer()
        })?;
        Ok(Some(waits))
    })?;
    let row = |what: &str, figure: fn(&Waits) -> u64| {
        let percent =
            |who: usize| rounds.spread(|round| 100.0 * figure(&round[who]) as f64 / PAUSE.as_nanos() as f64);
        Row {
            test: "T8",
            what: format!("CPU time of both threads while {what}"),
            ours: show(percent(0), 2, "%"),
            theirs: show(percent(1), 2, "%"),
            compared: String::new(),
            goal: Goal::Words("≤ 1 % of a core: nobody spins"),
            met: percent(0).is_some_and(|percent| percent.median <= IDLE),
            drops: "0, 0".to_owned(),
            cpu: "the figures are CPU time".to_owned(),
            turns: format!("{} ({} disturbed)", rounds.turns.len(), rounds.disturbed),
        }
    };
    Ok([
        row("nothing comes", |waits| waits.empty_ns),
        row("there is no room and nothing is taken", |waits| waits.full_ns),
    ])
}

pub(crate) fn measure_stalled(effort: Effort, report: &mut Report) -> Result<()> {
    const GOAL: Goal = Goal::AtLeast(0.95);
    report.peer = Some("the same pipeline without the sink that hangs".to_owned());
    let events = effort.scale(MANY);
    let (mut ours, mut alone) = (start()?, start()?);
    let children = [ours.pid(), alone.pid()];
    let mut run = |is_ours: bool, events: u64| {
        let (process, command) = if is_ours { (&mut ours, "beside") } else { (&mut alone, "alone") };
        process.tell(&format!("{command} {events}"))?;
        let beside: Beside = process.answer()?;
        let is_right = beside.events == events && beside.errors == 0;
        ensure!(is_right, "{events} events expected: {beside}");
        Ok(beside)
    };
    let turns = effort.alternate(&children, |is_ours| run(is_ours, events.into()))?;
    let rate = |beside: &Beside| 1e3 * beside.events as f64 / beside.ns as f64;
    let cpu = |beside: &Beside| beside.cpu_ns as f64 / beside.events as f64;
    let of = |turns: &[Beside], figure: fn(&Beside) -> f64| Spread::of(turns.iter().map(figure));
    let ratio =
        Spread::of(turns.ours.iter().zip(&turns.theirs).map(|(ours, alone)| rate(ours) / rate(alone)));
    report.rows.push(Row {
        test: "T9",
        what: "events of 64 bytes to a sink while another sink of the same pipeline hangs in its first batch; to the first alone".to_owned(),
        ours: show(of(&turns.ours, rate), 1, "M/s"),
        theirs: show(of(&turns.theirs, rate), 1, "M/s"),
        compared: show(ratio, 2, ""),
        goal: GOAL,
        met: GOAL.is_met(ratio),
        drops: "0, 0".to_owned(),
        cpu: format!(
            "all threads per event: {}, {}",
            show(of(&turns.ours, cpu), 1, "ns"),
            show(of(&turns.theirs, cpu), 1, "ns")
        ),
        turns: format!("{} ({} disturbed)", turns.ours.len(), turns.disturbed),
    });

    // As many as come in that time, by the turns before; in a smoke run in a tenth of it.
    let long = LONG.as_secs_f64() * f64::from(events) / f64::from(MANY);
    let median = of(&turns.theirs, rate).context("there are turns")?.median;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a number of events")]
    let many = (median * 1e6 * long) as u64;
    let effort = Effort { alternations: effort.alternations.min(LONG_TURNS), ..effort };
    let turns = effort.alternate(&children, |is_ours| run(is_ours, many))?;
    let ratio =
        Spread::of(turns.ours.iter().zip(&turns.theirs).map(|(ours, alone)| rate(ours) / rate(alone)));
    report.rows.push(Row {
        test: "T9",
        what: format!(
            "the same for {} each time",
            show(of(&turns.ours, |beside| beside.ns as f64 / 1e9), 1, "s")
        ),
        ours: show(of(&turns.ours, rate), 1, "M/s"),
        theirs: show(of(&turns.theirs, rate), 1, "M/s"),
        compared: show(ratio, 2, ""),
        goal: GOAL,
        met: GOAL.is_met(ratio),
        drops: "0, 0".to_owned(),
        cpu: format!(
            "all threads per event: {}, {}",
            show(of(&turns.ours, cpu), 1, "ns"),
            show(of(&turns.theirs, cpu), 1, "ns")
        ),
        turns: format!("{} ({} disturbed)", turns.ours.len(), turns.disturbed),
    });
    let Beside { events, taken, dropped, .. } = turns.ours[0];
    report.notes.push(format!(
        "T9: in the first long turn the sink that hung was to get {events} events. {taken} were in its queue and came to it when it went \
         on, {dropped} are in the books as dropped (`queue_full`), and {} are not accounted for. It checks that as well in all \
         other turns: by the numbers of the events that came, by what the pipeline told it that it missed, and by the books.",
        i128::from(events) - i128::from(taken) - i128::from(dropped),
    ));
    Ok(())
}
