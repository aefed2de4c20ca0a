use std::{
    io,
    mem::offset_of,
    os::fd::{AsFd as _, AsRawFd as _, OwnedFd},
    ptr::{self, NonNull},
    sync::atomic::{AtomicU64, Ordering},
};

use kprobe_core::abi::{Kind, ReaderState, SYSCALL_HAS_FD, SYSCALL_HAS_REQUESTED, SYSCALL_HAS_RET};
use rustix::mm::{MapFlags, ProtFlags, mmap};

use super::{
    asm::{
        Asm, Atomic, If, Insn,
        Width::{Double, Word},
    },
    call,
    syscall::{MapType, Program, ProgramType, create_map},
};

const MMAPABLE: u32 = 1 << 10;
const RINGBUF_RESERVE: i32 = 131;
const RINGBUF_SUBMIT: i32 = 132;
const RINGBUF_QUERY: i32 = 134;
const KTIME_GET_NS: i32 = 5;
const NO_WAKEUP: i32 = 1;
const FORCE_WAKEUP: i32 = 2;
/// `BPF_RB_AVAIL_DATA`.
const AVAIL_DATA: i32 = 0;

/// Kind of the record that ends a run.
pub(crate) const KIND_END: Kind = Kind::USER;
/// A record as most tests have it: a header and the body of a system call.
pub(crate) const RECORD: i32 = 64;

/// What the producers and the harness share: the value of the map `control`.
#[derive(Debug, Default)]
#[repr(C)]
struct Control {
    /// Records submitted.
    submitted: AtomicU64,
    /// Records that did not fit.
    dropped: AtomicU64,
    /// Kind of the records.
    kind: AtomicU64,
}

/// The maps of one bench.
#[derive(Debug)]
pub(crate) struct Rings {
    pub(crate) ring: OwnedFd,
    pub(crate) readers: OwnedFd,
    control_map: OwnedFd,
    control: NonNull<Control>,
}

/// How a producer wakes its reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wakeups {
    /// Never.
    Never,
    /// As programs do that pass flags 0: whenever the reader is caught up.
    ByKernel,
    /// As kprobe's programs do: when the reader is idle or the ring fills up.
    ByReaderState,
}

/// Records of one run of [`Producer::many`]: so many that the kernel's way from one run to the next, which takes a third of
/// the time that a record does, does not count.
pub(crate) const MANY: u32 = 32;

/// Programs that submit records when they run.
#[derive(Debug)]
pub(crate) struct Producer {
    /// One record each time.
    pub(crate) one: Program,
    /// [`MANY`] of them.
    pub(crate) many: Program,
}

/// What records hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Contents {
    /// Words made of the record's number, which together xor to 0.
    Numbers,
    /// The same, the first of them the time.
    NumbersAndTime,
    /// What [`Call`](super::Call) says.
    Calls,
}

impl Rings {
    pub(crate) fn new(bytes: u32) -> io::Result<Self> {
        let ring = create_map(MapType::RingBuf, 0, bytes, 0)?;
        let value = u32::try_from(size_of::<ReaderState>()).expect("small");
        let readers = create_map(MapType::Array, value, 1, MMAPABLE)?;
        let value = u32::try_from(size_of::<Control>()).expect("small");
        let control_map = create_map(MapType::Array, value, 1, MMAPABLE)?;
        // SAFETY: without MAP_FIXED the kernel picks addresses that nothing else uses.
        let control = unsafe {
            let access = ProtFlags::READ | ProtFlags::WRITE;
            mmap(ptr::null_mut(), size_of::<Control>(), access, MapFlags::SHARED, control_map.as_fd(), 0)
        }?;
        let control = NonNull::new(control.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self { ring, readers, control_map, control })
    }

    fn control(&self) -> &Control {
        // SAFETY: the mapping is never undone; all fields are atomic, for us and for the programs.
        unsafe { self.control.as_ref() }
    }

