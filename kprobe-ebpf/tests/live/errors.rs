//! What cannot be attached says why, in one line, and leaves nothing.

use std::{
    ffi::CStr,
    path::{Path, PathBuf},
};

use caps::{CapSet, Capability};
use kprobe_core::{
    abi::Kind,
    event::{Syscall, Tgid},
};
use kprobe_ebpf::{
    AttachError, Filter, Recorder, RecorderBuilder, SpawnError, Syscalls,
    filter::{Cgroup, FilterError, SyscallSet},
    host,
};
use libtest_mimic::Trial;

use crate::support::{
    child::Workload, in_vm, kernel::BpfObjects, recording::Recording, trial, workload::sys,
};

mod always {
    use super::*;

    crate::trials!(
        ring_sizes,
        what_was_not_said,
        rungs,
        what_is_not_there,
        cgroups_that_are_there,
        missing_capabilities,
        inside_a_pid_namespace,
        a_command_that_cannot_be_recorded,
        a_probe_that_is_not_required,
    );
}

/// Ignored, and counted as such, where the machine does not have what it is about.
pub fn trials() -> Vec<Trial> {
    let v1 = trial("live::errors::a_cgroup_of_version_1", a_cgroup_of_version_1);
    let mut trials = always::trials();
    trials.push(v1.with_ignored_flag(version_1().is_none() && !in_vm()));
    trials
}

fn builder() -> RecorderBuilder<(Syscalls, ())> {
    Recorder::builder().probe(Syscalls::all()).filter(Filter::none())
}

/// The error, of which nothing is left in the kernel.
fn error<P: std::fmt::Debug>(builder: RecorderBuilder<P>) -> (AttachError, String) {
    let error = builder.attach().unwrap_err();
    assert!(BpfObjects::own().is_empty());
    let text = error.to_string();
    assert!(!text.contains('\n'), "{text}");
    (error, text)
}

fn ring_sizes() {
    let page = rustix::param::page_size();
    for bytes in [0, 1, page / 2, page + 1, 3 * page, 5_000_000, 2 << 30] {
        let (error, text) = error(builder().ring_bytes(bytes));
        assert!(matches!(error, AttachError::RingBytes { found, .. } if found == bytes), "{error:?}");
        let expected = format!(
            "a ring buffer of {bytes} bytes cannot be: expected a power of two from {page} to 1073741824"
        );
        assert_eq!(text, expected);
    }
    drop(builder().ring_bytes(page).attach().unwrap());
}

fn what_was_not_said() {
    let (no_probe, text) = error(Recorder::builder().filter(Filter::none()));
    assert!(matches!(no_probe, AttachError::NoProbe));
    assert_eq!(text, "no probe: add one with `RecorderBuilder::probe`");
    let (no_filter, text) = error(Recorder::builder().probe(Syscalls::all()));
    assert!(matches!(no_filter, AttachError::NoFilter));
    assert_eq!(text, "no filter: say what to record, or `Filter::all()` to record the whole system");
}

fn rungs() {
    let (unknown, text) = error(builder().forbid_rung("kprobe"));
    assert!(matches!(unknown, AttachError::UnknownRung { .. }));
    assert_eq!(text, "no probe has a rung `kprobe`; there are raw_tp, raw_tp+hash, tp_btf, tracepoint");
    let required = Recorder::builder().require(Syscalls::all()).filter(Filter::none());
    let (none_left, text) = error(without(required, &RUNGS));
    assert!(matches!(&none_left, AttachError::Probe { probe, .. } if probe == "syscall"), "{none_left:?}");
    let start = "the required probe syscall cannot be attached: ";
    assert!(text.starts_with(start) && text.ends_with(": forbidden by the user"), "{text}");
    assert!(RUNGS.iter().all(|rung| text.contains(rung)), "{text}");
}

/// Every rung there is.
const RUNGS: [&str; 4] = ["tp_btf", "raw_tp", "tracepoint", "raw_tp+hash"];

fn without<P>(builder: RecorderBuilder<P>, rungs: &[&str]) -> RecorderBuilder<P> {
    rungs.iter().fold(builder, |builder, rung| builder.forbid_rung(*rung))
}

fn what_is_not_there() {
    let mut gone = Workload::start("exit 0");
    gone.wait();
    let gone = Tgid(gone.tgid());
    let (no_process, text) = error(builder().filter(Filter::tgids([gone])));
    assert!(matches!(no_process, AttachError::Filter(FilterError::NoProcess { tgid }) if tgid == gone));
    assert_eq!(text, format!("no process {gone} (it may have ended)"));

    let mount = host::cgroup2_mount().unwrap().path;
    let no_cgroup = Filter::cgroup(mount.join("kprobe-nowhere")).unwrap_err();
    assert!(matches!(no_cgroup, FilterError::NoCgroup { .. }));
}

