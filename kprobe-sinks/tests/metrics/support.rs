//! A real pipeline that a test feeds by hand, and an HTTP client.

use std::{
    collections::BTreeMap,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    },
    thread::{JoinHandle, sleep, spawn},
    time::{Duration, Instant},
};

use kprobe_core::{
    abi::{Header, Kind},
    decode::Record,
    event::{Arch, BootId},
    pipeline::{
        Batch, BatchBuf, Clocks, Finished, Monitor, Pipeline, PipelineBuilder, Polled, ProbeRow, Retry, Seen,
        Sink, SinkError, SinkOptions, Source, SourceError, StreamInfo,
    },
};
use kprobe_sinks::prometheus::Endpoint;
use zerocopy::IntoBytes;

/// Longer than anything takes; who waits so long has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) const BOOT: BootId = BootId(0x1234);

/// Gives what the test tells it to, on two CPUs; of each record that it gives another was lost.
pub(crate) struct Feed {
    info: StreamInfo,
    told: Receiver<Feeding>,
    given: [u64; 2],
    damaged: u64,
}

pub(crate) enum Feeding {
    /// So many records.
    Give(u64),
    /// So many whose bodies are not what their kind says.
    Damaged(u64),
    /// Does not come back before this is dropped.
    Hang(Receiver<()>),
}

pub(crate) fn feed() -> (Sender<Feeding>, Feed) {
    let (tell, told) = channel();
    let info = StreamInfo {
        host: "test".to_owned(),
        boot: BOOT,
        kernel: "6.12.9".to_owned(),
        arch: Arch::X86_64,
        clocks: Clocks::default(),
        cpus: 2,
        report: serde_json::Value::Null,
        sources: 1,
    };
    (tell, Feed { info, told, given: [0; 2], damaged: 0 })
}

impl Feed {
    fn push(&mut self, out: &mut BatchBuf, kind: Kind) {
        let all: u64 = self.given.iter().sum::<u64>() + self.damaged;
        let cpu = usize::from(!all.is_multiple_of(3));
        let header = Header {
            ktime_ns: all,
            kind: kind.0,
            cpu: u16::try_from(cpu).unwrap(),
            tgid: u32::try_from(all).unwrap(),
            ..Header::default()
        };
        let bytes = [header.as_bytes(), &[0; 8]].concat();
        out.push(Record::new(&bytes).unwrap());
        match kind {
            Kind::USER => self.given[cpu] += 1,
            _ => self.damaged += 1,
        }
    }
}

impl Source for Feed {
    fn info(&self) -> &StreamInfo {
        &self.info
    }

    fn poll(&mut self, out: &mut BatchBuf, longest: Option<Duration>) -> Result<Polled, SourceError> {
        let told = self.told.recv_timeout(longest.unwrap_or(PATIENCE));
        let end = matches!(told, Err(RecvTimeoutError::Disconnected));
        match told {
            Ok(Feeding::Give(records)) => (0..records).for_each(|_| self.push(out, Kind::USER)),
            Ok(Feeding::Damaged(records)) => (0..records).for_each(|_| self.push(out, Kind::PROCESS_FORK)),
            Ok(Feeding::Hang(until)) => drop(until.recv()),
            Err(_) => {}
        }
        let until = self.given.iter().sum::<u64>() + self.damaged;
        Ok(Polled::until(until).ended(end))
    }

    fn probes(&self) -> Vec<ProbeRow> {
        let row = |probe: &str, cpu, given| ProbeRow {
            probe: probe.to_owned(),
            cpu: Some(cpu),
            submitted: 2 * given,
            lost: given,
            sampled_out: 3 * given,
        };
        let damaged = ProbeRow { submitted: self.damaged, lost: 0, ..row("process.fork", 1, 0) };
        vec![row("user", 0, self.given[0]), row("user", 1, self.given[1]), damaged]
    }

    fn counts(&self) -> BTreeMap<String, u64> {
        BTreeMap::from([("odd".to_owned(), self.given[1])])
    }

    fn uncounted(&self) -> u64 {
        self.given[0]
    }
}

/// A pipeline that runs on a thread.
pub(crate) struct Running {
    pub(crate) monitor: Monitor,
    pub(crate) feed: Sender<Feeding>,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Finished>,
}

