//~ this recorder has no probe that yields `Other`
use kprobe_core::{
    abi::Kind,
    decode::{DecodeError, Record},
    event::{Arch, Field, Origin, TypedEvent, Value},
    pipeline::Batch,
};
use kprobe_ebpf::{Probe, Recorder};

struct Own(Origin);
struct Other(Origin);

macro_rules! event {
    ($name:ident, $kind:literal) => {
        impl TypedEvent for $name {
            const KIND: Kind = Kind($kind);
            const NAME: &'static str = "own.event";
            const FIELDS: &'static [Field] = &[];
            fn decode(record: Record<'_>) -> Result<Self, DecodeError> {
                Ok(Self(Origin::of(&record)))
            }
            fn origin(&self) -> &Origin {
                &self.0
            }
            fn fields(&self, _: Arch, _: &mut dyn FnMut(&'static str, Value<'_>)) {}
        }
    };
}

event!(Own, 0x0f00);
event!(Other, 0x0f01);

fn others(recorder: &Recorder<(Probe<Own>, ())>, batch: &Batch) {
    recorder.events::<Other, _>(batch).for_each(drop);
}

fn main() {}