/// Two nested cgroups without processes, removed at the end.
struct Nested(PathBuf);

impl Nested {
    fn make(mount: &Path, name: &str) -> Self {
        let outer = mount.join(format!("kprobe-{name}-{}", std::process::id()));
        std::fs::create_dir_all(outer.join("inner")).unwrap();
        Self(outer)
    }
}

impl Drop for Nested {
    fn drop(&mut self) {
        // Both fail only if something else is in them, which the next test would tell.
        let _ = std::fs::remove_dir(self.0.join("inner"));
        let _ = std::fs::remove_dir(&self.0);
    }
}

fn cgroups_that_are_there() {
    let mount = host::cgroup2_mount().unwrap();
    assert!(mount.whole, "{mount:?}");
    let mount = mount.path;
    assert_eq!(Cgroup::open(&mount).unwrap(), Cgroup { id: 1, depth: 0, path: mount.clone() });
    let nested = Nested::make(&mount, "nested");
    let (outer, inner) = (Cgroup::open(&nested.0).unwrap(), Cgroup::open(nested.0.join("inner/.")).unwrap());
    assert_eq!((outer.depth, inner.depth), (1, 2));
    assert_ne!(outer.id, inner.id);
    assert_eq!(inner.path, nested.0.join("inner"));
    let says = |path: &Path| Cgroup::open(path).unwrap_err().to_string();
    let file = nested.0.join("cgroup.procs");
    let expected = format!("{} is no cgroup: it is a file, expected the directory it is in", file.display());
    assert_eq!(says(&file), expected);
    // As /proc/PID/cgroup and systemctl write it.
    let path = Path::new("/").join(nested.0.strip_prefix(&mount).unwrap());
    let expected = format!(
        "no cgroup {}: there is no such directory; did you mean {}?",
        path.display(),
        nested.0.display()
    );
    assert_eq!(says(&path), expected);
}

/// A hierarchy of version 1, if this machine has one.
fn version_1() -> Option<PathBuf> {
    let mounts = host::mounts().unwrap();
    mounts.into_iter().find(|mount| mount.kind == "cgroup").map(|mount| mount.path)
}

fn a_cgroup_of_version_1() {
    if version_1().is_none() {
        // A machine of our own, which has none at its start.
        std::fs::create_dir("/tmp/version-1").unwrap();
        mount(c"cgroup", c"/tmp/version-1", 0, c"none,name=kprobe");
    }
    let v1 = version_1().unwrap();
    let error = Cgroup::open(&v1).unwrap_err();
    assert!(matches!(error, FilterError::Version1 { .. }));
    let expected = format!(
        "cgroup {} is of version 1, by which events cannot be filtered; expected a directory of version 2, below {}",
        v1.display(),
        host::cgroup2_mount().unwrap().path.display()
    );
    assert_eq!(error.to_string(), expected);
    let error = Cgroup::open(v1.join("tasks")).unwrap_err();
    assert!(matches!(error, FilterError::File { .. }), "{error}");
}

/// The workload: gives capabilities up, tries to attach, and writes what comes of it.
#[expect(clippy::print_stdout, reason = "a workload reports on its standard output")]
pub fn attach_without(case: u64) {
    let kept: &[Capability] = match case {
        0 => &[],
        1 => &[Capability::CAP_BPF],
        2 => &[Capability::CAP_PERFMON],
        _ => &[Capability::CAP_BPF, Capability::CAP_PERFMON],
    };
    let kept = kept.iter().copied().collect();
    for set in [CapSet::Effective, CapSet::Permitted] {
        caps::set(None, set, &kept).unwrap();
    }
    let outcome = builder().attach().map_or_else(|error| error.to_string(), |_| "attached".to_owned());
    println!("{outcome}");
    assert!(case == 3 || BpfObjects::own().is_empty());
}

fn missing_capabilities() {
    let how = "every family is off without CAP_BPF (programs and maps) and CAP_PERFMON \
         (reading what the kernel passes to them); run as root, or give the \
         program those two with \
               `setcap cap_bpf,cap_perfmon+ep FILE`";
    let expected = [
        format!("missing CAP_BPF and CAP_PERFMON: {how}"),
        format!("missing CAP_PERFMON: {how}"),
        format!("missing CAP_BPF: {how}"),
        "attached".to_owned(),
    ];
    for (case, expected) in expected.iter().enumerate() {
        let mut workload = Workload::start(&format!("attach-without {case}"));
        assert_eq!(workload.lines(), [expected.as_str()]);
        assert!(workload.wait().success());
    }
}

