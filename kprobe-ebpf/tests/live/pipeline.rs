//! A recorder as the source of a pipeline: sinks that hang or fail are no matter to the one that does not.

use std::{
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use kprobe_core::{
    abi::Kind,
    event::{Event, Tgid},
    pipeline::{Batch, GapReport, Merge, Pipeline, Policy, Retry, Sink, SinkError, SinkOptions, Stop},
};
use kprobe_ebpf::{Filter, Recorder, Syscalls, filter::SyscallSet};

use crate::support::{
    child::{Workload, workload},
    times,
};

crate::trials!(three_sinks, two_recorders);

/// Counts the calls that it is given. First it does something else.
struct Counts {
    name: &'static str,
    before: Box<dyn FnMut() -> Result<(), SinkError> + Send>,
    calls: Arc<Mutex<u64>>,
}

impl Sink for Counts {
    fn name(&self) -> &str {
        self.name
    }

    fn write(&mut self, batch: &Batch) -> Result<(), SinkError> {
        (self.before)()?;
        let calls = batch.records().filter(|record| record.unwrap().kind() == Kind::SYSCALL).count();
        *self.calls.lock().unwrap() += calls as u64;
        Ok(())
    }
}

fn counts(
    name: &'static str,
    before: impl FnMut() -> Result<(), SinkError> + Send + 'static,
) -> (Counts, Arc<Mutex<u64>>) {
    let calls = Arc::<Mutex<u64>>::default();
    (Counts { name, before: Box::new(before), calls: Arc::clone(&calls) }, calls)
}

fn three_sinks() {
    let all = u64::from(times(500_000));
    let probe = Syscalls::of(SyscallSet::named(["getppid"]).unwrap());
    let builder = Recorder::builder().probe(probe).filter(Filter::none()).ring_bytes(64 << 20);
    let (healthy, by_healthy) = counts("healthy", || Ok(()));
    let mut first = true;
    let (blocked, by_blocked) = counts("blocked", move || {
        if std::mem::take(&mut first) {
            thread::sleep(Duration::from_secs(10));
        }
        Ok(())
    });
    let mut random = 1_u64;
    let (failing, by_failing) = counts("failing", move || {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        if random >> 62 == 0 { Err(SinkError::retry("at random")) } else { Ok(()) }
    });
    let roomy = SinkOptions::default().queue_bytes(64 << 20);
    let quick = roomy.clone().retry(Retry::between(Duration::from_micros(100), Duration::from_millis(1)));
    let mut pipeline = Pipeline::builder(builder.attach().unwrap())
        .merge(Merge::default())
        .batch(64 << 10, Duration::from_millis(1))
        .sink_with(healthy, roomy)
        .sink_with(blocked, SinkOptions::default().queue_bytes(1 << 20))
        .sink_with(failing, quick)
        .build()
        .unwrap();
    let mut child = pipeline.source_mut().spawn(&mut workload(&format!("getppid {all} 1"))).unwrap();
    let mut ended = || !matches!(child.try_wait(), Ok(None));
    let mut told = Vec::new();
    let stop = |_: &mut _| if ended() { Stop::AtLeisure } else { Stop::No };
    pipeline.drive(stop, |trouble| told.push(trouble.to_string())).unwrap();
    let done = pipeline.finish();
    assert!(child.wait().unwrap().success());

    let ledger = &done.ledger;
    assert_eq!((ledger.balance, ledger.lost()), (0, 0), "{ledger}");
    assert!(done.gaps.iter().all(GapReport::agrees), "{:?}", done.gaps);
    assert!(!told.is_empty() && told.iter().all(|told| told == "failing: at random"), "{told:?}");
    let [healthy, blocked, failing] = &ledger.sinks[..] else { panic!("three sinks") };
    assert_eq!(*by_healthy.lock().unwrap(), all);
    assert_eq!(*by_failing.lock().unwrap(), all);
    for row in [healthy, failing] {
        assert_eq!((row.delivered, row.held, row.dropped.len()), (row.received, 0, 0), "{row:?}");
    }
    // Each record is a call, but for those that user space adds.
    let full = blocked.dropped["queue_full"];
    assert_eq!(blocked.delivered + full, blocked.received, "{blocked:?}");
    assert!(full > 0 && blocked.dropped.len() == 1, "{blocked:?}");
    let calls = *by_blocked.lock().unwrap();
    assert!(calls <= blocked.delivered && blocked.delivered <= calls + healthy.received - all, "{blocked:?}");
}

/// Keeps the numbers of the calls that it is given.
struct Calls(Arc<Mutex<Vec<i64>>>);

impl Sink for Calls {
    fn name(&self) -> &str {
        "calls"
    }

    fn write(&mut self, batch: &Batch) -> Result<(), SinkError> {
        let events = batch.records().map(|record| Event::decode(record.unwrap()).unwrap());
        let calls = events.filter_map(|event| match event {
            Some(Event::Syscall(call)) => call.nr.map(|call| i64::from(call.nr)),
            _ => None,
        });
        self.0.lock().unwrap().extend(calls);
        Ok(())
    }
}

/// One records what a process waits for and says, the other what it does between. Both number their records from 0 on.
fn two_recorders() {
    const ROUNDS: usize = 50;
    let each = times(2000) as usize;
    let mut gate = Workload::start(&format!("gate {each} 0"));
    assert_eq!(gate.line(), "ready");
    let recorder = |calls: &[&str]| {
        let probe = Syscalls::of(SyscallSet::named(calls.iter().copied()).unwrap());
        let builder = Recorder::builder().probe(probe).ring_bytes(16 << 20);
        builder.filter(Filter::tgids([Tgid(gate.tgid())])).attach().unwrap()
    };
    let (talk, work) = (recorder(&["read", "write"]), recorder(&["getppid"]));
    let kept = Arc::<Mutex<Vec<i64>>>::default();
    let mut pipeline = Pipeline::builder(talk)
        .source(work)
        .merge(Merge::default())
        .sink_with(Calls(Arc::clone(&kept)), SinkOptions::default().policy(Policy::Block))
        .build()
        .unwrap();
    let done = thread::spawn(move || {
        for _ in 0..ROUNDS {
            gate.go();
            assert_eq!(gate.line(), "done");
        }
        // It is to wait for the test until nobody records it any more.
        gate
    });
    pipeline
        .drive(|_| if done.is_finished() { Stop::AtLeisure } else { Stop::No }, |trouble| panic!("{trouble}"))
        .unwrap();
    let finished = pipeline.finish();
    let _gate = done.join().unwrap();

    let ledger = &finished.ledger;
    assert_eq!((ledger.balance, ledger.lost()), (0, 0), "{ledger}");
    assert!(ledger.stages[1].counts.is_empty(), "{ledger}");
    for source in [0, 1] {
        let mut gaps = finished.gaps.iter().filter(|gap| gap.source == source);
        assert!(gaps.clone().any(|gap| gap.received > 0 && gap.to_the_end), "{:?}", finished.gaps);
        assert!(gaps.all(GapReport::agrees), "{:?}", finished.gaps);
    }

    let (read, write, getppid) = (libc::SYS_read, libc::SYS_write, libc::SYS_getppid);
    let kept = kept.lock().unwrap();
    // It waited in the first of its reads already when it was not recorded yet, and is in the last one still.
    let from = kept.iter().position(|call| *call == getppid).unwrap();
    assert!(from <= 1, "{:?}", &kept[..from]);
    let round: Vec<i64> = std::iter::repeat_n(getppid, each).chain([write]).collect();
    let rounds = vec![round; ROUNDS].join(&read);
    assert!(kept[from..] == rounds[..], "{} calls, not {}", kept.len() - from, rounds.len());
}
