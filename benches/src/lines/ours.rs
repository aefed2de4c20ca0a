//! Our side, in a process of its own: a ring as the source of a pipeline whose only sink writes lines of JSON.

use std::{
    fs::File,
    io::{self, Write, stdin},
    os::fd::{AsFd as _, RawFd},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use kprobe_core::{
    abi::{CPU_NONE, Header, Kind, ThreadSeed},
    decode::Record,
    event::{Arch, BootId, Registry},
    pipeline::{BatchBuf, Drops, Merge, Pipeline, Polled, ProbeRow, Source, SourceError, Stop, StreamInfo},
    process::ProcessTable,
};
use kprobe_ebpf::{
    host,
    ring::{Next, Pacing, Reader, ReaderStates, Ring},
};
use kprobe_sinks::stdout::JsonSink;
use zerocopy::IntoBytes as _;

use crate::{
    bpf::Call,
    child::say,
    consumer::inherited,
    machine::{now_ns, pin, process_cpu_ns},
    outcome::Lines,
};

/// Bytes that are copied out of the ring at once: what a recorder takes from a ring of this size.
const BATCH: usize = 256 << 10;

/// What the harness says when it has submitted the last record.
#[derive(Debug)]
struct End {
    submitted: AtomicU64,
    lost: AtomicU64,
}

/// `submitted` while there is no end.
const NOT_YET: u64 = u64::MAX;

impl End {
    fn wait(&self) -> Result<()> {
        let line = read_line()?.context("the harness is gone")?;
        let words: Vec<&str> = line.split_whitespace().collect();
        let ["end", submitted, lost] = words[..] else { bail!("unknown command {line:?}") };
        self.lost.store(lost.parse()?, SeqCst);
        self.submitted.store(submitted.parse()?, SeqCst);
        Ok(())
    }
}

/// Reads the ring as a recorder does.
struct Records {
    info: StreamInfo,
    reader: Reader,
    next: Option<Next>,
    /// Threads that the stream has yet to tell of, as a recorder does in its first batch.
    seeds: Vec<(u32, u32)>,
    seeded: u64,
    stopped: bool,
    end: Arc<End>,
}

impl Records {
    fn new(ring: RawFd, readers: RawFd, end: Arc<End>) -> Result<Self> {
        // SAFETY: this process is told to read the ring, and its parent does not.
        let ring = unsafe { Ring::map(inherited(ring)?) }?;
        let states = ReaderStates::map(inherited(readers)?.as_fd())?;
        let reader = Reader::new(vec![ring], states, Pacing::default())?;
        let info = StreamInfo {
            host: "bench".to_owned(),
            boot: BootId(1),
            kernel: String::new(),
            arch: Arch::X86_64,
            clocks: host::clocks(),
            cpus: 1,
            report: serde_json::Value::Null,
            sources: 1,
        };
        Ok(Self {
            info,
            reader,
            next: None,
            seeds: Call::threads().collect(),
            seeded: 0,
            stopped: false,
            end,
        })
    }

    fn put_seed(&mut self, (tgid, tid): (u32, u32), out: &mut BatchBuf) {
        let header = Header {
            ktime_ns: self.info.clocks.monotonic_ns,
            cgroup_id: Call::numbered(0).cgroup_id,
            tgid,
            tid,
            kind: Kind::META_THREAD.0,
            cpu: CPU_NONE,
            seq: u32::try_from(self.seeded).unwrap_or(u32::MAX),
        };
        let seed =
            ThreadSeed { start_ns: 10_000_000, parent_tgid: 1, flags: 0, comm: *b"postgres\0\0\0\0\0\0\0\0" };
        let bytes = [header.as_bytes(), seed.as_bytes()].concat();
        out.push(Record::new(&bytes).expect("a record has a header"));
        self.seeded += 1;
    }

    fn drain(&mut self, out: &mut BatchBuf, longest: Option<Duration>) -> io::Result<Polled> {
        if let Some(next) = self.next.take() {
            match longest {
                Some(longest) => self.reader.wait_at_most(next, longest)?,
                None => self.reader.wait(next)?,
            };
        }
        for seed in std::mem::take(&mut self.seeds) {
            self.put_seed(seed, out);
        }
        self.reader.copy_into(out.frames_mut(), BATCH);
        let complete_until_ns = self.reader.drained_until_ns();
        let next = self.reader.pace()?;
        self.next = Some(next);
        let complete_until_ns = complete_until_ns.max(self.reader.drained_until_ns());
        Ok(Polled::until(complete_until_ns).ended(self.stopped && next == Next::Idle))
    }
}

impl Source for Records {
    fn info(&self) -> &StreamInfo {
        &self.info
    }

    fn poll(&mut self, out: &mut BatchBuf, longest: Option<Duration>) -> Result<Polled, SourceError> {
        self.drain(out, longest).map_err(|error| SourceError {
            source_name: "ring".to_owned(),
            message: error.to_string(),
            cause: Some(Box::new(error)),
        })
    }

    fn probes(&self) -> Vec<ProbeRow> {
        let (submitted, lost) = (self.end.submitted.load(SeqCst), self.end.lost.load(SeqCst));
        let row = |kind: Kind, cpu, submitted, lost| ProbeRow {
            probe: kind.to_string(),
            cpu,
            submitted,
            lost,
            sampled_out: 0,
        };
        vec![
            row(Kind::META_THREAD, None, self.seeded, 0),
            row(Kind::SYSCALL, Some(0), submitted + lost, lost),
        ]
    }

    fn next_seq(&self, cpu: u16) -> Option<u64> {
        (cpu == 0).then(|| self.end.submitted.load(SeqCst))
    }

    fn stop(&mut self) {
        self.stopped = true;
        self.next = None;
    }
}

/// Notes how much was written, and when the last of it.
struct Noted {
    out: File,
    written: Arc<Written>,
}

#[derive(Default)]
struct Written {
    bytes: AtomicU64,
    last_ns: AtomicU64,
}

impl Write for Noted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.written.bytes.fetch_add(written as u64, SeqCst);
        self.written.last_ns.store(now_ns(), SeqCst);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// Serves commands until standard input ends. The descriptors were left open for this process, and all its threads are on
/// one core.
pub(crate) fn serve(core: usize, ring: RawFd, readers: RawFd) -> Result<()> {
    pin(core)?;
    while let Some(line) = read_line()? {
        let words: Vec<&str> = line.split_whitespace().collect();
        let ["lines", stages, to] = words[..] else { bail!("unknown command {line:?}") };
        let with_stages = match stages {
            "stages" => true,
            "plain" => false,
            _ => bail!("unknown command {line:?}"),
        };
        let out = File::options().write(true).open(to).with_context(|| format!("open {to}"))?;
        say(lines(ring, readers, with_stages, out)?)?;
    }
    Ok(())
}

/// Not through a lock that is kept: while records come, another thread waits for the line that ends them.
fn read_line() -> Result<Option<String>> {
    let mut line = String::new();
    Ok((stdin().read_line(&mut line)? > 0).then_some(line))
}

fn lines(ring: RawFd, readers: RawFd, with_stages: bool, out: File) -> Result<Lines> {
    let end = Arc::new(End { submitted: NOT_YET.into(), lost: 0.into() });
    let written = Arc::<Written>::default();
    let source = Records::new(ring, readers, Arc::clone(&end))?;
    let waker = source.reader.waker();
    let out = Noted { out, written: Arc::clone(&written) };
    let sink = JsonSink::new(out, source.info(), &Registry::builtin());
    let (boot, mut builder) = (source.info.boot, Pipeline::builder(source));
    if with_stages {
        builder = builder.merge(Merge::default()).stage(ProcessTable::new(boot));
    }
    let mut pipeline = builder.sink(sink).build()?;
    let told = thread::spawn({
        let end = Arc::clone(&end);
        move || {
            let told = say("ready").and_then(|()| end.wait());
            if told.is_err() {
                // The harness is gone: then nobody must wait for records, and the books cannot be right.
                end.submitted.store(0, SeqCst);
            }
            waker.wake();
            told
        }
    });
    let cpu_from = process_cpu_ns();
    let mut troubles = Vec::new();
    let stop = |_: &mut _| match end.submitted.load(SeqCst) {
        NOT_YET => Stop::No,
        _ => Stop::AtLeisure,
    };
    pipeline.drive(stop, |trouble| troubles.push(trouble.to_string()))?;
    let finished = pipeline.finish();
    let cpu_ns = process_cpu_ns() - cpu_from;
    told.join().map_err(|_| anyhow!("who waits for the end panicked"))??;

    let (submitted, seeds) = (end.submitted.load(SeqCst), Call::threads().count() as u64);
    let numbers = finished.gaps.iter().filter(|gap| gap.cpu == 0);
    let all_came = numbers.map(|gap| (gap.received, gap.missing, gap.to_the_end)).eq([(submitted, 0, true)]);
    let ledger = &finished.ledger;
    let is_right = all_came && ledger.balance == 0 && ledger.undecodable == 0;
    ensure!(is_right, "{submitted} records were submitted: {ledger}\n{:?}", finished.gaps);
    ensure!(troubles.is_empty() && finished.troubles.is_empty(), "the sink had trouble: {troubles:?}");
    let [row] = &ledger.sinks[..] else { bail!("there is one sink: {ledger}") };
    let mut dropped: Drops = row.dropped.clone();
    let not_shown = dropped.remove("not_shown");
    let dropped: u64 = dropped.values().sum();
    // With what the queue had no room for some seeds may have gone.
    let is_whole = dropped > 0 || (row.delivered, not_shown) == (submitted, Some(seeds));
    ensure!(is_whole, "{submitted} records were submitted: {ledger}");
    Ok(Lines {
        records: row.delivered,
        dropped,
        bytes: written.bytes.load(SeqCst),
        last_ns: written.last_ns.load(SeqCst),
        cpu_ns,
    })
}
