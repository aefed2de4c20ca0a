//! The user's own event: what the program in `kprobe-ebpf/programs/src/bin/custom.rs` submits.

use kprobe_core::{
    abi::Kind,
    decode::{DecodeError, Record},
    event::{Arch, Field, Origin, Type, TypedEvent, Value},
};

/// A system call was entered.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Counted {
    /// When, where and by whom.
    pub(crate) origin: Origin,
    /// Number of the call.
    pub(crate) nr: u64,
    /// Calls of recorded threads that this CPU has seen, this one included.
    pub(crate) count_on_this_cpu: u64,
}

impl TypedEvent for Counted {
    const KIND: Kind = Kind::USER;
    const NAME: &'static str = "custom.counted";
    const FIELDS: &'static [Field] = &[
        Field::new("nr", Type::U64, "number of the system call"),
        Field::new("count_on_this_cpu", Type::U64, "calls that this CPU has seen so far"),
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
