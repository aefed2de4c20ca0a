//! What counts as delivered when writing goes wrong.

use std::{
    fs::File,
    io::{ErrorKind, Read, Write},
    os::fd::OwnedFd,
    thread,
};

use kprobe_core::{
    abi::{Kind, Marker},
    pipeline::{Batch, BatchId, Ledger, Sink, SinkError, SinkRow},
};
use kprobe_sinks::stdout::{Destination, HumanSink, JsonSink, Waiting};
use proptest::prelude::*;
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};

use crate::support::{
    Sample, at, batch, info, registry,
    writer::{Script, Step},
};

fn markers(ids: std::ops::Range<u64>) -> Batch {
    let samples: Vec<_> = ids.map(|id| Sample::new(at(id, Kind::META_MARKER), &Marker { id })).collect();
    batch(&samples)
}

fn dropped(row: &SinkRow) -> Vec<(&str, u64)> {
    row.dropped.iter().map(|(reason, count)| (reason.as_str(), *count)).collect()
}

fn is_full(error: &(dyn std::error::Error + Send + Sync + 'static)) -> bool {
    error.downcast_ref::<std::io::Error>().is_some_and(|error| error.kind() == ErrorKind::StorageFull)
}

fn json(out: Script) -> JsonSink<Script> {
    JsonSink::new(out, &info(), &registry())
}

/// The ids of the markers in the output, of which every line must be whole.
fn ids(text: &str) -> Vec<u64> {
    assert!(text.is_empty() || text.ends_with('\n'), "half a line: {text}");
    let lines =
        text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).expect("a whole line"));
    let mut kinds = lines.clone().map(|line| line["kind"].as_str().map(str::to_owned));
    assert!(kinds.next().is_none_or(|kind| kind.as_deref() == Some("meta.start")));
    lines.filter_map(|line| line["id"].as_u64()).collect()
}

#[test]
fn a_closed_pipe_ends_it() {
    let out = Script::new([Step::Take(usize::MAX), Step::Fail(ErrorKind::BrokenPipe)]);
    let mut sink = json(out.clone());
    sink.write(&markers(0..3)).expect("it is only buffered");
    sink.flush().expect("the pipe is open");
    sink.write(&markers(3..5)).expect("it is only buffered");
    assert!(matches!(sink.flush(), Err(SinkError::Closed)));
    assert!(matches!(sink.write(&markers(5..9)), Err(SinkError::Closed)));
    assert!(matches!(sink.flush(), Err(SinkError::Closed)));
    let row = sink.row();
    assert_eq!((row.received, row.delivered, dropped(&row)), (9, 3, vec![("closed", 6)]));
    assert!(matches!(sink.finish(&Ledger::default(), None), Err(SinkError::Closed)));
    assert_eq!(ids(&out.text()), [0, 1, 2]);
}

/// With the newline, for a marker of one digit.
fn length_of_a_line() -> usize {
    let out = Script::default();
    let mut sink = json(out.clone());
    sink.write(&markers(0..1)).expect("there is room");
    sink.flush().expect("there is room");
    out.text().lines().nth(1).map_or(0, str::len) + 1
}

#[test]
fn a_pipe_that_closes_in_the_middle_of_a_line() {
    let out = Script::default();
    let mut sink = json(out.clone());
    sink.flush().expect("the pipe is open");
    let line = length_of_a_line();
    out.push(Step::Take(2 * line + 5));
    out.push(Step::Fail(ErrorKind::BrokenPipe));
    sink.write(&markers(0..8)).expect("it is only buffered");
    assert!(matches!(sink.flush(), Err(SinkError::Closed)));
    let row = sink.row();
    assert_eq!((row.received, row.delivered, dropped(&row)), (8, 2, vec![("closed", 6)]));
}

#[test]
fn interruptions_and_short_writes_are_no_failure() {
    let steps =
        (1..400).map(|n| if n % 3 == 0 { Step::Fail(ErrorKind::Interrupted) } else { Step::Take(n % 7 + 1) });
    let out = Script::new(steps);
    let mut sink = json(out.clone());
    sink.write(&markers(0..50)).expect("it is only buffered");
    sink.flush().expect("every failure was an interruption");
    assert_eq!((sink.row().delivered, dropped(&sink.row())), (50, vec![]));
    assert_eq!(ids(&out.text()), (0..50).collect::<Vec<_>>());
}

