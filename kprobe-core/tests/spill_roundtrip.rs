//! What comes off the disk is what was put on it, and what the files cost.

mod spill_support;

use std::sync::Arc;

use kprobe_core::{
    abi::Header,
    decode::Record,
    event::{BootId, Comm, ProcessKey, Tgid},
    pipeline::{Batch, BatchBuf, BatchId, Context, StreamInfo},
    spill::{AppendError, Folder, MAX_BATCH, Spill, SpillLimits},
};
use proptest::prelude::*;
use spill_support::{Memory, PLENTY, assert_same, batch, info, number_of, plain, read_all, stream};

fn contexts() -> impl Strategy<Value = Context> {
    let process = (any::<u128>(), any::<u32>(), any::<u64>()).prop_map(|(boot, tgid, start_ns)| ProcessKey {
        boot: BootId(boot),
        tgid: Tgid(tgid),
        start_ns,
    });
    let names = any::<[u8; 16]>().prop_map(Comm::new);
    let containers = prop_oneof![any::<String>(), Just("web".to_owned()), Just(String::new())];
    (
        names.clone(),
        names,
        prop::option::of(process),
        prop::option::of(any::<u32>()),
        prop::option::of(containers),
    )
        .prop_map(|(comm, other_comm, process, parent, container)| Context {
            comm,
            other_comm,
            process,
            parent: parent.map(Tgid),
            container: container.map(Arc::from),
        })
}

/// What a batch is filled with.
#[derive(Clone, Debug)]
enum Part {
    /// A record with one of the contexts.
    Enriched(Vec<u8>, usize),
    Plain(Vec<u8>),
    /// Any bytes as frames.
    Frames(Vec<u8>),
    Discarded,
}

fn parts() -> impl Strategy<Value = Part> {
    let record = || prop::collection::vec(any::<u8>(), size_of::<Header>()..=320);
    prop_oneof![
        6 => (record(), any::<usize>()).prop_map(|(record, context)| Part::Enriched(record, context)),
        3 => record().prop_map(Part::Plain),
        1 => prop::collection::vec(any::<u8>(), 0..40).prop_map(Part::Frames),
        1 => Just(Part::Discarded),
    ]
}

fn batches() -> impl Strategy<Value = Batch> {
    (prop::collection::vec(contexts(), 1..5), prop::collection::vec(parts(), 0..30)).prop_map(
        |(contexts, parts)| {
            let mut buf = BatchBuf::default();
            for part in parts {
                match part {
                    Part::Enriched(record, context) => {
                        let context = contexts[context % contexts.len()].clone();
                        buf.push_enriched(Record::new(&record).expect("a record"), &context);
                    }
                    Part::Plain(record) => buf.push(Record::new(&record).expect("a record")),
                    Part::Frames(bytes) => buf.frames_mut().extend_from_slice(&bytes),
                    Part::Discarded => {
                        buf.frames_mut()
                            .extend_from_slice(&[8, 0, 0, 0x40, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8]);
                    }
                }
            }
            buf.take()
        },
    )
}

