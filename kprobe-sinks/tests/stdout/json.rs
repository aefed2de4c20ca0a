//! The lines of JSON, byte by byte.

use crate::{
    json_support,
    support::{CACHE_MISS, CLOCKS, Sample, at, batch, everything, info, registry, user_space},
};
use kprobe_core::{
    abi::{self, Header, Kind},
    event::{Arch, Comm, Tgid},
    pipeline::{BatchBuf, Clocks, Context, Ledger, ProbeRow, Sink, StageRow, StreamInfo},
};
use kprobe_sinks::stdout::JsonSink;
use proptest::prelude::*;
use zerocopy::{FromBytes as _, IntoBytes as _};

fn lines_of(samples: &[Sample]) -> Vec<String> {
    let mut bytes = Vec::new();
    let mut sink = JsonSink::new(&mut bytes, &info(), &registry()).with_seeds(true);
    sink.write(&batch(samples)).expect("a Vec takes everything");
    sink.flush().expect("a Vec takes everything");
    assert_eq!(sink.row().delivered, samples.len() as u64);
    drop(sink);
    String::from_utf8(bytes).expect("JSON is UTF-8").lines().skip(1).map(str::to_owned).collect()
}

#[test]
fn the_lines_of_some_events() {
    let call = |nr, fd, requested, ret| abi::Syscall {
        enter_ns: CLOCKS.monotonic_ns + 7_655,
        ret,
        requested,
        fd,
        nr,
        flags: 7,
    };
    let samples = [
        Sample::new(at(20, Kind::SYSCALL), &call(0, 3, 4096, -11)).comm(b"ls").context("c0ffee", 1200),
        Sample::new(user_space(30, Kind::META_MARKER), &abi::Marker { id: u64::MAX }),
        Sample::new(at(90, CACHE_MISS), &1_u64).comm(b"a\"\x1b\xff\n").context("c0ffee", 9),
    ];
    let expected = [
        concat!(
            r#"{"kind":"syscall","ktime_ns":1000000020000,"time":"2026-09-30T12:34:56.789032345Z","cpu":1,"#,
            r#""tgid":1234,"tid":1234,"comm":"ls","cgroup_id":4242,"seq":7,"container":"c0ffee","#,
            r#""parent_tgid":1200,"nr":0,"name":"read","enter_ktime_ns":1000000007655,"duration_ns":12345,"#,
            r#""fd":3,"requested":4096,"ret":-11,"errno":"EAGAIN"}"#
        ),
        concat!(
            r#"{"kind":"meta.marker","ktime_ns":1000000030000,"time":"2026-09-30T12:34:56.789042345Z","#,
            r#""id":18446744073709551615}"#
        ),
        concat!(
            r#"{"kind":"app.cache_miss","ktime_ns":1000000090000,"time":"2026-09-30T12:34:56.789102345Z","cpu":1,"#,
            r#""tgid":1234,"tid":1234,"comm":"a\"\u001b"#,
            "\u{fffd}",
            r#"\n","cgroup_id":4242,"seq":7,"parent_tgid":9,"line":1,"wait_duration_ns":1,"own_comm":"own","#,
            r#""container":true,"delta":-5,"text":"\u001b[31m\"red\"\n"}"#
        ),
    ];
    assert_eq!(lines_of(&samples), expected);
}

#[test]
fn the_first_and_the_last_line() {
    let probe = |submitted, lost, sampled_out| ProbeRow {
        probe: "syscall".to_owned(),
        cpu: Some(0),
        submitted,
        lost,
        sampled_out,
    };
    let samples = everything();
    let received = samples.len() as u64;
    let mut bytes = Vec::new();
    let mut sink = JsonSink::new(&mut bytes, &info(), &registry());
    sink.write(&batch(&samples)).expect("a Vec takes everything");
    sink.flush().expect("a Vec takes everything");
    let mut stage = StageRow { stage: "filter".to_owned(), received: received + 12, ..StageRow::default() };
    stage.delivered = received;
    stage.undecodable = 2;
    stage.dropped.insert("filtered".to_owned(), 10);
    let probes = vec![probe(received + 10, 0, 900), probe(7, 5, 0)];
    let ledger = Ledger::new(probes, vec![stage], vec![sink.row()]);
    assert_eq!(ledger.balance, 0);
    sink.finish(&ledger, Some("the capture is torn at byte 17")).expect("a Vec takes everything");
    drop(sink);

    let text = String::from_utf8(bytes).expect("JSON is UTF-8");
    assert!(text.ends_with('\n'));
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(
        lines[0],
        concat!(
            r#"{"kind":"meta.start","ktime_ns":1000000000000,"time":"2026-09-30T12:34:56.789012345Z","#,
            r#""schema_version":1,"kprobe_version":"0.1.0","host":"web-1","#,
            r#""boot_id":"01234567-89ab-cdef-0123-456789abcdef","kernel":"6.12.48+deb13-amd64","arch":"x86_64","#,
            r#""cpus":4,"realtime_offset_ns":1790770696789012345,"boottime_offset_ns":500000000000,"#,
            r#""clock_uncertainty_ns":180}"#
        )
    );
    // Three records are seeds.
    let delivered = received - 3;
    assert_eq!(lines.len() as u64, delivered + 2);
    assert_eq!(
        *lines.last().expect("there are lines"),
        format!(
            concat!(
                r#"{{"kind":"meta.end","submitted":{},"lost":5,"delivered":{},"dropped":13,"not_shown":3,"#,
                r#""undecodable":2,"sampled_out":900,"uncounted":0,"balance":0,"complete":false,"#,
                r#""incomplete_reason":"the capture is torn at byte 17"}}"#
            ),
            received + 17,
            delivered
        )
    );
}

