//! Decoding is total, and what was encoded comes back.

mod decode_support;

use decode_support::{HEADER, SIZES, decode_all};
use kprobe_core::{
    abi::{self, Header, Kind, MAX_RECORD},
    decode::{DecodeError, FRAME_HEADER, FrameError, Frames, Record, put_frame},
    event::{Arch, Event, Origin, Registry, TypedEvent},
};
use proptest::{collection::vec, prelude::*};
use zerocopy::{FromBytes, FromZeros as _, Immutable, IntoBytes};

fn record_of(kind: Kind, body: &[u8]) -> Vec<u8> {
    let header = Header { kind: kind.0, ktime_ns: 1, cgroup_id: 2, tgid: 3, tid: 4, cpu: 5, seq: 6 };
    [header.as_bytes(), body].concat()
}

#[test]
fn every_kind_at_every_size() {
    let registry = Registry::builtin();
    assert_eq!(
        registry.iter().map(|(kind, _)| kind).collect::<Vec<_>>(),
        SIZES.iter().map(|(kind, _)| *kind).collect::<Vec<_>>()
    );
    for &(kind, size) in SIZES {
        for body in 0..=MAX_RECORD - HEADER {
            let bytes = record_of(kind, &vec![0; body]);
            decode_all(&registry, &bytes);
            let record = Record::new(&bytes).expect("long enough");
            let wrong = DecodeError::Size { kind, expected: HEADER + size, found: HEADER + body };
            assert_eq!(Event::decode(record).err(), (body != size).then_some(wrong));
        }
    }
    for len in (0..HEADER).chain(MAX_RECORD + 1..MAX_RECORD + 9) {
        assert_eq!(Record::new(&vec![0; len]).err(), Some(DecodeError::Length { found: len }));
    }
}

#[test]
fn a_type_takes_no_other_kind() {
    let bytes = record_of(Kind::META_MARKER, &[0; 8]);
    let error =
        kprobe_core::event::Syscall::decode(Record::new(&bytes).expect("long enough")).expect_err("a marker");
    assert_eq!(error, DecodeError::Kind { expected: Kind::SYSCALL, found: Kind::META_MARKER });
}

/// Bodies that are likely to get past the first check.
fn any_body() -> impl Strategy<Value = (Kind, Vec<u8>)> {
    proptest::sample::select(SIZES).prop_flat_map(|(kind, size)| {
        let byte = prop_oneof![4 => Just(0_u8), 1 => 0_u8..8, 2 => any::<u8>()];
        (Just(kind), vec(byte, size))
    })
}

proptest! {
    #[test]
    fn any_record((kind, body) in any_body()) {
        decode_all(&Registry::builtin(), &record_of(kind, &body));
    }

    #[test]
    fn any_bytes(bytes in vec(any::<u8>(), 0..300)) {
        decode_all(&Registry::builtin(), &bytes);
    }

    #[test]
    fn any_frames(bytes in vec(prop_oneof![3 => Just(0_u8), 1 => 0_u8..64, 1 => any::<u8>()], 0..2000)) {
        let registry = Registry::builtin();
        let mut ended = false;
        let mut records = 0;
        for record in Frames::new(&bytes) {
            prop_assert!(!ended, "nothing comes after a torn frame");
            match record {
                Ok(record) => {
                    records += 1;
                    decode_all(&registry, record.bytes());
                }
                Err(FrameError::Length { length }) => prop_assert!(!(HEADER..=MAX_RECORD).contains(&length)),
                Err(FrameError::Torn { length, left }) => {
                    ended = true;
                    let whole = length.next_multiple_of(8) <= left;
                    let busy = bytes.chunks(8).any(|word| word.get(3).is_some_and(|flags| flags & 0x80 != 0));
                    prop_assert!(!whole || busy, "{length} of {left}");
                }
                Err(other) => prop_assert!(false, "{other}"),
            }
        }
        prop_assert!(records * (FRAME_HEADER + HEADER) <= bytes.len());
    }

    #[test]
    fn frames_give_back_records(
        records in vec((vec(any::<u8>(), HEADER..=MAX_RECORD), any::<bool>()), 0..20),
        cut in any::<proptest::sample::Index>(),
    ) {
        let mut bytes = Vec::new();
        let mut ends = Vec::new();
        for (record, discarded) in &records {
            let start = bytes.len();
            put_frame(&mut bytes, record);
            bytes[start + 3] |= u8::from(*discarded) << 6;
            ends.push(bytes.len());
            prop_assert_eq!(bytes.len() % 8, 0);
        }
        let kept = |whole: usize| records[..whole].iter().filter(|(_, discarded)| !discarded).map(|(record, _)| &record[..]);
        let read: Result<Vec<_>, _> = Frames::new(&bytes).map(|record| record.map(|record| record.bytes())).collect();
        prop_assert_eq!(read.expect("whole frames"), kept(records.len()).collect::<Vec<_>>());

        let cut = cut.index(bytes.len() + 1);
        let whole = ends.iter().filter(|end| **end <= cut).count();
        let mut frames = Frames::new(&bytes[..cut]);
        for record in kept(whole) {
            prop_assert_eq!(frames.next().expect("whole").expect("whole").bytes(), record);
        }
        let at_a_boundary = cut == 0 || ends.contains(&cut);
        prop_assert_eq!(frames.next().is_some_and(|rest| rest.is_err()), !at_a_boundary);
        prop_assert!(frames.next().is_none());
    }

    #[test]
    fn header_comes_back(words in any::<[u64; 4]>()) {
        let header = Header::read_from_bytes(words.as_bytes()).expect("32 bytes");
        let record = Record::new(words.as_bytes()).expect("32 bytes");
        prop_assert_eq!(record.header(), header);
        prop_assert_eq!(record.kind(), Kind(header.kind));
        let origin = Origin::of(&record);
        prop_assert_eq!(
            (origin.ktime_ns, origin.cgroup_id, origin.tgid.0, origin.tid.0, origin.seq),
            (header.ktime_ns, header.cgroup_id, header.tgid, header.tid, header.seq)
        );
        prop_assert_eq!(origin.cpu, (header.cpu != abi::CPU_NONE).then_some(header.cpu));
    }
}

/// A record with `body`, decoded.
fn decode<E: TypedEvent>(body: &(impl IntoBytes + Immutable)) -> Result<E, DecodeError> {
    let bytes = record_of(E::KIND, body.as_bytes());
    E::decode(Record::new(&bytes).expect("long enough"))
}

/// A body of the right size with any bytes.
fn any_abi<T: FromBytes + std::fmt::Debug>() -> impl Strategy<Value = T> {
    vec(any::<u8>(), size_of::<T>()).prop_map(|bytes| T::read_from_bytes(&bytes).expect("the right size"))
}

