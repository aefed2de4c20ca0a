//! A program for each kind of attach target: its name, the target and a function of the library.

macro_rules! btf {
    ($name:ident, $tracepoint:tt, $program:expr) => {
        #[::aya_ebpf::macros::btf_tracepoint(function = $tracepoint)]
        fn $name(ctx: ::aya_ebpf::programs::BtfTracePointContext) -> i32 {
            ($program)(::kprobe_programs::args::Args::of(&ctx));
            0
        }
    };
}

macro_rules! raw {
    ($name:ident, $tracepoint:tt, $program:expr) => {
        #[::aya_ebpf::macros::raw_tracepoint(tracepoint = $tracepoint)]
        fn $name(ctx: ::aya_ebpf::programs::RawTracePointContext) -> i32 {
            ($program)(::kprobe_programs::args::Args::of(&ctx));
            0
        }
    };
}

macro_rules! tp {
    ($name:ident, $category:tt, $tracepoint:tt, $program:expr) => {
        #[::aya_ebpf::macros::tracepoint(category = $category, name = $tracepoint)]
        fn $name(ctx: ::aya_ebpf::programs::TracePointContext) -> u32 {
            ($program)(&ctx);
            0
        }
    };
}

macro_rules! entry {
    ($name:ident, $function:tt, $program:expr) => {
        #[::aya_ebpf::macros::fentry(function = $function)]
        fn $name(ctx: ::aya_ebpf::programs::FEntryContext) -> i32 {
            ($program)(::kprobe_programs::args::Args::of(&ctx));
            0
        }
    };
}

macro_rules! exit {
    ($name:ident, $function:tt, $program:expr) => {
        #[::aya_ebpf::macros::fexit(function = $function)]
        fn $name(ctx: ::aya_ebpf::programs::FExitContext) -> i32 {
            ($program)(::kprobe_programs::args::Args::of(&ctx));
            0
        }
    };
}

macro_rules! kprobe {
    ($name:ident, $function:tt, $program:expr) => {
        #[::aya_ebpf::macros::kprobe(function = $function)]
        fn $name(ctx: ::aya_ebpf::programs::ProbeContext) -> u32 {
            ($program)(::kprobe_programs::args::Frame::of(&ctx));
            0
        }
    };
}

macro_rules! kretprobe {
    ($name:ident, $function:tt, $program:expr) => {
        #[::aya_ebpf::macros::kretprobe(function = $function)]
        fn $name(ctx: ::aya_ebpf::programs::RetProbeContext) -> u32 {
            ($program)(::kprobe_programs::args::Frame::of(&ctx));
            0
        }
    };
}

macro_rules! perf {
    ($name:ident, $program:expr) => {
        #[::aya_ebpf::macros::perf_event]
        fn $name(ctx: ::aya_ebpf::programs::PerfEventContext) -> u32 {
            ($program)(&ctx);
            0
        }
    };
}
