use kprobe_core::{
    abi::Kind,
    event::{Arch, ClockChange, Entry, Field, Origin, Registry, Type, TypedEvent as _, Value},
    pipeline::{Clocks, Enriched, StreamInfo},
};

use super::text::{put_lossy, put_text};
use crate::stdout::{
    block::Stencil,
    decimal::{put_i64, put_u64},
    outlet::Reason,
    time::Rfc3339,
    who,
};

/// The fields that every kind has, in their order; those of the kind follow.
///
/// Lines of the kernel's own records always have `cpu`, `tgid`, `tid` and `seq`; records that user space made have them
/// only where they mean something.
pub const COMMON_FIELDS: &[Field] = &[
    Field::new("kind", Type::Text, "what the line is about"),
    Field::new("ktime_ns", Type::U64, "when: ns of CLOCK_MONOTONIC on the recorded machine"),
    Field::new("time", Type::Text, "the same by the wall clock: RFC 3339, UTC, nanoseconds"),
    Field::new("cpu", Type::U64, "CPU it was recorded on; absent if user space made it").optional(),
    Field::new("tgid", Type::U64, "process that was current (what ps calls PID); 0 is the idle task")
        .optional(),
    Field::new("tid", Type::U64, "thread that was current").optional(),
    Field::new("comm", Type::Text, "name of that thread at that time").optional(),
    Field::new("cgroup_id", Type::U64, "cgroup v2 of that thread").optional(),
    Field::new("seq", Type::U64, "low 32 bits of the CPU's record number; a gap is loss").optional(),
    Field::new("container", Type::Text, "id of the container that the cgroup belongs to").optional(),
    Field::new("parent_tgid", Type::U64, "parent of the process at that time").optional(),
];

/// Number of [`COMMON_FIELDS`] that do not give way to a kind's own field of the same name.
const FIXED: usize = 9;

/// Turns records into lines.
#[derive(Debug)]
pub(super) struct Encoder {
    pub(super) seeds: bool,
    arch: Arch,
    clocks: Clocks,
    clock: Rfc3339,
    /// In the order of the kinds.
    plans: Vec<(Kind, Plan)>,
}

/// What is known of the lines of one kind beforehand.
#[derive(Debug)]
struct Plan {
    entry: Entry,
    /// The line up to its first number.
    head: Stencil<48>,
    own_container: bool,
    own_parent: bool,
    /// In the order of the fields: a comma, the name as a string, and a colon.
    keys: Vec<Stencil<32>>,
}

impl Plan {
    fn new(entry: Entry) -> Self {
        let has = |name: &str| entry.fields.iter().any(|field| field.name == name);
        let mut head = br#"{"kind":"#.to_vec();
        put_text(&mut head, entry.name);
        head.extend_from_slice(br#","ktime_ns":"#);
        Self {
            entry,
            head: Stencil::new(&head),
            own_container: has("container"),
            own_parent: has("parent_tgid"),
            keys: entry.fields.iter().map(|field| Stencil::new(&key(field.name))).collect(),
        }
    }

    /// Appends a field; `next` is where in the table the search for it begins.
    #[inline]
    fn put_field(&self, buf: &mut Vec<u8>, next: &mut usize, name: &str, value: Value<'_>) {
        let start = buf.len();
        let fields = self.entry.fields.iter().zip(&self.keys).skip(*next);
        let found = fields.enumerate().find(|(_, (field, _))| field.name == name);
        if let Some((skipped, (_, key))) = found {
            *next += skipped + 1;
            key.put(buf);
        } else {
            // An event that gives a field which is not in its table, or in another order.
            buf.extend_from_slice(&key(name));
        }
        if !put_value(buf, value) {
            buf.truncate(start);
        }
    }
}

fn key(name: &str) -> Vec<u8> {
    let mut key = vec![b','];
    if COMMON_FIELDS[..FIXED].iter().any(|field| field.name == name) {
        put_text(&mut key, &format!("own_{name}"));
    } else {
        put_text(&mut key, name);
    }
    key.push(b':');
    key
}

impl Encoder {
    pub(super) fn new(info: &StreamInfo, registry: &Registry) -> Self {
        Self {
            seeds: false,
            arch: info.arch,
            clocks: info.clocks,
            clock: Rfc3339::new(),
            plans: registry.iter().map(|(kind, entry)| (kind, Plan::new(*entry))).collect(),
        }
    }