mod comes_back {
    use kprobe_core::event::*;

    use super::*;

    fn comm(bytes: [u8; 16]) -> Vec<u8> {
        bytes[..15].iter().copied().take_while(|byte| *byte != 0).collect()
    }

    proptest! {
        #[test]
        fn sched(switch in any_abi::<abi::SchedSwitch>(), mut waking in any_abi::<abi::SchedWaking>(), migrate in any_abi::<abi::SchedMigrate>(), context in 0..=5_u32) {
            let event: SchedSwitch = decode(&switch).expect("any value will do");
            prop_assert_eq!(
                (event.next_tid.0, event.next_tgid.0, event.prev_state.0, event.prev_prio, event.next_prio),
                (switch.next_tid, switch.next_tgid, switch.prev_state, switch.prev_prio, switch.next_prio)
            );
            prop_assert_eq!(event.preempt, switch.flags & abi::SWITCH_PREEMPT != 0);

            waking.context = context;
            let contexts = [None, Some(WakeContext::Task), Some(WakeContext::Softirq), Some(WakeContext::Hardirq), Some(WakeContext::Nmi)];
            match (decode::<SchedWaking>(&waking), contexts.get(context as usize)) {
                (Ok(event), Some(context)) => {
                    prop_assert_eq!(
                        (event.wakee_tid.0, event.wakee_tgid.0, event.prio, event.target_cpu, &event.context),
                        (waking.wakee_tid, waking.wakee_tgid, waking.prio, waking.target_cpu, context)
                    );
                }
                (Err(DecodeError::Value { offset, found, .. }), None) => prop_assert_eq!((offset, found), (HEADER + 12, 5)),
                (event, _) => prop_assert!(false, "{event:?}"),
            }

            let event: SchedMigrate = decode(&migrate).expect("any value will do");
            prop_assert_eq!(
                (event.moved_tid.0, event.moved_tgid.0, event.from_cpu, event.to_cpu, event.prio),
                (migrate.moved_tid, migrate.moved_tgid, migrate.from_cpu, migrate.to_cpu, migrate.prio)
            );
        }

        #[test]
        fn unix(mut send in any_abi::<abi::UnixSend>(), mut recv in any_abi::<abi::UnixRecv>(), size: u32) {
            send.end = send.start.saturating_add(size.into());
            recv.end = recv.start.saturating_add(size.into());
            let flag = |flags: u64, bit| flags & bit != 0;
            let overlapped = |flags| flag(flags, 4).then_some(flag(flags, 8));
            let event: UnixSend = decode(&send).expect("a good range");
            prop_assert_eq!(
                (event.stream(), event.cookie, event.peer_cookie, event.inode.unwrap_or(0), event.start, event.end),
                (send.cookie, send.cookie, send.peer_cookie, send.inode, send.start, send.end)
            );
            prop_assert_eq!((event.relative, event.overlapped), (flag(send.flags, 1), overlapped(send.flags)));
            let event: UnixRecv = decode(&recv).expect("a good range");
            prop_assert_eq!(
                (event.stream(), event.cookie, event.peer_cookie, event.inode.unwrap_or(0), event.start, event.end),
                (recv.peer_cookie, recv.cookie, recv.peer_cookie, recv.inode, recv.start, recv.end)
            );
            prop_assert_eq!(
                (event.relative, event.peek, event.overlapped),
                (flag(recv.flags, 1), flag(recv.flags, 2), overlapped(recv.flags))
            );
            (send.start, send.end) = (2, 1);
            let backwards = matches!(decode::<UnixSend>(&send), Err(DecodeError::Value { offset, found: 1, .. }) if offset == HEADER + 24);
            prop_assert!(backwards);
        }

        #[test]
        fn udp(mut send in any_abi::<abi::UdpSend>(), mut recv in any_abi::<abi::UdpRecv>(), flags in 0..512_u32, mapped in any::<bool>()) {
            let has = |bit| flags & bit != 0;
            send.socket.flags = flags;
            recv.socket.flags = flags;
            if mapped {
                send.socket.remote_addr[..12].copy_from_slice(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff]);
            }
            let octets = |address: std::net::IpAddr| match address {
                std::net::IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
                std::net::IpAddr::V6(address) => address.octets(),
            };
            let event: UdpSend = decode(&send).expect("any value will do");
            prop_assert_eq!((event.bytes, event.sent_ns), (send.bytes, has(abi::UDP_HAS_SENT_NS).then_some(send.sent_ns)));
            let socket = event.socket;
            prop_assert_eq!(socket.cookie, (send.socket.cookie != 0).then_some(send.socket.cookie));
            prop_assert_eq!(socket.local_addr.map(octets), has(abi::UDP_HAS_LOCAL).then_some(send.socket.local_addr));
            let remote = has(abi::UDP_HAS_REMOTE).then_some((send.socket.remote_addr, send.socket.remote_port));
            prop_assert_eq!(socket.remote.map(|(address, port)| (octets(address), port)), remote);
            prop_assert!(!mapped || socket.remote.is_none_or(|(address, _)| address.is_ipv4()));
            prop_assert_eq!(socket.local_port, send.socket.local_port);
            prop_assert_eq!(socket.netns, has(abi::UDP_HAS_NETNS).then_some(send.socket.netns));
            prop_assert_eq!((socket.is_ipv6, socket.is_connected), (has(abi::UDP_IPV6), has(abi::UDP_CONNECTED)));
            prop_assert_eq!(socket.segment_bytes.unwrap_or(0), send.socket.segment_bytes);

            let event: UdpRecv = decode(&recv).expect("any value will do");
            let (bytes, whole) = (has(abi::UDP_HAS_BYTES), has(abi::UDP_HAS_DATAGRAM));
            prop_assert_eq!((event.bytes, event.datagram_bytes), (bytes.then_some(recv.bytes), whole.then_some(recv.datagram_bytes)));
            prop_assert_eq!(event.truncated(), (bytes && whole).then_some(recv.bytes < recv.datagram_bytes));
            prop_assert_eq!((event.peek, event.socket.local_port), (has(abi::UDP_PEEK), recv.socket.local_port));
        }

