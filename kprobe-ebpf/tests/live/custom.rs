//! A user's own object beside kprobe's, in one recorder and one stream.

use std::collections::BTreeMap;

use kprobe_core::{
    abi::Kind,
    decode::{DecodeError, Record},
    event::{Arch, Field, Origin, Syscall, Type, TypedEvent, Value},
    pipeline::{BatchBuf, Source},
};
use kprobe_ebpf::{AttachError, Filter, Probe, Process, Recorder, Sched, Syscalls, host, include_object};
use libtest_mimic::Trial;

use crate::support::{kernel::BpfObjects, recording::Recording};

mod there {
    use super::*;

    crate::trials!(
        beside_system_calls,
        programs_of_both_objects,
        alone_and_too_small_a_ring,
        beside_system_calls_and_too_small_a_ring,
        a_program_serves_one_probe,
        rings_are_shared_out,
        an_object_that_is_none
    );
}

mod before_6_1 {
    use super::*;

    crate::trials!(off_with_the_reason);
}

/// Older kernels do not have what the object is built for.
pub fn trials() -> Vec<Trial> {
    if host::kernel_release().unwrap().at_least(6, 1) { there::trials() } else { before_6_1::trials() }
}

static OBJECT: &[u8] = include_object!("../../object/custom.o");

/// The event of `programs/src/bin/custom.rs`.
#[derive(Clone, Copy, Debug)]
struct Counted {
    origin: Origin,
    nr: u64,
    count_on_this_cpu: u64,
}

impl TypedEvent for Counted {
    const KIND: Kind = Kind::USER;
    const NAME: &'static str = "custom.counted";
    const FIELDS: &'static [Field] = &[
        Field::new("nr", Type::U64, "number of the system call"),
        Field::new("count_on_this_cpu", Type::U64, "calls on this CPU so far"),
    ];

    fn decode(record: Record<'_>) -> Result<Self, DecodeError> {
        let [nr, count_on_this_cpu] = record.body_of::<[u64; 2]>(Self::KIND)?;
        Ok(Self { origin: Origin::of(&record), nr, count_on_this_cpu })
    }

    fn origin(&self) -> &Origin {
        &self.origin
    }

    fn fields(&self, _: Arch, put: &mut dyn FnMut(&'static str, Value<'_>)) {
        put("nr", Value::U64(self.nr));
        put("count_on_this_cpu", Value::U64(self.count_on_this_cpu));
    }
}

fn off_with_the_reason() {
    let with = || Recorder::builder().require(Process::default()).filter(Filter::none());
    let recorder = with().probe(probe()).event::<Counted>().attach().unwrap();
    let report = recorder.report();
    assert_eq!(report.attached().count(), 4);
    let own = report.probes.iter().find(|event| event.probe == "custom.counted").unwrap();
    let start = "raw_tp: a program of one's own needs Linux 6.1: the object of custom.counted: ";
    assert!(own.rung.is_none() && own.refusal().starts_with(start), "{report}");
    drop(recorder);
    // It is an error where nothing is left, or where it is required.
    let alone = Recorder::builder().probe(probe()).filter(Filter::none()).attach().unwrap_err();
    let required = with().require(probe()).attach().unwrap_err();
    for error in [alone, required] {
        assert!(
            matches!(&error, AttachError::Object { probe, .. } if probe == "custom.counted"),
            "{error:?}"
        );
    }
    assert!(BpfObjects::own().is_empty());
}

fn probe() -> Probe<Counted> {
    Probe::new(OBJECT).raw_tracepoint("custom_getpid", "sys_enter")
}

/// The user's program is at a raw tracepoint, where Linux 7.0 and later may skip it; how often it says. Before, never.
fn check_counts(own: u64, calls: u64, skipped: u64) {
    let may_skip = host::kernel_release().unwrap().at_least(7, 0);
    assert!(may_skip || skipped == 0, "{skipped} skipped");
    assert!(own <= calls && own + skipped >= calls, "{own} of {calls}, {skipped} skipped");
}

