//! The first and the last line.

use kprobe_core::{
    event::{BootId, Field, Type, Value},
    pipeline::{Ledger, SinkRow, StreamInfo},
};

use super::{encode::put_value, text::put_text};
use crate::stdout::time::Rfc3339;

/// Version of the format. It changes only if something that was there means something else or is gone; fields and kinds
/// can be added without.
pub const SCHEMA_VERSION: u64 = 1;

/// The fields of `meta.start`, the first line.
pub const START_FIELDS: &[Field] = &[
    Field::new("kind", Type::Text, "meta.start"),
    Field::new("ktime_ns", Type::U64, "when recording began: ns of CLOCK_MONOTONIC"),
    Field::new("time", Type::Text, "the same by the wall clock"),
    Field::new("schema_version", Type::U64, "version of this format"),
    Field::new("kprobe_version", Type::Text, "version of kprobe that wrote the lines"),
    Field::new("host", Type::Text, "name of the recorded machine").optional(),
    Field::new("boot_id", Type::Text, "its boot, as /proc/sys/kernel/random/boot_id has it").optional(),
    Field::new("kernel", Type::Text, "its kernel release, as uname -r prints it").optional(),
    Field::new("arch", Type::Text, "its architecture: x86_64, aarch64 or other"),
    Field::new("cpus", Type::U64, "number of CPUs its kernel may use").optional(),
    Field::new("realtime_offset_ns", Type::I64, "wall clock since 1970 minus CLOCK_MONOTONIC"),
    Field::new("boottime_offset_ns", Type::I64, "CLOCK_BOOTTIME minus CLOCK_MONOTONIC: time spent suspended"),
    Field::new("clock_uncertainty_ns", Type::U64, "the clocks were read within so long"),
];

/// The fields of `meta.end`, the last line. `submitted` and `added` = `delivered` + `lost` + `dropped` + `undecodable`, or
/// `balance` is not 0.
pub const END_FIELDS: &[Field] = &[
    Field::new("kind", Type::Text, "meta.end"),
    Field::new("submitted", Type::U64, "records that passed every filter"),
    Field::new("added", Type::U64, "records that stages made in user space; absent if none").optional(),
    Field::new("lost", Type::U64, "of the submitted: the kernel had no room for them"),
    Field::new("delivered", Type::U64, "of both: lines between meta.start and meta.end"),
    Field::new("dropped", Type::U64, "of both: left out in user space, for the reasons that --stats gives"),
    Field::new("not_shown", Type::U64, "of the dropped: seeds of the process table, left out on purpose"),
    Field::new("undecodable", Type::U64, "of both: not what their kind says"),
    Field::new("sampled_out", Type::U64, "records that sampling left out before they were submitted"),
    Field::new(
        "uncounted",
        Type::U64,
        "events that should have been summed up and are in no meta.histogram, for want of room; no part of submitted",
    ),
    Field::new("balance", Type::U64, "differences in the books: 0, or there is a bug"),
    Field::new(
        "complete",
        Type::Bool,
        "the stream was read to its end, no event is uncounted, and this output kept up",
    ),
    Field::new("incomplete_reason", Type::Text, "why not, if it was not").optional(),
];

/// Appends the first line.
pub(super) fn put_start(buf: &mut Vec<u8>, info: &StreamInfo) {
    let clocks = &info.clocks;
    let mut clock = Rfc3339::new();
    let time = String::from_utf8_lossy(clock.text(clocks.realtime_ns));
    let boot = info.boot.to_string();
    let arch = info.arch.to_string();
    // What the source could not find out, it left empty.
    let known = |text: &'_ str| !text.is_empty();
    put_object(
        buf,
        START_FIELDS,
        [
            Some(Value::Text("meta.start")),
            Some(Value::U64(clocks.monotonic_ns)),
            Some(Value::Text(&time)),
            Some(Value::U64(SCHEMA_VERSION)),
            Some(Value::Text(env!("CARGO_PKG_VERSION"))),
            known(&info.host).then_some(Value::Text(&info.host)),
            (info.boot != BootId::default()).then_some(Value::Text(&boot)),
            known(&info.kernel).then_some(Value::Text(&info.kernel)),
            Some(Value::Text(&arch)),
            (info.cpus != 0).then_some(Value::U64(info.cpus.into())),
            Some(Value::I64(clocks.realtime_ns.wrapping_sub(clocks.monotonic_ns).cast_signed())),
            Some(Value::I64(clocks.boottime_ns.wrapping_sub(clocks.monotonic_ns).cast_signed())),
            Some(Value::U64(clocks.uncertainty_ns)),
        ],
    );
}