        #[test]
        fn process(fork in any_abi::<abi::ProcessFork>(), exec in any_abi::<abi::ProcessExec>(), exit in any_abi::<abi::ProcessExit>(), rename in any_abi::<abi::ProcessRename>()) {
            let event: ProcessFork = decode(&fork).expect("any value will do");
            prop_assert_eq!(
                (event.child_tgid.0, event.child_tid.0, event.child_start_ns, event.parent_tgid.0),
                (fork.child_tgid, fork.child_tid, fork.child_start_ns, fork.parent_tgid)
            );
            prop_assert_eq!(event.is_thread(), fork.child_tgid != fork.child_tid);

            let event: ProcessExec = decode(&exec).expect("any value will do");
            prop_assert_eq!(
                (event.start_ns, event.parent_tgid.0, event.old_tid.0, event.comm.as_bytes()),
                (exec.start_ns, exec.parent_tgid, exec.old_tid, &comm(exec.comm)[..])
            );
            let exe = event.exe.map(|(inode, device)| (inode, u64::from(device.major) << 20 | u64::from(device.minor)));
            let has_exe = exec.flags & abi::EXEC_HAS_EXE != 0;
            prop_assert_eq!(exe, has_exe.then_some((exec.exe_inode, exec.exe_dev.into())));

            let event: ProcessExit = decode(&exit).expect("any value will do");
            prop_assert_eq!((event.start_ns, event.parent_tgid.0, event.status), (exit.start_ns, exit.parent_tgid, exit.status));
            prop_assert_eq!(event.process_ended, exit.flags & abi::EXIT_PROCESS != 0);
            prop_assert!(event.code().is_some() != event.signal().is_some());

            let event: ProcessRename = decode(&rename).expect("any value will do");
            prop_assert_eq!(
                (event.renamed_tid.0, event.renamed_tgid.0, event.comm.as_bytes()),
                (rename.renamed_tid, rename.renamed_tgid, &comm(rename.comm)[..])
            );
        }

        #[test]
        fn syscall(mut call in any_abi::<abi::Syscall>(), flags in 0..32_u16, invalid: bool) {
            call.flags = flags;
            if invalid {
                call.nr = abi::SYSCALL_NR_INVALID;
            }
            let has = |bit| flags & bit != 0;
            let event: Syscall = match decode(&call) {
                Ok(event) => event,
                Err(DecodeError::Value { offset, found, .. }) => {
                    prop_assert!(has(abi::SYSCALL_COMPAT) && has(abi::SYSCALL_X32));
                    prop_assert_eq!((offset, found), (HEADER + 30, flags.into()));
                    return Ok(());
                }
                Err(error) => panic!("{error}"),
            };
            let table = match flags & (abi::SYSCALL_COMPAT | abi::SYSCALL_X32) {
                abi::SYSCALL_COMPAT => SyscallAbi::Compat,
                abi::SYSCALL_X32 => SyscallAbi::X32,
                _ => SyscallAbi::Native,
            };
            let known = call.nr != abi::SYSCALL_NR_INVALID;
            prop_assert_eq!(event.nr, known.then_some(SyscallNr { abi: table, nr: call.nr }));
            prop_assert_eq!(event.enter_ns, call.enter_ns);
            prop_assert_eq!(event.fd, has(abi::SYSCALL_HAS_FD).then_some(call.fd));
            prop_assert_eq!(event.requested, has(abi::SYSCALL_HAS_REQUESTED).then_some(call.requested));
            prop_assert_eq!(event.ret, has(abi::SYSCALL_HAS_RET).then_some(call.ret));
            prop_assert_eq!(event.duration_ns().is_some(), event.ret.is_some());
            prop_assert_eq!(event.errno().map(i64::from), event.ret.filter(|ret| (-4095..0).contains(ret)).map(|ret| -ret));
        }

        #[test]
        fn block(request in any_abi::<abi::BlockRequest>(), mut merge in any_abi::<abi::BlockMerge>(), how in 0..4_u16) {
            let has = |bit| request.flags & bit != 0;
            let event: BlockRequest = decode(&request).expect("any value will do");
            prop_assert_eq!(
                (event.sector, event.bytes, event.status, event.requeues, event.bios),
                (request.sector, request.bytes, request.status, request.requeues, request.bios)
            );
            prop_assert_eq!(event.device, Device { major: request.dev >> 20, minor: request.dev & 0xf_ffff });
            let submitter = event.submitter.map(|by| (by.tgid.0, by.tid.0, by.cgroup_id, by.is_kernel_thread));
            let origin = (request.origin_tgid, request.origin_tid, request.origin_cgroup_id, has(abi::BLOCK_KERNEL_THREAD));
            prop_assert_eq!(submitter, has(abi::BLOCK_HAS_ORIGIN).then_some(origin));
            prop_assert_eq!(event.charged_cgroup_id, has(abi::BLOCK_HAS_CHARGED).then_some(request.charged_cgroup_id));
            prop_assert_eq!(event.queued_ns, has(abi::BLOCK_HAS_QUEUED).then_some(request.queued_ns));
            prop_assert_eq!(event.issued_ns, has(abi::BLOCK_HAS_ISSUED).then_some(request.issued_ns));
            prop_assert_eq!(event.queue_duration_ns().is_some(), event.queued_ns.is_some() && event.issued_ns.is_some());
            prop_assert_eq!(event.device_duration_ns().is_some(), event.issued_ns.is_some());
            prop_assert_eq!(event.duration_ns().is_some(), event.queued_ns.is_some());
            prop_assert_eq!(event.error().is_some(), (1..=13).contains(&request.status));
            for (flag, bit) in [(BlockFlags::SYNC, abi::BLOCK_SYNC), (BlockFlags::BIO, abi::BLOCK_BIO)] {
                prop_assert_eq!(event.flags.has(flag), has(bit));
            }

            merge.how = how;
            match decode::<BlockMerge>(&merge) {
                Ok(event) => prop_assert_eq!(
                    (event.queued_ns, event.sector, event.bytes, event.merged as u16),
                    (merge.queued_ns, merge.sector, merge.bytes, how)
                ),
                Err(DecodeError::Value { offset, found, .. }) => prop_assert_eq!((offset, found), (HEADER + 58, 3)),
                Err(error) => prop_assert!(false, "{}", error),
            }
        }

