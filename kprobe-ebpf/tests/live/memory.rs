//! Page faults.

use std::collections::BTreeSet;

use kprobe_core::{
    abi::Kind,
    event::{MemoryFaultMajor, MemoryFaultMinor, MemoryReclaim, MemoryScope, PageFault},
};
use kprobe_ebpf::{Filter, Memory, Recorder, host};

use crate::support::{
    memcg::MemoryCgroup,
    recording::{Recorded, Recording},
    rungs::{record, rungs},
    workload::memory::ANSWER_NS,
};

crate::trials!(
    every_rung_of_faults,
    every_rung_of_reclaim,
    minor_faults_are_counted,
    minor_faults_are_sampled
);

/// What the workload measured: a name, and the faults of one process in a time by the kernel's own count.
#[derive(Debug)]
struct Window {
    name: String,
    tgid: u32,
    from_ns: u64,
    to_ns: u64,
    major: usize,
    minor: usize,
    at: u64,
}

impl Window {
    fn parse(line: &str) -> Self {
        let mut words = line.split(' ');
        let name = words.next().unwrap().to_owned();
        let mut number = || words.next().unwrap().parse::<u64>().unwrap();
        Self {
            name,
            tgid: number() as u32,
            from_ns: number(),
            to_ns: number(),
            major: number() as usize,
            minor: number() as usize,
            at: number(),
        }
    }

    fn major<'a>(&self, recorded: &'a [MemoryFaultMajor]) -> Vec<&'a MemoryFaultMajor> {
        let all = recorded.iter().filter(|fault| fault.origin.tgid.0 == self.tgid);
        all.filter(|fault| (self.from_ns..=self.to_ns).contains(&fault.origin.ktime_ns)).collect()
    }

    fn minor<'a>(&self, recorded: &'a [MemoryFaultMinor]) -> Vec<&'a MemoryFaultMinor> {
        let all = recorded.iter().filter(|fault| fault.origin.tgid.0 == self.tgid);
        all.filter(|fault| (self.from_ns..=self.to_ns).contains(&fault.origin.ktime_ns)).collect()
    }

    /// Those at its place, page by page; how often each of them.
    fn pages(&self, faults: &[&MemoryFaultMinor], pages: usize) -> Vec<usize> {
        let of = |page: usize| self.at + page as u64 * 4096;
        let count = |page| faults.iter().filter(|fault| fault.fault.address == of(page)).count();
        (0..pages).map(count).collect()
    }
}

fn every_rung_of_faults() {
    let probe = || Memory::default().minor_faults(1);
    let rungs = rungs(probe());
    // Which of the functions' comes first depends on the kernel.
    let known = BTreeSet::from(["fentry", "kprobe", "raw_tp+perf", "perf"]);
    // Others belong to other events of memory.
    assert!(known.iter().all(|rung| rungs.iter().any(|known| known == rung)), "{rungs:?}");
    let mut whole = 0;
    for rung in known {
        if let Some((recorded, lines, _)) = record(probe(), &rungs, rung, "faults") {
            check(rung, &recorded, &lines);
            whole += 1;
        }
    }
    assert!(whole >= 2, "{whole}");
}

