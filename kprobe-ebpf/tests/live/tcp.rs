//! Bytes in streams of TCP, and the life of connections.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    os::unix::fs::MetadataExt as _,
};

use kprobe_core::event::{
    Origin, TcpAccept, TcpConnect, TcpOwner, TcpRecv, TcpRetransmit, TcpRole, TcpSend, TcpSocket, TcpState,
};
use kprobe_ebpf::{Filter, Recorder, Tcp, host};

use crate::support::{
    recording::{Recorded, Recording},
    rungs::{attach, check_whole, rungs},
};

crate::trials!(every_way_and_family, together_and_apart, every_rung_of_transfers, every_rung_of_connections);

const MIB: u64 = 1 << 20;

/// What a workload knows of one end.
#[derive(Debug)]
struct End {
    tgid: u32,
    tid: u32,
    cookie: u64,
    port: u16,
    acked: u64,
    received: u64,
}

/// The end that sends the many bytes is the first.
fn ends(lines: &[String]) -> [End; 2] {
    let end = |line: &String| {
        let words: Vec<u64> = line.split(' ').map(|word| word.parse().unwrap()).collect();
        let [tgid, tid, cookie, port, acked, received] = words[..] else { panic!("{line}") };
        End { tgid: tgid as u32, tid: tid as u32, cookie, port: port as u16, acked, received }
    };
    let mut ends: Vec<_> = lines.iter().map(end).collect();
    ends.sort_by_key(|end| end.received);
    ends.try_into().unwrap()
}

/// On some rungs a socket has no cookie at first.
fn is_of(socket: &TcpSocket, end: &End) -> bool {
    socket.local_port == end.port && socket.cookie.is_none_or(|cookie| cookie == end.cookie)
}

/// The pieces of one end's stream, which must be those of the thread, follow each other from 0 and leave nothing out.
fn tile<'a>(
    pieces: impl Iterator<Item = (&'a Origin, &'a TcpSocket, u64, u64)>,
    end: &End,
) -> Option<(u64, TcpSocket)> {
    let mut seen = None;
    for (origin, socket, start, stop) in pieces.filter(|(_, socket, ..)| is_of(socket, end)) {
        assert_eq!((origin.tgid.0, origin.tid.0), (end.tgid, end.tid));
        assert_eq!(start, seen.map_or(0, |(at, _)| at), "{end:?}");
        assert!(stop > start);
        seen = Some((stop, *socket));
    }
    seen
}

/// What was recorded of the stream that goes from one end, and of that which comes to it: how much, and the end.
fn streams(recorded: &Recorded, end: &End) -> [Option<(u64, TcpSocket)>; 2] {
    let (sends, recvs) = (recorded.all::<TcpSend>(), recorded.all::<TcpRecv>());
    [
        tile(sends.iter().map(|e| (&e.origin, &e.socket, e.start, e.end)), end),
        tile(recvs.iter().map(|e| (&e.origin, &e.socket, e.start, e.end)), end),
    ]
}

fn check(recorded: &Recorded, lines: &[String], family: u64, bytes: u64) {
    let [client, server] = ends(lines);
    let [Some((sent, from)), Some((got_back, _))] = streams(recorded, &client) else { panic!("{client:?}") };
    let [Some((sent_back, _)), Some((got, to))] = streams(recorded, &server) else { panic!("{server:?}") };
    assert_eq!((sent, got, sent_back, got_back), (bytes, bytes, 10, 10));
    // The end that asked counts its asking as acknowledged.
    assert_eq!((client.acked, client.received, server.received), (bytes + 1, 10, bytes));

    // Before 5.12 the kernel gives a socket none until somebody asks for it, as the workload does at its end.
    let cookies = (Some(client.cookie), Some(server.cookie));
    let is_given = host::kernel_release().unwrap().at_least(6, 1);
    assert_eq!((from.cookie, to.cookie), if is_given { cookies } else { (None, None) });
    assert_eq!((from.local_addr, from.local_port), (to.remote_addr, to.remote_port));
    assert_eq!((from.remote_addr, from.remote_port), (to.local_addr, to.local_port));
    let address = if family == 6 { IpAddr::V6(Ipv6Addr::LOCALHOST) } else { IpAddr::V4(Ipv4Addr::LOCALHOST) };
    assert_eq!((from.local_addr, from.remote_addr), (address, address));
    assert_eq!((from.is_ipv6, to.is_ipv6), (family != 4, family != 4));
    assert_eq!((from.role, to.role), (Some(TcpRole::Connected), Some(TcpRole::Accepted)));
    let netns = std::fs::metadata("/proc/self/ns/net").unwrap().ino();
    assert_eq!((from.netns, to.netns), (Some(netns as u32), Some(netns as u32)));
    assert!(from.srtt_us.is_some_and(|srtt| srtt > 0));
}

