//! What this process takes while it runs: whether it grows.

use std::{
    fs,
    time::{Duration, Instant},
};

use kprobe_ebpf::host;

#[derive(Clone, Copy, Debug)]
struct Sample {
    at: Duration,
    rss_bytes: u64,
    threads: u64,
    descriptors: u64,
}

/// Looks once a second.
#[derive(Debug)]
pub struct Watch {
    began: Instant,
    samples: Vec<Sample>,
}

const INTERVAL: Duration = Duration::from_secs(1);

/// The most of each in a part of the run.
#[derive(Clone, Copy, Debug, Default)]
pub struct Most {
    pub rss_bytes: u64,
    pub threads: u64,
    pub descriptors: u64,
}

impl Watch {
    /// Has room for what it will see, so that it does not grow itself.
    pub fn start(length: Duration) -> Self {
        let samples = Vec::with_capacity(length.as_secs() as usize + 60);
        Self { began: Instant::now(), samples }
    }

    pub fn look(&mut self) {
        let at = self.began.elapsed();
        if self.samples.last().is_some_and(|last| at < last.at + INTERVAL) {
            return;
        }
        let usage = host::usage().unwrap();
        // Without the one that the look itself takes.
        let descriptors = fs::read_dir("/proc/self/fd").unwrap().count() as u64 - 1;
        self.samples.push(Sample { at, rss_bytes: usage.rss_bytes, threads: usage.threads, descriptors });
    }

    /// The first half without its first fifth, in which rings and queues are used for the first time, and the second.
    pub fn halves(&self) -> [Most; 2] {
        let end = self.samples.last().map_or(Duration::ZERO, |last| last.at);
        [most(self.between(end / 10, end / 2)), most(self.between(end / 2, end))]
    }

    fn between(&self, from: Duration, to: Duration) -> impl Iterator<Item = &Sample> {
        self.samples.iter().filter(move |sample| (from..=to).contains(&sample.at))
    }
}

fn most<'a>(samples: impl Iterator<Item = &'a Sample>) -> Most {
    samples.fold(Most::default(), |most, sample| Most {
        rss_bytes: most.rss_bytes.max(sample.rss_bytes),
        threads: most.threads.max(sample.threads),
        descriptors: most.descriptors.max(sample.descriptors),
    })
}

/// The processors of the machine since boot, in ticks: all, and those without anything to do.
#[derive(Clone, Copy, Debug)]
pub struct Ticks {
    all: u64,
    idle: u64,
}

impl Ticks {
    pub fn now() -> Self {
        let text = fs::read_to_string("/proc/stat").unwrap();
        let line = text.lines().next().unwrap();
        let ticks: Vec<u64> = line.split_whitespace().skip(1).map(|word| word.parse().unwrap()).collect();
        // user nice system idle iowait irq softirq steal; guests are in the first.
        Self { all: ticks[..8].iter().sum(), idle: ticks[3] + ticks[4] }
    }

    /// In percent, since `self`.
    pub fn idle_since(self) -> u64 {
        let now = Self::now();
        100 * now.idle.saturating_sub(self.idle) / (now.all - self.all).max(1)
    }
}
