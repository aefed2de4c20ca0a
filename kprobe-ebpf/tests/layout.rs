//! Both sides have the same layout of what they share (I2): every struct of the ABI as the committed object's BTF has it.
#![expect(clippy::unwrap_used, reason = "tests")]

use kprobe_core::abi;
use kprobe_ebpf::{
    btf::{Btf, Field, elf_section},
    include_object,
};

static OBJECT: &[u8] = include_object!("../object/kprobe.o");

/// A struct as Rust has it here: name, size, and name, offset and size of each member.
type Layout = (&'static str, usize, Vec<(&'static str, usize, usize)>);

macro_rules! layouts {
    ($($name:ident { $($field:ident),+ $(,)? })+) => {
        vec![$((
            stringify!($name),
            size_of::<abi::$name>(),
            {
                // Names every member, or it does not compile.
                fn _whole(abi::$name { $($field: _),+ }: abi::$name) {}
                vec![$((
                    stringify!($field),
                    std::mem::offset_of!(abi::$name, $field),
                    size_of_member(|whole: &abi::$name| &whole.$field),
                )),+]
            },
        )),+]
    };
}

fn size_of_member<Whole, Member>(_: fn(&Whole) -> &Member) -> usize {
    size_of::<Member>()
}

fn shared_with_the_kernel() -> Vec<Layout> {
    layouts! {
        Header { ktime_ns, cgroup_id, tgid, tid, kind, cpu, seq }
        SchedSwitch { next_tid, next_tgid, prev_state, prev_prio, next_prio, flags }
        SchedWaking { wakee_tid, wakee_tgid, prio, target_cpu, context }
        SchedMigrate { moved_tid, moved_tgid, from_cpu, to_cpu, prio }
        ProcessFork { child_tgid, child_tid, child_start_ns, parent_tgid, flags }
        ProcessExec { start_ns, exe_inode, exe_dev, parent_tgid, old_tid, flags, comm }
        ProcessExit { start_ns, parent_tgid, status, flags }
        ProcessRename { renamed_tid, renamed_tgid, comm }
        MemoryFaultMajor { begin_ns, address, inode, device, flags }
        MemoryFaultMinor { begin_ns, address, one_in, flags }
        MemoryReclaim { begin_ns, reclaimed_pages, cgroup_id, order, gfp, scope, flags }
        MemoryCompaction { begin_ns, order, gfp, result, flags }
        MemoryOomKill {
            victim_start_ns, total_vm_bytes, anon_bytes, file_bytes, shmem_bytes, cgroup_id, victim_tgid, victim_tid,
            order, gfp, score_adj, flags,
        }
        BlockRequest {
            queued_ns, issued_ns, sector, bytes, origin_cgroup_id, charged_cgroup_id, dev, origin_tgid, origin_tid, flags, op,
            status, requeues, bios,
        }
        BlockMerge {
            queued_ns, sector, bytes, origin_cgroup_id, charged_cgroup_id, dev, origin_tgid, origin_tid, flags, op, how,
            reserved,
        }
        IrqHard { begin_ns, number, flags }
        IrqSoft { begin_ns, nested_ns, vector, reserved }
        IrqSum { count, total_ns }
        IrqCpu { soft, vector, device, hard_begin_ns, soft_begin_ns, nested_ns, is_own }
        SecurityCapability { capability, result, user_ns_level, flags }
        UdpSocket { cookie, local_addr, remote_addr, local_port, remote_port, netns, segment_bytes, flags }
        UdpSend { socket, sent_ns, bytes }
        UdpRecv { socket, bytes, datagram_bytes }
        WaitBlocked {
            begin_ns, woken_ns, object, cookie, wake_object, wake_cookie, device, wake_device, fd, wake_fd, waker_tgid,
            waker_tid, state, flags, nr, wake_nr, class, wake_class, wake_context, reserved,
        }
        WaitEpoll { epoll, object, cookie, epfd, fd, device, op, class, flags }
        WaitThrottle { begin_ns, cgroup_id, cpu, flags }
        UnixSend { cookie, peer_cookie, start, end, inode, flags }
        UnixRecv { cookie, peer_cookie, start, end, inode, flags }
        PipeWrite { inode, start, end, device, call, flags }
        PipeRead { inode, start, end, device, call, flags }
        PathExec { inode, device, entry, len, flags, reserved, text }
        PathOpen { inode, device, entry, len, flags, fd, text }
        PathAllowed { entry, len, flags, text }
        TcpSocket { cookie, local_addr, remote_addr, local_port, remote_port, netns, srtt_us, flags }
        TcpSend { socket, start, end }
        TcpRecv { socket, start, end }
        TcpRetransmit { socket, start, end, owner_tgid, owner_tid, segments, state }
        TcpState { socket, owner_tgid, owner_tid, old, new }
        TcpConnect { socket, begin_ns, owner_tgid, owner_tid, ret }
        TcpAccept { socket, queued_ns }
        FutexKey { address, object, offset, device, flags }
        LockContention { begin_ns, lock, ret, flags, context, reserved }
        LockFutex {
            enter_ns, key, woken_ns, waker_address, waker_tgid, waker_tid, ret, futexes, op, flags,
        }
        LockFutexWake {
            enter_ns, key, second_address, wanted, wanted_second, ret, op, flags, reserved,
        }
        Syscall { enter_ns, ret, requested, fd, nr, flags }
        HistogramSlot { kind, key, sum, counts }
        Counters { submitted, lost, lost_first_ns, lost_last_ns, lost_seen, considered, sampled_out }
        CpuState {
            seq, fork_returns, hardirq_depth, softirq_depth, unpaired, unstored, uncounted, wakes, runs_tid, runs_since_ns, seq_copy, seq_seen, paths_outside, paths_too_deep, reserved, counters,
        }
        ReaderState { idle, check_mask, wake_bytes, lost, reserved }
        Config { min_duration_ns, sample_one_in, cgroup_levels, has_removed, changes, noticed, unsettled, histogram_half }
    }
}