fn programs_of_both_objects() {
    let builder = Recorder::builder().require(Syscalls::all()).require(probe()).event::<Counted>();
    let programs = builder.filter(Filter::none()).attach().unwrap().program_stats().programs;
    let probes = |beginning: &str| {
        let found = programs.iter().filter(|run| run.name.starts_with(beginning));
        found.map(|run| (run.probes.join(", "), run.id.unwrap())).collect::<BTreeMap<_, _>>()
    };
    assert_eq!(probes("custom_getpid").keys().collect::<Vec<_>>(), ["custom.counted"]);
    assert_eq!(probes("syscall_").keys().collect::<Vec<_>>(), ["syscall"]);
    assert_eq!(probes("follow_fork").keys().collect::<Vec<_>>(), [""]);
    // Each object has one, and the kernel both.
    let follow = programs.iter().filter(|run| run.name.starts_with("follow_fork"));
    let ids: std::collections::BTreeSet<_> = follow.map(|run| run.id.unwrap()).collect();
    assert_eq!((ids.len(), programs.len()), (2, 5));
}

fn beside_system_calls() {
    let builder = Recorder::builder()
        .require(Syscalls::all())
        .require(probe())
        .event::<Counted>()
        .filter(Filter::none());
    let mut recording = Recording::start(builder);
    assert_eq!(recording.recorder.registry().get(Counted::KIND).unwrap().name, "custom.counted");
    let mut workload = recording.spawn("getppid 20000 2");
    let mut buf = BatchBuf::default();
    let (mut own, mut calls) = (Vec::<Counted>::new(), Vec::<Syscall>::new());
    let (mut end, mut skipped) = (false, 0);
    while !end {
        if workload.child.try_wait().unwrap().is_some() {
            skipped = skipped.max(recording.recorder.skipped_programs());
            recording.recorder.stop();
        }
        end = recording.recorder.poll(&mut buf, Some(std::time::Duration::from_millis(20))).unwrap().end;
        let batch = buf.take();
        recording.take(&batch);
        own.extend(recording.recorder.events::<Counted, _>(&batch).map(Result::unwrap));
        calls.extend(recording.recorder.events::<Syscall, _>(&batch).map(Result::unwrap));
    }
    let recorded = recording.finish();
    assert_eq!(recorded.books.lost_in_all(), 0);
    // Both see the same entries: one of our records for each of theirs.
    let mut differences = BTreeMap::<(u32, u64), i64>::new();
    for counted in &own {
        *differences.entry((counted.origin.tid.0, counted.nr)).or_default() += 1;
    }
    for call in &calls {
        *differences.entry((call.origin.tid.0, call.nr.unwrap().nr.into())).or_default() -= 1;
    }
    check_counts(own.len() as u64, calls.len() as u64, skipped);
    assert!(calls.len() > 40_000);
    // What was skipped is missing, call by call, and nothing else.
    let missing: i64 = differences.values().map(|difference| -difference).sum();
    assert!(differences.values().all(|difference| *difference <= 0), "{differences:?}");
    assert!(missing <= skipped.cast_signed(), "{missing} missing, {skipped} skipped: {differences:?}");
    assert_eq!(recorded.books.submitted(Kind::USER), own.len() as u64);
    // The program's own count, in the order of each CPU.
    let mut cpus = BTreeMap::<u16, Vec<Counted>>::new();
    own.iter().for_each(|counted| cpus.entry(counted.origin.cpu.unwrap()).or_default().push(*counted));
    for mut of_cpu in cpus.into_values() {
        of_cpu.sort_by_key(|counted| counted.origin.seq);
        assert_eq!(of_cpu.last().unwrap().count_on_this_cpu, of_cpu.len() as u64);
    }
}

fn alone_and_too_small_a_ring() {
    let builder =
        Recorder::builder().require(probe()).filter(Filter::none()).ring_bytes(rustix::param::page_size());
    let mut recording = Recording::start(builder);
    let mut workload = recording.spawn("getppid 5000 1");
    assert!(workload.wait().success());
    let recorded = recording.finish();
    assert!(recorded.books.submitted(Kind::USER) > 5000);
    assert!(recorded.books.lost(Kind::USER) > 4000);
}