fn streams() -> impl Strategy<Value = Option<StreamInfo>> {
    let report = prop_oneof![
        any::<f64>().prop_map(serde_json::Value::from),
        any::<String>().prop_map(serde_json::Value::from),
        any::<u64>().prop_map(serde_json::Value::from),
        Just(serde_json::json!({"probes": [null, true, {"of": -1}]})),
    ];
    prop::option::weighted(
        0.9,
        (any::<String>(), any::<u128>(), report).prop_map(|(host, boot, report)| StreamInfo {
            host,
            boot: BootId(boot),
            report,
            sources: 1,
            ..info()
        }),
    )
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_batches_come_back(
        runs in prop::collection::vec((streams(), prop::collection::vec((batches(), any::<u128>(), any::<u64>()), 1..4)), 1..4),
        reopened: bool,
    ) {
        let disk = Memory::new();
        let mut spill = Spill::on(disk.clone(), PLENTY).expect("an empty directory");
        let mut expected = Vec::new();
        for (stream, batches) in runs {
            let stream = stream.map(Arc::new);
            for (batch, run, seq) in batches {
                let batch = match &stream {
                    Some(stream) => batch.labelled(BatchId { run, seq }, stream),
                    None => batch,
                };
                spill.append(&batch).expect("room");
                expected.push(batch);
            }
        }
        let records: usize = expected.iter().map(|batch| batch.records().count()).sum();
        if reopened {
            spill = Spill::on(disk, PLENTY).expect("readable");
            prop_assert_eq!(spill.recovered().held, spill.held());
            prop_assert_eq!(&spill.recovered().damage, &[]);
        }
        prop_assert_eq!(spill.unread().batches, expected.len() as u64);
        prop_assert_eq!(spill.unread().records, records as u64);
        let mut last: Option<Batch> = None;
        for expected in &expected {
            let found = spill.next().expect("readable").expect("as many batches");
            assert_same(&found, expected);
            if let Some((before, stream)) = last.as_ref().and_then(Batch::stream).zip(found.stream()) {
                prop_assert_eq!(before == stream, Arc::ptr_eq(before, stream), "equal streams are shared");
            }
            last = Some(found);
        }
        prop_assert!(spill.next().expect("readable").is_none());
        prop_assert_eq!(spill.lost(), Default::default());
    }
}

#[test]
fn contexts_that_repeat_cost_little() {
    let context = |number: u64| Context {
        comm: Comm::from_text(b"postgres"),
        process: Some(ProcessKey::new(info().boot, Tgid(4), number * 10_000_000)),
        container: Some(format!("{:064x}", u128::MAX / 7).into()),
        ..Context::default()
    };
    let bytes_of = |with_contexts: bool| {
        let mut buf = BatchBuf::default();
        for number in 0..10_000_u64 {
            let mut record = vec![0; 64];
            record[..8].copy_from_slice(&(number * 1_000).to_le_bytes());
            let record = Record::new(&record).expect("a record");
            match with_contexts {
                true => buf.push_enriched(record, &context(number % 3)),
                false => buf.push(record),
            }
        }
        let disk = Memory::new();
        let mut spill = Spill::on(disk.clone(), PLENTY).expect("an empty directory");
        let batch = buf.take();
        spill.append(&batch).expect("room");
        assert_same(&spill.next().expect("readable").expect("a batch"), &batch);
        disk.bytes()
    };
    let more = bytes_of(true) - bytes_of(false);
    assert!(more < 1_000, "{more} bytes for three contexts");
}

#[test]
fn containers_are_shared_within_a_batch() {
    let mut spill = Spill::on(Memory::new(), PLENTY).expect("an empty directory");
    let mut buf = BatchBuf::default();
    for comm in [&b"a"[..], b"b"] {
        let context =
            Context { comm: Comm::from_text(comm), container: Some("web".into()), ..Context::default() };
        buf.push_enriched(Record::new(&[0; 32]).expect("a record"), &context);
    }
    spill.append(&buf.take()).expect("room");
    let batch = spill.next().expect("readable").expect("a batch");
    let containers: Vec<_> = batch
        .enriched()
        .map(|found| found.expect("a record").context.container.clone().expect("one"))
        .collect();
    let [first, second] = &containers[..] else { panic!("{containers:?}") };
    assert!(Arc::ptr_eq(first, second));
}

