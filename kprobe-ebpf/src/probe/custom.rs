use std::{borrow::Cow, marker::PhantomData};

use kprobe_core::{abi::Family, event::TypedEvent};

use super::{
    EventPlan, FUNCTION, FamilyPlan, KPROBE, ObjectBytes, PERF, ProbeFamily, ProgramPlan, RungPlan,
    TRACE_EVENT, Target, Yields, plan::sealed,
};

/// A user's own program, yielding a user's own event. Its kind is one from [`Kind::USER`] (`0x0f00`) to `0x0f0f`, and
/// no other probe's of the recorder: these 16 have counters in the kernel. [`RecorderBuilder::check`] refuses others.
///
/// [`Kind::USER`]: kprobe_core::abi::Kind::USER
/// [`RecorderBuilder::check`]: crate::RecorderBuilder::check
///
/// The object is built from the user's kernel-side crate on top of `kprobe-programs`, which gives it kprobe's filters,
/// ring buffers and counters; with that, the loss ledger, captures and sinks work for its events as for all others.
#[derive(Clone, Debug)]
pub struct Probe<E> {
    object: Cow<'static, [u8]>,
    rungs: Vec<(Cow<'static, str>, Target)>,
    sample_one_in: u32,
    event: PhantomData<fn() -> E>,
}

impl<E: TypedEvent> Probe<E> {
    /// A probe from a built object. `object` must be aligned to 8 bytes if it is static: use
    /// [`include_object!`](crate::include_object).
    #[must_use]
    pub fn new(object: impl Into<Cow<'static, [u8]>>) -> Self {
        Self { object: object.into(), rungs: Vec::new(), sample_one_in: 1, event: PhantomData }
    }

    /// Attaches `program` to a tracepoint whose arguments the verifier knows by BTF, if no rung named before could be
    /// taken.
    #[must_use]
    pub fn btf_tracepoint(
        mut self,
        program: impl Into<Cow<'static, str>>,
        tracepoint: impl Into<Cow<'static, str>>,
    ) -> Self {
        self.rungs.push((program.into(), Target::BtfTracepoint(tracepoint.into())));
        self
    }

    /// Attaches `program` to a raw tracepoint, if no rung named before could be taken.
    #[must_use]
    pub fn raw_tracepoint(
        mut self,
        program: impl Into<Cow<'static, str>>,
        tracepoint: impl Into<Cow<'static, str>>,
    ) -> Self {
        self.rungs.push((program.into(), Target::RawTracepoint(tracepoint.into())));
        self
    }

    /// Attaches `program` to the entry of a function of the kernel (`fentry`), if no rung named before could be taken.
    #[must_use]
    pub fn fentry(
        mut self,
        program: impl Into<Cow<'static, str>>,
        function: impl Into<Cow<'static, str>>,
    ) -> Self {
        self.rungs.push((program.into(), Target::FunctionEntry(function.into())));
        self
    }

    /// Attaches `program` to the return of a function of the kernel (`fexit`), if no rung named before could be taken.
    #[must_use]
    pub fn fexit(
        mut self,
        program: impl Into<Cow<'static, str>>,
        function: impl Into<Cow<'static, str>>,
    ) -> Self {
        self.rungs.push((program.into(), Target::FunctionExit(function.into())));
        self
    }

    /// Attaches `program` to a breakpoint at the entry of a function of the kernel (kprobe), if no rung named before could
    /// be taken.
    #[must_use]
    pub fn kprobe(
        mut self,
        program: impl Into<Cow<'static, str>>,
        function: impl Into<Cow<'static, str>>,
    ) -> Self {
        self.rungs.push((program.into(), Target::Kprobe(function.into())));
        self
    }

    /// Keeps one record in `one_in`, counted on each CPU; 0 and 1 keep all. All of a user's own probes are one family:
    /// give each the same.
    #[must_use]
    pub fn sample(self, one_in: u32) -> Self {
        Self { sample_one_in: one_in, ..self }
    }
}

impl<E> sealed::Sealed for Probe<E> {}

impl<E: TypedEvent> ProbeFamily for Probe<E> {
    fn plan(self) -> sealed::Plan {
        let rungs = self
            .rungs
            .into_iter()
            .map(|(program, target)| RungPlan {
                name: match target {
                    Target::BtfTracepoint(_) => "tp_btf",
                    Target::RawTracepoint(_) | Target::Loader => "raw_tp",
                    Target::FunctionEntry(_) | Target::FunctionExit(_) => FUNCTION,
                    Target::Kprobe(_) | Target::Kretprobe(_) => KPROBE,
                    Target::TraceEvent { .. } => TRACE_EVENT,
                    Target::SoftwareEvent(_) => PERF,
                },
                programs: vec![ProgramPlan {
                    program,
                    target,
                    or: None,
                    is_shared: false,
                    is_optional: false,
                    needs: &[],
                    with: &[],
                    is_before_6_1: false,
                }],
                needs: Vec::new(),
                storage: &[],
            })
            .collect();
        sealed::Plan(FamilyPlan {
            family: Family::User,
            object: ObjectBytes::User(self.object),
            events: vec![EventPlan::new(E::KIND, E::NAME, rungs)],
            sample_one_in: self.sample_one_in,
            min_duration_ns: 0,
            globals: Vec::new(),
            maps: Vec::new(),
            allowed: Vec::new(),
        })
    }
}

impl<E: TypedEvent> Yields<E> for Probe<E> {}
