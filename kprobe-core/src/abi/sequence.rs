//! How programs number the records of a CPU where the machine has no instruction that adds and returns (before Linux 5.12).
//!
//! Every number has to be taken once: what is missing among them is what was lost. Programs of one CPU get into each other's
//! way only by interrupting: one runs in an interrupt, to its end, while another is between any two steps. It cannot wait for
//! that one, so it goes ahead, and the other looks afterwards whether somebody came, and begins again if its number was taken.

/// The words that a CPU's programs share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word {
    /// The next number.
    Next,
    /// The same, written after it: if a program that was interrupted before it wrote the first puts an old number there, this
    /// one still has the right one.
    Copy,
    /// [`NOBODY`], or the next number as the first one saw it that interrupted.
    Seen,
}

/// The words where they are.
pub trait Words {
    /// Reads a word as a whole.
    fn get(&self, word: Word) -> u64;
    /// Writes a word as a whole.
    fn set(&self, word: Word, value: u64);
}

/// Nobody has interrupted since this was written.
pub const NOBODY: u64 = u64::MAX;

/// So many interrupts in a row may come within the same few instructions. After one more, a number could be taken twice.
const MOST_INTERRUPTS: u32 = 8;

/// Takes the next number.
#[inline(always)]
pub fn next(words: &impl Words) -> u64 {
    // In this order: who comes between the two writes what it saw, which was the same.
    let first = upcoming(words);
    let seen_before = words.get(Word::Seen);
    let mut number = first;
    let mut tries = 0;
    while tries < MOST_INTERRUPTS {
        tries += 1;
        words.set(Word::Seen, NOBODY);
        number = upcoming(words);
        if words.get(Word::Seen) != NOBODY {
            continue;
        }
        words.set(Word::Next, number + 1);
        let seen = words.get(Word::Seen);
        // Whoever came after the write has left it right, or made it more.
        if seen == NOBODY || seen == number + 1 {
            break;
        }
    }
    // Until both are the same: who is interrupted here may overwrite only one of them.
    let mut tries = 0;
    while tries < MOST_INTERRUPTS {
        tries += 1;
        let next = words.get(Word::Next);
        words.set(Word::Copy, next);
        if words.get(Word::Next) == next {
            break;
        }
    }
    // For whoever is interrupted by this.
    words.set(Word::Seen, if seen_before == NOBODY { first } else { seen_before });
    number
}

#[inline(always)]
fn upcoming(words: &impl Words) -> u64 {
    let (next, copy) = (words.get(Word::Next), words.get(Word::Copy));
    if next < copy { copy } else { next }
}