/// One recording of several transfers: family, way, and who has which end.
fn transfers(transfers: &[(u64, u64, u64)]) {
    let builder = Recorder::builder().probe(Tcp::default()).filter(Filter::none());
    let list: Vec<_> =
        transfers.iter().map(|(family, way, apart)| format!("{family} {way} {apart}")).collect();
    let (recorded, lines, _) = Recording::of_workload(builder, &format!("tcp {MIB} {}", list.join(" ")));
    let recorded = recorded.lossless();
    assert_eq!(lines.len(), 2 * transfers.len());
    for (lines, (family, ..)) in lines.chunks(2).zip(transfers) {
        check(&recorded, lines, *family, MIB);
    }
}

fn every_way_and_family() {
    let families = [4, 6, 46];
    let all: Vec<_> =
        families.into_iter().flat_map(|family| (0..6).map(move |way| (family, way, 0))).collect();
    transfers(&all);
}

fn together_and_apart() {
    transfers(&[(4, 0, 1), (4, 3, 1), (4, 0, 2), (6, 0, 1), (6, 3, 1), (6, 0, 2)]);
}

/// Not every rung has both directions.
fn every_rung_of_transfers() {
    let rungs = rungs(Tcp::default());
    assert_eq!(rungs.len(), 5, "{rungs:?}");
    let (mut sending, mut receiving) = (0, 0);
    for rung in &rungs {
        let recorder = attach(Tcp::default(), &rungs, rung);
        let has =
            |event| recorder.report().probes.iter().any(|probe| probe.probe == event && probe.rung.is_some());
        let (sends, receives) = (has("tcp.send"), has("tcp.recv"));
        // Every kernel has them.
        let is_sure = rung == "tp_btf" || rung == "raw_tp";
        assert!(
            receives || !is_sure,
            "{rung}: {:?}",
            recorder.report().probes.iter().map(|p| p.refusal()).collect::<Vec<_>>()
        );
        let mut recording = Recording::of(recorder, |_| true);
        let mut workload = recording.spawn(&format!("tcp {MIB} 46 0 0 4 4 0"));
        let lines = recording.run(&mut workload);
        let recorded = recording.finish().lossless();
        if recorded.skipped != 0 {
            continue;
        }
        let ends = lines.chunks(2).flat_map(ends);
        for (end, [out, back]) in ends.zip([[MIB, 10], [10, MIB]].into_iter().cycle()) {
            let [sent, received] = streams(&recorded, &end);
            assert_eq!(sent.map(|(bytes, _)| bytes), sends.then_some(out), "{rung}");
            assert_eq!(received.map(|(bytes, _)| bytes), receives.then_some(back), "{rung}");
        }
        sending += u32::from(sends);
        receiving += u32::from(receives);
    }
    let least = if host::kernel_release().unwrap().at_least(7, 0) { 1 } else { 2 };
    assert!(sending >= least && receiving >= least, "{sending} {receiving}");
}

