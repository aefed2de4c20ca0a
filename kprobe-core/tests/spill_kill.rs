//! `kill -9` of a process that appends, reads and acknowledges: what it had said stays said.

mod spill_support;

use std::{
    env,
    io::{self, BufRead, BufReader, Read, Write},
    path::Path,
    process::{Command, Stdio},
};

use kprobe_core::spill::{Cause, Spill, SpillLimits};
use spill_support::{damage_of, number_of, plain, read_all};

/// How often it is killed; `KPROBE_SPILL_KILLS=1000` for more.
const KILLS: u64 = 60;
const LIMITS: SpillLimits = SpillLimits { max_bytes: 200_000, segment_bytes: 10_000 };

/// Says so to the other process.
const DIRECTORY: &str = "KPROBE_SPILL_VICTIM";
const NEXT: &str = "KPROBE_SPILL_NEXT";

/// Not a test by itself: the process that is killed. It says what it has done, when it is done.
#[test]
fn victim() {
    let Some(dir) = env::var_os(DIRECTORY) else { return };
    let mut next: u64 = env::var(NEXT).expect("a number").parse().expect("a number");
    let mut out = io::stdout();
    let mut say =
        |what: &str, number: u64| out.write_all(format!("{what} {number}\n").as_bytes()).expect("it listens");
    let mut spill = Spill::open(dir, LIMITS).expect("readable");
    loop {
        // Some more come in than go out, until it is full.
        for _ in 0..=next % 5 {
            if spill.append(&plain(next)).is_err() {
                break;
            }
            say("appended", next);
            next += 1;
        }
        for _ in 0..2 {
            let Some(batch) = spill.next().expect("readable") else { break };
            let number = number_of(&batch);
            spill.ack(spill.position()).expect("writable");
            say("acknowledged", number);
        }
    }
}

/// What a victim said before it was killed: behind the last batch that it appended and that it acknowledged.
fn kill(dir: &Path, next: u64, after: u64) -> (Option<u64>, Option<u64>) {
    let mut child = Command::new(env::current_exe().expect("this program"))
        .args(["--exact", "victim", "--nocapture"])
        .env(DIRECTORY, dir)
        .env(NEXT, next.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut said = BufReader::new(child.stdout.take().expect("a pipe"));
    let mut text = String::new();
    for _ in 0..after {
        assert_ne!(said.read_line(&mut text).expect("readable"), 0, "it ended by itself: {text}");
    }
    child.kill().expect("it runs");
    let status = child.wait().expect("it ends");
    assert!(!status.success());
    // What it said after we had heard enough.
    said.read_to_string(&mut text).expect("readable");
    // The last line may be a part of one.
    text.truncate(text.rfind('\n').map_or(0, |end| end + 1));
    let last = |what: &str| {
        let last = text.lines().rev().find_map(|line| line.strip_prefix(what)?.parse::<u64>().ok());
        last.map(|last| last + 1)
    };
    (last("appended "), last("acknowledged "))
}

#[test]
fn killed_at_any_time() {
    let kills = env::var("KPROBE_SPILL_KILLS").map_or(KILLS, |kills| kills.parse().expect("a number"));
    let dir = tempfile::tempdir().expect("a directory");
    let (mut appended, mut acked) = (0, 0);
    let (mut torn, mut moved) = (0, 0);
    let mut random = 1_u64;
    for round in 0..kills {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let (said_appended, said_acked) = kill(dir.path(), appended, 4 + (random >> 33) % 200);
        let (least_end, least_first) = (said_appended.unwrap_or(appended), said_acked.unwrap_or(acked));
        moved += least_first - acked;

        let mut spill =
            Spill::open(dir.path(), LIMITS).unwrap_or_else(|error| panic!("round {round}: {error}"));
        let held = spill.held();
        let numbers = read_all(&mut spill);
        let first = numbers.first().copied().unwrap_or(least_end);
        let end = first + numbers.len() as u64;
        assert_eq!(numbers, (first..end).collect::<Vec<_>>(), "round {round}: in order, each once");
        assert_eq!(held.batches, numbers.len() as u64);
        // The last of what it did it may not have had the time to say.
        assert!(
            (least_end..=least_end + 1).contains(&end),
            "round {round}: {end}, {least_end} were appended"
        );
        assert!(
            (least_first..=least_first + 1).contains(&first),
            "round {round}: {first} comes first, {least_first} were acknowledged"
        );
        assert_eq!(spill.lost(), Default::default(), "round {round}");
        for damage in damage_of(&spill) {
            assert!(matches!(damage.cause, Cause::Torn | Cause::Ack), "round {round}: {damage}");
            torn += 1;
        }
        (appended, acked) = (end, first);
    }
    assert!(appended > kills && moved > kills, "{appended} appended, {moved} acknowledged");
    let said =
        format!("{kills} kills, {appended} batches appended, {moved} acknowledged, {torn} times torn\n");
    io::stderr().write_all(said.as_bytes()).expect("writable");
}
