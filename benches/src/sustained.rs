//! T3: hand records from one core to another for as long as it goes without a drop, and how late they arrive.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};

use crate::{
    bpf::{MANY, Producer, Wakeups},
    contest::Contest,
    harness::Effort,
    machine::thread_cpu_ns,
    outcome::{Outcome, Work},
    report::{Goal, Row},
    stats::{Spread, show},
};

/// What a recorder has by default.
pub(crate) const RING_BYTES: u32 = 8 << 20;
/// Records of one system call when the producer does not pause.
const BURST: u32 = 4096;
/// How much slower the next try is after a drop.
const BACK_OFF: f64 = 0.95;
/// Runs that show what the copy costs.
const IN_PLACE_RUNS: usize = 10;
/// Below this the producer sleeps between records, above it spins.
const SPIN_RATE: f64 = 20_000.0;

/// Our producer asks the reader's state, the peer's leaves wake-ups to the kernel.
struct Producers {
    ours: Producer,
    theirs: Producer,
}

impl Producers {
    fn load(contest: &Contest, with_clock: bool) -> Result<Self> {
        let load = |wakeups| Producer::load(&contest.rings, wakeups, with_clock);
        Ok(Self { ours: load(Wakeups::ByReaderState)?, theirs: load(Wakeups::ByKernel)? })
    }

    fn of(&self, ours: bool) -> &Producer {
        if ours { &self.ours } else { &self.theirs }
    }
}

/// What a consumer does with the records.
#[derive(Clone, Copy, Debug)]
enum Mode {
    Plain,
    /// It also measures how late they come.
    Delays,
    /// Only ours: it leaves out the copy.
    InPlace,
}

/// The run at the highest rate without a drop, the drops of the tries before, and what it consisted of if it is ours.
type Turn = (Run, u64, Work);

/// One run.
#[derive(Clone, Copy, Debug)]
struct Run {
    outcome: Outcome,
    submitted: u64,
    dropped: u64,
    produced_for: Duration,
    producer_cpu: Duration,
}

impl Run {
    fn rate(&self) -> f64 {
        self.submitted as f64 / self.produced_for.as_secs_f64()
    }

    fn cpu_ns_per_record(&self) -> f64 {
        self.outcome.cpu_ns as f64 / self.submitted as f64
    }

    fn producer_ns_per_record(&self) -> f64 {
        self.producer_cpu.as_nanos() as f64 / self.submitted as f64
    }
}

fn run(
    contest: &mut Contest,
    producers: &Producers,
    ours: bool,
    rate: f64,
    time: Duration,
    mode: Mode,
) -> Result<Run> {
    contest.rings.reset();
    let consumer = contest.consumer(ours);
    consumer.tell(&format!("sustained {}", mode as u32))?;
    consumer.ready()?;
    let producer = producers.of(ours);
    let (cpu_from, from) = (thread_cpu_ns(), Instant::now());
    produce(producer, rate, time)?;
    let produced_for = from.elapsed();
    let producer_cpu = Duration::from_nanos(thread_cpu_ns() - cpu_from);
    let submitted = contest.rings.submitted();
    contest.rings.end(producer)?;
    let outcome: Outcome = contest.consumer(ours).answer()?;
    ensure!(
        outcome.records == submitted && outcome.errors == 0,
        "{submitted} records were submitted: {outcome}"
    );
    Ok(Run { outcome, submitted, dropped: contest.rings.dropped(), produced_for, producer_cpu })
}

/// Submits `rate` records a second, as evenly as it can.
pub(crate) fn produce(producer: &Producer, rate: f64, time: Duration) -> Result<()> {
    let began = Instant::now();
    let mut produced = 0u64;
    loop {
        let elapsed = began.elapsed();
        let Some(left) = time.checked_sub(elapsed).filter(|left| !left.is_zero()) else { return Ok(()) };
        let missing = (elapsed.as_secs_f64() * rate - produced as f64).min(f64::from(BURST));
        if missing >= 1.0 {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "between 1 and BURST"
            )]
            let burst = missing as u32;
            let (runs, left) = (burst / MANY, burst % MANY);
            if runs != 0 {
                producer.many.run(runs)?;
            }
            if left != 0 {
                producer.one.run(left)?;
            }
            produced += u64::from(burst);
        } else if rate < SPIN_RATE {
            let pause = Duration::try_from_secs_f64((1.0 - missing) / rate).unwrap_or(left);
            thread::sleep(pause.min(left));
        }
    }
}

