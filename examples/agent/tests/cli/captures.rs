//! Captures that cannot be played, and those that are not whole.

use std::{fs, time::Duration};

use kprobe_core::{
    capture::{CaptureReader, CaptureWriter},
    pipeline::{BatchBuf, Ledger, ProbeRow, Sink, Source},
};
use serde_json::Value;

use super::refusals::refusal;
use crate::support::{DEMO, Output, agent, events, open_folder, run, set_mode, unprivileged};

/// Plays a file `x.kcap` with these bytes.
fn play(bytes: &[u8]) -> Output {
    let folder = open_folder();
    fs::write(folder.path().join("x.kcap"), bytes).unwrap();
    run(agent(["--from", "x.kcap"]).current_dir(folder.path()))
}

/// The shipped capture, changed.
fn changed(change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut bytes = DEMO.to_vec();
    change(&mut bytes);
    bytes
}

/// The first bytes of a file: its magic, the version of its format and of its records, the checksum of these twelve bytes.
fn head(format: u8, abi: u8, checksum: u32) -> Vec<u8> {
    changed(|bytes| {
        bytes[8..12].copy_from_slice(&[format, 0, abi, 0]);
        bytes[12..16].copy_from_slice(&checksum.to_le_bytes());
    })
}

#[test]
fn refused() {
    let text = b"root:x:0:0:root:/root:/bin/sh\n";
    let cases: [(&str, Vec<u8>, &str); 8] = [
        ("empty", vec![], "is empty; nothing was recorded into it"),
        ("text", text.to_vec(), "not a capture: it starts with \"root:x:0\", a capture with \"\\x89KCAP\""),
        (
            "a later format",
            head(2, 1, LATER_FORMAT),
            "capture format 2; this program reads up to 1: use a newer one",
        ),
        (
            "later records",
            head(1, 2, LATER_ABI),
            "a capture with records of ABI 2; this program reads up to 1: use a newer one",
        ),
        (
            "cut off in the head",
            DEMO[..11].to_vec(),
            "ends at byte 11, in the header of the capture: it was cut off before the first record",
        ),
        (
            "cut off behind the head",
            DEMO[..16].to_vec(),
            "ends at byte 16, in the header of the capture: it was cut off before the first record",
        ),
        (
            "one byte",
            DEMO[..1].to_vec(),
            "ends at byte 1, in the header of the capture: it was cut off before the first record",
        ),
        (
            "a damaged header",
            changed(|bytes| bytes[16..DEMO.len() / 2].fill(0xa5)),
            "both copies of the capture's header are damaged; its records cannot be read without",
        ),
    ];
    for (what, bytes, expected) in cases {
        assert_eq!(refusal(&play(&bytes), 2), format!("x.kcap: {expected}"), "{what}");
    }
}

/// CRC-32 of the first twelve bytes.
const LATER_FORMAT: u32 = 0xc39e_61db;
const LATER_ABI: u32 = 0xfa06_9df6;

#[test]
fn unreadable() {
    let folder = open_folder();
    let missing = run(&mut agent(["--from", "/nowhere/x.kcap"]));
    let expected = "/nowhere/x.kcap: cannot be read: No such file or directory (os error 2)";
    assert_eq!(refusal(&missing, 2), expected);
    let output = run(agent(["--from", "."]).current_dir(folder.path()));
    assert_eq!(refusal(&output, 2), ".: cannot be read: Is a directory (os error 21)");
    let file = folder.path().join("secret.kcap");
    fs::write(&file, DEMO).unwrap();
    set_mode(&file, 0o000);
    let output = run(&mut unprivileged(folder.path(), ["--from", "secret.kcap"]));
    assert_eq!(refusal(&output, 2), "secret.kcap: cannot be read: Permission denied (os error 13)");
}

/// The records of a stream, by CPU and number.
fn records(text: &str) -> (Vec<(u64, u64)>, Value) {
    let (events, end) = events::stream(text);
    let number = |event: &Value, name: &str| event[name].as_u64().unwrap();
    (events.iter().map(|event| (number(event, "cpu"), number(event, "seq"))).collect(), end)
}

