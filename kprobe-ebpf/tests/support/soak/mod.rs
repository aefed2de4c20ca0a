//! A recording that goes on while two of its three sinks lose their destination again and again.
//!
//! ```text
//!  paced calls -> Recorder -> merge -> process table -+-> healthy                            store
//!                                                     +-> spilling: Spill      --> server -> store
//!                                                     +-> dropping: DropNewest --> server -> store
//! ```
//!
//! The servers are processes. They die of SIGKILL, both at once, every other time between keeping a batch and acknowledging it,
//! and stay away until each sink has felt it. What arrived where is compared batch by batch at the end.

mod outcome;
pub mod server;
mod sinks;
mod store;
mod watch;

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use kprobe_core::{
    pipeline::{Merge, Pipeline, Policy, Retry, SinkOptions, Source},
    process::ProcessTable,
};
use kprobe_ebpf::{Filter, Process, Recorder, Syscalls, filter::SyscallSet, host};

use self::{
    server::{STORE, Server},
    sinks::{AllNumbers, Healthy, Remote},
    store::{Received, Store},
    watch::{Ticks, Watch},
};
use super::child::{Workload, workload};

pub use outcome::Outcome;

/// What is done, and for how long.
#[derive(Clone, Copy, Debug)]
pub struct Soak {
    /// Calls in a second.
    pub rate: u64,
    pub length: Duration,
    /// From one death to the next.
    pub every: Duration,
    /// A dead server is away so long at least.
    pub away: Duration,
    /// Of the sink that drops. The one that spills has what is the default: its queue is for the time in which the disk takes
    /// nothing.
    pub queue_bytes: usize,
}

/// How often the servers are looked after.
const LOOK: Duration = Duration::from_millis(50);
/// How long what is left may take when there is nothing more to record.
const PATIENCE: Duration = Duration::from_secs(240);
/// More than the spill ever has.
const SPILL_BYTES: u64 = 256 << 20;
/// For what comes while this process has no processor; a queue of the healthy sink has the same purpose.
const RING_BYTES: usize = 16 << 20;
const HEALTHY_BYTES: usize = 64 << 20;

/// What only shows while it runs.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    deaths: u64,
    most_spilled_bytes: u64,
}

/// A death in progress.
struct Death {
    /// When both servers were dead.
    since: Instant,
    /// What the two sinks had suffered by then.
    dropped: u64,
    spilled_bytes: u64,
}

/// The two servers, and when they die.
struct Fate {
    servers: [Server; 2],
    next: Instant,
    death: Option<Death>,
    seen: Seen,
}

impl Fate {
    /// Kills them when it is time, and starts them again when that is due: each death costs the one sink records and makes the
    /// other one write to its spill, however slow the machine is.
    fn look(&mut self, soak: &Soak, dropped: u64, spilled_bytes: u64) {
        self.seen.most_spilled_bytes = self.seen.most_spilled_bytes.max(spilled_bytes);
        let now = Instant::now();
        let Some(death) = &mut self.death else {
            if now >= self.next {
                let after_a_batch = self.seen.deaths.is_multiple_of(2);
                self.servers.iter_mut().for_each(|server| server.kill(after_a_batch));
                self.seen.deaths += 1;
                self.next += soak.every;
                self.death = Some(Death { since: now, dropped, spilled_bytes });
            }
            return;
        };
        // Both are asked.
        let dead = self.servers.each_mut().map(Server::is_dead) == [true; 2];
        if !dead {
            *death = Death { since: now, dropped, spilled_bytes };
        }
        // What had been on its way to the server goes from the disk when that is known.
        death.spilled_bytes = death.spilled_bytes.min(spilled_bytes);
        let felt = dropped > death.dropped && spilled_bytes > death.spilled_bytes;
        if dead && felt && now >= death.since + soak.away {
            self.revive();
        }
    }

    fn revive(&mut self) {
        if self.death.take().is_some() {
            self.servers.iter_mut().for_each(Server::revive);
        }
    }
}

/// Records the workload, and compares.
pub fn run(soak: &Soak) -> Outcome {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let servers = ["spilling", "dropping"].map(|name| Server::start(path(name)));
    let mut fate = Fate { servers, next: Instant::now() + soak.every, death: None, seen: Seen::default() };

    let calls = Syscalls::of(SyscallSet::named(["getppid"]).unwrap());
    let builder = Recorder::builder().require(calls).require(Process::default());
    let recorder = builder.filter(Filter::none()).ring_bytes(RING_BYTES).attach().unwrap();
    let table = ProcessTable::new(recorder.info().boot);
    let numbers = AllNumbers::default();
    let healthy = Healthy { store: Store::open(&path(STORE)), numbers: numbers.clone() };
    let [spilling, dropping] = &fate.servers;
    let (spilling, dropping) =
        (Remote::new("spilling", spilling.socket()), Remote::new("dropping", dropping.socket()));
    // Back soon after the server is.
    let retry = Retry::between(Duration::from_millis(50), Duration::from_millis(500));
    let options = SinkOptions::default().retry(retry);
    let spill = Policy::Spill { dir: path("spill"), max_bytes: SPILL_BYTES };
    let mut pipeline = Pipeline::builder(recorder)
        .merge(Merge::default())
        .stage(table)
        .sink_with(healthy, SinkOptions::default().queue_bytes(HEALTHY_BYTES))
        .sink_with(spilling, options.clone().policy(spill))
        .sink_with(dropping, options.policy(Policy::DropNewest).queue_bytes(soak.queue_bytes))
        .build()
        .unwrap();

    let ticks = Ticks::now();
    let mut watch = Watch::start(soak.length);
    let paced = format!("paced {} {}", soak.rate, soak.length.as_millis());
    let mut paced = Workload::new(pipeline.source_mut().spawn(&mut workload(&paced)).unwrap());
    let mut troubles = BTreeSet::new();
    let mut looked = Instant::now();
    let mut stopped: Option<Instant> = None;
    loop {
        let step = pipeline.step().unwrap();
        troubles.extend(step.troubles.iter().map(ToString::to_string));
        // Who is not done by then has lost records, which the books will say.
        if step.end.is_some() || stopped.is_some_and(|at| at.elapsed() > PATIENCE) {
            break;
        }
        if stopped.is_some() || looked.elapsed() < LOOK {
            continue;
        }
        looked = Instant::now();
        watch.look();
        let ledger = pipeline.ledger();
        assert_eq!(ledger.balance, 0, "while it runs: {ledger}");
        let dropped = ledger.sinks[2].dropped.values().sum();
        fate.look(soak, dropped, pipeline.sinks()[1].spilled_bytes);
        if paced.child.try_wait().unwrap().is_some() {
            fate.revive();
            pipeline.source_mut().stop();
            stopped = Some(Instant::now());
        }
    }
    let done = pipeline.finish();
    let idle_percent = ticks.idle_since();
    assert!(paced.wait().success());
    let stores = [path(STORE), fate.servers[0].store(), fate.servers[1].store()];
    // Nobody writes to them any more.
    drop(fate.servers);
    let numbers = numbers.lock().unwrap().clone();
    outcome::Evidence {
        soak: *soak,
        paced: paced.line(),
        done,
        numbers,
        troubles,
        seen: fate.seen,
        watch,
        usage: host::usage().unwrap(),
        idle_percent,
        received: stores.map(|store| Received::read(&store)),
    }
    .judge()
}
