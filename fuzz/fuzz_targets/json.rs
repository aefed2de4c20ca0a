//! Lines of JSON from any records with any context. The first byte says how the rest becomes records: as frames, or, since
//! the fuzzer finds few that fit, as records that have a kind and its size.

#![no_main]

#[path = "../../kprobe-sinks/tests/json_support/mod.rs"]
mod json_support;

use std::sync::LazyLock;

use kprobe_core::{
    abi::{Header, Kind},
    decode::{DecodeError, Frames, Record},
    event::{Arch, BootId, Comm, Registry, Tgid},
    pipeline::{Batch, BatchBuf, Clocks, Context, StreamInfo},
};
use libfuzzer_sys::fuzz_target;
use zerocopy::IntoBytes;

static REGISTRY: LazyLock<Registry> = LazyLock::new(Registry::builtin);

/// All kinds, and how long their records are: a header alone is too short, and the error says how long it should be.
static KINDS: LazyLock<Vec<(Kind, usize)>> = LazyLock::new(|| {
    let size = |kind: Kind| {
        let header = Header { kind: kind.0, ..Header::default() };
        let record = Record::new(header.as_bytes()).expect("a record has a header");
        let entry = REGISTRY.get(kind).expect("the kind is registered");
        match entry.fields_of(record, Arch::X86_64, &mut |_, _| {}) {
            Err(DecodeError::Size { expected, .. }) => expected,
            other => panic!("{}: {other:?}", entry.name),
        }
    };
    REGISTRY.iter().map(|(kind, _)| (kind, size(kind))).collect()
});

fuzz_target!(|input: &[u8]| {
    let mut input = Input(input);
    let way = input.byte();
    let arch = [Arch::X86_64, Arch::Aarch64, Arch::Other][usize::from(input.byte() % 3)];
    let clocks =
        Clocks { monotonic_ns: input.u64(), boottime_ns: 0, realtime_ns: input.u64(), uncertainty_ns: 0 };
    let info = StreamInfo {
        host: String::new(),
        boot: BootId::default(),
        kernel: String::new(),
        arch,
        clocks,
        cpus: 0,
        report: serde_json::Value::Null,
        sources: 1,
    };
    let batch = if way % 2 == 0 { of_frames(input) } else { of_kinds(input) };
    json_support::check(&info, &REGISTRY, &batch);
});

/// All have the same context.
fn of_frames(mut input: Input<'_>) -> Batch {
    let context = input.context();
    let mut buf = BatchBuf::default();
    for record in Frames::new(input.0).flatten() {
        buf.push_enriched(record, &context);
    }
    // Once more as they are, torn ones too, without a context.
    buf.frames_mut().extend_from_slice(input.0);
    buf.take()
}

fn of_kinds(mut input: Input<'_>) -> Batch {
    let mut buf = BatchBuf::default();
    while !input.0.is_empty() {
        let (kind, size) = KINDS[usize::from(input.byte()) % KINDS.len()];
        let context = input.context();
        let mut bytes = input.take(size).to_vec();
        bytes.resize(size, 0);
        let mut header = Record::new(&bytes).expect("a record has a header").header();
        header.kind = kind.0;
        bytes[..size_of::<Header>()].copy_from_slice(header.as_bytes());
        buf.push_enriched(Record::new(&bytes).expect("no record is too long"), &context);
    }
    buf.take()
}

/// What is left of the input; behind its end there are zeros.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn take(&mut self, len: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(len.min(self.0.len()));
        self.0 = rest;
        taken
    }

    fn byte(&mut self) -> u8 {
        self.take(1).first().copied().unwrap_or(0)
    }

    fn u64(&mut self) -> u64 {
        self.take(8).iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
    }

    fn context(&mut self) -> Context {
        let has = self.byte();
        let comm = if has & 1 != 0 { self.take(15) } else { &[] };
        let parent = (has & 2 != 0).then(|| Tgid(self.u64() as u32));
        let container = (has & 4 != 0).then(|| {
            let len = usize::from(self.byte());
            String::from_utf8_lossy(self.take(len)).into()
        });
        Context { comm: Comm::from_text(comm), parent, container, ..Context::default() }
    }
}
