//! A few BPF instructions by hand, so that the producers of the benches need no toolchain.

use std::{collections::HashMap, os::fd::RawFd};

/// `struct bpf_insn`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(crate) struct Insn {
    code: u8,
    /// Destination in the low half, source in the high half.
    registers: u8,
    offset: i16,
    immediate: i32,
}

pub(crate) type Reg = u8;

/// Width of a memory access.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Width {
    Word = 0x00,
    Double = 0x18,
}

/// Condition of a jump that compares with an immediate or, for `IfGreaterReg`, with a register.
#[derive(Clone, Copy, Debug)]
pub(crate) enum If {
    Equal(Reg, i32),
    NotEqual(Reg, i32),
    GreaterReg(Reg, Reg),
    Always,
}

/// What an atomic instruction does to memory; all leave the old value in the register.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Atomic {
    FetchAdd = 0x01,
    Exchange = 0xe1,
}

/// A program being written.
#[derive(Debug, Default)]
pub(crate) struct Asm {
    insns: Vec<Insn>,
    labels: HashMap<&'static str, usize>,
    jumps: Vec<(usize, &'static str)>,
}

impl Asm {
    fn push(&mut self, code: u8, dst: Reg, src: Reg, offset: i16, immediate: i32) -> &mut Self {
        self.insns.push(Insn { code, registers: dst | src << 4, offset, immediate });
        self
    }

    pub(crate) fn mov(&mut self, dst: Reg, src: Reg) -> &mut Self {
        self.push(0xbf, dst, src, 0, 0)
    }

    /// The lower half of `src`, with zeros above.
    pub(crate) fn mov_low(&mut self, dst: Reg, src: Reg) -> &mut Self {
        self.push(0xbc, dst, src, 0, 0)
    }

    pub(crate) fn mov_imm(&mut self, dst: Reg, value: i32) -> &mut Self {
        self.push(0xb7, dst, 0, 0, value)
    }

    pub(crate) fn add_imm(&mut self, dst: Reg, value: i32) -> &mut Self {
        self.push(0x07, dst, 0, 0, value)
    }

    pub(crate) fn mul_imm(&mut self, dst: Reg, value: i32) -> &mut Self {
        self.push(0x27, dst, 0, 0, value)
    }

    pub(crate) fn shl_imm(&mut self, dst: Reg, bits: i32) -> &mut Self {
        self.push(0x67, dst, 0, 0, bits)
    }

    pub(crate) fn or(&mut self, dst: Reg, src: Reg) -> &mut Self {
        self.push(0x4f, dst, src, 0, 0)
    }

    pub(crate) fn and(&mut self, dst: Reg, src: Reg) -> &mut Self {
        self.push(0x5f, dst, src, 0, 0)
    }

    pub(crate) fn and_imm(&mut self, dst: Reg, value: i32) -> &mut Self {
        self.push(0x57, dst, 0, 0, value)
    }

    pub(crate) fn sub(&mut self, dst: Reg, src: Reg) -> &mut Self {
        self.push(0x1f, dst, src, 0, 0)
    }

    pub(crate) fn xor(&mut self, dst: Reg, src: Reg) -> &mut Self {
        self.push(0xaf, dst, src, 0, 0)
    }

    pub(crate) fn load(&mut self, width: Width, dst: Reg, base: Reg, offset: i16) -> &mut Self {
        self.push(0x61 | width as u8, dst, base, offset, 0)
    }

    pub(crate) fn store(&mut self, width: Width, base: Reg, offset: i16, src: Reg) -> &mut Self {
        self.push(0x63 | width as u8, base, src, offset, 0)
    }

    pub(crate) fn atomic(
        &mut self,
        width: Width,
        what: Atomic,
        base: Reg,
        offset: i16,
        reg: Reg,
    ) -> &mut Self {
        self.push(0xc3 | width as u8, base, reg, offset, what as i32)
    }

    /// The address of a map.
    pub(crate) fn map(&mut self, dst: Reg, fd: RawFd) -> &mut Self {
        self.push(0x18, dst, 1, 0, fd).push(0, 0, 0, 0, 0)
    }

    /// The address of the first value of an array map.
    pub(crate) fn map_value(&mut self, dst: Reg, fd: RawFd) -> &mut Self {
        self.push(0x18, dst, 2, 0, fd).push(0, 0, 0, 0, 0)
    }

    /// Calls the helper with this number.
    pub(crate) fn call(&mut self, helper: i32) -> &mut Self {
        self.push(0x85, 0, 0, 0, helper)
    }

    pub(crate) fn exit(&mut self) -> &mut Self {
        self.push(0x95, 0, 0, 0, 0)
    }

    pub(crate) fn jump(&mut self, condition: If, label: &'static str) -> &mut Self {
        self.jumps.push((self.insns.len(), label));
        match condition {
            If::Always => self.push(0x05, 0, 0, 0, 0),
            If::Equal(reg, value) => self.push(0x15, reg, 0, 0, value),
            If::NotEqual(reg, value) => self.push(0x55, reg, 0, 0, value),
            If::GreaterReg(reg, than) => self.push(0x2d, reg, than, 0, 0),
        }
    }

    pub(crate) fn label(&mut self, name: &'static str) -> &mut Self {
        self.labels.insert(name, self.insns.len());
        self
    }

    /// The finished program. Panics for a label that was never set.
    pub(crate) fn finish(mut self) -> Vec<Insn> {
        for (at, label) in self.jumps {
            let [to, from] =
                [self.labels[label], at + 1].map(|at| i16::try_from(at).expect("a short program"));
            self.insns[at].offset = to - from;
        }
        self.insns
    }
}
