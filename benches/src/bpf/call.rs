//! Records of calls as an application makes them: eight threads of a process read and write.

use kprobe_core::abi::{SYSCALL_HAS_FD, SYSCALL_HAS_REQUESTED, SYSCALL_HAS_RET};

use super::asm::{Asm, Width::Double};

const CGROUP: i32 = 4_242;
const TGID: i32 = 20_000;
const REQUESTED: i32 = 65_536;
const LEAST_NS: i32 = 200;
const LEAST_FD: i32 = 3;
// Which bits of a record's number decide what.
const THREADS: i32 = 8 - 1;
const NS: i32 = 1_024 - 1;
const BYTES: i32 = 65_536 - 1;
const FDS: i32 = 16 - 1;
const NRS: i32 = 2 - 1;

/// What the record with a number says, besides its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Call {
    pub(crate) tgid: u32,
    pub(crate) tid: u32,
    pub(crate) cgroup_id: u64,
    pub(crate) nr: u16,
    pub(crate) duration_ns: u64,
    pub(crate) fd: i32,
    pub(crate) requested: u64,
    pub(crate) ret: i64,
}

impl Call {
    pub(crate) fn numbered(number: u32) -> Self {
        let bits = |mask: i32| number & mask.cast_unsigned();
        let tgid = TGID.cast_unsigned();
        Self {
            tgid,
            tid: tgid + bits(THREADS),
            cgroup_id: u64::from(CGROUP.cast_unsigned()),
            nr: u16::from(bits(NRS) != 0),
            duration_ns: u64::from(LEAST_NS.cast_unsigned() + bits(NS)),
            fd: LEAST_FD + bits(FDS).cast_signed(),
            requested: u64::from(REQUESTED.cast_unsigned()),
            ret: bits(BYTES).into(),
        }
    }

    /// The threads that make the calls.
    pub(crate) fn threads() -> impl Iterator<Item = (u32, u32)> {
        (0..=THREADS.cast_unsigned()).map(Self::numbered).map(|call| (call.tgid, call.tid))
    }
}

/// Fills the record at r7 with its time from r0 and its number from r8; the kind is at `kind` of control (r6).
pub(super) fn fill(asm: &mut Asm, kind: i16) {
    const FLAGS: i32 = ((SYSCALL_HAS_FD | SYSCALL_HAS_REQUESTED | SYSCALL_HAS_RET) as i32) << 16;
    asm.store(Double, 7, 0, 0);
    asm.mov_imm(1, CGROUP).store(Double, 7, 8, 1);
    asm.mov(1, 8).and_imm(1, THREADS).add_imm(1, TGID).shl_imm(1, 32);
    asm.mov_imm(2, TGID).or(1, 2).store(Double, 7, 16, 1);
    asm.mov(1, 8).shl_imm(1, 32).load(Double, 2, 6, kind).or(1, 2).store(Double, 7, 24, 1);
    asm.mov(1, 8).and_imm(1, NS).add_imm(1, LEAST_NS).sub(0, 1).store(Double, 7, 32, 0);
    asm.mov(1, 8).and_imm(1, BYTES).store(Double, 7, 40, 1);
    asm.mov_imm(1, REQUESTED).store(Double, 7, 48, 1);
    asm.mov(1, 8).and_imm(1, NRS).mov_imm(2, FLAGS).or(1, 2).shl_imm(1, 32);
    asm.mov(2, 8).and_imm(2, FDS).add_imm(2, LEAST_FD).or(1, 2).store(Double, 7, 56, 1);
}
