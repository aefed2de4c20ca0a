//! Disks of a whole machine: an ext4 file system on `/dev/vda`, and `/dev/vdb` below a device mapper that delays.

use std::{
    fs::{self, File},
    ops::Range,
    os::fd::AsRawFd,
    time::Duration,
};

use kprobe_core::event::{BlockFlags, BlockMerge, BlockOp, BlockRequest, Device, Syscall};
use kprobe_ebpf::{Block, Filter, Recorder, Syscalls, filter::SyscallSet, host};

use crate::support::{
    child::Workload,
    kernel::Deadline,
    recording::{Recorded, Recording},
};

crate::trials!(fsyncs_as_diskstats_counts_them, a_delaying_device, write_back_by_its_cgroup);

/// Requests of each operation, their sectors, and merges.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counts {
    reads: u64,
    read_sectors: u64,
    writes: u64,
    write_sectors: u64,
    flushes: u64,
    merges: u64,
}

/// Of `/proc/diskstats` (Documentation/admin-guide/iostats.rst); `None` while requests are under way.
fn counted(disk: &str) -> Option<Counts> {
    let stats = fs::read_to_string("/proc/diskstats").unwrap();
    let line = stats.lines().find(|line| line.split_whitespace().nth(2) == Some(disk)).unwrap();
    let numbers: Vec<u64> = line.split_whitespace().skip(3).map(|number| number.parse().unwrap()).collect();
    (numbers[8] == 0).then_some(Counts {
        reads: numbers[0],
        read_sectors: numbers[2],
        writes: numbers[4],
        write_sectors: numbers[6],
        flushes: numbers[15],
        merges: numbers[1] + numbers[5],
    })
}

/// When nothing has been under way for a while.
fn settled(disk: &str) -> Counts {
    // SAFETY: it takes nothing.
    unsafe { libc::sync() };
    let mut last = None;
    Deadline::wait_for("a disk to come to rest", || {
        std::thread::sleep(Duration::from_millis(50));
        let now = counted(disk);
        let is_settled = now.is_some() && now == last;
        last = now;
        is_settled
    });
    last.unwrap()
}

/// Of what came to its end in this time.
fn recorded_counts(recorded: &Recorded, device: Device, time: Range<u64>) -> Counts {
    let mut counts = Counts::default();
    let is_in = |request: &&BlockRequest| request.device == device && time.contains(&request.origin.ktime_ns);
    for request in recorded.all::<BlockRequest>().iter().filter(is_in) {
        let sectors = request.bytes / 512;
        match request.op {
            BlockOp::Read => {
                (counts.reads, counts.read_sectors) = (counts.reads + 1, counts.read_sectors + sectors);
            }
            BlockOp::Write => {
                (counts.writes, counts.write_sectors) = (counts.writes + 1, counts.write_sectors + sectors);
            }
            BlockOp::Flush => counts.flushes += 1,
            other => panic!("{other:?}"),
        }
    }
    let is_in = |merge: &&BlockMerge| merge.device == device && time.contains(&merge.origin.ktime_ns);
    counts.merges = recorded.all::<BlockMerge>().iter().filter(is_in).count() as u64;
    counts
}

fn device(disk: &str) -> Device {
    let text = fs::read_to_string(format!("/sys/block/{disk}/dev")).unwrap();
    let (major, minor) = text.trim().split_once(':').unwrap();
    Device { major: major.parse().unwrap(), minor: minor.parse().unwrap() }
}

/// The thread that writes the journal of the file system on a disk.
fn journal(disk: &str) -> u32 {
    let begin = format!("jbd2/{disk}-");
    let processes = fs::read_dir("/proc").unwrap();
    let mut pids = processes.filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok());
    let is_it = |pid: &u32| {
        fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm.starts_with(&begin))
    };
    pids.find(is_it).unwrap()
}