#[test]
fn a_full_disk_loses_whole_lines_and_is_left_again() {
    // The first line, and a bit of the second.
    let out = Script::default();
    let mut sink = json(out.clone());
    sink.flush().expect("there is room");
    out.push(Step::Take(10));
    out.push(Step::Fail(ErrorKind::StorageFull));
    sink.write(&markers(0..5)).expect("it is only buffered");
    assert!(matches!(sink.flush(), Err(SinkError::Lossy(error)) if is_full(&*error)));
    // The beginning of 0 is written. It is dropped as long as its rest is not.
    assert_eq!((sink.row().received, sink.row().delivered, dropped(&sink.row())), (5, 0, vec![("io", 5)]));

    out.push(Step::Take(3));
    out.push(Step::Fail(ErrorKind::StorageFull));
    sink.write(&markers(5..7)).expect("it is only buffered");
    assert!(sink.flush().is_err());
    assert_eq!((sink.row().received, sink.row().delivered, dropped(&sink.row())), (7, 0, vec![("io", 7)]));

    sink.write(&markers(7..9)).expect("it is only buffered");
    sink.flush().expect("there is room again");
    assert_eq!((sink.row().received, sink.row().delivered, dropped(&sink.row())), (9, 3, vec![("io", 6)]));
    assert_eq!(ids(&out.text()), [0, 7, 8]);
}

#[test]
fn only_a_line_that_has_begun_is_written_later() {
    let line = length_of_a_line();
    let out = Script::default();
    let mut sink = json(out.clone());
    sink.flush().expect("there is room");
    // Half of 0; then the rest of it, and nothing of 3.
    for taken in [line / 2, line - line / 2] {
        out.push(Step::Take(taken));
        out.push(Step::Fail(ErrorKind::StorageFull));
    }
    sink.write(&markers(0..3)).expect("it is only buffered");
    assert!(sink.flush().is_err());
    sink.write(&markers(3..5)).expect("it is only buffered");
    assert!(sink.flush().is_err());
    assert_eq!((sink.row().delivered, dropped(&sink.row())), (1, vec![("io", 4)]));
    sink.flush().expect("there is room again");
    assert_eq!((sink.row().delivered, dropped(&sink.row())), (1, vec![("io", 4)]));
    assert_eq!(ids(&out.text()), [0]);
}

#[test]
fn the_first_line_stays_the_first() {
    let out =
        Script::new([Step::Fail(ErrorKind::StorageFull), Step::Take(4), Step::Fail(ErrorKind::StorageFull)]);
    let mut sink = json(out.clone());
    sink.write(&markers(0..2)).expect("it is only buffered");
    assert!(sink.flush().is_err());
    assert!(sink.flush().is_err());
    sink.write(&markers(2..4)).expect("it is only buffered");
    sink.flush().expect("there is room again");
    assert_eq!((sink.row().delivered, dropped(&sink.row())), (2, vec![("io", 2)]));
    assert_eq!(ids(&out.text()), [2, 3]);
}

#[test]
fn a_long_stream_is_written_in_large_chunks() {
    let out = Script::new((0..10_000).map(|_| Step::Take(usize::MAX)));
    let mut sink = json(out.clone());
    sink.write(&markers(0..10_000)).expect("there is room");
    let early = out.written.borrow().len();
    assert!(early > 0, "the buffer is bounded");
    assert!(sink.row().delivered > 9_000);
    sink.flush().expect("there is room");
    assert_eq!(sink.row().delivered, 10_000);
    // One step for each chunk.
    let bytes = out.written.borrow().len();
    assert!(out.steps_left() >= 10_000 - bytes.div_ceil(60_000));
    assert_eq!(ids(&out.text()), (0..10_000).collect::<Vec<_>>());
}

#[test]
fn each_batch_when_asked_and_the_rest_at_the_end() {
    let (each, late) = (Script::default(), Script::default());
    let mut sink = HumanSink::new(each.clone(), &info(), &registry()).flush_each_batch(true);
    sink.write(&markers(0..2)).expect("there is room");
    assert_eq!(each.text().lines().count(), 2);
    let mut sink = HumanSink::new(late.clone(), &info(), &registry());
    sink.write(&markers(0..2)).expect("there is room");
    assert_eq!(late.text(), "");
    drop(sink);
    assert_eq!(late.text(), each.text());
}

