//! Pipes: every byte that was put in is found where it was taken out.

use std::collections::BTreeMap;

use kprobe_core::{
    abi::Family,
    event::{Event, PipeRead, PipeWrite, Tgid},
};
use kprobe_ebpf::{Filter, Pipes, Recorder};

use crate::support::{
    child::Workload,
    kernel::wait_until_in,
    recording::{Recorded, Recording},
    rungs::{check_whole, record, rungs},
    times,
};

crate::trials!(
    known_transfers,
    every_rung_of_pipes,
    many_writers,
    others_are_counted,
    in_the_middle_of_a_read
);

/// What a call did: thread, name, start, end.
type Range = (u32, &'static str, u64, u64);

/// One pipe, from its making on: what was put in, what was taken out, what was copied and left in it.
#[derive(Debug, Default, PartialEq, Eq)]
struct Stream {
    writes: Vec<Range>,
    reads: Vec<Range>,
    peeks: Vec<Range>,
}

/// What a workload says it did. `named` is the pipe with a name, of which there are several, one after the other.
fn said(lines: &[String]) -> (BTreeMap<u64, Vec<Stream>>, Option<u64>) {
    let mut streams: BTreeMap<u64, Vec<Stream>> = BTreeMap::new();
    let mut named = None;
    for line in lines {
        let words: Vec<_> = line.split(' ').collect();
        let &[side, inode, tid, call, bytes] = &words[..] else { panic!("{line}") };
        let (inode, tid, bytes): (u64, u32, u64) =
            (inode.parse().unwrap(), tid.parse().unwrap(), bytes.parse().unwrap());
        let lives = streams.entry(inode).or_default();
        if side == "n" || lives.is_empty() {
            lives.push(Stream::default());
        }
        let stream = lives.last_mut().unwrap();
        let end = |ranges: &Vec<Range>| ranges.last().map_or(0, |range| range.3);
        let call = ["read", "write", "splice", "tee", "vmsplice", "sendfile", "new"]
            .into_iter()
            .find(|known| *known == call)
            .unwrap();
        let (start, ranges) = match side {
            "w" => (end(&stream.writes), &mut stream.writes),
            "r" => (end(&stream.reads), &mut stream.reads),
            "p" => (end(&stream.reads), &mut stream.peeks),
            _ => {
                named = Some(inode);
                continue;
            }
        };
        ranges.push((tid, call, start, start + bytes));
    }
    (streams, named)
}

/// The same of what was recorded, of pipes that the workload speaks of. A stream that begins at 0 again is another one.
fn recorded_streams(recorded: &Recorded, of: &BTreeMap<u64, Vec<Stream>>) -> BTreeMap<u64, Vec<Stream>> {
    let mut streams: BTreeMap<u64, Vec<Stream>> = BTreeMap::new();
    for event in &recorded.events {
        match event {
            Event::PipeWrite(write) if of.contains_key(&write.inode) => {
                assert!(!write.relative, "{write:?}");
                let lives = streams.entry(write.inode).or_default();
                // The first reader may have returned before the first writer did.
                let is_begun = lives.last().is_some_and(|stream| stream.writes.is_empty());
                if write.start == 0 && !is_begun {
                    lives.push(Stream::default());
                }
                let range = (write.origin.tid.0, write.call.unwrap().name(), write.start, write.end);
                lives.last_mut().unwrap().writes.push(range);
            }
            Event::PipeRead(read) if of.contains_key(&read.inode) => {
                assert!(!read.relative, "{read:?}");
                let lives = streams.entry(read.inode).or_default();
                let is_another = |last: &Stream| read.start == 0 && !read.peek && !last.reads.is_empty();
                if lives.last().is_none_or(is_another) {
                    lives.push(Stream::default());
                }
                let stream = lives.last_mut().unwrap();
                let range = (read.origin.tid.0, read.call.unwrap().name(), read.start, read.end);
                if read.peek { stream.peeks.push(range) } else { stream.reads.push(range) }
            }
            _ => {}
        }
    }
    streams
}

fn check_same(said: &[Range], recorded: &[Range], rung: &str) {
    for (said, recorded) in said.iter().zip(recorded) {
        assert_eq!(said, recorded, "{rung}");
    }
    assert_eq!(said.len(), recorded.len(), "{rung}");
}

const MEGABYTE: u64 = 1 << 20;

fn check_transfers(recorded: &Recorded, lines: &[String], total: u64, rung: &str) {
    let (said, named) = said(lines);
    let recorded = recorded_streams(recorded, &said);
    assert_eq!(said.len(), 9, "{lines:?}");
    assert_eq!(said[&named.unwrap()].len(), 3);
    for (inode, lives) in &said {
        for (said, recorded) in lives.iter().zip(&recorded[inode]) {
            check_same(&said.writes, &recorded.writes, rung);
            check_same(&said.reads, &recorded.reads, rung);
            check_same(&said.peeks, &recorded.peeks, rung);
        }
        assert_eq!(lives.len(), recorded[inode].len(), "{rung}, pipe {inode}");
    }
    // The workload's words are not all there is: what was to be moved was.
    let whole = |stream: &&Stream| {
        stream.writes.last().is_some_and(|last| last.3 == total)
            && stream.reads.last().is_some_and(|last| last.3 == total)
    };
    assert_eq!(recorded.values().flatten().filter(whole).count(), 6, "{rung}");
}

fn known_transfers() {
    let builder = Recorder::builder().probe(Pipes::default()).filter(Filter::none());
    let (recorded, lines, tgid) = Recording::of_workload(builder, &format!("pipes {MEGABYTE}"));
    let recorded = recorded.lossless();
    check_transfers(&recorded, &lines, MEGABYTE, "the best rung");
    // Its standard output is a pipe as well, which the test has read to the end.
    let read: usize = lines.iter().map(|line| line.len() + 1).sum();
    let writes = recorded.all::<PipeWrite>();
    let own = writes.iter().rfind(|write| write.origin.tgid.0 == tgid).unwrap();
    assert_eq!((own.end, own.relative), (read as u64, false));
}

fn every_rung_of_pipes() {
    let rungs = rungs(Pipes::default());
    assert_eq!(rungs.len(), 4, "{rungs:?}");
    let mut whole = 0;
    for rung in &rungs {
        let total = MEGABYTE / 8;
        let workload = format!("pipes {total}");
        let Some((recorded, lines, _)) = record(Pipes::default(), &rungs, rung, &workload) else { continue };
        check_transfers(&recorded, &lines, total, rung);
        whole += 1;
    }
    check_whole(whole);
}

/// Whoever comes first: the ranges of all tile the stream, and each thread has those that it moved.
fn many_writers() {
    let writes = u64::from(times(100));
    let builder = Recorder::builder().probe(Pipes::default()).filter(Filter::none());
    let (recorded, lines, _) = Recording::of_workload(builder, &format!("pipe-writers 4 {writes}"));
    let recorded = recorded.lossless();
    let (said, _) = said(&lines);
    let inode = *said.first_key_value().unwrap().0;
    let mut recorded: Vec<_> =
        recorded.all::<PipeWrite>().into_iter().filter(|write| write.inode == inode).collect();
    recorded.sort_by_key(|write| write.start);
    assert_eq!(recorded.first().unwrap().start, 0);
    assert!(recorded.windows(2).all(|pair| pair[0].end == pair[1].start));
    let sizes = |ranges: &mut dyn Iterator<Item = (u32, u64)>| {
        let mut sizes: BTreeMap<u32, Vec<u64>> = BTreeMap::new();
        ranges.for_each(|(tid, bytes)| sizes.entry(tid).or_default().push(bytes));
        sizes
    };
    let of_said = sizes(&mut said[&inode][0].writes.iter().map(|range| (range.0, range.3 - range.2)));
    let of_recorded = sizes(&mut recorded.iter().map(|write| (write.origin.tid.0, write.bytes())));
    assert_eq!(of_said, of_recorded);
}

/// The test, which nobody records, writes; the workload, which is recorded, reads.
fn others_are_counted() {
    let mut recording = Recording::start(Recorder::builder().probe(Pipes::default()).filter(Filter::none()));
    let mut workload = recording.spawn("reads-input 100");
    let ready = workload.line();
    for _ in 0..100 {
        workload.go();
    }
    let lines = recording.run(&mut workload);
    let recorded = recording.finish().lossless();
    check_input(&recorded, &ready, &lines, 0);
    let own = recorded.events.iter().filter(|event| event.kind().family() == Some(Family::Pipe));
    assert!(own.into_iter().all(|event| event.origin().tgid.0 == workload.tgid()));
}

/// `from` is where the first read that was seen begins.
fn check_input(recorded: &Recorded, ready: &str, lines: &[String], from: u64) {
    let words: Vec<_> = ready.split(' ').collect();
    let (inode, tid): (u64, u32) = (words[1].parse().unwrap(), words[2].parse().unwrap());
    let reads: Vec<_> = recorded.all::<PipeRead>().into_iter().filter(|read| read.inode == inode).collect();
    let (said, _) = said(lines);
    let said = said[&inode][0].reads.iter().filter(|range| range.2 >= from);
    let said: Vec<_> = said.map(|range| (range.0, range.2, range.3)).collect();
    let seen: Vec<_> = reads.iter().map(|read| (read.origin.tid.0, read.start, read.end)).collect();
    assert_eq!(said, seen);
    assert!(seen.iter().all(|range| range.0 == tid) && seen.last().unwrap().2 == 100);
    assert!(reads.iter().all(|read| !read.relative), "{reads:?}");
}

/// A thread that waits for the first byte when the programs are attached.
fn in_the_middle_of_a_read() {
    let mut workload = Workload::start("reads-input 100");
    let ready = workload.line();
    wait_until_in(workload.tgid(), libc::SYS_read);
    let builder = Recorder::builder().probe(Pipes::default()).filter(Filter::tgids([Tgid(workload.tgid())]));
    // At the functions themselves its return is not seen.
    let mut recording = Recording::start(builder.forbid_rung("fentry"));
    for _ in 0..100 {
        workload.go();
    }
    let lines = recording.run(&mut workload);
    check_input(&recording.finish().lossless(), &ready, &lines, 0);
}