    /// Records submitted since the last reset.
    pub(crate) fn submitted(&self) -> u64 {
        self.control().submitted.load(Ordering::SeqCst)
    }

    /// Records that did not fit since the last reset.
    pub(crate) fn dropped(&self) -> u64 {
        self.control().dropped.load(Ordering::SeqCst)
    }

    /// Starts a new numbering.
    pub(crate) fn reset(&self) {
        self.control().submitted.store(0, Ordering::SeqCst);
        self.control().dropped.store(0, Ordering::SeqCst);
        self.control().kind.store(Kind::SYSCALL.0.into(), Ordering::SeqCst);
    }

    /// Submits the record that ends a run, when there is room for it. It counts as submitted.
    pub(crate) fn end(&self, producer: &Producer) -> io::Result<()> {
        let dropped = self.control().dropped.load(Ordering::SeqCst);
        let before = self.control().submitted.load(Ordering::SeqCst);
        self.control().kind.store(KIND_END.0.into(), Ordering::SeqCst);
        while self.control().submitted.load(Ordering::SeqCst) == before {
            producer.one.run(1)?;
        }
        self.control().dropped.store(dropped, Ordering::SeqCst);
        Ok(())
    }
}

impl Producer {
    /// `with_clock`: records carry the time (as all real ones do) instead of a number.
    pub(crate) fn load(rings: &Rings, wakeups: Wakeups, with_clock: bool) -> io::Result<Self> {
        Self::load_sized(rings, wakeups, with_clock, RECORD)
    }

    /// Of records of `bytes`: what is beyond [`RECORD`] is the record's number, again and again.
    pub(crate) fn load_sized(
        rings: &Rings,
        wakeups: Wakeups,
        with_clock: bool,
        bytes: i32,
    ) -> io::Result<Self> {
        let contents = if with_clock { Contents::NumbersAndTime } else { Contents::Numbers };
        Self::load_filled(rings, wakeups, contents, bytes)
    }

    /// Of records as system calls make them.
    pub(crate) fn load_calls(rings: &Rings, wakeups: Wakeups) -> io::Result<Self> {
        Self::load_filled(rings, wakeups, Contents::Calls, RECORD)
    }

    fn load_filled(rings: &Rings, wakeups: Wakeups, contents: Contents, bytes: i32) -> io::Result<Self> {
        let load = |records| {
            Program::load(ProgramType::SchedCls, &instructions(rings, wakeups, contents, records, bytes))
        };
        Ok(Self { one: load(1)?, many: load(MANY)? })
    }
}

/// r6 control, r7 record, r8 number of the record, r9 flags of the submit; on the stack the records that are left.
fn instructions(rings: &Rings, wakeups: Wakeups, contents: Contents, records: u32, bytes: i32) -> Vec<Insn> {
    const LEFT: i16 = -8;
    let (ring, readers) = (rings.ring.as_raw_fd(), rings.readers.as_raw_fd());
    let submitted = offset(offset_of!(Control, submitted));
    let dropped = offset(offset_of!(Control, dropped));
    let mut asm = Asm::default();
    asm.map_value(6, rings.control_map.as_raw_fd());
    asm.mov_imm(1, records.cast_signed()).store(Double, 10, LEFT, 1);
    asm.label("next");
    asm.map(1, ring).mov_imm(2, bytes).mov_imm(3, 0).call(RINGBUF_RESERVE);
    asm.jump(If::NotEqual(0, 0), "reserved");
    asm.load(Double, 1, 6, dropped).add_imm(1, 1).store(Double, 6, dropped, 1);
    asm.jump(If::Always, "done");
    asm.label("reserved").mov(7, 0);
    match wakeups {
        Wakeups::Never | Wakeups::ByKernel => {
            asm.load(Double, 8, 6, submitted);
            asm.mov(1, 8).add_imm(1, 1).store(Double, 6, submitted, 1);
            asm.mov_imm(9, if wakeups == Wakeups::Never { NO_WAKEUP } else { 0 });
        }
        Wakeups::ByReaderState => ask_reader(&mut asm, ring, readers, submitted),
    }
    asm.mov(0, 8);
    if contents != Contents::Numbers {
        asm.call(KTIME_GET_NS);
    }
    match contents {
        Contents::Numbers | Contents::NumbersAndTime => fill(&mut asm),
        Contents::Calls => call::fill(&mut asm, offset(offset_of!(Control, kind))),
    }
    for at in (RECORD..bytes).step_by(8) {
        asm.store(Double, 7, i16::try_from(at).expect("a short record"), 8);
    }
    asm.mov(1, 7).mov(2, 9).call(RINGBUF_SUBMIT);
    asm.label("done").load(Double, 1, 10, LEFT).add_imm(1, -1).store(Double, 10, LEFT, 1);
    asm.jump(If::NotEqual(1, 0), "next");
    asm.mov_imm(0, 0).exit();
    asm.finish()
}