fn check(rung: &str, recorded: &Recorded, lines: &[String]) {
    let windows: Vec<_> = lines.iter().map(|line| Window::parse(line)).collect();
    assert_eq!(windows.len(), 16, "{lines:?}");
    let (all_major, all_minor) = (recorded.all::<MemoryFaultMajor>(), recorded.all::<MemoryFaultMinor>());
    let sees_begin = rung != "perf";
    let is_function = rung == "fentry" || rung == "kprobe";
    // What measuring itself takes, it takes first.
    for window in windows.iter().filter(|window| window.name != "first") {
        let (major, minor) = (window.major(&all_major), window.minor(&all_minor));
        let faults = || major.iter().map(|fault| &fault.fault).chain(minor.iter().map(|fault| &fault.fault));
        let context = format!("{rung} {window:?} {}", faults().count());
        if window.name == "failed" {
            assert!(faults().count() > 0 && faults().all(|fault| fault.address != window.at), "{context}");
            continue;
        }
        // Software events are not raised for the pages that the kernel takes by itself, which only the functions show.
        let unseen = match window.name.as_str() {
            "populated" if !is_function => 16,
            "remote" if !is_function => 8,
            _ => 0,
        };
        assert_eq!((major.len(), minor.len()), (window.major, window.minor - unseen), "{context}");
        for fault in faults() {
            assert_eq!(fault.begin_ns.is_some(), sees_begin, "{context} {fault:?}");
            assert!(fault.begin_ns.is_none_or(|begin| begin >= window.from_ns), "{context} {fault:?}");
            assert_eq!(fault.access.is_some(), sees_begin, "{context}");
            assert_eq!(fault.address % 4096, 0);
            let is_there = (window.at..window.at + 8 * 4096).contains(&fault.address);
            assert_eq!(fault.remote, window.name == "remote" && is_there, "{context}");
        }
        let there = |pages: u64| {
            let range = window.at..window.at + pages * 4096;
            faults().filter(move |fault| range.contains(&fault.address)).copied().collect::<Vec<PageFault>>()
        };
        let access = |pages| {
            let access = there(pages).into_iter().filter_map(|fault| fault.access);
            access.map(|access| (access.write, access.exec, access.user)).collect::<Vec<_>>()
        };
        let (write, read) = ((true, false, true), (false, false, true));
        let expect = |accesses: &[(bool, bool, bool)], pages| {
            let accesses = if sees_begin { accesses } else { &[] };
            assert_eq!(access(pages), accesses, "{context}");
        };
        match window.name.as_str() {
            "idle" => assert_eq!((window.major, window.minor), (0, 0)),
            "new" => {
                assert_eq!(window.pages(&minor, 64), [1; 64]);
                expect(&[write; 64], 64);
            }
            "zero-then-new" => {
                assert_eq!(window.pages(&minor, 16), [2; 16]);
                expect(&[[read; 16], [write; 16]].concat(), 16);
            }
            "copied" => {
                assert_eq!(window.pages(&minor, 32), [1; 32]);
                expect(&[write; 32], 32);
            }
            "by-the-kernel" => {
                assert_eq!(window.pages(&minor, 16), [1; 16]);
                expect(&[(true, false, false); 16], 16);
            }
            "populated" if is_function => assert_eq!(window.pages(&minor, 16), [1; 16]),
            "remote" if is_function => assert_eq!(window.pages(&minor, 8), [1; 8]),
            "threads" => assert!(window.minor >= 4 * 64),
            "stack" => assert!(window.minor >= 16),
            "code" if cfg!(target_arch = "x86_64") => expect(&[(false, true, true)], 1),
            "fetched" => {
                // Tried again, whichever of the two the kernel calls that.
                assert_eq!(there(4).len(), 4);
                expect(&[read; 4], 4);
                let major = major.iter().map(|fault| (fault.fault.address, fault.duration_ns()));
                let all = major.chain(minor.iter().map(|fault| (fault.fault.address, fault.duration_ns())));
                let there = all.filter(|(address, _)| (window.at..window.at + 4 * 4096).contains(address));
                let long =
                    there.filter(|(_, duration)| duration.is_none_or(|duration| duration >= ANSWER_NS));
                assert_eq!(long.count(), 4, "{context}");
            }
            // A file system in memory has no cold pages.
            name if name.starts_with("cold:") && window.major > 0 => {
                assert!(window.major >= 32, "{context}");
                let inode = name["cold:".len()..].parse().unwrap();
                for fault in major {
                    assert_eq!(fault.file.map(|(inode, _)| inode), is_function.then_some(inode), "{fault:?}");
                }
            }
            _ => {}
        }
    }
    let unpaired = if sees_begin { 0 } else { all_major.len() as u64 };
    assert_eq!(recorded.books.memory.unpaired, unpaired, "{rung}");
}