/// Appends the last line: the books of everything before this sink, and of this sink, which `missed` so many records.
pub(super) fn put_end(
    buf: &mut Vec<u8>,
    ledger: &Ledger,
    row: &SinkRow,
    missed: u64,
    incomplete: Option<&str>,
) {
    // A sink that gets the records after an earlier stage than the last does not see what the later ones do.
    let before = ledger.taps.get(&row.sink).map_or(ledger.stages.len(), |tap| {
        ledger.stages.iter().position(|stage| stage.stage == *tap).map_or(0, |at| at + 1)
    });
    let stages = &ledger.stages[..before];
    let in_stages: u64 = stages.iter().flat_map(|stage| stage.dropped.values()).sum();
    let uncounted =
        (ledger.uncounted > 0).then(|| format!("{} events found no room for a sum", ledger.uncounted));
    let too_slow =
        (missed > 0).then(|| format!("{missed} records found no room in the queue of this output"));
    let reasons: Vec<&str> =
        incomplete.into_iter().chain(uncounted.as_deref()).chain(too_slow.as_deref()).collect();
    let reason = reasons.join("; ");
    let added: u64 = stages.iter().map(|stage| stage.added).sum();
    let in_sink = missed + row.dropped.values().sum::<u64>();
    put_object(
        buf,
        END_FIELDS,
        [
            Some(Value::Text("meta.end")),
            Some(Value::U64(ledger.submitted())),
            (added > 0).then_some(Value::U64(added)),
            Some(Value::U64(ledger.lost())),
            Some(Value::U64(row.delivered)),
            Some(Value::U64(in_stages + in_sink)),
            Some(Value::U64(row.dropped.get("not_shown").copied().unwrap_or(0))),
            Some(Value::U64(stages.iter().map(|stage| stage.undecodable).sum())),
            Some(Value::U64(ledger.probes.iter().map(|probe| probe.sampled_out).sum())),
            Some(Value::U64(ledger.uncounted)),
            Some(Value::U64(ledger.balance)),
            Some(Value::Bool(reasons.is_empty())),
            (!reasons.is_empty()).then_some(Value::Text(&reason)),
        ],
    );
}

fn put_object<const N: usize>(buf: &mut Vec<u8>, fields: &[Field], values: [Option<Value<'_>>; N]) {
    debug_assert_eq!(fields.len(), N);
    buf.push(b'{');
    let present = fields.iter().zip(values).filter_map(|(field, value)| Some((field, value?)));
    for (at, (field, value)) in present.enumerate() {
        if at > 0 {
            buf.push(b',');
        }
        put_text(buf, field.name);
        buf.push(b':');
        put_value(buf, value);
    }
    buf.push(b'}');
}

#[cfg(test)]
mod tests {
    use kprobe_core::pipeline::StageRow;

    use super::*;

    fn end_of(ledger: &Ledger, row: &SinkRow, incomplete: Option<&str>) -> serde_json::Value {
        let mut line = Vec::new();
        put_end(&mut line, ledger, row, 0, incomplete);
        serde_json::from_slice(&line).expect("a line is JSON")
    }

    fn dropped_undecodable_and_added(tap: Option<&str>) -> String {
        let stage = |name: &str, dropped, undecodable| {
            let dropped = [("filtered".to_owned(), dropped)].into();
            StageRow { dropped, undecodable, added: 3 * undecodable, ..StageRow::named(name) }
        };
        let row = SinkRow { sink: "json".to_owned(), ..SinkRow::default() };
        let taps = tap.map(|tap| ("json".to_owned(), tap.to_owned())).into_iter().collect();
        let stages = vec![stage("first", 1, 2), stage("second", 10, 20)];
        let ledger = Ledger::with_taps(Vec::new(), stages, vec![row.clone()], taps);
        let line = end_of(&ledger, &row, None);
        format!("{} {} {}", line["dropped"], line["undecodable"], line["added"])
    }

    #[test]
    fn what_is_in_no_sum_is_missing() {
        let row = SinkRow { sink: "json".to_owned(), ..SinkRow::default() };
        let end = |uncounted, incomplete| {
            let line = end_of(&Ledger::default().with_uncounted(uncounted), &row, incomplete);
            format!("{} {} {}", line["uncounted"], line["complete"], line["incomplete_reason"])
        };
        assert_eq!(end(0, None), "0 true null");
        assert_eq!(end(7, None), "7 false \"7 events found no room for a sum\"");
        assert_eq!(end(7, Some("torn")), "7 false \"torn; 7 events found no room for a sum\"");
    }

    #[test]
    fn only_the_stages_before_the_sink_count() {
        assert_eq!(dropped_undecodable_and_added(None), "11 22 66");
        assert_eq!(dropped_undecodable_and_added(Some("second")), "11 22 66");
        assert_eq!(dropped_undecodable_and_added(Some("first")), "1 2 6");
        assert_eq!(dropped_undecodable_and_added(Some("source")), "0 0 null");
    }
}
