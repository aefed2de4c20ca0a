use kprobe_core::event::TypedEvent;

use super::Yields;

/// The probes `Self` of a recorder, a nested pair for each, have one that yields `E`. `At` is where, and is inferred.
#[diagnostic::on_unimplemented(
    message = "this recorder has no probe that yields `{E}`",
    note = "add the probe to the builder: `Recorder::builder().probe(...)`"
)]
pub trait ListYields<E: TypedEvent, At> {}

/// The last probe added.
#[derive(Debug)]
pub enum Here {}

/// One of the probes added before.
#[derive(Debug)]
pub enum There<At> {
    #[doc(hidden)]
    Never(std::convert::Infallible, std::marker::PhantomData<At>),
}

impl<E: TypedEvent, P: Yields<E>, Rest> ListYields<E, Here> for (P, Rest) {}

impl<E: TypedEvent, P, Rest: ListYields<E, At>, At> ListYields<E, There<At>> for (P, Rest) {}