/// The program's half of the protocol that [`ReaderState`] describes.
fn ask_reader(asm: &mut Asm, ring: i32, readers: i32, submitted: i16) {
    let idle = offset(offset_of!(ReaderState, idle));
    let check_mask = offset(offset_of!(ReaderState, check_mask));
    let wake_bytes = offset(offset_of!(ReaderState, wake_bytes));
    asm.mov_imm(8, 1).atomic(Double, Atomic::FetchAdd, 6, submitted, 8);
    asm.map_value(9, readers).load(Word, 1, 9, idle).jump(If::Equal(1, 0), "busy");
    asm.mov_imm(1, 0).atomic(Word, Atomic::Exchange, 9, idle, 1).jump(If::Equal(1, 0), "busy");
    asm.mov_imm(9, FORCE_WAKEUP).jump(If::Always, "fill");
    asm.label("busy").load(Word, 1, 9, check_mask).and(1, 8).jump(If::NotEqual(1, 0), "silent");
    asm.map(1, ring).mov_imm(2, AVAIL_DATA).call(RINGBUF_QUERY);
    asm.load(Double, 1, 9, wake_bytes).jump(If::GreaterReg(1, 0), "silent");
    asm.mov_imm(9, FORCE_WAKEUP).jump(If::Always, "fill");
    asm.label("silent").mov_imm(9, NO_WAKEUP);
    asm.label("fill");
}

/// Upper half of the record's last word: the number of the call and what the record says is present.
const CALL: i32 = {
    let flags = SYSCALL_HAS_FD | SYSCALL_HAS_REQUESTED | SYSCALL_HAS_RET;
    39 | (flags as i32) << 16
};

/// Fills the 8 words of the record: the first from r0, the header's kind from control, the others from the number in r8,
/// and such that all of them together xor to 0. It is a system call with all that one can have.
fn fill(asm: &mut Asm) {
    asm.store(Double, 7, 0, 0);
    asm.mov(1, 8).mul_imm(1, 0x0101_0101).store(Double, 7, 8, 1).xor(0, 1);
    asm.mov(1, 8).mul_imm(1, 0x0001_0001).store(Double, 7, 16, 1).xor(0, 1);
    asm.mov(1, 8).shl_imm(1, 32).load(Double, 2, 6, offset(offset_of!(Control, kind))).or(1, 2);
    asm.store(Double, 7, 24, 1).xor(0, 1);
    asm.mov(1, 8).add_imm(1, 5).store(Double, 7, 32, 1).xor(0, 1);
    asm.mov(1, 8).mul_imm(1, 3).store(Double, 7, 40, 1).xor(0, 1);
    asm.mov_low(1, 8).mov_imm(2, CALL).shl_imm(2, 32).or(1, 2).store(Double, 7, 56, 1).xor(0, 1);
    asm.store(Double, 7, 48, 0);
}

fn offset(offset: usize) -> i16 {
    i16::try_from(offset).expect("a small struct")
}