/// How a connection began, who had it, how it ended.
fn check_lives(recorded: &Recorded, lines: &[String], tgid: u32, has: impl Fn(&str) -> bool, rung: &str) {
    let line = |name: &str| -> Vec<u64> {
        let line = lines.iter().find_map(|line| line.strip_prefix(name)).unwrap();
        line.split_whitespace().map(|number| number.parse().unwrap()).collect()
    };
    let (accepted, unanswered, refused) = (line("accepted"), line("unanswered"), line("refused"));
    let is_owner =
        |owner: Option<TcpOwner>| owner.is_some_and(|owner| (owner.tgid.0, owner.tid.0) == (tgid, tgid));
    let [client, server] = [accepted[0], accepted[1]].map(|port| port as u16);
    let ports = |socket: &TcpSocket| (socket.local_port, socket.remote_port);

    if has("tcp.connect") {
        let connects = recorded.all::<TcpConnect>();
        assert_eq!(connects.len(), 3, "{rung}: {connects:#?}");
        assert!(connects.iter().all(|connect| is_owner(connect.owner)), "{rung}: {connects:#?}");
        let connect =
            |is: &dyn Fn(&TcpConnect) -> bool| *connects.iter().find(|connect| is(connect)).unwrap();
        let good = connect(&|connect| ports(&connect.socket) == (client, server));
        assert_eq!((good.ret, good.socket.role), (Some(0), Some(TcpRole::Connected)), "{rung}");
        assert!(good.socket.cookie.is_none_or(|cookie| cookie == accepted[2]), "{rung}: {good:?}");
        let bad = connect(&|connect| {
            u64::from(connect.socket.remote_port) == refused[0] && connect.ret == Some(-111)
        });
        assert!(bad.begin_ns <= bad.origin.ktime_ns, "{rung}: {bad:?}");
        let given_up = connect(&|connect| u64::from(connect.socket.local_port) == unanswered[0]);
        assert_eq!(given_up.ret, None, "{rung}");
        assert!(given_up.duration_ns() >= 1_300_000_000, "{rung}: {given_up:?}");
    }
    if has("tcp.retransmit") {
        let all = recorded.all::<TcpRetransmit>();
        let again: Vec<_> =
            all.iter().filter(|again| u64::from(again.socket.local_port) == unanswered[0]).collect();
        // As often as the kernel counted.
        assert_eq!(again.len() as u64, unanswered[1], "{rung}: {all:#?}");
        assert!(unanswered[1] >= 1);
        for again in again {
            assert!(again.syn && !again.fin && is_owner(again.owner), "{rung}: {again:?}");
            assert_eq!((again.start, again.end, again.state.name()), (0, 0, "syn_sent"), "{rung}");
        }
    }
    if has("tcp.accept") {
        let accepts = recorded.all::<TcpAccept>();
        let [accept] = &accepts[..] else { panic!("{rung}: {accepts:#?}") };
        assert_eq!((accept.origin.tid.0, ports(&accept.socket)), (tgid, (server, client)), "{rung}");
        assert!(accept.socket.cookie.is_none_or(|cookie| cookie == accepted[3]), "{rung}: {accept:?}");
        // It stood in the queue while the other one waited.
        assert!(accept.queued_ns.is_some_and(|queued_ns| queued_ns >= 1_300_000_000), "{rung}: {accept:?}");
    }
    if has("tcp.state") {
        let states = recorded.all::<TcpState>();
        let of = |local, remote| {
            let own = states.iter().filter(move |state| ports(&state.socket) == (local, remote));
            own.map(|state| (state.old.name(), state.new.name())).collect::<Vec<_>>()
        };
        let expected = [
            ("close", "syn_sent"),
            ("syn_sent", "established"),
            ("established", "fin_wait1"),
            ("fin_wait1", "fin_wait2"),
            ("fin_wait2", "close"),
        ];
        // When it begins to ask it may have no port yet.
        let seen = of(client, server);
        assert!(expected.ends_with(&seen) && seen.len() >= 4, "{rung}: {seen:?}");
        let expected = [("established", "close_wait"), ("close_wait", "last_ack"), ("last_ack", "close")];
        assert!(of(server, client).ends_with(&expected), "{rung}: {:?}", of(server, client));
    }
}

fn every_rung_of_connections() {
    let rungs = rungs(Tcp::default());
    let (mut whole, mut retransmits) = (0, 0);
    for rung in &rungs {
        let recorder = attach(Tcp::default(), &rungs, rung);
        let on: Vec<_> = recorder.report().attached().map(|probe| probe.probe.clone()).collect();
        let mut recording = Recording::of(recorder, |_| true);
        let mut workload = recording.spawn("tcp-lives");
        let lines = recording.run(&mut workload);
        let recorded = recording.finish().lossless();
        if recorded.skipped == 0 {
            let has = |event: &str| on.iter().any(|on| on == event);
            check_lives(&recorded, &lines, workload.tgid(), has, rung);
            whole += usize::from(has("tcp.connect") && has("tcp.state"));
            retransmits += usize::from(has("tcp.retransmit"));
        }
    }
    check_whole(whole);
    // Some kernels have one rung of it.
    assert!(retransmits >= 1);
}