#[test]
fn a_limit_is_kept_and_acknowledging_makes_room() {
    let disk = Memory::new();
    let limits = SpillLimits { max_bytes: 8_000, segment_bytes: 2_500 };
    let mut spill = Spill::on(disk.clone(), limits).expect("an empty directory");
    let mut appended = 0;
    let error = loop {
        match spill.append(&plain(appended)) {
            Ok(()) => appended += 1,
            Err(error) => break error,
        }
        assert!(disk.bytes() <= limits.max_bytes);
        assert_eq!(spill.bytes(), disk.bytes());
    };
    let AppendError::Full { needed, held, max_bytes, .. } = error else { panic!("{error}") };
    assert_eq!((held, max_bytes), (disk.bytes(), 8_000));
    assert!(held + needed > max_bytes);
    assert_eq!(
        error.to_string(),
        format!("spill directory memory is full: {held} of 8000 bytes are taken, the batch needs {needed}")
    );
    assert_eq!(spill.held().batches, appended);
    // One batch is not a segment, but a segment makes room.
    let segments = |disk: &Memory| disk.files().keys().filter(|name| name.ends_with(".seg")).count();
    let before = segments(&disk);
    assert!(before > 2);
    let mut read = 0;
    while segments(&disk) == before {
        assert_eq!(number_of(&spill.next().expect("readable").expect("a batch")), read);
        read += 1;
        spill.ack(spill.position()).expect("writable");
    }
    assert_eq!(spill.held().batches, appended - read);
    spill.append(&plain(appended)).expect("there is room again");
    assert_eq!(read_all(&mut spill), (read..=appended).collect::<Vec<_>>());
    // With all of it acknowledged even the segment being written makes room.
    spill.ack(spill.position()).expect("writable");
    assert_eq!(spill.held(), Default::default());
    for number in 0..appended {
        spill.append(&plain(number)).expect("as many as at first");
    }
    assert_eq!(read_all(&mut spill), (0..appended).collect::<Vec<_>>());
}

#[test]
fn a_batch_that_can_never_fit() {
    let disk = Memory::new();
    let limits = SpillLimits { max_bytes: 2_100, segment_bytes: 1_000 };
    let mut spill = Spill::on(disk.clone(), limits).expect("an empty directory");
    let before = disk.files();
    let mut buf = BatchBuf::default();
    let mut state = 1_u32;
    for _ in 0..40 {
        // Bytes that do not compress.
        let record: Vec<u8> = std::iter::repeat_with(|| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            state.to_be_bytes()[0]
        })
        .take(64)
        .collect();
        buf.push(Record::new(&record).expect("a record"));
    }
    let error = spill.append(&buf.take()).expect_err("it is too long");
    let AppendError::TooLarge { needed, most, .. } = error else { panic!("{error}") };
    assert!(needed > most && most < limits.max_bytes, "{error}");
    assert_eq!(disk.files(), before);
    spill.append(&plain(0)).expect("a small one fits");

    let mut spill = Spill::on(Memory::new(), PLENTY).expect("an empty directory");
    let mut buf = BatchBuf::default();
    buf.frames_mut().resize(MAX_BATCH + 1, 0);
    let error = spill.append(&buf.take()).expect_err("it is too long");
    assert!(matches!(error, AppendError::TooLarge { .. }), "{error}");
}

#[test]
fn a_stream_that_could_not_be_read_again() {
    let deep = (0..200).fold(serde_json::Value::Null, |inner, _| serde_json::Value::Array(vec![inner]));
    for (report, reason) in [(deep, "recursion limit"), ("x".repeat(4 << 20).into(), "bytes of JSON")] {
        let disk = Memory::new();
        let mut spill = Spill::on(disk.clone(), PLENTY).expect("an empty directory");
        let before = disk.files();
        let stream = Arc::new(StreamInfo { report, ..info() });
        let error = spill.append(&batch(0, &stream)).expect_err("it cannot be kept");
        assert!(matches!(error, AppendError::Stream { .. }), "{error:?}");
        assert!(error.to_string().contains(reason), "{error}");
        assert_eq!(disk.files(), before);
        spill.append(&plain(0)).expect("another one can");
        assert_eq!(read_all(&mut spill), [0]);
    }
}

#[test]
fn another_stream_begins_a_segment() {
    let disk = Memory::new();
    let mut spill = Spill::on(disk.clone(), SpillLimits::of(1 << 30)).expect("an empty directory");
    for number in 0..6 {
        spill.append(&batch(number, &stream(if number == 3 { 8 } else { 4 }))).expect("room");
    }
    let names: Vec<_> = disk.files().into_keys().collect();
    let expected = [
        "kprobe-spill-00000000000000000000.seg",
        "kprobe-spill-00000000000000000003.seg",
        "kprobe-spill-00000000000000000004.seg",
        "kprobe-spill.ack",
    ];
    assert_eq!(names, expected);
    assert_eq!(read_all(&mut spill), [0, 1, 2, 3, 4, 5]);
}

#[test]
fn it_can_be_sent_to_a_thread() {
    fn is_send<T: Send>() {}
    is_send::<Spill<Folder>>();
}