    /// From here on records are of this stream.
    pub(super) fn follow(&mut self, info: &StreamInfo) {
        (self.arch, self.clocks) = (info.arch, info.clocks);
    }

    /// Appends the line of a record, without the newline.
    pub(super) fn put_line(&mut self, enriched: &Enriched<'_>, buf: &mut Vec<u8>) -> Result<(), Reason> {
        let kind = enriched.record.kind();
        if !self.seeds && who::is_seed(kind) {
            return Err(Reason::NotShown);
        }
        let at =
            self.plans.binary_search_by_key(&kind, |(kind, _)| *kind).map_err(|_| Reason::UnknownKind)?;
        if kind == Kind::META_CLOCK {
            let change = ClockChange::decode(enriched.record).map_err(|_| Reason::Undecodable)?;
            self.clocks = Clocks::from(&change);
        }
        let plan = &self.plans[at].1;
        put_common(buf, plan, enriched, &mut self.clock, &self.clocks);
        let mut next = 0;
        let put = &mut |name, value: Value<'_>| plan.put_field(buf, &mut next, name, value);
        plan.entry.fields_of(enriched.record, self.arch, put).map_err(|_| Reason::Undecodable)?;
        buf.push(b'}');
        Ok(())
    }
}

fn put_common(buf: &mut Vec<u8>, plan: &Plan, enriched: &Enriched<'_>, clock: &mut Rfc3339, clocks: &Clocks) {
    let origin = Origin::of(&enriched.record);
    plan.head.put(buf);
    put_u64(buf, origin.ktime_ns);
    buf.extend_from_slice(br#","time":""#);
    buf.extend_from_slice(clock.text(clocks.wall_ns(origin.ktime_ns)));
    buf.push(b'"');
    if let Some(cpu) = origin.cpu {
        put_number(buf, br#","cpu":"#, cpu.into());
    }
    // Thread 0 is the idle task in a record of the kernel, and no thread in one that user space made.
    if origin.cpu.is_some() || origin.tid.0 != 0 {
        put_number(buf, br#","tgid":"#, origin.tgid.0.into());
        put_number(buf, br#","tid":"#, origin.tid.0.into());
    }
    let comm = who::comm(enriched);
    if !comm.is_empty() {
        buf.extend_from_slice(br#","comm":"#);
        put_lossy(buf, comm.as_bytes());
    }
    // The root of the cgroup tree has the number 1.
    if origin.cgroup_id != 0 {
        put_number(buf, br#","cgroup_id":"#, origin.cgroup_id);
    }
    if origin.cpu.is_some() {
        put_number(buf, br#","seq":"#, origin.seq.into());
    }
    if let Some(container) = enriched.context.container.as_deref().filter(|_| !plan.own_container) {
        buf.extend_from_slice(br#","container":"#);
        put_text(buf, container);
    }
    if let Some(parent) = enriched.context.parent.filter(|_| !plan.own_parent) {
        put_number(buf, br#","parent_tgid":"#, parent.0.into());
    }
}

#[inline(always)]
fn put_number(buf: &mut Vec<u8>, key: &[u8], value: u64) {
    buf.extend_from_slice(key);
    put_u64(buf, value);
}

/// An array of arrays of two numbers.
fn put_pairs(buf: &mut Vec<u8>, pairs: &[(u64, u64)]) {
    buf.push(b'[');
    for (index, (one, other)) in pairs.iter().enumerate() {
        buf.extend_from_slice(if index == 0 { b"[" } else { b",[" });
        put_u64(buf, *one);
        buf.push(b',');
        put_u64(buf, *other);
        buf.push(b']');
    }
    buf.push(b']');
}

/// Appends a value, unless it is of a type that this version does not know.
pub(super) fn put_value(buf: &mut Vec<u8>, value: Value<'_>) -> bool {
    match value {
        Value::U64(number) => put_u64(buf, number),
        Value::I64(number) => put_i64(buf, number),
        Value::Bool(true) => buf.extend_from_slice(b"true"),
        Value::Bool(false) => buf.extend_from_slice(b"false"),
        Value::Text(text) => put_text(buf, text),
        Value::Pairs(pairs) => put_pairs(buf, pairs),
        _ => return false,
    }
    true
}