        #[test]
        fn wait(mut blocked in any_abi::<abi::WaitBlocked>(), mut change in any_abi::<abi::WaitEpoll>(), throttle in any_abi::<abi::WaitThrottle>(), flags in 0..0x2_0000_u32, class in 0..30_u8, wake_class in 0..30_u8, context in 0..=5_u8) {
            (blocked.flags, blocked.class, blocked.wake_class, blocked.wake_context) = (flags, class, wake_class, context);
            let has = |bit| flags & bit != 0;
            let wake_has = |bit: u32| flags & bit << abi::WAIT_OF_WAKE != 0;
            let contexts = [None, Some(WakeContext::Task), Some(WakeContext::Softirq), Some(WakeContext::Hardirq), Some(WakeContext::Nmi)];
            match (decode::<WaitBlocked>(&blocked), contexts.get(usize::from(context))) {
                (Ok(event), Some(context)) => {
                    prop_assert_eq!((event.begin_ns, event.state), (blocked.begin_ns, ThreadState(blocked.state)));
                    prop_assert_eq!(event.duration_ns(), 1_u64.saturating_sub(blocked.begin_ns));
                    let key = event.key;
                    prop_assert_eq!(key.class, WaitClass(class));
                    prop_assert_eq!(key.call.map(|call| (call.abi, call.nr)), has(abi::WAIT_HAS_NR).then_some((SyscallAbi::Native, blocked.nr)));
                    prop_assert_eq!(key.fd, has(abi::WAIT_HAS_FD).then_some(blocked.fd));
                    prop_assert_eq!(key.object, has(abi::WAIT_HAS_OBJECT).then_some(blocked.object));
                    prop_assert_eq!(key.device, has(abi::WAIT_HAS_DEVICE).then(|| Device::from_kernel(blocked.device)));
                    prop_assert_eq!(key.cookie, has(abi::WAIT_HAS_COOKIE).then_some(blocked.cookie));
                    prop_assert_eq!(event.waker.is_some(), has(abi::WAIT_HAS_WAKER));
                    if let Some(waker) = event.waker {
                        prop_assert_eq!((waker.ktime_ns, waker.tgid, waker.tid), (blocked.woken_ns, Tgid(blocked.waker_tgid), Tid(blocked.waker_tid)));
                        prop_assert_eq!((waker.context, waker.timed_out), (*context, wake_has(abi::WAIT_OWN_LIMIT)));
                        prop_assert_eq!(waker.key.is_some(), wake_class != abi::wait_class::NONE);
                    }
                    if let Some(key) = event.waker.and_then(|waker| waker.key) {
                        prop_assert_eq!(key.class, WaitClass(wake_class));
                        prop_assert_eq!(key.call.map(|call| call.nr), wake_has(abi::WAIT_HAS_NR).then_some(blocked.wake_nr));
                        prop_assert_eq!(key.fd, wake_has(abi::WAIT_HAS_FD).then_some(blocked.wake_fd));
                        prop_assert_eq!(key.object, wake_has(abi::WAIT_HAS_OBJECT).then_some(blocked.wake_object));
                        prop_assert_eq!(key.device, wake_has(abi::WAIT_HAS_DEVICE).then(|| Device::from_kernel(blocked.wake_device)));
                        prop_assert_eq!(key.cookie, wake_has(abi::WAIT_HAS_COOKIE).then_some(blocked.wake_cookie));
                    }
                }
                (Err(DecodeError::Value { kind, found, .. }), None) => prop_assert_eq!((kind, found), (Kind::WAIT_BLOCKED, context.into())),
                (event, context) => prop_assert!(false, "{event:?} {context:?}"),
            }
            change.flags = u8::try_from(flags & 0xff).expect("a byte");
            let event: WaitEpoll = decode(&change).expect("any value will do");
            prop_assert_eq!((event.epoll, event.epfd, event.op), (change.epoll, change.epfd, EpollOp(change.op)));
            let member = event.member;
            prop_assert_eq!((member.class, member.call), (WaitClass(change.class), None));
            prop_assert_eq!((member.fd, member.object), (has(abi::WAIT_HAS_FD).then_some(change.fd), has(abi::WAIT_HAS_OBJECT).then_some(change.object)));
            prop_assert_eq!(member.cookie, has(abi::WAIT_HAS_COOKIE).then_some(change.cookie));
            let event: WaitThrottle = decode(&throttle).expect("any value will do");
            prop_assert_eq!((event.begin_ns, event.cpu), (throttle.begin_ns, throttle.cpu));
            prop_assert_eq!(event.cgroup_id, (throttle.flags & abi::THROTTLE_HAS_CGROUP != 0).then_some(throttle.cgroup_id));
        }

        /// The same is what has the same number of the same class; a timer may be that of a descriptor.
        #[test]
        fn the_same_thing(blocked in any_abi::<abi::WaitBlocked>(), same_object: bool, same_device: bool, class in 0..30_u8, wake_class in 0..30_u8, bits in 0..16_u32) {
            use abi::{WAIT_HAS_DEVICE, WAIT_HAS_OBJECT, wait_class};
            let mut body = abi::WaitBlocked { class, wake_class, wake_context: 1, ..blocked };
            let bit = |at: u32, flag| if bits >> at & 1 != 0 { flag } else { 0 };
            let (wait, wake) = (bit(0, WAIT_HAS_OBJECT) | bit(1, WAIT_HAS_DEVICE), bit(2, WAIT_HAS_OBJECT) | bit(3, WAIT_HAS_DEVICE));
            body.flags = abi::WAIT_HAS_WAKER | wait | wake << abi::WAIT_OF_WAKE;
            body.wake_object = if same_object { body.object } else { body.object.wrapping_add(1) };
            body.wake_device = if same_device { body.device } else { body.device.wrapping_add(1) };
            let event: WaitBlocked = decode(&body).expect("the context is one");
            let Some(key) = event.waker.and_then(|waker| waker.key) else {
                prop_assert_eq!(wake_class, wait_class::NONE);
                return Ok(());
            };
            let has_both = wait & wake & WAIT_HAS_OBJECT != 0;
            let on_same = wait & WAIT_HAS_DEVICE == wake & WAIT_HAS_DEVICE && (wait & WAIT_HAS_DEVICE == 0 || same_device);
            let timers = [wait_class::TIMERFD, wait_class::TIMER];
            let of_class = class == wake_class || timers.contains(&class) && timers.contains(&wake_class);
            prop_assert_eq!(event.key.is_same(&key), has_both && same_object && on_same && of_class);
            prop_assert_eq!(key.is_same(&event.key), event.key.is_same(&key));
        }

        #[test]
        fn irq(hard in any_abi::<abi::IrqHard>(), soft in any_abi::<abi::IrqSoft>()) {
            let event: IrqHard = decode(&hard).expect("any value will do");
            let is_vector = hard.flags & abi::IRQ_VECTOR != 0;
            let source = if is_vector { IrqSource::Vector(hard.number) } else { IrqSource::Device(hard.number) };
            prop_assert_eq!((event.begin_ns, event.source), (hard.begin_ns, source));
            prop_assert_eq!(event.duration_ns(), event.origin.ktime_ns.saturating_sub(hard.begin_ns));

            let event: IrqSoft = decode(&soft).expect("any value will do");
            prop_assert_eq!(
                (event.begin_ns, event.nested_ns, event.vector),
                (soft.begin_ns, soft.nested_ns, soft.vector)
            );
            prop_assert_eq!(event.duration_ns(), event.origin.ktime_ns.saturating_sub(soft.begin_ns));
        }