/// The highest rate without a drop: from `from` downwards.
fn knee(
    contest: &mut Contest,
    producers: &Producers,
    ours: bool,
    from: &mut f64,
    time: Duration,
    mode: Mode,
) -> Result<(Run, u64)> {
    let mut drops = 0;
    loop {
        let run = run(contest, producers, ours, *from, time, mode)?;
        if run.dropped == 0 {
            // The next turn begins a little higher, so that the knee is approached from above each time.
            *from /= BACK_OFF;
            return Ok((run, drops));
        }
        drops += run.dropped;
        *from = from.min(run.rate()) * BACK_OFF;
        ensure!(*from > 1000.0, "no rate goes without a drop");
    }
}

/// The highest rate, and the CPU time that it costs.
pub(crate) fn measure_rate(contest: &mut Contest, effort: Effort) -> Result<([Row; 2], String)> {
    let producers = Producers::load(contest, false)?;
    let time = Duration::from_millis(effort.scale(500).into());
    let (mut from_ours, mut from_theirs) = (f64::INFINITY, f64::INFINITY);
    let children = contest.children();
    let turns = effort.alternate(&children, |ours| {
        let from = if ours { &mut from_ours } else { &mut from_theirs };
        let (run, drops) = knee(contest, &producers, ours, from, time, Mode::Plain)?;
        let work = if ours { contest.work()? } else { Work::default() };
        Ok((run, drops, work))
    })?;
    // The best that could be without the copy; not in turns with the peer, so it is only a note.
    let in_place = (0..IN_PLACE_RUNS)
        .map(|_| Ok(knee(contest, &producers, true, &mut from_ours, time, Mode::InPlace)?.0))
        .collect::<Result<Vec<Run>>>()?;
    let in_place = Spread::of(in_place.iter().map(Run::cpu_ns_per_record));
    let spread =
        |turns: &[Turn], figure: fn(&Run) -> f64| Spread::of(turns.iter().map(|(run, ..)| figure(run)));
    let ratio = |figure: fn(&Run) -> f64| {
        let pairs = turns.ours.iter().zip(&turns.theirs);
        Spread::of(pairs.map(|((ours, ..), (theirs, ..))| figure(ours) / figure(theirs)))
    };
    let above = |turns: &[Turn]| turns.iter().map(|(_, drops, _)| drops).sum::<u64>();
    let drops = format!("0, 0 (in tries above the rate: {}, {})", above(&turns.ours), above(&turns.theirs));
    let count = format!("{} ({} disturbed)", turns.ours.len(), turns.disturbed);
    let (rates, cpus) = (ratio(Run::rate), ratio(Run::cpu_ns_per_record));
    let row = |what: &str, figure: fn(&Run) -> f64, unit, ratio, goal: Goal, cpu| Row {
        test: "T3",
        what: what.to_owned(),
        ours: show(spread(&turns.ours, figure), 1, unit),
        theirs: show(spread(&turns.theirs, figure), 1, unit),
        compared: show(ratio, 2, ""),
        goal,
        met: goal.is_met(ratio),
        drops: drops.clone(),
        cpu,
        turns: count.clone(),
    };
    let consumer_cpu = |turns: &[Turn]| show(spread(turns, Run::cpu_ns_per_record), 1, "ns");
    let producer_cpu = |turns: &[Turn]| show(spread(turns, Run::producer_ns_per_record), 1, "ns");
    let note = parts(&turns.ours, in_place);
    let megarecords = |run: &Run| run.rate() / 1e6;
    let rows = [
        row(
            "highest rate without a drop, core to core; libbpf `while (ring_buffer__poll(rb, -1) >= 0)`",
            megarecords,
            "M/s",
            rates,
            Goal::AtLeast(3.0),
            format!("reader per record: {}, {}", consumer_cpu(&turns.ours), consumer_cpu(&turns.theirs)),
        ),
        row(
            "CPU time of the reader per record at that rate",
            Run::cpu_ns_per_record,
            "ns",
            cpus,
            Goal::AtMost(0.25),
            format!("producer per record: {}, {}", producer_cpu(&turns.ours), producer_cpu(&turns.theirs)),
        ),
    ];
    Ok((rows, note))
}

