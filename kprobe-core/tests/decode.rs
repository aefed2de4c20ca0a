//! Decoding is total, and what was encoded comes back.

mod decode_support;

use decode_support::{HEADER, SIZES, decode_all};
use kprobe_core::{
    abi::{self, Header, Kind, MAX_RECORD},
    decode::{DecodeError, FRAME_HEADER, FrameError, Frames, Record, put_frame},
    event::{Arch, Event, Origin, Registry, TypedEvent},
};
use proptest::{collection::vec, prelude::*};
use zerocopy::{FromBytes, Immutable, IntoBytes};

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

/// Which fields `E` gives for a body.
fn names<E: TypedEvent>(body: &(impl IntoBytes + Immutable)) -> Vec<&'static str> {
    let mut names = Vec::new();
    decode::<E>(body).expect("a good body").fields(Arch::X86_64, &mut |name, _| names.push(name));
    names
}

#[test]
fn optional_fields_are_there_when_they_should_be() {
    use kprobe_core::event::{
        MemoryFaultMajor, MemoryFaultMinor, ProcessExec, ProcessExit, SchedWaking, Syscall,
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
