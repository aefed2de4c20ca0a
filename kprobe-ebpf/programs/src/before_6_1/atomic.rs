//! Atomic changes of words in maps, with the one instruction that there is before Linux 5.12: an addition that returns
//! nothing. The verifier refuses all others, also where no program gets to them.

use core::arch::asm;

use aya_ebpf::{bindings::BPF_NOEXIST, btf_maps::HashMap, macros::btf_map};
use kprobe_core::abi::{Family, Kind};

use crate::cpu;

/// Adds to a word. On x86 a full barrier.
#[inline(always)]
pub fn add(word: *mut u64, add: u64) {
    // SAFETY: callers pass an aligned word of a map element; for anything else the verifier refuses the program.
    unsafe {
        asm!(
            "lock *(u64 *)({word} + 0) += {value}",
            word = in(reg) word,
            value = in(reg) add,
            options(nostack),
        );
    }
}

/// Adds to a counter of this CPU's.
#[inline(always)]
pub fn count(_: Kind, word: *mut u64, value: u64) {
    add(word, value);
}

/// Adds to a word and returns about what it was: where others add at this moment, two may be told the same. On x86 a full
/// barrier.
///
/// What is counted is right; whoever needs a number that nobody else gets takes one of a [`sequence`](crate::sequence).
#[inline(always)]
pub fn fetch_add(word: *mut u64, value: u64) -> u64 {
    add(word, value);
    // SAFETY: as in `add`.
    unsafe { word.read_volatile() }.wrapping_sub(value)
}

/// Puts a value into a word and returns about what it was: where others do so at this moment, two may be told the same.
#[inline(always)]
pub fn exchange(word: *mut u32, new: u32) -> u32 {
    // SAFETY: as in `add`.
    unsafe {
        let old = word.read_volatile();
        word.write_volatile(new);
        old
    }
}

/// Reads a word. A full barrier, at least on x86.
#[inline(always)]
pub fn read(word: *mut u64) -> u64 {
    // SAFETY: as in `add`.
    let value = unsafe { word.read_volatile() };
    add(word, 0);
    value
}

/// Words that somebody takes from at this moment, by their names: at most one for each CPU, since programs that take are
/// not interrupted by others that do.
#[btf_map]
pub static TAKING: HashMap<u64, u32, 1024> = HashMap::new();

/// How often somebody who finds a word being taken from tries again: whoever takes is done within two instructions.
const TRIES: u32 = 256;

/// Adds to a word that counts what belongs to `family`, and returns what it was, which nobody else is told. `of` names the
/// word. Only from the context of threads.
///
/// That an element is put into a hash only if it is not there is the one thing that a program can do and learn whether it
/// was the first. `None`, which is counted, if the one who takes was held up: then the word is right, and who it was is not
/// known.
#[inline(always)]
pub fn take(word: *mut u64, count: u64, of: u64, family: Family) -> Option<u64> {
    let mut tries = 0;
    while tries < TRIES {
        if TAKING.insert(of, 0, BPF_NOEXIST.into()).is_ok() {
            // SAFETY: as in `add`.
            let before = unsafe { word.read_volatile() };
            add(word, count);
            // It is there.
            let _ = TAKING.remove(of);
            return Some(before);
        }
        tries += 1;
    }
    add(word, count);
    cpu::count_unstored(family);
    None
}

/// Puts a mark into a word if it is 0, and returns whether it did. Only programs on one CPU change the word: so what
/// interrupts this one is over before it goes on.
///
/// Whoever interrupts it sees a word that is not 0 and leaves it alone; unless it does so before the addition, and has put
/// something there. Then the sum is not the mark, and adding the rest to the whole turn takes it back.
#[inline(always)]
pub fn claim(word: *mut u64) -> bool {
    /// No kind of event has it, nor the sum of one and this.
    const MARK: u64 = 1 << 63;
    add(word, MARK);
    // SAFETY: as in `add`.
    let is_claimed = unsafe { word.read_volatile() } == MARK;
    if !is_claimed {
        add(word, MARK.wrapping_neg());
    }
    is_claimed
}