/// Read as far as it goes; what is missing is said in the stream and on standard error, and the exit code is 1.
#[test]
fn damaged() {
    let (all, _) = records(&play(DEMO).exits(0).silent().stdout);
    for (what, bytes, is_all) in [
        ("cut off in the records", DEMO[..DEMO.len() / 2].to_vec(), false),
        ("a damaged block", changed(|bytes| bytes[DEMO.len() / 2] ^= 1), false),
        ("cut off in the trailer", DEMO[..DEMO.len() - 30].to_vec(), true),
        ("a damaged head", changed(|bytes| bytes[9] ^= 0x10), true),
    ] {
        let output = play(&bytes).exits(1);
        let (found, end) = records(&output.stdout);
        let mut rest = all.iter();
        assert!(found.iter().all(|record| rest.any(|other| other == record)), "{what}: another order");
        assert_eq!(found.len() == all.len(), is_all, "{what}: {} of {}", found.len(), all.len());
        assert_eq!(end["complete"], false, "{what}");
        let reason = end["incomplete_reason"].as_str().unwrap();
        assert_eq!(output.stderr, format!("kprobe-agent: incomplete: {reason}\n"), "{what}");
    }
}

/// The shipped records in blocks of a few, without those that `leave_out` has; the books are those of what is left, and
/// `lie`.
fn written(leave_out: impl Fn(usize) -> bool, lie: Option<ProbeRow>) -> Vec<u8> {
    let mut reader = CaptureReader::new(DEMO, "demo").unwrap();
    let mut buf = BatchBuf::default();
    while !reader.poll(&mut buf, Some(Duration::ZERO)).unwrap().end {}
    let batch = buf.take();
    let mut bytes = Vec::new();
    let mut write = |bytes: &mut Vec<u8>, ledger: &Ledger| {
        bytes.clear();
        let mut writer = CaptureWriter::new(bytes, reader.info()).unwrap();
        for (at, record) in batch.records().flatten().enumerate().filter(|(at, _)| !leave_out(*at)) {
            buf.push(record);
            if at % 20 == 0 {
                writer.write(&buf.take()).unwrap();
                writer.flush().unwrap();
            }
        }
        writer.write(&buf.take()).unwrap();
        writer.finish(ledger, None).unwrap();
    };
    write(&mut bytes, &Ledger::default());
    let mut again = CaptureReader::new(&bytes[..], "again").unwrap();
    while !again.poll(&mut BatchBuf::default(), Some(Duration::ZERO)).unwrap().end {}
    // Where the trailer has no books the rows are those of the records read.
    let mut probes = again.probes();
    probes.extend(lie);
    write(&mut bytes, &Ledger::new(probes, Vec::new(), Vec::new()));
    bytes
}

/// One reason is enough: the numbers that a lost block leaves out are no news.
#[test]
fn a_lost_block_among_others() {
    let mut bytes = written(|_| false, None);
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    let output = play(&bytes).exits(1);
    let (found, end) = records(&output.stdout);
    assert!(!found.is_empty() && end["lost"].as_u64().unwrap() > 0, "{end}");
    let reason = end["incomplete_reason"].as_str().unwrap();
    assert_eq!(output.stderr, format!("kprobe-agent: incomplete: {reason}\n"));
}

/// A stream that calls itself whole, and whose numbers say otherwise.
#[test]
fn records_that_nobody_lost() {
    play(&written(|_| false, None)).exits(0).silent();
    let output = play(&written(|at| (100..105).contains(&at), None)).exits(0);
    let said: Vec<_> = output.stderr.lines().collect();
    assert!(!said.is_empty());
    let missing: u64 = said
        .iter()
        .map(|line| {
            let (_, rest) = line.strip_prefix("kprobe-agent: CPU ").unwrap().split_once(": ").unwrap();
            let number = rest.strip_suffix(" record numbers are missing where 0 records were lost").unwrap();
            number.parse::<u64>().unwrap()
        })
        .sum();
    assert_eq!(missing, 5, "{said:?}");
}

/// Books in which more was lost than there was are damage.
#[test]
fn books_that_cannot_be() {
    let lie = ProbeRow { probe: "syscall".to_owned(), cpu: Some(7), submitted: 0, lost: 5, sampled_out: 0 };
    let output = play(&written(|_| false, Some(lie))).exits(1);
    let (_, end) = records(&output.stdout);
    let reason = end["incomplete_reason"].as_str().unwrap();
    assert!(reason.contains("the contents are not what their header says"), "{reason}");
    assert_eq!(output.stderr, format!("kprobe-agent: incomplete: {reason}\n"));
}
