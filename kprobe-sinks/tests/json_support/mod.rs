//! What the lines of any batch must be: those that `serde_json` makes of the same objects. The fuzz target `json` asserts it
//! too.
//!
//! Nothing here is taken from the encoder: the common fields are written down once more, after docs/src/json.md, and those
//! of a kind are what its event gives.

use kprobe_core::{
    abi::Kind,
    decode::Record,
    event::{ClockChange, Entry, Origin, ProcessExec, Registry, ThreadSeed, TypedEvent as _, Value},
    pipeline::{Batch, Clocks, Context, Sink as _, SinkRow, StreamInfo},
};
use kprobe_sinks::stdout::JsonSink;
use serde::{Serialize, Serializer};

/// Makes lines of `batch` and compares them, and the books, with what must come out.
pub(crate) fn check(info: &StreamInfo, registry: &Registry, batch: &Batch) {
    let mut bytes = Vec::new();
    let mut sink = JsonSink::new(&mut bytes, info, registry).with_seeds(true);
    sink.write(batch).expect("a Vec takes everything");
    sink.flush().expect("a Vec takes everything");
    let row = sink.row();
    drop(sink);
    let start = bytes.iter().position(|&byte| byte == b'\n').expect("meta.start has an end") + 1;

    let (lines, expected) = reference(info, registry, batch);
    if bytes[start..] != lines {
        let line = |lines: &[u8], at| lines.split(|&byte| byte == b'\n').nth(at).map(<[u8]>::to_vec);
        let at = (0..).find(|&at| line(&bytes[start..], at) != line(&lines, at)).unwrap_or(0);
        let text = |lines| line(lines, at).map(|line| String::from_utf8_lossy(&line).into_owned());
        panic!("line {at}\n  is        {:?}\n  should be {:?}", text(&bytes[start..]), text(&lines));
    }
    assert_eq!(row, expected);
}

/// The lines by `serde_json`, and the books.
fn reference(info: &StreamInfo, registry: &Registry, batch: &Batch) -> (Vec<u8>, SinkRow) {
    let mut lines = Vec::new();
    let mut row = SinkRow { sink: "json".to_owned(), ..SinkRow::default() };
    let mut clocks = info.clocks;
    for enriched in batch.enriched() {
        row.received += 1;
        let reason = match &enriched {
            Err(_) => "undecodable",
            Ok(enriched) => match registry.get(enriched.record.kind()) {
                None => "unknown_kind",
                Some(entry) => {
                    // The times of lines follow it from its own line on.
                    if let Ok(change) = ClockChange::decode(enriched.record) {
                        clocks = Clocks::from(&change);
                    }
                    match object(info, &clocks, entry, enriched.record, enriched.context) {
                        Some(object) => {
                            serde_json::to_writer(&mut lines, &object).expect("an object is JSON");
                            lines.push(b'\n');
                            row.delivered += 1;
                            continue;
                        }
                        None => "undecodable",
                    }
                }
            },
        };
        *row.dropped.entry(reason.to_owned()).or_default() += 1;
    }
    (lines, row)
}

/// An object that serde_json writes in this order.
struct Object(Vec<(String, serde_json::Value)>);

impl Serialize for Object {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, value)| (name, value)))
    }
}

/// `None` for a record that is not what its kind says.
fn object(
    info: &StreamInfo,
    clocks: &Clocks,
    entry: &Entry,
    record: Record<'_>,
    context: &Context,
) -> Option<Object> {
    let has = |name: &str| entry.fields.iter().any(|field| field.name == name);
    let origin = Origin::of(&record);
    let wall = clocks.wall_ns(origin.ktime_ns);
    let time = jiff::Timestamp::from_nanosecond(wall.into()).expect("a u64 ends in the year 2554");
    let mut object: Vec<(String, serde_json::Value)> = vec![
        ("kind".into(), entry.name.into()),
        ("ktime_ns".into(), origin.ktime_ns.into()),
        ("time".into(), format!("{time:.9}").into()),
    ];
    let mut put = |name: &str, value: serde_json::Value| object.push((name.into(), value));
    if let Some(cpu) = origin.cpu {
        put("cpu", cpu.into());
    }
    if origin.cpu.is_some() || origin.tid.0 > 0 {
        put("tgid", origin.tgid.0.into());
        put("tid", origin.tid.0.into());
    }
    // Two kinds say it themselves.
    let comm = match record.kind() {
        _ if !context.comm.is_empty() => context.comm,
        Kind::PROCESS_EXEC => ProcessExec::decode(record).ok()?.comm,
        Kind::META_THREAD => ThreadSeed::decode(record).ok()?.comm,
        _ => context.comm,
    };
    if !comm.is_empty() {
        put("comm", String::from_utf8_lossy(comm.as_bytes()).into());
    }
    if origin.cgroup_id != 0 {
        put("cgroup_id", origin.cgroup_id.into());
    }
    if origin.cpu.is_some() {
        put("seq", origin.seq.into());
    }
    if let (Some(container), false) = (&context.container, has("container")) {
        put("container", container.to_string().into());
    }
    if let (Some(parent), false) = (context.parent, has("parent_tgid")) {
        put("parent_tgid", parent.0.into());
    }
    let taken = ["kind", "ktime_ns", "time", "cpu", "tgid", "tid", "comm", "cgroup_id", "seq"];
    let put_own = &mut |name: &'static str, value: Value<'_>| {
        let name = if taken.contains(&name) { format!("own_{name}") } else { name.to_owned() };
        put(&name, to_json(value));
    };
    entry.fields_of(record, info.arch, put_own).ok()?;
    Some(Object(object))
}

fn to_json(value: Value<'_>) -> serde_json::Value {
    match value {
        Value::U64(number) => number.into(),
        Value::I64(number) => number.into(),
        Value::Bool(truth) => truth.into(),
        Value::Text(text) => text.into(),
        Value::Pairs(pairs) => pairs.iter().map(|(one, other)| vec![*one, *other]).collect(),
        other => panic!("a type of field that this test does not know: {other:?}"),
    }
}