/// Writing to a full pipe that does not block waits for the reader, and loses nothing.
#[test]
fn a_pipe_that_does_not_block() {
    let (mut reader, writer) = std::io::pipe().expect("there are descriptors");
    let mut writer = File::from(OwnedFd::from(writer));
    let flags = fcntl_getfl(&writer).expect("it is open");
    fcntl_setfl(&writer, flags | OFlags::NONBLOCK).expect("it is open");
    let mut filled = 0;
    while let Ok(count) = writer.write(&[b' '; 4096]) {
        filled += count;
    }
    let producer = thread::spawn(move || {
        let mut sink = JsonSink::new(Waiting::new(writer), &info(), &registry());
        let result = sink.write(&markers(0..5_000)).and_then(|()| sink.flush());
        (result.is_ok(), sink.row())
    });
    let mut bytes = Vec::new();
    reader.read_to_end(&mut bytes).expect("a pipe can be read");
    let (good, row) = producer.join().expect("the sink does not panic");
    assert!(good);
    assert_eq!((row.received, row.delivered, dropped(&row)), (5_000, 5_000, vec![]));
    let text = std::str::from_utf8(&bytes[filled..]).expect("lines are UTF-8");
    assert_eq!(ids(text), (0..5_000).collect::<Vec<_>>());
}

#[test]
fn a_reader_that_goes_away() {
    let (reader, writer) = std::io::pipe().expect("there are descriptors");
    drop(reader);
    let mut sink = JsonSink::new(Waiting::new(writer), &info(), &registry());
    sink.write(&markers(0..3)).expect("it is only buffered");
    assert!(matches!(sink.flush(), Err(SinkError::Closed)));
    assert_eq!(dropped(&sink.row()), [("closed", 3)]);
}

#[test]
fn a_device_that_is_full() {
    let full = File::options().write(true).open("/dev/full").expect("Linux has it");
    let mut sink = JsonSink::new(full, &info(), &registry());
    sink.write(&markers(0..3)).expect("it is only buffered");
    assert!(matches!(sink.flush(), Err(SinkError::Lossy(error)) if is_full(&*error)));
    assert_eq!(dropped(&sink.row()), [("io", 3)]);
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (1_usize..300).prop_map(Step::Take),
        1 => Just(Step::Fail(ErrorKind::Interrupted)),
        2 => Just(Step::Fail(ErrorKind::StorageFull)),
        1 => Just(Step::Take(0)),
    ]
}

proptest! {
    /// However writing fails, every line in the output is whole, in order and once, and the books say which are there.
    #[test]
    fn the_books_are_exact(
        steps in proptest::collection::vec(any_step(), 0..60),
        batches in proptest::collection::vec((1_u64..12, any::<bool>()), 1..20),
    ) {
        let out = Script::new(steps);
        let mut sink = json(out.clone());
        let mut next = 0;
        for (count, flush) in batches {
            let _ = sink.write(&markers(next..next + count));
            next += count;
            if flush {
                let failed = sink.flush().is_err();
                let row = sink.row();
                prop_assert_eq!(row.received, next);
                prop_assert_eq!(row.delivered + row.dropped.values().sum::<u64>(), next);
                // Apart from the beginning of the line that was being written.
                let text = out.text();
                let whole = text.rfind('\n').map_or(0, |at| at + 1);
                prop_assert!(failed || whole == text.len());
                prop_assert_eq!(ids(&text[..whole]).len() as u64, row.delivered);
            }
        }
        out.recover();
        sink.flush().expect("there is room");
        let row = sink.row();
        let ids = ids(&out.text());
        prop_assert!(ids.is_sorted_by(|a, b| a < b));
        prop_assert_eq!(ids.len() as u64, row.delivered);
        prop_assert_eq!(row.delivered + row.dropped.get("io").copied().unwrap_or(0), next);
    }
}

/// A pipe that blocks, is full, and that nobody reads.
fn stalled() -> (std::io::PipeReader, File) {
    let (reader, writer) = std::io::pipe().expect("there are descriptors");
    let mut other = File::from(OwnedFd::from(writer.try_clone().expect("there are descriptors")));
    let flags = fcntl_getfl(&other).expect("it is open");
    fcntl_setfl(&other, flags | OFlags::NONBLOCK).expect("it is open");
    while other.write(&[b' '; 4096]).is_ok() {}
    fcntl_setfl(&other, flags).expect("it is open");
    (reader, File::from(OwnedFd::from(writer)))
}

/// When it is time to end, a reader that does not read is given up, and the books say what it did not get.
#[test]
fn a_reader_that_does_not_read() {
    let (reader, writer) = stalled();
    let out = Waiting::file(writer).expect("it is open").until(|| true);
    let mut sink = JsonSink::new(out, &info(), &registry());
    sink.write(&markers(0..3)).expect("it is only buffered");
    let told = sink.flush().expect_err("there is no room").to_string();
    assert_eq!(told, "nobody reads, and it was time to end: what was left is dropped");
    assert!(matches!(sink.write(&markers(3..5)), Err(SinkError::Closed)));
    let row = sink.row();
    assert_eq!((row.received, row.delivered, dropped(&row)), (5, 0, vec![("shutdown", 5)]));
    drop(reader);
}

