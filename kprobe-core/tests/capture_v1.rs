//! A capture of version 1 that must be read forever. Its records are made by hand: every kind that version 1 has.
//!
//! `KPROBE_WRITE_CAPTURE_V1=1 cargo test -p kprobe-core --test capture_v1` writes it anew. There should never be a reason
//! to: a file that cannot be read any more is a bug of the reader.

mod capture_support;

use std::{fmt::Write, path::Path, sync::Once};

use capture_support::{Contents, capture_of, every_kind, info, read_all};
use kprobe_core::{
    decode::Record,
    event::{Event, Origin, Registry},
    pipeline::ProbeRow,
};

fn row(probe: &str, cpu: Option<u16>, submitted: u64, lost: u64) -> ProbeRow {
    ProbeRow { probe: probe.to_owned(), cpu, submitted, lost, sampled_out: 0 }
}

fn probes() -> Vec<ProbeRow> {
    let mut rows = vec![
        row("meta.sampling", None, 1, 0),
        row("meta.thread", None, 1, 0),
        row("meta.cgroup", None, 1, 0),
        row("meta.marker", None, 1, 0),
        row("meta.lost", None, 1, 0),
        row("process.exec", Some(0), 1, 0),
        row("process.fork", Some(0), 1, 0),
        row("syscall", Some(1), 7, 5),
        row("syscall", Some(3), 1, 0),
        row("sched.switch", Some(2), 1, 0),
        row("sched.waking", Some(2), 1, 0),
        row("sched.migrate", Some(3), 1, 0),
        row("process.rename", Some(3), 1, 0),
        row("process.exit", Some(3), 1, 0),
        row("app.odd", Some(0), 1, 0),
        row("app.words", Some(1), 1, 0),
        row("kind-0x7777", Some(2), 1, 0),
    ];
    rows[7].sampled_out = 99;
    rows
}

fn v1() -> Contents {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/v1.kcap");
    static WRITTEN: Once = Once::new();
    WRITTEN.call_once(|| {
        if std::env::var_os("KPROBE_WRITE_CAPTURE_V1").is_some() {
            let (first, second) = (every_kind()[..9].to_vec(), every_kind()[9..].to_vec());
            std::fs::write(&path, capture_of(&[first, second], Some(&probes()))).expect("writable");
        }
    });
    let file = std::fs::File::open(path).expect("it is in the repository");
    read_all(file).expect("a capture")
}

/// Time, CPU, process, thread, cgroup and number, then kind and fields as every sink gets them.
fn line(registry: &Registry, bytes: &[u8]) -> String {
    let record = Record::new(bytes).expect("a record");
    let Origin { ktime_ns, cgroup_id, tgid, tid, cpu, seq } = Origin::of(&record);
    let cpu = cpu.map_or_else(|| "-".to_owned(), |cpu| cpu.to_string());
    let mut line = format!("{ktime_ns} {cpu} {tgid} {tid} {cgroup_id} {seq} ");
    match registry.get(record.kind()) {
        None => write!(line, "{:?} of {} bytes", record.kind(), bytes.len()).expect("memory takes it"),
        Some(entry) => {
            line += entry.name;
            let mut fields = String::new();
            let result = entry.fields_of(record, info().arch, &mut |name, value| {
                write!(fields, " {name}={value:?}").expect("memory takes it");
            });
            match result {
                Ok(()) => line += &fields,
                Err(error) => write!(line, ": {error}").expect("memory takes it"),
            }
        }
    }
    line
}

#[test]
fn its_records() {
    let registry = Registry::builtin();
    let lines: Vec<_> = v1().records.iter().map(|record| line(&registry, record)).collect();
    assert_eq!(lines, EXPECTED.lines().collect::<Vec<_>>(), "{}", lines.join("\n"));
}