        #[test]
        fn security(mut check in any_abi::<abi::SecurityCapability>(), flags in 0..8_u32) {
            check.flags = flags;
            let has = |bit| flags & bit != 0;
            let event: SecurityCapability = decode(&check).expect("any value will do");
            prop_assert_eq!(
                (event.capability, event.result, event.user_ns_level),
                (check.capability, check.result, check.user_ns_level)
            );
            prop_assert_eq!(event.is_granted(), check.result == 0);
            prop_assert_eq!(event.name().is_some(), check.capability <= 40);
            let purpose = event.purpose.map(|purpose| (purpose.audited, purpose.in_setid));
            let said = (!has(abi::CAPABILITY_NO_AUDIT), has(abi::CAPABILITY_IN_SETID));
            prop_assert_eq!(purpose, has(abi::CAPABILITY_HAS_OPTIONS).then_some(said));
        }

        #[test]
        fn histogram(mut body in any_abi::<abi::Histogram>(), by in 0..6_u16) {
            body.by = by;
            let event: Histogram = match decode(&body) {
                Ok(event) => event,
                Err(DecodeError::Value { offset, found, .. }) => {
                    prop_assert!(by > 3);
                    prop_assert_eq!((offset, found), (HEADER + 26, by.into()));
                    return Ok(());
                }
                Err(error) => panic!("{error}"),
            };
            prop_assert_eq!((event.from_ns, event.sum_ns, event.kind.0), (body.from_ns, body.sum, body.kind));
            let key = match event.of {
                Aggregated::Kind => None,
                Aggregated::Tgid(tgid) => Some((1, u64::from(tgid.0))),
                Aggregated::Cgroup(cgroup) => Some((2, cgroup)),
                Aggregated::Subject(subject) => Some((3, subject)),
                _ => Some((u16::MAX, 0)),
            };
            let expected = if by == 1 { body.key.min(u32::MAX.into()) } else { body.key };
            prop_assert_eq!(key, (by != 0).then_some((by, expected)));
            let counted: Vec<_> = body.counts.iter().filter(|count| **count > 0).map(|count| u64::from(*count)).collect();
            let (longest, counts): (Vec<_>, Vec<_>) = event.classes().unzip();
            prop_assert_eq!(event.count(), counted.iter().sum::<u64>());
            prop_assert_eq!(counts, counted);
            prop_assert!(longest.windows(2).all(|pair| pair[0] < pair[1]));
            prop_assert!(event.quantile_ns(500) <= event.quantile_ns(990));
        }

        #[test]
        fn faults(major in any_abi::<abi::MemoryFaultMajor>(), minor in any_abi::<abi::MemoryFaultMinor>()) {
            let check = |fault: &PageFault, flags: u32, begin_ns, address| {
                let has = |bit| flags & bit != 0;
                assert_eq!(fault.begin_ns, has(abi::FAULT_HAS_BEGIN).then_some(begin_ns));
                assert_eq!((fault.address, fault.remote), (address, has(abi::FAULT_REMOTE)));
                let access = fault.access.map(|access| (access.write, access.exec, access.user));
                let expected = (has(abi::FAULT_WRITE), has(abi::FAULT_EXEC), has(abi::FAULT_USER));
                assert_eq!(access, has(abi::FAULT_HAS_ACCESS).then_some(expected));
            };
            let event: MemoryFaultMajor = decode(&major).expect("any value will do");
            check(&event.fault, major.flags, major.begin_ns, major.address);
            let file = event.file.map(|(inode, device)| (inode, u64::from(device.major) << 20 | u64::from(device.minor)));
            prop_assert_eq!(file, (major.flags & abi::FAULT_HAS_FILE != 0).then_some((major.inode, major.device.into())));
            prop_assert_eq!(event.duration_ns(), event.fault.begin_ns.map(|begin| 1_u64.saturating_sub(begin)));

            let event: MemoryFaultMinor = decode(&minor).expect("any value will do");
            check(&event.fault, minor.flags, minor.begin_ns, minor.address);
            prop_assert_eq!(event.one_in, minor.one_in);
        }

        #[test]
        fn pipe(mut write in any_abi::<abi::PipeWrite>(), mut read in any_abi::<abi::PipeRead>(), call in 0..=7_u16, size: u32) {
            (write.call, write.end) = (call, write.start.saturating_add(size.into()));
            (read.call, read.end) = (call, read.start.saturating_add(size.into()));
            let calls = [None, Some(PipeCall::Read), Some(PipeCall::Write), Some(PipeCall::Splice), Some(PipeCall::Tee), Some(PipeCall::Vmsplice), Some(PipeCall::Sendfile)];
            let device = |dev: u32| (dev >> 20, dev & 0xf_ffff);
            match (decode::<PipeWrite>(&write), calls.get(usize::from(call))) {
                (Ok(event), Some(call)) => {
                    prop_assert_eq!(
                        (event.inode, (event.device.major, event.device.minor), &event.call, event.start, event.end),
                        (write.inode, device(write.device), call, write.start, write.end)
                    );
                    prop_assert_eq!(event.bytes(), write.end - write.start);
                    prop_assert_eq!((event.relative, event.overlapped), (write.flags & 1 != 0, write.flags & 2 != 0));
                }
                (Err(DecodeError::Value { offset, found, .. }), None) => prop_assert_eq!((offset, found), (HEADER + 28, call.into())),
                (event, _) => prop_assert!(false, "{event:?}"),
            }
            read.call = 1;
            let event: PipeRead = decode(&read).expect("a good call and a good range");
            prop_assert_eq!(
                (event.inode, (event.device.major, event.device.minor), event.call, event.start, event.end),
                (read.inode, device(read.device), Some(PipeCall::Read), read.start, read.end)
            );
            let flag = |bit| read.flags & bit != 0;
            prop_assert_eq!((event.relative, event.overlapped, event.peek), (flag(1), flag(2), flag(4)));
            (read.start, read.end) = (2, 1);
            let backwards = matches!(decode::<PipeRead>(&read), Err(DecodeError::Value { offset, found: 1, .. }) if offset == HEADER + 16);
            prop_assert!(backwards);
        }