fn minor_faults_are_counted() {
    let builder = Recorder::builder().probe(Memory::default()).filter(Filter::none());
    let mut recording = Recording::start(builder);
    let mut workload = recording.spawn("gated-faults");
    assert_eq!(workload.line(), "ready");
    let mut counted = Vec::new();
    for _ in 0..4 {
        let before = recording.recorder.minor_faults();
        workload.go();
        let window = Window::parse(&workload.line());
        counted.push((window.minor as u64, recording.recorder.minor_faults() - before));
    }
    // What measuring itself takes, it takes in the first round.
    let (measured, all) = counted[3];
    assert!(measured >= 100 && measured == all, "{counted:?}");
    workload.close_input();
    recording.run(&mut workload);
    let recorded = recording.finish().lossless();
    assert_eq!(recorded.all::<MemoryFaultMinor>(), []);
    let books = &recorded.books;
    assert_eq!(books.submitted(Kind::MEMORY_FAULT_MINOR), 0);
    assert!(books.sampled_out(Kind::MEMORY_FAULT_MINOR) >= 400);
}

fn minor_faults_are_sampled() {
    const ONE_IN: u32 = 7;
    let builder = Recorder::builder().probe(Memory::default().minor_faults(ONE_IN)).filter(Filter::none());
    let mut recording = Recording::start(builder);
    let mut workload = recording.spawn("gated-faults");
    assert_eq!(workload.line(), "ready");
    workload.go();
    assert!(workload.line().starts_with("new "));
    workload.close_input();
    recording.run(&mut workload);
    let recorded = recording.finish().lossless();
    let rows = recorded.books.rows.iter().filter(|row| row.probe == "memory.fault_minor");
    let mut kept = 0;
    for row in rows {
        let considered = row.submitted + row.sampled_out;
        assert_eq!(row.submitted, considered.div_ceil(ONE_IN.into()), "{row:?}");
        kept += row.submitted;
    }
    let faults = recorded.all::<MemoryFaultMinor>();
    assert!(kept >= 100 / u64::from(ONE_IN) && kept == faults.len() as u64, "{kept}");
    assert!(faults.iter().all(|fault| fault.one_in == ONE_IN));
}

fn every_rung_of_reclaim() {
    const LIMIT: u64 = 24 << 20;
    const MIBS: u64 = 64;
    let rungs = rungs(Memory::default());
    let mut whole = 0;
    for rung in ["tp_btf", "raw_tp"] {
        let cgroup = MemoryCgroup::new(LIMIT);
        let workload = format!("reclaims {} {MIBS}", std::process::id());
        let Some((recorded, _, tgid)) = record(Memory::default(), &rungs, rung, &workload) else { continue };
        whole += 1;
        let reclaims = recorded.all::<MemoryReclaim>();
        // The kernel tells from 7.0 on.
        let id = cgroup.id().filter(|_| host::kernel_release().unwrap().at_least(7, 0));
        for reclaim in &reclaims {
            assert_eq!((reclaim.origin.tgid.0, reclaim.order), (tgid, 0), "{rung} {reclaim:?}");
            assert!(reclaim.begin_ns > 0 && reclaim.begin_ns <= reclaim.origin.ktime_ns);
            assert!(reclaim.gfp != 0, "{reclaim:?}");
            if cgroup.is_v2 {
                assert_eq!(reclaim.scope, MemoryScope::Cgroup(id), "{rung}");
            } else {
                assert!(matches!(reclaim.scope, MemoryScope::Cgroup(_)), "{rung} {reclaim:?}");
            }
        }
        let pages: u64 = reclaims.iter().map(|reclaim| reclaim.reclaimed_pages).sum();
        assert!(pages >= (MIBS << 20).saturating_sub(LIMIT) / 4096, "{rung}: {pages}");
        if cgroup.is_v2 {
            assert_eq!(reclaims.len() as u64, cgroup.number("memory.events", "max"), "{rung}");
            // Before 6.1 with what the kernel's own thread takes, which does not run for the limit of a cgroup.
            let is_told = host::kernel_release().unwrap().at_least(6, 1);
            let name = if is_told { "pgsteal_direct" } else { "pgsteal" };
            assert_eq!(pages, cgroup.number("memory.stat", name), "{rung}");
        }
        assert_eq!(recorded.books.memory.unpaired, 0);
    }
    assert!(whole >= 1, "{whole}");
}