fn fsyncs_as_diskstats_counts_them() {
    const COUNT: usize = 1000;
    let builder = Recorder::builder()
        .require(Block::default())
        .require(Syscalls::of(SyscallSet::named(["pwrite64", "fsync"]).unwrap()))
        .filter(Filter::all().include_self(true));
    // The kernel reads bitmaps whenever it likes, so both are counted between moments of rest.
    let mut recording = Recording::start(builder);
    let before = settled("vda");
    let begin = host::clocks().monotonic_ns;
    let mut workload = Workload::start(&format!("fsyncs {COUNT}"));
    recording.run(&mut workload);
    // Many pieces next to each other.
    fs::write("/proc/sys/vm/drop_caches", "3").unwrap();
    fs::write("/disk/pieces", vec![1; 4 << 20]).unwrap();
    let after = settled("vda");
    let time = begin..host::clocks().monotonic_ns;
    let tgid = workload.tgid();
    let recorded = recording.finish().lossless();

    let found = recorded_counts(&recorded, device("vda"), time);
    let expected = Counts {
        reads: after.reads - before.reads,
        read_sectors: after.read_sectors - before.read_sectors,
        writes: after.writes - before.writes,
        write_sectors: after.write_sectors - before.write_sectors,
        flushes: after.flushes - before.flushes,
        merges: after.merges - before.merges,
    };
    assert_eq!(found, expected);

    let requests: Vec<BlockRequest> = recorded.all();
    let calls = recorded.all::<Syscall>();
    let calls: Vec<_> = calls.iter().filter(|call| call.origin.tgid.0 == tgid).collect();
    let first = calls.iter().position(|call| call.nr.unwrap().nr == libc::SYS_pwrite64 as u16).unwrap();
    let calls = &calls[first..];
    // Each write and its fsync, one after the other.
    assert_eq!(calls.len(), 2 * COUNT);
    assert!(calls.windows(2).all(|pair| pair[0].origin.ktime_ns <= pair[1].enter_ns));
    let (begin, end) = (calls[0].enter_ns, calls[2 * COUNT - 1].origin.ktime_ns);
    let (disk, journal) = (device("vda"), journal("vda"));
    // What each call had: data that the workload wrote, what the journal's thread wrote, and flushes.
    let mut had = vec![[0; 3]; 2 * COUNT];
    for request in requests.iter().filter(|request| request.device == disk) {
        let by = request.submitter.map(|by| by.tid.0);
        let what = match request.op {
            // Where the journal is full, whoever wants to write makes room, and writes metadata for it.
            BlockOp::Write if by == Some(tgid) && !request.flags.has(BlockFlags::META) => 0,
            BlockOp::Write if by == Some(journal) => 1,
            BlockOp::Flush => 2,
            _ => continue,
        };
        let (queued, done) =
            (request.queued_ns.unwrap_or_else(|| panic!("{request:?}")), request.origin.ktime_ns);
        if done < begin || queued > end {
            continue;
        }
        // The calls wait for all of it, so no part of it is outside of them. What only flushes never gets to the device itself.
        let only_flushes = request.op == BlockOp::Write && request.bytes == 0;
        let issued = request.issued_ns.or(only_flushes.then_some(queued));
        let issued = issued.unwrap_or_else(|| panic!("{request:?}"));
        assert!(queued <= issued && issued <= done, "{request:?}");
        let is_within = |call: &&Syscall| call.enter_ns <= queued && done <= call.origin.ktime_ns;
        let at = calls.iter().position(is_within).unwrap_or_else(|| panic!("in no call: {request:?}"));
        let is_theirs = by == Some(tgid) || by == Some(journal);
        assert!(request.op != BlockOp::Flush || request.bytes == 0 && is_theirs, "{request:?}");
        had[at][what] += u32::from(!only_flushes);
    }
    for (at, had) in had.iter().enumerate().skip(1).step_by(2) {
        assert!(had.iter().all(|count| *count > 0), "{:?} had {had:?}", calls[at]);
    }
    // Room in the journal is rarely made.
    let makes_room = had.iter().step_by(2).filter(|had| **had != [0; 3]).count();
    assert!(makes_room < COUNT / 20, "{makes_room}");
}

/// The device mapper's interface: `linux/dm-ioctl.h`.
#[repr(C)]
struct DmIoctl {
    version: [u32; 3],
    data_size: u32,
    data_start: u32,
    target_count: u32,
    open_count: i32,
    flags: u32,
    event_nr: u32,
    padding: u32,
    dev: u64,
    name: [u8; 128],
    uuid: [u8; 129],
    data: [u8; 7],
    // struct dm_target_spec and its parameters.
    sector_start: u64,
    length: u64,
    status: i32,
    next: u32,
    target_type: [u8; 16],
    parameters: [u8; 64],
}

fn mapper(control: &File, number: u64, sectors: u64) {
    const HEAD: u64 = 312;
    let text = |text: &str, room: &mut [u8]| room[..text.len()].copy_from_slice(text.as_bytes());
    // SAFETY: all fields are numbers, for which 0 will do.
    let mut request: DmIoctl = unsafe { std::mem::zeroed() };
    request.version = [4, 0, 0];
    (request.data_size, request.data_start) = (size_of::<DmIoctl>() as u32, HEAD as u32);
    text("slow", &mut request.name);
    if sectors > 0 {
        (request.target_count, request.length) = (1, sectors);
        text("delay", &mut request.target_type);
        text("/dev/vdb 0 20", &mut request.parameters);
    }
    let command = 3 << 30 | HEAD << 16 | 0xfd << 8 | number;
    // SAFETY: the kernel reads and writes as much as `data_size` says.
    let done = unsafe { libc::ioctl(control.as_raw_fd(), command as _, &raw mut request) };
    assert_eq!(done, 0, "{number}: {}", std::io::Error::last_os_error());
}