        #[test]
        fn tcp(
            mut send in any_abi::<abi::TcpSend>(), mut again in any_abi::<abi::TcpRetransmit>(), mut change in any_abi::<abi::TcpState>(),
            mut connect in any_abi::<abi::TcpConnect>(), mut accept in any_abi::<abi::TcpAccept>(), flags in 0..256_u32, mapped in any::<bool>(),
        ) {
            let has = |bit| flags & bit != 0;
            send.socket.flags = flags;
            if mapped {
                send.socket.local_addr[..12].copy_from_slice(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff]);
            }
            let event: TcpSend = decode(&send).expect("any value will do");
            prop_assert_eq!((event.start, event.end, event.bytes()), (send.start, send.end, send.end.saturating_sub(send.start)));
            let socket = event.socket;
            prop_assert_eq!(socket.cookie, (send.socket.cookie != 0).then_some(send.socket.cookie));
            prop_assert_eq!(socket.netns, has(abi::TCP_HAS_NETNS).then_some(send.socket.netns));
            prop_assert_eq!((socket.local_port, socket.remote_port), (send.socket.local_port, send.socket.remote_port));
            prop_assert_eq!(socket.is_ipv6, has(abi::TCP_IPV6));
            prop_assert_eq!(socket.srtt_us, (send.socket.srtt_us != 0).then_some(send.socket.srtt_us));
            prop_assert_eq!(socket.role.is_some(), has(abi::TCP_CONNECTED | abi::TCP_ACCEPTED));
            let bytes = match socket.local_addr {
                std::net::IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
                std::net::IpAddr::V6(address) => address.octets(),
            };
            prop_assert_eq!(bytes, send.socket.local_addr);
            prop_assert!(!mapped || socket.local_addr.is_ipv4());

            let recv = abi::TcpRecv { socket: send.socket, start: send.start, end: send.end };
            let recv: TcpRecv = decode(&recv).expect("any value will do");
            prop_assert_eq!((recv.socket, recv.start, recv.end), (event.socket, event.start, event.end));

            again.socket.flags = flags;
            let owner = |owner: Option<TcpOwner>| owner.map(|owner| (owner.tgid.0, owner.tid.0));
            let known = |tgid, tid| has(abi::TCP_HAS_OWNER).then_some((tgid, tid));
            let event: TcpRetransmit = decode(&again).expect("any value will do");
            prop_assert_eq!((event.start, event.end, event.segments, event.state.0), (again.start, again.end, again.segments, again.state));
            prop_assert_eq!((event.syn, event.fin), (has(abi::TCP_SYN), has(abi::TCP_FIN)));
            prop_assert_eq!(owner(event.owner), known(again.owner_tgid, again.owner_tid));

            change.socket.flags = flags;
            let event: TcpState = decode(&change).expect("any value will do");
            prop_assert_eq!((event.old.0, event.new.0), (change.old, change.new));
            prop_assert_eq!(owner(event.owner), known(change.owner_tgid, change.owner_tid));

            connect.socket.flags = flags;
            let event: TcpConnect = decode(&connect).expect("any value will do");
            prop_assert_eq!((event.begin_ns, event.ret), (connect.begin_ns, has(abi::TCP_HAS_RESULT).then_some(connect.ret)));
            prop_assert_eq!(owner(event.owner), known(connect.owner_tgid, connect.owner_tid));