fn beside_system_calls_and_too_small_a_ring() {
    let builder = Recorder::builder()
        .require(Syscalls::all())
        .require(probe())
        .filter(Filter::none())
        .ring_bytes(2 * rustix::param::page_size());
    let mut recording = Recording::start(builder);
    let mut workload = recording.spawn("getppid 20000 2");
    recording.run(&mut workload);
    let recorded = recording.finish();
    let books = &recorded.books;
    check_counts(books.submitted(Kind::USER), books.submitted(Kind::SYSCALL), recorded.skipped);
    assert!(books.lost(Kind::USER) > 0 && books.lost(Kind::SYSCALL) > 0);
}

/// What the user gives is for all objects together; an object that has no event takes nothing.
fn rings_are_shared_out() {
    let both = || Recorder::builder().require(Syscalls::all()).require(probe()).filter(Filter::none());
    let recorder = both().ring_bytes(1 << 20).attach().unwrap();
    assert_eq!(recorder.report().memory().ring_bytes, 1 << 20);
    drop(recorder);
    let page = rustix::param::page_size();
    let refused = both().ring_bytes(page).attach().unwrap_err();
    assert!(matches!(refused, AttachError::RingBytes { least, .. } if least == 2 * page), "{refused}");
    let nothing = Sched::default().without_switch().without_waking().without_migrate();
    let builder = Recorder::builder().probe(nothing).require(probe()).filter(Filter::none());
    let recorder = builder.ring_bytes(page).attach().unwrap();
    assert_eq!(recorder.report().memory().ring_bytes, page as u64);
    let programs: Vec<_> = BpfObjects::own().program_names().into_iter().collect();
    assert_eq!(programs, ["custom_getpid", "follow_fork_btf"]);
}

/// Another event, of which the object knows nothing.
#[derive(Clone, Copy, Debug)]
struct Other(Counted);

impl TypedEvent for Other {
    const KIND: Kind = Kind(Kind::USER.0 + 1);
    const NAME: &'static str = "custom.other";
    const FIELDS: &'static [Field] = Counted::FIELDS;

    fn decode(record: Record<'_>) -> Result<Self, DecodeError> {
        Counted::decode(record).map(Self)
    }

    fn origin(&self) -> &Origin {
        &self.0.origin
    }

    fn fields(&self, arch: Arch, put: &mut dyn FnMut(&'static str, Value<'_>)) {
        self.0.fields(arch, put);
    }
}

/// Attached once more it would record twice; and what it is attached for stays when the other probe gives up.
fn a_program_serves_one_probe() {
    let other = Probe::<Other>::new(OBJECT)
        .raw_tracepoint("custom_getpid", "sys_enter")
        .btf_tracepoint("follow_fork_btf", "sched_wakeup_new");
    let builder = Recorder::builder().require(probe()).probe(other).filter(Filter::none());
    let recorder = builder.attach().unwrap();
    let refused = recorder.report().probes.iter().find(|probe| probe.probe == "custom.other").unwrap();
    assert_eq!(
        refused.refusal(),
        "raw_tp: the program custom_getpid is attached for another probe already; \
         tp_btf: the program follow_fork_btf is attached for another probe already"
    );
    let programs: Vec<_> = BpfObjects::own().program_names().into_iter().collect();
    assert_eq!(programs, ["custom_getpid", "follow_fork_btf"]);
    assert_eq!(BpfObjects::own().links.len(), 2);
}

fn an_object_that_is_none() {
    let text = |object: &'static [u8], program: &'static str| {
        let probe = Probe::<Counted>::new(object).raw_tracepoint(program, "sys_enter");
        Recorder::builder().require(probe).filter(Filter::none()).attach().unwrap_err().to_string()
    };
    let none = text(b"no object", "custom_getpid");
    assert!(none.starts_with("the object of custom.counted: ") && !none.contains('\n'), "{none}");
    assert_eq!(
        text(OBJECT, "another"),
        "the required probe custom.counted cannot be attached: raw_tp: the object has no program another"
    );
}