/// Starts it with what `add` puts behind its source.
pub(crate) fn running(add: impl FnOnce(PipelineBuilder<Feed>) -> PipelineBuilder<Feed>) -> Running {
    let (feed, source) = feed();
    let builder = Pipeline::builder(source).wait(Duration::from_millis(5)).batch(1, Duration::ZERO);
    let mut pipeline = add(builder).shutdown_within(Duration::from_millis(200)).build().unwrap();
    let (monitor, stop) = (pipeline.monitor(), Arc::new(AtomicBool::new(false)));
    let stops = Arc::clone(&stop);
    let thread = spawn(move || {
        pipeline.drive(|_| stops.load(Ordering::Relaxed), |_| ()).unwrap();
        pipeline.finish()
    });
    Running { monitor, feed, stop, thread }
}

impl Running {
    pub(crate) fn give(&self, records: u64) {
        self.feed.send(Feeding::Give(records)).unwrap();
    }

    pub(crate) fn seen(&self) -> Seen {
        self.monitor.look(PATIENCE).unwrap()
    }

    /// Waits until it looks like that.
    pub(crate) fn until(&self, is: impl Fn(&Seen) -> bool) -> Seen {
        until("what the pipeline shows", || Some(self.seen()).filter(&is))
    }

    pub(crate) fn finish(self) -> Finished {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

pub(crate) fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(begun.elapsed() < PATIENCE, "{what} did not come");
        sleep(Duration::from_millis(1));
    }
}

/// What a sink does with the next batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mood {
    Takes,
    /// Says that it may go well later.
    Refuses(&'static str),
    /// Does not come back before its mood changes.
    Hangs,
    Fails,
}

/// A sink whose mood the test decides.
#[derive(Clone)]
pub(crate) struct Moody {
    name: &'static str,
    mood: Arc<(Mutex<Mood>, Condvar)>,
}

pub(crate) fn moody(name: &'static str, mood: Mood) -> Moody {
    Moody { name, mood: Arc::new((Mutex::new(mood), Condvar::new())) }
}

impl Moody {
    pub(crate) fn becomes(&self, mood: Mood) {
        *self.mood.0.lock().unwrap() = mood;
        self.mood.1.notify_all();
    }
}

impl Sink for Moody {
    fn name(&self) -> &str {
        self.name
    }

    fn write(&mut self, _: &Batch) -> Result<(), SinkError> {
        let (mood, changed) = &*self.mood;
        let mood = changed.wait_while(mood.lock().unwrap(), |mood| *mood == Mood::Hangs).unwrap();
        match *mood {
            Mood::Refuses(why) => Err(SinkError::retry(why)),
            Mood::Fails => Err(SinkError::fatal("never again")),
            Mood::Takes | Mood::Hangs => Ok(()),
        }
    }
}

pub(crate) fn quick() -> SinkOptions {
    SinkOptions::default().retry(Retry::between(Duration::from_millis(1), Duration::from_millis(5)))
}

/// On a machine that is busy a pipeline may need long for an answer without being stuck.
pub(crate) fn endpoint(run: &Running) -> Endpoint {
    Endpoint::new(run.monitor.clone()).answer_within(PATIENCE)
}

/// An answer to a request.
#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: String,
}

pub(crate) fn connect(to: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(to).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

pub(crate) fn get(from: SocketAddr, path: &str) -> Response {
    send(from, &format!("GET {path} HTTP/1.1\r\nHost: {from}\r\n\r\n"))
}

pub(crate) fn send(to: SocketAddr, request: &str) -> Response {
    let mut stream = connect(to);
    stream.write_all(request.as_bytes()).unwrap();
    answer(&mut stream)
}

/// Reads until the other side has closed.
pub(crate) fn answer(stream: &mut TcpStream) -> Response {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    let text = String::from_utf8(bytes).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {text:?}"));
    let mut lines = head.lines();
    let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    let headers = lines.map(|line| line.split_once(": ").unwrap());
    let headers: BTreeMap<_, _> =
        headers.map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned())).collect();
    assert_eq!(headers["content-length"], body.len().to_string());
    Response { status, headers, body: body.to_owned() }
}

pub(crate) fn any_port() -> SocketAddr {
    "127.0.0.1:0".parse().unwrap()
}