/// Where our reader's CPU time goes.
fn parts(turns: &[Turn], in_place: Option<Spread>) -> String {
    let per_record = |part: fn(&Run, &Work) -> f64| {
        show(Spread::of(turns.iter().map(|(run, _, work)| part(run, work) / run.submitted as f64)), 1, "ns")
    };
    fn asleep(run: &Run, work: &Work) -> f64 {
        run.outcome.cpu_ns as f64 - work.copy_ns as f64 - work.decode_ns as f64
    }
    let each = turns.iter().map(|(run, _, work)| asleep(run, work) / 1e3 / work.sleeps as f64);
    format!(
        "T3, our reader's CPU time per record: copying out of the ring {}, decoding and checking {}, sleeping and waking \
         up {}, which is {} for each time. Without the copy (`Ring::consume`) all of it is {}.",
        per_record(|_, work| work.copy_ns as f64),
        per_record(|_, work| work.decode_ns as f64),
        per_record(asleep),
        show(Spread::of(each), 1, "µs"),
        show(in_place, 1, "ns"),
    )
}

/// Of each turn.
fn p99(turns: &[Run]) -> Option<Spread> {
    Spread::of(turns.iter().map(|run| run.outcome.p99_us as f64))
}

/// How late records arrive at moderate rates, and what an idle reader costs.
pub(crate) fn measure_delay(contest: &mut Contest, effort: Effort) -> Result<Vec<Row>> {
    let producers = Producers::load(contest, true)?;
    let effort = Effort { alternations: effort.alternations.min(5), ..effort };
    let mut rows = Vec::new();
    for (rate, name) in [(0.0, "no"), (10.0, "10"), (1e3, "1,000"), (1e5, "100,000")] {
        let children = contest.children();
        // So long that there are two records above the 99th in a hundred.
        let time = Duration::from_millis(effort.scale(if rate == 10.0 { 20_000 } else { 4000 }).into());
        let turns =
            effort.alternate(&children, |ours| run(contest, &producers, ours, rate, time, Mode::Delays))?;
        let cpu = |turns: &[Run]| {
            let share = |run: &Run| 100.0 * run.outcome.cpu_ns as f64 / run.outcome.ns as f64;
            Spread::of(turns.iter().map(share))
        };
        let percent = |cpu: Option<Spread>| show(cpu, 2, "%");
        let delay = |turns: &[Run]| {
            let p50 = Spread::of(turns.iter().map(|run| run.outcome.p50_us as f64));
            let worst = turns.iter().map(|run| run.outcome.p99_us).max().unwrap_or(0);
            match (p50, p99(turns)) {
                (Some(p50), Some(p99)) => {
                    format!("p50 {p50:.0} µs, p99 {p99:.0} µs, in the worst turn {worst}")
                }
                _ => String::new(),
            }
        };
        let drops = |turns: &[Run]| turns.iter().map(|run| run.dropped).sum::<u64>();
        let idle = rate == 0.0;
        let cpus = [cpu(&turns.ours), cpu(&turns.theirs)];
        let [ours, theirs] = cpus.map(percent);
        rows.push(Row {
            test: "T3",
            what: if idle { "idle reader".to_owned() } else { format!("delivery at {name} records/s") },
            ours: if idle { ours.clone() } else { delay(&turns.ours) },
            theirs: if idle { theirs.clone() } else { delay(&turns.theirs) },
            compared: String::new(),
            goal: Goal::Words(if idle { "≤ 0.5 % of a core" } else { "p99 ≤ 1 ms" }),
            met: if idle {
                cpus[0].is_some_and(|cpu| cpu.high <= 0.5)
            } else {
                p99(&turns.ours).is_some_and(|p99| p99.high <= 1000.0)
            },
            drops: format!("{}, {}", drops(&turns.ours), drops(&turns.theirs)),
            cpu: format!("{ours}, {theirs} of a core"),
            turns: format!("{} ({} disturbed)", turns.ours.len(), turns.disturbed),
        });
    }
    Ok(rows)
}