            accept.socket.flags = flags;
            let event: TcpAccept = decode(&accept).expect("any value will do");
            prop_assert_eq!(event.queued_ns, has(abi::TCP_HAS_RESULT).then_some(accept.queued_ns));
        }

        #[test]
        fn lock(mut wait in any_abi::<abi::LockFutex>(), mut wake in any_abi::<abi::LockFutexWake>(), mut contention in any_abi::<abi::LockContention>(), key in 0..32_u32, flags in 0..32_u32, context in 0..=5_u32) {
            (wait.key.flags, wait.flags) = (key, flags);
            let has = |bit| flags & bit != 0;
            let key_has = |bit| key & bit != 0;
            let event: LockFutex = decode(&wait).expect("any value will do");
            prop_assert_eq!(
                (event.enter_ns, event.op.0, event.futexes, event.ret, event.is_woken()),
                (wait.enter_ns, wait.op, wait.futexes, wait.ret, wait.ret >= 0)
            );
            prop_assert_eq!(
                (event.blocked, event.timed, event.restarted),
                (has(abi::FUTEX_BLOCKED), has(abi::FUTEX_TIMED), has(abi::FUTEX_RESTARTED))
            );
            prop_assert_eq!(event.waker.is_some(), has(abi::FUTEX_HAS_WAKER));
            if let Some(waker) = event.waker {
                prop_assert_eq!(
                    (waker.tgid.0, waker.tid.0, waker.ktime_ns),
                    (wait.waker_tgid, wait.waker_tid, wait.woken_ns)
                );
                prop_assert_eq!(waker.address, has(abi::FUTEX_HAS_WAKER_ADDRESS).then_some(wait.waker_address));
            }
            prop_assert_eq!(event.key.is_some(), key_has(abi::FUTEX_HAS_ADDRESS));
            if let Some(found) = event.key {
                prop_assert_eq!((found.address, found.private), (wait.key.address, key_has(abi::FUTEX_PRIVATE)));
                let (major, minor) = (wait.key.device >> 20, wait.key.device & 0xf_ffff);
                match found.place {
                    FutexPlace::Unknown => prop_assert!(key_has(abi::FUTEX_UNRESOLVED)),
                    FutexPlace::File { inode, device, offset, .. } => {
                        prop_assert!(key_has(abi::FUTEX_SHARED));
                        prop_assert_eq!(
                            (inode, device.major, device.minor, offset),
                            (wait.key.object, major, minor, wait.key.offset)
                        );
                    }
                    FutexPlace::Space { space, .. } => {
                        prop_assert!(!key_has(abi::FUTEX_SHARED) && !key_has(abi::FUTEX_UNRESOLVED));
                        prop_assert_eq!(space, key_has(abi::FUTEX_HAS_SPACE).then_some(wait.key.object));
                    }
                    _ => prop_assert!(false, "{:?}", found),
                }
            }

            (wake.key.flags, wake.flags) = (key, flags);
            let event: LockFutexWake = decode(&wake).expect("any value will do");
            prop_assert_eq!(
                (event.enter_ns, event.op.0, event.wanted, event.ret),
                (wake.enter_ns, wake.op, wake.wanted, wake.ret)
            );
            let has_second = has(abi::FUTEX_HAS_SECOND);
            prop_assert_eq!(event.wanted_second, has_second.then_some(wake.wanted_second));
            let has_address = has_second && key_has(abi::FUTEX_HAS_ADDRESS);
            prop_assert_eq!(event.second_address, has_address.then_some(wake.second_address));

            contention.context = context;
            match decode::<LockContention>(&contention) {
                Ok(event) => {
                    prop_assert_eq!(
                        (event.begin_ns, event.lock, event.how.0, event.ret, event.context.is_some()),
                        (contention.begin_ns, contention.lock, contention.flags, contention.ret, context != 0)
                    );
                    prop_assert_eq!(event.how.spun(), contention.flags & abi::CONTENTION_SPIN != 0);
                }
                Err(DecodeError::Value { offset, found, .. }) => prop_assert_eq!((offset, found), (HEADER + 24, 5)),
                Err(error) => prop_assert!(false, "{error}"),
            }
        }

        #[test]
        fn memory(mut reclaim in any_abi::<abi::MemoryReclaim>(), compaction in any_abi::<abi::MemoryCompaction>(), oom in any_abi::<abi::MemoryOomKill>(), scope in 0..3_u32) {
            reclaim.scope = scope;
            match decode::<MemoryReclaim>(&reclaim) {
                Ok(event) => {
                    prop_assert_eq!(
                        (event.begin_ns, event.order, event.gfp, event.reclaimed_pages),
                        (reclaim.begin_ns, reclaim.order, reclaim.gfp, reclaim.reclaimed_pages)
                    );
                    let id = (reclaim.flags & abi::RECLAIM_HAS_CGROUP != 0).then_some(reclaim.cgroup_id);
                    let expected = if scope == 0 { MemoryScope::Global } else { MemoryScope::Cgroup(id) };
                    prop_assert_eq!(event.scope, expected);
                }
                Err(DecodeError::Value { offset, found, .. }) => prop_assert_eq!((offset, found, scope), (HEADER + 32, 2, 2)),
                Err(error) => panic!("{error}"),
            }

            let event: MemoryCompaction = decode(&compaction).expect("any value will do");
            prop_assert_eq!((event.begin_ns, event.gfp, event.result.0), (compaction.begin_ns, compaction.gfp, compaction.result));
            prop_assert_eq!(event.order, (compaction.order >= 0).then_some(compaction.order.unsigned_abs()));
            let flags = (event.sync, event.direct);
            let has = |bit| compaction.flags & bit != 0;
            prop_assert_eq!(flags, (has(abi::COMPACTION_SYNC), has(abi::COMPACTION_DIRECT)));
            prop_assert_eq!(event.result.name().is_some(), compaction.result <= 8);

            let event: MemoryOomKill = decode(&oom).expect("any value will do");
            let has = |bit| oom.flags & bit != 0;
            prop_assert_eq!(
                (event.victim_tgid.0, event.victim_tid.0, event.victim_start_ns, event.score_adj),
                (oom.victim_tgid, oom.victim_tid, oom.victim_start_ns, oom.score_adj)
            );
            let sizes = event.sizes.map(|is| (is.total_vm_bytes, is.anon_bytes, is.file_bytes, is.shmem_bytes));
            let expected = (oom.total_vm_bytes, oom.anon_bytes, oom.file_bytes, oom.shmem_bytes);
            prop_assert_eq!(sizes, has(abi::OOM_HAS_SIZES).then_some(expected));
            let cause = event.cause.map(|cause| (cause.scope, cause.order, cause.gfp));
            let scope = if has(abi::OOM_IN_CGROUP) { MemoryScope::Cgroup(Some(oom.cgroup_id)) } else { MemoryScope::Global };
            let order = (oom.order >= 0).then_some(oom.order.unsigned_abs());
            prop_assert_eq!(cause, has(abi::OOM_HAS_CAUSE).then_some((scope, order, oom.gfp)));
        }

        #[test]
        fn paths(mut exec in any_abi::<abi::PathExec>(), mut open in any_abi::<abi::PathOpen>(), mut allowed in any_abi::<abi::PathAllowed>(), len in 0..300_u16) {
            (exec.len, open.len, allowed.len) = (len, len, len);
            for text in [&mut exec.text, &mut open.text, &mut allowed.text] {
                if let Some(rest) = text.get_mut(usize::from(len)..) {
                    rest.fill(0);
                }
            }
            match (decode::<PathExec>(&exec), decode::<PathOpen>(&open), decode::<PathAllowed>(&allowed)) {
                (Ok(event), Ok(opened), Ok(list)) => {
                    let until = usize::from(len);
                    prop_assert_eq!(event.path.as_bytes(), &exec.text[..until]);
                    prop_assert_eq!((event.inode, event.entry), (exec.inode, exec.entry));
                    prop_assert_eq!((event.device.major, event.device.minor), (exec.device >> 20, exec.device & 0xf_ffff));
                    prop_assert_eq!(event.truncated, exec.flags & abi::PATH_TRUNCATED != 0);
                    prop_assert_eq!(event.unlinked, exec.flags & abi::PATH_UNLINKED != 0);
                    prop_assert_eq!(opened.path.as_bytes(), &open.text[..until]);
                    prop_assert_eq!(opened.path.to_text(), String::from_utf8_lossy(&open.text[..until]));
                    prop_assert_eq!((opened.inode, opened.entry, opened.fd), (open.inode, open.entry, open.fd));
                    prop_assert_eq!((opened.device.major, opened.device.minor), (open.device >> 20, open.device & 0xf_ffff));
                    prop_assert_eq!(opened.truncated, open.flags & abi::PATH_TRUNCATED != 0);
                    prop_assert_eq!(opened.unlinked, open.flags & abi::PATH_UNLINKED != 0);
                    prop_assert_eq!((list.entry, list.path.as_bytes()), (allowed.entry, &allowed.text[..until]));
                }
                (Err(exec), Err(open), Err(allowed)) => {
                    prop_assert!(len > 256);
                    let at = |error: &DecodeError| match error {
                        DecodeError::Value { offset, found, .. } => (*offset - HEADER, *found),
                        other => panic!("{other}"),
                    };
                    prop_assert_eq!([at(&exec), at(&open), at(&allowed)], [(14, len.into()), (14, len.into()), (2, len.into())]);
                }
                others => panic!("{others:?}"),
            }
        }

        #[test]
        fn clock_change(clock in any_abi::<abi::ClockChange>()) {
            let event: ClockChange = decode(&clock).expect("any value will do");
            prop_assert_eq!(
                (event.monotonic_ns, event.boottime_ns, event.realtime_ns, event.uncertainty_ns),
                (clock.monotonic_ns, clock.boottime_ns, clock.realtime_ns, clock.uncertainty_ns)
            );
        }

        #[test]
        fn meta(lost in any_abi::<abi::Lost>(), marker in any_abi::<abi::Marker>(), mut sampling in any_abi::<abi::Sampling>(), seed in any_abi::<abi::ThreadSeed>(), mut cgroup in any_abi::<abi::CgroupName>(), family in 0..20_u32, len in 0..70_u16) {
            let event: Lost = decode(&lost).expect("any value will do");
            prop_assert_eq!(
                (event.kind.0, event.cpu, event.count, event.first_ns, event.last_ns),
                (lost.kind, lost.cpu, lost.count, lost.first_ns, lost.last_ns)
            );
            let event: Marker = decode(&marker).expect("any value will do");
            prop_assert_eq!(event.id, marker.id);

            sampling.family = family;
            match decode::<Sampling>(&sampling) {
                Ok(event) => prop_assert_eq!(
                    (event.family as u32, event.one_in, event.min_duration_ns),
                    (family, sampling.one_in, sampling.min_duration_ns)
                ),
                Err(error) => {
                    prop_assert!((10..15).contains(&family) || family > 15, "{}", error);
                    prop_assert!(matches!(error, DecodeError::Value { offset: HEADER, .. }), "{}", error);
                }
            }

            let event: ThreadSeed = decode(&seed).expect("any value will do");
            prop_assert_eq!(
                (event.start_ns, event.parent_tgid.0, event.comm.as_bytes()),
                (seed.start_ns, seed.parent_tgid, &comm(seed.comm)[..])
            );

            cgroup.len = len;
            match decode::<CgroupNamed>(&cgroup) {
                Ok(event) => {
                    prop_assert_eq!(event.text(), String::from_utf8_lossy(&cgroup.text[..len.into()]));
                    prop_assert_eq!(event.is_container, cgroup.flags & abi::CGROUP_IS_CONTAINER != 0);
                }
                Err(error) => {
                    prop_assert!(len > 64, "{}", error);
                    prop_assert!(matches!(error, DecodeError::Value { offset: HEADER, .. }), "{}", error);
                }
            }
        }
    }
}

