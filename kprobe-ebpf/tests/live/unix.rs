//! Stream sockets of the machine itself: every byte that was sent is found where it was received.

use std::collections::{BTreeMap, BTreeSet};

use kprobe_core::event::{UnixRecv, UnixSend};
use kprobe_ebpf::{Filter, Recorder, UnixStreams, host};

use crate::support::{
    recording::{Recorded, Recording},
    rungs::{record, rungs},
};

crate::trials!(known_transfers, every_rung_of_unix_streams);

const MEGABYTE: u64 = 1 << 20;

/// Thread, start, end, whether the bytes stayed.
type Range = (u32, u64, u64, bool);

/// By inode number: what the workload says of its sends and its receives.
fn said(lines: &[String]) -> BTreeMap<(char, u64), Vec<Range>> {
    let mut said: BTreeMap<(char, u64), Vec<Range>> = BTreeMap::new();
    for line in lines.iter().filter(|line| !line.starts_with('c')) {
        let words: Vec<_> = line.split(' ').collect();
        let number = |at: usize| words[at].parse::<u64>().unwrap();
        let (inode, tid, bytes, peek) = (number(1), number(2) as u32, number(4), words[0] == "p");
        let side = if words[0] == "w" { 'w' } else { 'r' };
        let ranges = said.entry((side, inode)).or_default();
        let start = ranges.iter().rfind(|range| !range.3).map_or(0, |range| range.2);
        ranges.push((tid, start, start + bytes, peek));
    }
    said
}

/// Ranges that end where `is_whole`; one that does not goes on in the next.
fn joined(ranges: &[Range], is_whole: impl Fn(u64) -> bool) -> Vec<Range> {
    let mut joined: Vec<Range> = Vec::new();
    for range in ranges {
        match joined.last_mut() {
            Some(last) if !is_whole(last.2) && (last.0, last.2) == (range.0, range.1) => last.2 = range.2,
            _ => joined.push(*range),
        }
    }
    joined
}

fn check(recorded: &Recorded, lines: &[String], total: u64, rung: &str) {
    let said = said(lines);
    let mut seen: BTreeMap<(char, u64), Vec<Range>> = BTreeMap::new();
    let mut streams: BTreeMap<(char, u64), BTreeSet<[u64; 3]>> = BTreeMap::new();
    let is_function = rung == "fentry";
    for send in recorded.all::<UnixSend>() {
        let of = ('w', send.inode.unwrap());
        seen.entry(of).or_default().push((send.origin.tid.0, send.start, send.end, false));
        streams.entry(of).or_default().insert([send.stream(), send.cookie, send.peer_cookie]);
        assert_eq!(
            (send.relative, send.overlapped),
            (!is_function, is_function.then_some(false)),
            "{send:?}"
        );
    }
    for recv in recorded.all::<UnixRecv>() {
        let of = ('r', recv.inode.unwrap());
        seen.entry(of).or_default().push((recv.origin.tid.0, recv.start, recv.end, recv.peek));
        streams.entry(of).or_default().insert([recv.stream(), recv.peer_cookie, recv.cookie]);
        assert_eq!(
            (recv.relative, recv.overlapped),
            (!is_function, is_function.then_some(false)),
            "{recv:?}"
        );
    }
    let in_pages = !host::kernel_release().unwrap().at_least(6, 5);
    for (of, said) in &said {
        let seen = seen.get(of).map_or_else(Vec::new, |seen| {
            // Before 6.5 `sendfile` sends page by page.
            let is_whole = |end: u64| !in_pages || said.iter().any(|range| range.2 == end);
            joined(seen, is_whole)
        });
        let seen = &seen[..];
        for (said, seen) in said.iter().zip(seen) {
            assert_eq!(said, seen, "{rung}, {of:?}");
        }
        assert_eq!(said.len(), seen.len(), "{rung}, {of:?}");
    }
    // The stream is that of the socket that sent, on both sides, by the number that the kernel tells the process.
    let pairs = lines.iter().filter(|line| line.starts_with('c'));
    let mut checked = 0;
    for pair in pairs {
        let numbers: Vec<u64> = pair.split(' ').skip(1).map(|number| number.parse().unwrap()).collect();
        let &[from, into, from_cookie, into_cookie] = &numbers[..] else { panic!("{pair}") };
        let expected = BTreeSet::from([[into_cookie, into_cookie, from_cookie]]);
        assert_eq!((&streams[&('w', into)], &streams[&('r', from)]), (&expected, &expected), "{rung}");
        checked += 1;
    }
    assert_eq!(checked, 7);
    let whole = seen.values().filter(|ranges| ranges.last().unwrap().2 == total).count();
    assert_eq!(whole, 10, "five transfers, each on both sides: {rung}");
}

/// Where the kernel may skip programs it does not always.
fn known_transfers() {
    const TRIES: usize = 8;
    let found = (0..TRIES).find(|_| {
        let builder = Recorder::builder().probe(UnixStreams::default()).filter(Filter::none());
        let mut recording = Recording::start(builder);
        let rung = recording.recorder.report().probes.iter().find(|probe| probe.probe == "unix.send");
        let rung = rung.unwrap().rung.clone().unwrap();
        let mut workload = recording.spawn(&format!("unix-streams {MEGABYTE}"));
        let lines = recording.run(&mut workload);
        let recorded = recording.finish().lossless();
        let is_whole = recorded.skipped == 0;
        if is_whole {
            check(&recorded, &lines, MEGABYTE, &rung);
        }
        is_whole
    });
    assert!(found.is_some(), "programs were skipped each time");
}

fn every_rung_of_unix_streams() {
    let rungs = rungs(UnixStreams::default());
    assert_eq!(rungs.len(), 2, "{rungs:?}");
    let mut whole = 0;
    for rung in &rungs {
        let total = MEGABYTE / 8;
        let workload = format!("unix-streams {total}");
        let Some((recorded, lines, _)) = record(UnixStreams::default(), &rungs, rung, &workload) else {
            continue;
        };
        check(&recorded, &lines, total, rung);
        whole += 1;
    }
    assert!(whole > 0 || host::kernel_release().unwrap().at_least(7, 0));
}