const EXPECTED: &str = "\
1000000000 - 4000 4100 72535 0 meta.sampling family=Text(\"syscall\") one_in=U64(100) min_duration_ns=U64(50000)
1000001000 - 4001 4101 72535 1 meta.thread start_ns=U64(10000000) parent_tgid=U64(1)
1000002000 - 4002 4102 72535 2 meta.cgroup cgroup=Text(\"3f5a9c0d1e2b\") is_container=Bool(true)
1000003000 - 4003 4103 72535 3 meta.marker id=U64(42)
1000004000 0 4004 4104 7000 4 process.exec start_ns=U64(77) parent_tgid=U64(1) exe_inode=U64(131073) exe_dev=Text(\"8:1\")
1000005000 0 4005 4105 7000 5 process.fork child_tgid=U64(9001) child_tid=U64(9001) child_start_ns=U64(88) parent_tgid=U64(4005) thread=Bool(false)
1000006000 1 4006 4106 7001 6 syscall nr=U64(257) name=Text(\"openat\") enter_ktime_ns=U64(1000004500) duration_ns=U64(1500) fd=I64(-100) requested=U64(4096) ret=I64(-2) errno=Text(\"ENOENT\")
1000007000 1 4007 4107 7001 7 syscall nr=U64(231) name=Text(\"exit_group\") enter_ktime_ns=U64(1000007000)
1000008000 2 4008 4108 7002 8 sched.switch next_tgid=U64(9001) next_tid=U64(9001) prev_state=Text(\"S\") prev_prio=I64(120) next_prio=I64(98) preempt=Bool(true)
1000009000 2 4009 4109 7002 9 sched.waking wakee_tgid=U64(4006) wakee_tid=U64(4106) prio=I64(120) target_cpu=U64(3) context=Text(\"softirq\")
1000010000 3 4010 4110 7003 10 sched.migrate moved_tgid=U64(4006) moved_tid=U64(4106) from_cpu=U64(3) to_cpu=U64(0) prio=I64(120)
1000011000 - 4011 4111 72535 11 meta.lost probe=Text(\"syscall\") lost_cpu=U64(1) count=U64(5) first_ktime_ns=U64(1000000500) last_ktime_ns=U64(1000000900)
1000012000 3 4012 4112 7003 12 process.rename renamed_tgid=U64(9001) renamed_tid=U64(9001) new_comm=Text(\"worker-�\")
1000013000 3 4013 4113 7003 13 process.exit start_ns=U64(88) parent_tgid=U64(4005) signal=U64(11) signal_name=Text(\"SIGSEGV\") core_dumped=Bool(true) process_ended=Bool(true)
1000014000 0 4014 4114 7000 14 Kind(3843) of 41 bytes
1000015000 1 4015 4115 7001 15 Kind(3855) of 56 bytes
1000016000 2 4016 4116 7002 16 Kind(30583) of 32 bytes
1000017000 3 4017 4117 7003 17 syscall: record of kind syscall has 40 bytes, expected 64";

#[test]
fn its_names_are_not_in_the_fields() {
    let mut names = Vec::new();
    for bytes in &v1().records {
        match Event::decode(Record::new(bytes).expect("a record")) {
            Ok(Some(Event::ProcessExec(exec))) => names.push(format!("exec {:?}", exec.comm)),
            Ok(Some(Event::ThreadSeed(seed))) => names.push(format!("thread {:?}", seed.comm)),
            _ => (),
        }
    }
    assert_eq!(names, ["thread \"postgres\"", "exec \"curl\""]);
}

#[test]
fn everything_else_in_it() {
    let contents = v1();
    assert_eq!(contents.info, info());
    assert_eq!(contents.damage, []);
    assert_eq!(contents.probes, probes());
    assert_eq!(contents.dropped, 0);
    let trailer = contents.trailer.expect("it is finished");
    assert_eq!((trailer.records, trailer.blocks), (18, 2));
    assert_eq!((trailer.written.received, trailer.written.delivered), (18, 18));
    assert_eq!(trailer.index, contents.index);
    assert_eq!(contents.index.iter().map(|entry| entry.records).collect::<Vec<_>>(), [9, 9]);
}
