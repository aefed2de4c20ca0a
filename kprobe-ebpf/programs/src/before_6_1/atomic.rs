//! Atomic changes of words in maps, with the one instruction that there is before Linux 5.12: an addition that returns
//! nothing. The verifier refuses all others, also where no program gets to them.

use core::arch::asm;

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