/// One that reads on is served to the end.
#[test]
fn a_reader_that_reads_late() {
    let (mut reader, writer) = stalled();
    let out = Waiting::file(writer).expect("it is open").until(|| true);
    let consumer = thread::spawn(move || {
        let mut bytes = Vec::new();
        reader.read_to_end(&mut bytes).map(|_| bytes)
    });
    let mut sink = JsonSink::new(out, &info(), &registry());
    sink.write(&markers(0..5_000)).and_then(|()| sink.flush()).expect("it is read");
    assert_eq!((sink.row().delivered, dropped(&sink.row())), (5_000, vec![]));
    drop(sink);
    let bytes = consumer.join().expect("it does not panic").expect("a pipe can be read");
    assert_eq!(ids(std::str::from_utf8(&bytes).expect("lines are UTF-8").trim_start()).len(), 5_000);
}

/// Opening takes nothing from a file and leaves none behind; beginning does both.
#[test]
fn a_destination_that_comes_to_nothing() {
    let folder = tempfile::tempdir().expect("there is room");
    let (old, new) = (folder.path().join("old"), folder.path().join("new"));
    std::fs::write(&old, "kept").expect("there is room");
    let open = |path: &std::path::Path| Destination::File(path.to_owned()).open().expect("it is writable");
    drop((open(&old), open(&new)));
    assert_eq!(std::fs::read_to_string(&old).expect("it is there"), "kept");
    assert!(!new.exists());
    for path in [&old, &new] {
        open(path).begin().and_then(|mut out| out.write_all(b"x")).expect("it is writable");
        assert_eq!(std::fs::read_to_string(path).expect("it is there"), "x");
    }
}

/// What a full queue cost is in the last line, and the stream is not complete.
#[test]
fn records_that_never_came() {
    let out = Script::default();
    let mut sink = json(out.clone());
    sink.write(&markers(0..3)).and_then(|()| sink.flush()).expect("there is room");
    sink.missed(7);
    let ledger = Ledger::new(Vec::new(), Vec::new(), vec![sink.row()]);
    sink.finish(&ledger, None).expect("there is room");
    let text = out.text();
    let end: serde_json::Value = serde_json::from_str(text.lines().last().expect("a line")).expect("JSON");
    assert_eq!((&end["delivered"], &end["dropped"], &end["complete"]), (&3.into(), &7.into(), &false.into()));
    assert_eq!(end["incomplete_reason"], "7 records found no room in the queue of this output");

    let out = Script::default();
    let mut sink = HumanSink::new(out.clone(), &info(), &registry());
    sink.missed(7);
    sink.finish(&ledger, None).expect("there is room");
    assert!(out.text().contains("*** DROPPED 7 records: they found no room in the queue of this output ***"));
}

/// A spill brings records of an earlier boot first: with the clocks of that one, and the lines say so.
#[test]
fn records_of_another_stream() {
    let stream = |host: &str, realtime_ns: u64| {
        let mut info = info();
        (info.host, info.clocks.realtime_ns) = (host.to_owned(), realtime_ns);
        std::sync::Arc::new(info)
    };
    let (old, new) = (stream("before", 5_000_000_000), std::sync::Arc::new(info()));
    let id = BatchId::default();
    let batches = [
        markers(0..2).labelled(id, &old),
        markers(2..3).labelled(id, &old),
        markers(3..4).labelled(id, &new),
        markers(4..5).labelled(id, &new),
    ];
    let out = Script::default();
    let mut sink = json(out.clone());
    batches.iter().for_each(|batch| sink.write(batch).expect("there is room"));
    sink.flush().expect("there is room");
    assert_eq!((sink.row().received, sink.row().delivered), (5, 5));
    let text = out.text();
    let lines: Vec<serde_json::Value> =
        text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let told: Vec<_> = lines
        .iter()
        .map(|line| match line["kind"].as_str() {
            Some("meta.start") => line["host"].to_string(),
            _ => line["id"].to_string(),
        })
        .collect();
    let host = format!("{:?}", info().host);
    assert_eq!(told, [&host, "\"before\"", "0", "1", "2", &host, "3", "4"]);
    let time = |at: usize| lines[at]["time"].as_str().unwrap_or_default().to_owned();
    assert!(time(2).starts_with("1970-01-01T") && !time(6).starts_with("1970"), "{} {}", time(2), time(6));

    let out = Script::default();
    let mut sink = HumanSink::new(out.clone(), &info(), &registry());
    batches.iter().for_each(|batch| sink.write(batch).expect("there is room"));
    sink.flush().expect("there is room");
    assert_eq!(out.text().matches("*** FROM HERE ON: ").count(), 2, "{}", out.text());
    assert_eq!(sink.row().delivered, 5);
}
