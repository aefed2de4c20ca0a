//! A user's own object, as small as can be: one program, one kind of record, and kprobe's filter and rings.
#![no_std]
#![no_main]

use aya_ebpf::{
    btf_maps::PerCpuArray,
    macros::{btf_map, raw_tracepoint},
    programs::RawTracePointContext,
};
use kprobe_core::abi::Kind;
use kprobe_programs::{
    args::Args,
    current::{Current, Who as _},
    emit::{Body, emit, now},
    filter,
};
use zerocopy::{Immutable, IntoBytes};

/// As for every program that reads kernel memory.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

kprobe_programs::follow_programs!();

/// What follows the header.
#[derive(Clone, Copy, IntoBytes, Immutable)]
#[repr(C)]
struct Counted {
    /// System call number.
    nr: u64,
    /// How many calls of selected tasks this CPU has seen, this one included.
    count_on_this_cpu: u64,
}

impl Body for Counted {
    const KIND: Kind = Kind::USER;
}

#[btf_map]
static COUNTS: PerCpuArray<u64, 1> = PerCpuArray::new();

/// `sys_enter(regs, id)`.
#[raw_tracepoint(tracepoint = "sys_enter")]
fn custom_getpid(ctx: RawTracePointContext) -> i32 {
    if !filter::selects_current(Current.thread()) {
        return 0;
    }
    let Some(count) = COUNTS.get_ptr_mut(0) else { return 0 };
    // SAFETY: the pointer is to this CPU's element, aligned and alive.
    let count_on_this_cpu = unsafe { count.read_volatile() }.wrapping_add(1);
    // SAFETY: likewise.
    unsafe { count.write_volatile(count_on_this_cpu) };
    emit(Current, now(), || Counted { nr: Args::of(&ctx).word(1), count_on_this_cpu });
    0
}
