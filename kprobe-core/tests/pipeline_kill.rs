//! `kill -9` of a process in the midst of spilling: what was on disk is in the sink's file exactly once.

use std::{
    collections::BTreeSet,
    env, fs,
    io::{self, BufRead, BufReader, Read, Write},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use kprobe_core::{
    pipeline::{Batch, BatchId, Pipeline, Policy, Retry, Sink, SinkError, SinkOptions},
    spill::{Spill, SpillLimits},
};
use pipeline_support::{
    counted::{counted, number_of},
    records_of,
};

mod pipeline_support;

/// How often it is killed; `KPROBE_PIPELINE_KILLS=1000` for more.
const KILLS: u64 = 40;
const MAX_BYTES: u64 = 1 << 20;

/// What the other process is told.
const FOLDER: &str = "KPROBE_PIPELINE_VICTIM";
const FIRST: &str = "KPROBE_PIPELINE_FIRST";

/// A file that has each batch once: its id and its numbers, a line each. It knows what it has when it begins, as a store
/// does that is asked for an id.
struct Lines {
    file: fs::File,
    has: BTreeSet<BatchId>,
    calls: u64,
}

fn line_of(batch: &Batch) -> String {
    let numbers: Vec<_> = records_of(batch).iter().map(|record| number_of(record).to_string()).collect();
    format!("{} {}\n", batch.id().expect("an id"), numbers.join(","))
}

fn id_of(line: &str) -> BatchId {
    let (run, rest) = line.split_once('-').expect("an id");
    let seq = rest.split(' ').next().and_then(|seq| seq.parse().ok()).expect("a place");
    BatchId { run: u128::from_str_radix(run, 16).expect("a run"), seq }
}

impl Lines {
    fn open(path: &Path) -> Self {
        let text = fs::read_to_string(path).unwrap_or_default();
        // The beginning of a line that was being written is no line.
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        let file = fs::File::options().append(true).create(true).open(path).expect("writable");
        file.set_len(whole as u64).expect("writable");
        Self { file, has: text[..whole].lines().map(id_of).collect(), calls: 0 }
    }
}

impl Sink for Lines {
    fn name(&self) -> &str {
        "lines"
    }

    fn write(&mut self, batch: &Batch) -> Result<(), SinkError> {
        self.calls += 1;
        // Too slow at times, and not there at others.
        if self.calls % 7 == 3 {
            std::thread::sleep(Duration::from_millis(2));
        }
        if self.calls.is_multiple_of(5) {
            return Err(SinkError::retry("not now"));
        }
        if self.has.insert(batch.id().expect("an id")) {
            self.file.write_all(line_of(batch).as_bytes()).map_err(SinkError::fatal)?;
        }
        Ok(())
    }
}

/// Not a test by itself: the process that is killed. Goes on for ever from its first number; with none it delivers what is
/// there and ends.
#[test]
fn victim() {
    let Some(folder) = env::var_os(FOLDER).map(PathBuf::from) else { return };
    let first: Option<u64> = env::var(FIRST).ok().map(|first| first.parse().expect("a number"));
    let policy = Policy::Spill { dir: folder.join("spill"), max_bytes: MAX_BYTES };
    let options = SinkOptions::default()
        .policy(policy)
        .queue_bytes(4000)
        .retry(Retry::between(Duration::from_micros(100), Duration::from_millis(2)));
    let numbers = first.map_or(0..0, |first| first..u64::MAX);
    let mut run = Pipeline::builder(counted(numbers, 3, true))
        .batch(1, Duration::ZERO)
        .shutdown_within(Duration::from_secs(60))
        .sink_with(Lines::open(&folder.join("lines")), options)
        .build()
        .expect("the one before is dead");
    let mut out = io::stdout();
    while first.is_some() {
        run.step().expect("the source is sound");
        out.write_all(format!("given {}\n", run.source().given).as_bytes()).expect("it listens");
        // As fast as the disk takes it, more or less.
        while run.sinks()[0].waiting_bytes > 2000 {
            std::thread::yield_now();
        }
    }
    run.drive(|_| false, |_| ()).expect("the source is sound");
    let done = run.finish();
    assert_eq!((done.ledger.balance, done.ledger.sinks[0].held), (0, 0), "{}", done.ledger);
}

fn start(folder: &Path, first: Option<u64>) -> Child {
    let mut command = Command::new(env::current_exe().expect("this program"));
    command.args(["--exact", "victim", "--nocapture"]).env(FOLDER, folder).stdout(Stdio::piped());
    command.env_remove(FIRST);
    command.envs(first.map(|first| (FIRST, first.to_string()))).spawn().expect("it starts")
}

/// Behind the last number that the process had given when it was killed.
fn kill(folder: &Path, first: u64, after: u64) -> u64 {
    let mut child = start(folder, Some(first));
    let mut said = BufReader::new(child.stdout.take().expect("a pipe"));
    let mut text = String::new();
    for _ in 0..after {
        assert_ne!(said.read_line(&mut text).expect("readable"), 0, "it ended by itself: {text}");
    }
    child.kill().expect("it runs");
    assert!(!child.wait().expect("it ends").success());
    said.read_to_string(&mut text).expect("readable");
    text.truncate(text.rfind('\n').map_or(0, |end| end + 1));
    let given = text.lines().rev().find_map(|line| line.strip_prefix("given ")?.parse().ok());
    // A step that it had no time to tell of.
    given.unwrap_or(first) + 3
}

/// What is on disk after the kill, looked at in a copy.
fn kept(folder: &Path) -> Vec<String> {
    let copy = tempfile::tempdir().expect("a directory");
    for entry in fs::read_dir(folder.join("spill")).expect("readable") {
        let path = entry.expect("readable").path();
        fs::copy(&path, copy.path().join(path.file_name().expect("a name"))).expect("readable");
    }
    let mut spill = Spill::open(copy.path(), SpillLimits::of(MAX_BYTES)).expect("sound");
    let mut lines = Vec::new();
    while let Some(batch) = spill.next().expect("readable") {
        lines.push(line_of(&batch));
    }
    assert_eq!(spill.lost().batches, 0);
    lines
}

#[test]
fn killed_at_any_time() {
    let kills = env::var("KPROBE_PIPELINE_KILLS").map_or(KILLS, |kills| kills.parse().expect("a number"));
    let folder = tempfile::tempdir().expect("a directory");
    let (mut next, mut on_disk, mut random) = (0, 0, 1_u64);
    let mut acknowledged = Vec::new();
    for _ in 0..kills {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        next = kill(folder.path(), next, 1 + (random >> 33) % 120);
        let kept = kept(folder.path());
        on_disk += kept.len();
        acknowledged.extend(kept);
    }
    let mut last = start(folder.path(), None);
    let mut said = String::new();
    last.stdout.take().expect("a pipe").read_to_string(&mut said).expect("readable");
    assert!(last.wait().expect("it ends").success(), "{said}");

    let text = fs::read_to_string(folder.path().join("lines")).expect("it is there");
    let lines: Vec<_> = text.split_inclusive('\n').collect();
    let unique: BTreeSet<_> = lines.iter().copied().collect();
    assert_eq!(unique.len(), lines.len(), "a batch is there twice");
    let missing: Vec<_> = acknowledged.iter().filter(|line| !unique.contains(line.as_str())).collect();
    assert_eq!(missing, Vec::<&String>::new(), "these were on disk");
    // In order: what was killed in memory is missing, and nothing comes behind what is younger.
    let numbers: Vec<u64> = lines
        .iter()
        .flat_map(|line| line.trim_end().split_once(' ').expect("numbers").1.split(','))
        .map(|number| number.parse().expect("a number"))
        .collect();
    assert!(numbers.is_sorted_by(|one, next| one < next));
    assert!(on_disk as u64 > kills, "{on_disk} batches were on disk when it was killed");
    let said = format!("{kills} kills, {} batches arrived, {on_disk} times one was on disk\n", lines.len());
    io::stderr().write_all(said.as_bytes()).expect("writable");
}