/// No program knows these.
fn made_by_user_space() -> Vec<Layout> {
    layouts! {
        Histogram { key, from_ns, sum, kind, by, flags, counts }
        Lost { count, first_ns, last_ns, kind, cpu, flags }
        Marker { id }
        Sampling { family, one_in, min_duration_ns }
        ThreadSeed { start_ns, parent_tgid, flags, comm }
        CgroupName { len, flags, reserved, text }
        ClockChange { monotonic_ns, boottime_ns, realtime_ns, uncertainty_ns }
    }
}

fn btf() -> Btf {
    Btf::parse(elf_section(OBJECT, ".BTF").unwrap()).unwrap()
}

#[test]
fn every_struct_is_in_the_object_as_it_is_here() {
    let btf = btf();
    for (name, size, members) in shared_with_the_kernel() {
        let mut expected: Vec<_> =
            members.iter().map(|(name, offset, size)| ((*name).to_owned(), *offset, *size)).collect();
        expected.sort();
        // The linker may leave several descriptions of one struct; what each of them says must be right.
        let ids: Vec<_> = btf.structs_named(name).collect();
        assert!(!ids.is_empty(), "{name} is not in the object");
        for id in ids {
            assert_eq!(btf.size_of(id).map(|size| size as usize), Some(size), "size of {name}");
            let member = |field: &Field<'_>| {
                (field.name.to_owned(), field.member.byte_offset as usize, field.member.size as usize)
            };
            // The compiler may order them as it likes in the description.
            let mut found: Vec<_> = btf.members(id).unwrap().iter().map(member).collect();
            found.sort();
            assert_eq!(found, expected, "members of {name}");
        }
    }
}

#[test]
fn members_fill_their_structs() {
    for (name, size, members) in shared_with_the_kernel().into_iter().chain(made_by_user_space()) {
        let mut end = 0;
        for (member, offset, size) in members {
            assert_eq!(offset, end, "{name}.{member}");
            end = offset + size;
        }
        assert_eq!((end, size % 8), (size, 0), "{name}");
    }
}

#[test]
fn every_kind_that_is_emitted_has_a_body_of_that_name() {
    let btf = btf();
    let bodies = shared_with_the_kernel();
    let families = ["sched.", "process.", "syscall"];
    let kinds = abi::Kind::ALL.iter().filter_map(|kind| kind.name());
    for kind in kinds.filter(|kind| families.iter().any(|family| kind.starts_with(family))) {
        let body: String = kind.split('.').map(|word| word[..1].to_uppercase() + &word[1..]).collect();
        assert!(bodies.iter().any(|(name, ..)| *name == body), "no body for {kind}");
        assert!(btf.structs_named(&body).next().is_some(), "{body} is not in the object");
    }
}

/// Where the compiler cannot prove that an index is within bounds it calls what never returns, and the verifier refuses that.
#[test]
fn nothing_in_the_object_panics() {
    let name = b"panicking";
    assert!(OBJECT.windows(name.len()).all(|bytes| bytes != name));
    // Names of functions are in it.
    let known = b"pipe_unread";
    assert!(OBJECT.windows(known.len()).any(|bytes| bytes == known));
}