/// The workload: the first process of a new pid namespace, with a `/proc` of its own, attaches and writes what comes of
/// it.
#[expect(clippy::print_stdout, reason = "a workload reports on its standard output")]
pub fn attach_in_pid_namespace() {
    let name = format!("kprobe-pid-namespace-{}", std::process::id());
    // SAFETY: no pointers.
    assert_eq!(unsafe { libc::unshare(libc::CLONE_NEWPID | libc::CLONE_NEWNS) }, 0);
    let first = sys::fork(|| {
        mount(c"none", c"/", libc::MS_REC | libc::MS_PRIVATE, c"");
        mount(c"proc", c"/proc", 0, c"");
        assert_eq!(std::process::id(), 1);
        let cgroup = host::cgroup2_mount().unwrap().path;
        let own = cgroup.join(name);
        std::fs::create_dir(&own).unwrap();
        std::fs::write(own.join("cgroup.procs"), "0").unwrap();
        let calls = Syscalls::of(SyscallSet::named(["getppid"]).unwrap());
        let builder = |filter| Recorder::builder().probe(calls.clone()).filter(filter);
        let by_cgroup = Filter::cgroup(&own).unwrap();
        println!("{}", error(builder(Filter::none())).1);
        println!("{}", error(builder(by_cgroup.clone())).1);
        let mut recording = Recording::start(builder(by_cgroup.include_self(true)));
        println!("{}", recording.recorder.report().notes.join(" | "));
        for _ in 0..100 {
            sys::call(libc::SYS_getppid, [0; 6]);
        }
        recording.stop();
        let recorded = recording.finish();
        let mut by: Vec<u32> = recorded.all::<Syscall>().iter().map(|call| call.origin.tgid.0).collect();
        let count = by.len();
        by.dedup();
        println!("{count} calls by {by:?}, {} seeds", recorded.books.received(Kind::META_THREAD));
        std::fs::write(cgroup.join("cgroup.procs"), "0").unwrap();
        std::fs::remove_dir(&own).unwrap();
    });
    assert_eq!(sys::wait_for(first), 0);
    println!("{first}");
}

/// Mounts `kind`, where `flags` do not say to do something else.
fn mount(kind: &CStr, at: &CStr, flags: libc::c_ulong, options: &CStr) {
    let (kind, options) = (kind.as_ptr(), options.as_ptr().cast());
    // SAFETY: the strings are alive.
    let result = unsafe { libc::mount(kind, at.as_ptr(), kind, flags, options) };
    assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
}

/// Its own id there is 1, which the kernel uses for another.
fn inside_a_pid_namespace() {
    let mut workload = Workload::start("attach-in-pid-namespace");
    let lines = workload.lines();
    assert!(workload.wait().success(), "{lines:?}");
    let [by_id, without_self, note, recorded, first] = &lines[..] else { panic!("{lines:?}") };
    assert!(by_id.starts_with("process ids cannot be selected from inside a pid namespace: "), "{by_id}");
    assert!(
        without_self.starts_with("the recorder cannot leave itself out from inside a pid namespace: "),
        "{without_self}"
    );
    assert!(note.starts_with("recording from inside a pid namespace: "), "{note}");
    assert_eq!(*recorded, format!("100 calls by [{first}], 0 seeds"));
}

fn a_command_that_cannot_be_recorded() {
    let mut recorder = builder().attach().unwrap();
    let error = recorder.spawn(&mut std::process::Command::new("/nonexistent/program")).unwrap_err();
    assert!(matches!(error, SpawnError::Start(_)));
    assert_eq!(error.to_string(), "cannot start the command: No such file or directory (os error 2)");
    drop(recorder);
    let mount = host::cgroup2_mount().unwrap().path;
    let outside = mount.join(format!("kprobe-empty-{}", std::process::id()));
    std::fs::create_dir(&outside).unwrap();
    let mut recorder = builder().filter(Filter::cgroup(&outside).unwrap()).attach().unwrap();
    let error = recorder.spawn(&mut crate::support::child::workload("exit 0")).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the recorder's filter is not made of processes: build it with `Filter::tgids` or `Filter::none()`"
    );
    std::fs::remove_dir(&outside).unwrap();
}

fn a_probe_that_is_not_required() {
    let builder = Recorder::builder().probe(Syscalls::all()).probe(kprobe_ebpf::Process::default());
    let recorder = without(builder.filter(Filter::none()), &RUNGS[..3]).attach().unwrap();
    let report = recorder.report();
    assert_eq!(report.attached().map(|probe| probe.probe.as_str()).collect::<Vec<_>>(), ["syscall"]);
    let off: Vec<_> = report.probes.iter().filter(|probe| probe.rung.is_none()).collect();
    assert_eq!(off.len(), 4);
    for probe in off {
        let rungs: Vec<_> = probe.ladder.iter().map(|rung| rung.rung.as_str()).collect();
        assert_eq!(probe.refusal(), format!("{}: forbidden by the user", rungs.join(", ")));
    }
}
