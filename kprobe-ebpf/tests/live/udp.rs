//! UDP: every datagram that was sent or received has its record, and nothing else has.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
};

use kprobe_core::event::{Event, UdpRecv, UdpSend, UdpSocket};
use kprobe_ebpf::{Filter, Recorder, Udp, host};

use crate::support::{
    recording::{Recorded, Recording},
    rungs::{record, rungs},
};

crate::trials!(known_datagrams, by_io_uring, every_rung_of_udp);

/// A datagram, as the workload says it and as a record has it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Datagram {
    is_send: bool,
    cookie: Option<u64>,
    is_ipv6: bool,
    is_connected: bool,
    local: (Option<IpAddr>, u16),
    remote: Option<(IpAddr, u16)>,
    bytes: Option<u64>,
    datagram: Option<u64>,
    segment: Option<u32>,
    peek: bool,
}

impl Datagram {
    fn of(socket: &UdpSocket) -> Self {
        Self {
            is_send: true,
            cookie: socket.cookie,
            is_ipv6: socket.is_ipv6,
            is_connected: socket.is_connected,
            local: (socket.local_addr, socket.local_port),
            remote: socket.remote,
            bytes: None,
            datagram: None,
            segment: socket.segment_bytes,
            peek: false,
        }
    }

    fn send(send: &UdpSend) -> Self {
        Self { bytes: Some(send.bytes), datagram: Some(send.bytes), ..Self::of(&send.socket) }
    }

    fn recv(recv: &UdpRecv) -> Self {
        let (bytes, datagram) = (recv.bytes.map(Into::into), recv.datagram_bytes.map(Into::into));
        let truncated = bytes.zip(datagram).map(|(bytes, datagram): (u64, u64)| bytes < datagram);
        assert_eq!(recv.truncated(), truncated, "{recv:?}");
        Self { is_send: false, bytes, datagram, peek: recv.peek, ..Self::of(&recv.socket) }
    }
}

/// Whether the programs of a rung see packets: of `udp.send` all do.
fn sees_packets(rung: &str) -> bool {
    matches!(rung, "fentry" | "kprobe")
}

/// What a record must have of a line of the workload on these rungs; `None` if there is no record.
fn expected(words: &[&str], send: Option<&str>, recv: Option<&str>) -> Option<Datagram> {
    let is_send = words[0] == "s";
    let sees = sees_packets(if is_send { send? } else { recv? });
    let number = |at: usize| words[at].parse::<u64>().unwrap();
    let flag = |at: usize| words[at].parse::<bool>().unwrap();
    let address = |at: usize| words[at].parse::<SocketAddr>().unwrap();
    let (is_connected, is_bound, at) = (flag(4), flag(5), address(6));
    let common = Datagram {
        is_send,
        cookie: Some(number(2)),
        is_ipv6: flag(3),
        is_connected,
        local: (Some(at.ip()), at.port()),
        remote: Some((address(7).ip(), address(7).port())),
        bytes: Some(number(8)),
        datagram: Some(number(if is_send { 8 } else { 9 })),
        segment: None,
        peek: false,
    };
    let segment = |at| u32::try_from(number(at)).ok().filter(|bytes| *bytes != 0);
    if is_send {
        // By an option, and not by a call that sends.
        let is_seen = sees || words[10] == "call";
        return is_seen.then(|| Datagram { segment: segment(9), ..common });
    }
    let flags = number(11) as i32;
    let received = Datagram { segment: segment(10), peek: flags & libc::MSG_PEEK != 0, ..common };
    if sees {
        return Some(received);
    }
    let is_whole = flags & libc::MSG_TRUNC != 0;
    Some(Datagram {
        local: (is_bound.then_some(at.ip()), at.port()),
        remote: received.remote.filter(|_| is_connected),
        bytes: received.bytes.filter(|_| !is_whole),
        datagram: received.datagram.filter(|_| is_whole),
        segment: None,
        ..received
    })
}