/// Makes `/dev/dm-0`.
fn slow_device() {
    const CREATE: u64 = 3;
    const RESUME: u64 = 6;
    const LOAD: u64 = 9;
    let control = File::options().read(true).write(true).open("/dev/mapper/control").unwrap();
    let sectors = fs::read_to_string("/sys/block/vdb/size").unwrap().trim().parse().unwrap();
    mapper(&control, CREATE, 0);
    mapper(&control, LOAD, sectors);
    mapper(&control, RESUME, 0);
}

fn a_delaying_device() {
    const COUNT: usize = 10;
    // It delays by jiffies: 20 ms are five ticks of 4 ms (CONFIG_HZ=250). The first has begun already, so that four may do, and a
    // late timer adds to them. In an emulated machine, where ticks that are late are made up for, they come sooner.
    const LEAST: u64 = 16_000_000;
    // Less than twice the delay.
    const MOST: u64 = 40_000_000;
    slow_device();
    let calls = SyscallSet::named(["pwrite64", "pread64"]).unwrap();
    let builder =
        Recorder::builder().require(Block::default()).require(Syscalls::of(calls)).filter(Filter::all());
    let mut recording = Recording::start(builder);
    let mut workload = Workload::start(&format!("device-io {COUNT}"));
    recording.run(&mut workload);
    let tgid = workload.tgid();
    let recorded = recording.finish().lossless();
    let requests: Vec<BlockRequest> = recorded.all();
    let (slow, disk) = (device("dm-0"), device("vdb"));
    let (mut delays, mut rests) = (Vec::new(), Vec::new());
    for call in recorded.all::<Syscall>().iter().filter(|call| call.origin.tgid.0 == tgid) {
        if call.ret != Some(4096) {
            continue;
        }
        let within = |request: &&BlockRequest| {
            request.queued_ns.unwrap() >= call.enter_ns && request.origin.ktime_ns <= call.origin.ktime_ns
        };
        let above: Vec<_> = requests.iter().filter(|request| request.device == slow).filter(within).collect();
        assert_eq!(above.len(), 1, "{above:?}");
        let submitter = above[0].submitter.unwrap();
        assert_eq!((submitter.tid, above[0].bytes), (call.origin.tid, 4096));
        assert!(above[0].flags.has(BlockFlags::BIO) && above[0].queue_duration_ns() == Some(0));
        let delay = above[0].device_duration_ns().unwrap();
        delays.push(delay);
        // What is left of the call, in which the submission and the completion are.
        rests.push(call.origin.ktime_ns - call.enter_ns - delay);
        // What the disk below was asked for later, by whoever waited for the time to pass.
        let below: Vec<_> = requests.iter().filter(|request| request.device == disk).filter(within).collect();
        assert_eq!(below.len(), 1, "{below:?}");
        assert!(!below[0].flags.has(BlockFlags::BIO) && below[0].sector == above[0].sector);
        assert!(below[0].queued_ns.unwrap() >= above[0].queued_ns.unwrap());
        assert!(below[0].submitter.unwrap().is_kernel_thread, "{below:?}");
    }
    delays.sort_unstable();
    rests.sort_unstable();
    assert_eq!(delays.len(), 2 * COUNT);
    assert!(delays[COUNT] >= LEAST && delays[COUNT] < MOST, "{delays:?}");
    assert!(rests[COUNT] < LEAST / 4, "{rests:?}");
    let of_slow = requests.iter().filter(|request| request.device == slow && request.bytes == 4096);
    assert!(of_slow.count() >= 2 * COUNT);
}

fn write_back_by_its_cgroup() {
    const PAGES: u64 = 32;
    fs::write("/sys/fs/cgroup/cgroup.subtree_control", "+io +memory").unwrap();
    let cgroup = std::path::Path::new("/sys/fs/cgroup/kprobe-write-back");
    fs::create_dir(cgroup).unwrap();
    let id = std::os::unix::fs::MetadataExt::ino(&fs::metadata(cgroup).unwrap());
    let mut workload = Workload::start(&format!("dirty {PAGES}"));
    fs::write(cgroup.join("cgroup.procs"), workload.tgid().to_string()).unwrap();
    let builder = Recorder::builder().require(Block::default()).filter(Filter::cgroup(cgroup).unwrap());
    let mut recording = Recording::start(builder);
    workload.go();
    assert_eq!(workload.line(), "done");
    settled("vda");
    workload.close_input();
    recording.run(&mut workload);
    let recorded = recording.finish().lossless();
    let requests: Vec<BlockRequest> = recorded.all();
    for request in &requests {
        let is_own = request.submitter.is_some_and(|by| by.cgroup_id == id);
        assert!(is_own || request.charged_cgroup_id == Some(id), "{request:?}");
    }
    let written_back = requests.iter().filter(|request| {
        request.op == BlockOp::Write && request.submitter.is_some_and(|by| by.is_kernel_thread)
    });
    let bytes: u64 = written_back.map(|request| request.bytes).sum();
    assert!(bytes >= PAGES * 4096, "{requests:#?}");
}