/// Names that nobody allowed would be there. Of an empty path it is all of the text.
#[test]
fn what_is_behind_a_path_is_refused() {
    use kprobe_core::event::{PathAllowed, PathExec, PathOpen};
    let of = |len: u16, text: [u8; abi::PATH_TEXT]| {
        let exec = abi::PathExec { len, text, ..abi::PathExec::new_zeroed() };
        let open = abi::PathOpen { len, text, ..abi::PathOpen::new_zeroed() };
        let allowed = abi::PathAllowed { len, text, ..abi::PathAllowed::new_zeroed() };
        [
            decode::<PathExec>(&exec).map(|event| event.path),
            decode::<PathOpen>(&open).map(|event| event.path),
            decode::<PathAllowed>(&allowed).map(|event| event.path),
        ]
    };
    for (len, at) in [(0, 0), (0, 255), (1, 1), (1, 255), (255, 255)] {
        let mut text = [0; abi::PATH_TEXT];
        text[..len.into()].fill(b'x');
        for path in of(len, text) {
            assert_eq!(path.expect("nothing is behind it").as_bytes(), &text[..len.into()]);
        }
        text[at] = b's';
        for (path, where_len_is) in of(len, text).into_iter().zip([14, 14, 2]) {
            let error = path.expect_err("a byte is behind it");
            let DecodeError::Value { offset, expected, found, .. } = error else { panic!("{error}") };
            assert_eq!((offset, found), (HEADER + where_len_is, len.into()));
            assert_eq!(expected, "a length behind which all bytes are 0");
        }
    }
}

/// Which fields `E` gives for a body.
fn names<E: TypedEvent>(body: &(impl IntoBytes + Immutable)) -> Vec<&'static str> {
    let mut names = Vec::new();
    decode::<E>(body).expect("a good body").fields(Arch::X86_64, &mut |name, _| names.push(name));
    names
}

#[test]
fn optional_fields_are_there_when_they_should_be() {
    use kprobe_core::event::{
        MemoryFaultMajor, MemoryFaultMinor, ProcessExec, ProcessExit, SchedWaking, Syscall, TcpState,
    };
    let all = abi::SYSCALL_HAS_FD | abi::SYSCALL_HAS_REQUESTED | abi::SYSCALL_HAS_RET | abi::SYSCALL_COMPAT;
    let call = abi::Syscall { nr: 3, ret: -2, flags: all, ..Default::default() };
    assert_eq!(
        names::<Syscall>(&call),
        ["nr", "name", "abi", "enter_ktime_ns", "duration_ns", "fd", "requested", "ret", "errno"]
    );
    let call = abi::Syscall { nr: abi::SYSCALL_NR_INVALID, ..Default::default() };
    assert_eq!(names::<Syscall>(&call), ["enter_ktime_ns"]);
    assert_eq!(
        names::<ProcessExec>(&abi::ProcessExec { flags: 1, old_tid: 9, ..Default::default() }),
        ["start_ns", "parent_tgid", "old_tid", "exe_inode", "exe_dev"]
    );
    assert_eq!(
        names::<ProcessExec>(&abi::ProcessExec { old_tid: 4, ..Default::default() }),
        ["start_ns", "parent_tgid"]
    );
    assert_eq!(
        names::<ProcessExit>(&abi::ProcessExit { status: 9, ..Default::default() }),
        ["start_ns", "parent_tgid", "signal", "signal_name", "core_dumped", "process_ended"]
    );
    assert_eq!(
        names::<ProcessExit>(&abi::ProcessExit::default()),
        ["start_ns", "parent_tgid", "code", "core_dumped", "process_ended"]
    );
    let state = |remote_port| {
        let socket = abi::TcpSocket { remote_port, ..Default::default() };
        names::<TcpState>(&abi::TcpState { socket, ..Default::default() })
    };
    assert_eq!(state(0), ["local_addr", "local_port", "ipv6", "old", "new"]);
    assert_eq!(state(443), ["local_addr", "local_port", "remote_addr", "remote_port", "ipv6", "old", "new"]);
    assert_eq!(
        names::<SchedWaking>(&abi::SchedWaking::default()),
        ["wakee_tgid", "wakee_tid", "prio", "target_cpu"]
    );
    assert_eq!(
        names::<MemoryFaultMajor>(&abi::MemoryFaultMajor { flags: u32::MAX, ..Default::default() }),
        [
            "address",
            "write",
            "exec",
            "user",
            "remote",
            "begin_ktime_ns",
            "duration_ns",
            "file_inode",
            "file_dev"
        ]
    );
    assert_eq!(names::<MemoryFaultMajor>(&abi::MemoryFaultMajor::default()), ["address", "remote"]);
    assert_eq!(names::<MemoryFaultMinor>(&abi::MemoryFaultMinor::default()), ["address", "remote", "one_in"]);
}