#[test]
fn what_is_not_known_is_left_out() {
    let info = StreamInfo {
        host: String::new(),
        kernel: String::new(),
        boot: Default::default(),
        cpus: 0,
        ..info()
    };
    let mut bytes = Vec::new();
    JsonSink::new(&mut bytes, &info, &registry())
        .finish(&Ledger::default(), None)
        .expect("a Vec takes everything");
    let text = String::from_utf8(bytes).expect("JSON is UTF-8");
    let (start, end) = text.split_once('\n').expect("there are two lines");
    for name in ["host", "boot_id", "kernel", "cpus", "null"] {
        assert!(!start.contains(&format!("\"{name}\"")), "{start}");
    }
    assert!(end.ends_with("\"balance\":0,\"complete\":true}\n"), "{end}");
}

#[test]
fn an_exec_names_itself_where_no_process_table_has() {
    let exec = everything().into_iter().find(|sample| sample.record().kind() == Kind::PROCESS_EXEC);
    let mut exec = exec.expect("there is an exec");
    exec.context = Context::default();
    assert!(lines_of(&[exec])[0].contains(r#","comm":"ls","#));
}

#[test]
fn what_is_not_shown_is_dropped_with_its_reason() {
    let unknown = Sample::new(at(1, Kind(0x0f0f)), &1_u64);
    let short = Sample::new(at(1, Kind::SYSCALL), &1_u64);
    let seeds = everything().into_iter().filter(|sample| sample.record().header().kind >> 8 == 0);
    let samples: Vec<_> = [unknown.clone(), unknown, short].into_iter().chain(seeds).collect();
    let mut buf = BatchBuf::default();
    for sample in &samples {
        buf.push(sample.record());
    }
    // A frame of which only the beginning is there.
    buf.frames_mut().extend_from_slice(&[64, 0, 0, 0, 0, 0, 0, 0, 1]);

    let mut bytes = Vec::new();
    let mut sink = JsonSink::new(&mut bytes, &info(), &registry());
    sink.write(&buf.take()).expect("a Vec takes everything");
    sink.flush().expect("a Vec takes everything");
    let row = sink.row();
    drop(sink);
    assert_eq!((row.sink.as_str(), row.received, row.delivered), ("json", samples.len() as u64 + 1, 13));
    let dropped: Vec<_> = row.dropped.iter().map(|(reason, count)| (reason.as_str(), *count)).collect();
    assert_eq!(dropped, [("not_shown", 3), ("undecodable", 2), ("unknown_kind", 2)]);
    let text = String::from_utf8(bytes).expect("JSON is UTF-8");
    assert_eq!(text.lines().count(), 14);
    assert!(text.lines().all(|line| line.starts_with("{\"kind\":\"meta.")), "{text}");
}

/// Any bytes, and often names with one or two that do not belong there.
fn any_name() -> impl Strategy<Value = Vec<u8>> {
    let odd = proptest::sample::select(b"\"\\/\n\x1f\x7f\xc3\xa9".to_vec());
    proptest::collection::vec(prop_oneof![8 => b'a'..=b'z', 1 => odd, 1 => any::<u8>()], 0..20)
}

prop_compose! {
    fn any_context()(
        comm in prop_oneof![any_name(), any::<Vec<u8>>()],
        container in proptest::option::of(prop_oneof!["[a-z0-9]{60}[a-z\"\\\\\n\u{7f}é]{0,9}", "(?s).*"]),
        parent: Option<u32>,
    ) -> Context {
        Context {
            comm: Comm::from_text(&comm),
            container: container.map(Into::into),
            parent: parent.map(Tgid),
            ..Context::default()
        }
    }
}

/// Any bytes, and often those of numbers at the ends of what they can be.
fn any_words(words: usize) -> impl Strategy<Value = Vec<u8>> {
    let word = prop_oneof![
        any::<u64>(),
        any::<[u32; 2]>().prop_map(|[high, low]| u64::from(high % 300) << 32 | u64::from(low % 300)),
        proptest::sample::select(vec![0, 1, u64::MAX, i64::MIN.cast_unsigned(), u32::MAX.into(), 10_000_000]),
    ];
    proptest::collection::vec(word, words)
        .prop_map(|words| words.iter().flat_map(|word| word.to_ne_bytes()).collect())
}

proptest! {
    #[test]
    fn as_serde_json(
        header in any_words(size_of::<Header>() / 8),
        body in any_words(64),
        context in any_context(),
        arch in proptest::sample::select(vec![Arch::X86_64, Arch::Aarch64, Arch::Other]),
        monotonic_ns: u64,
        realtime_ns: u64,
    ) {
        let info = StreamInfo { arch, clocks: Clocks { monotonic_ns, realtime_ns, ..CLOCKS }, ..info() };
        let registry = registry();
        let header = Header::read_from_bytes(&header).expect("a header's bytes");
        let mut samples = Vec::new();
        for sample in everything() {
            let kind = sample.record().kind();
            let header = Header { kind: kind.0, ..header };
            let body_bytes = sample.bytes.len() - size_of::<Header>();
            // Any bytes for the body, which are not always one, and those of the sample.
            for body in [&body[..body_bytes], &sample.bytes[size_of::<Header>()..]] {
                let bytes = [header.as_bytes(), body].concat();
                samples.push(Sample { bytes, context: context.clone() });
            }
        }
        json_support::check(&info, &registry, &batch(&samples));
    }
}