/// The records, against what the workload says and what the kernel counted. Sends and receives may be off.
fn check(recorded: &Recorded, lines: &[String], send: Option<&str>, recv: Option<&str>) {
    let (last, lines) = lines.split_last().unwrap();
    let mut said: BTreeMap<u32, Vec<Datagram>> = BTreeMap::new();
    for line in lines {
        let words: Vec<_> = line.split(' ').collect();
        said.entry(words[1].parse().unwrap()).or_default().extend(expected(&words, send, recv));
    }
    said.retain(|_, datagrams| !datagrams.is_empty());
    let totals: Vec<u64> = last.split(' ').skip(1).map(|word| word.parse().unwrap()).collect();
    let &[netns, out, taken] = &totals[..] else { panic!("{last}") };
    let mut seen: BTreeMap<u32, Vec<Datagram>> = BTreeMap::new();
    let (mut sent, mut received) = (0, 0);
    for event in &recorded.events {
        let (tid, socket, datagram) = match event {
            Event::UdpSend(send) => {
                sent += 1;
                let ns = send.sent_ns.unwrap();
                assert!(ns <= send.origin.ktime_ns && send.origin.ktime_ns - ns < 60_000_000_000, "{send:?}");
                (send.origin.tid.0, send.socket, Datagram::send(send))
            }
            Event::UdpRecv(recv) => {
                received += u64::from(!recv.peek);
                (recv.origin.tid.0, recv.socket, Datagram::recv(recv))
            }
            _ => continue,
        };
        assert_eq!(socket.netns.map(u64::from), Some(netns));
        seen.entry(tid).or_default().push(datagram);
    }
    for (tid, said) in &said {
        let seen = seen.get(tid).map_or(&[][..], Vec::as_slice);
        for (at, (said, seen)) in said.iter().zip(seen).enumerate() {
            assert_eq!(said, seen, "{at} of thread {tid}: {send:?} {recv:?}");
        }
        assert_eq!(said.len(), seen.len(), "thread {tid}: {send:?} {recv:?}");
    }
    assert!(said.keys().eq(seen.keys()), "{said:?} {seen:?}");
    // The kernel's own count of them. What an option ended only functions see.
    let by_option = lines.iter().filter(|line| line.ends_with(" option")).count() as u64;
    if let Some(rung) = send {
        assert_eq!(sent, if sees_packets(rung) { out } else { out - by_option }, "{rung}");
    }
    if let Some(rung) = recv {
        assert_eq!(received, taken, "{rung}");
    }
    if let (Some("fentry"), Some("fentry" | "kprobe")) = (send, recv) {
        matched(recorded);
    }
}

/// Each datagram that was received is the next of those that were sent between the same addresses, and not before.
fn matched(recorded: &Recorded) {
    let mut under_way: BTreeMap<_, Vec<(u64, u64)>> = BTreeMap::new();
    let mut sends = recorded.all::<UdpSend>();
    sends.sort_by_key(|send| send.sent_ns);
    for send in sends {
        let of = (send.socket.local_addr.unwrap(), send.socket.local_port, send.socket.remote.unwrap());
        let mut left = send.bytes;
        loop {
            let bytes = left.min(send.socket.segment_bytes.map_or(left, Into::into));
            left -= bytes;
            under_way.entry(of).or_default().push((bytes, send.sent_ns.unwrap()));
            if left == 0 {
                break;
            }
        }
    }
    let mut count = 0;
    for recv in recorded.all::<UdpRecv>().iter().filter(|recv| !recv.peek) {
        let (local, port, remote) =
            (recv.socket.local_addr.unwrap(), recv.socket.local_port, recv.socket.remote.unwrap());
        let sent = under_way.get_mut(&(remote.0, remote.1, (local, port))).unwrap();
        let mut left: u64 = recv.datagram_bytes.unwrap().into();
        loop {
            let (bytes, ns) = sent.remove(0);
            assert!(ns <= recv.origin.ktime_ns && bytes <= left, "{recv:?} {ns} {bytes}");
            left -= bytes;
            count += 1;
            if left == 0 {
                break;
            }
        }
    }
    assert!(count > 0);
}

/// Where the kernel may skip programs it does not always.
fn whole(workload: &str) {
    const TRIES: usize = 8;
    let found = (0..TRIES).find(|_| {
        let builder = Recorder::builder().probe(Udp::default()).filter(Filter::none());
        let mut recording = Recording::start(builder);
        let rung = |event: &str| {
            let probes = &recording.recorder.report().probes;
            probes.iter().find(|probe| probe.probe == event).unwrap().rung.clone()
        };
        let (send, recv) = (rung("udp.send"), rung("udp.recv"));
        let mut workload = recording.spawn(workload);
        let lines = recording.run(&mut workload);
        let recorded = recording.finish().lossless();
        let is_whole = recorded.skipped == 0;
        if is_whole {
            check(&recorded, &lines, send.as_deref(), recv.as_deref());
        }
        is_whole
    });
    assert!(found.is_some(), "programs were skipped each time");
}

fn known_datagrams() {
    whole("udp");
}

fn by_io_uring() {
    whole("udp-by-ring");
}

fn every_rung_of_udp() {
    let rungs = rungs(Udp::default());
    assert_eq!(rungs.len(), 4, "{rungs:?}");
    let mut found = 0;
    for rung in &rungs {
        let Some((recorded, lines, _)) = record(Udp::default(), &rungs, rung, "udp") else { continue };
        let send = (rung != "kprobe").then_some(rung.as_str());
        check(&recorded, &lines, send, Some(rung));
        found += 1;
    }
    assert!(found > 0 || host::kernel_release().unwrap().at_least(7, 0));
}
