//! What goes from one thread to the other: events of 64 bytes, each with a number and a checksum.

use kprobe_core::abi::{Header, Kind, Syscall};
use zerocopy::{Immutable, IntoBytes, transmute};

/// Of an event.
pub(super) const BYTES: usize = 64;
/// Its length as its frame has it.
const LENGTH: u32 = 64;
/// Events of a block: with their frames they stay in the second-level cache, as what a ring has had for a short time does.
const PER_BLOCK: u16 = 1_000;

/// An event, word by word.
type Words = [u64; BYTES / 8];

/// The word of a header that has, above its kind and its CPU, its number.
const NUMBER: usize = 3;
/// The word that makes the sum of all of them 0: the last but one, an argument of a call.
const CHECKSUM: usize = 6;

/// As a record is in memory: see `decode::Frames`.
#[derive(Clone, Copy, Debug, IntoBytes, Immutable)]
#[repr(C)]
pub(super) struct Frame {
    length: u32,
    unused: u32,
    words: Words,
}

#[derive(Clone, Copy, Debug, IntoBytes, Immutable)]
#[repr(C)]
struct Event {
    header: Header,
    body: Syscall,
}

impl Frame {
    /// An event that differs from others in more than its number, which is 0.
    fn new(at: u32) -> Self {
        let header = Header {
            ktime_ns: 1_000_000_000 + u64::from(at),
            cgroup_id: 4_000 + u64::from(at % 7),
            tgid: 1_000 + at % 11,
            tid: 1_000 + at % 13,
            kind: Kind::SYSCALL.0,
            cpu: 0,
            seq: 0,
        };
        let body = Syscall {
            enter_ns: u64::from(at).wrapping_mul(0x9e37_79b9_7f4a_7c15),
            ret: -1,
            ..Syscall::default()
        };
        let mut words: Words = transmute!(Event { header, body });
        words[CHECKSUM] = sum(words).wrapping_neg();
        Self { length: LENGTH, unused: 0, words }
    }

    #[inline]
    pub(super) fn event(&self) -> [u8; BYTES] {
        transmute!(self.words)
    }

    /// Makes the event with that number of it. As little work as can be: it is in the figures of both contestants.
    #[inline]
    fn renew(&mut self, number: u32) {
        let more = (u64::from(number) << 32).wrapping_sub(self.words[NUMBER] & (u64::MAX << 32));
        self.words[NUMBER] = self.words[NUMBER].wrapping_add(more);
        self.words[CHECKSUM] = self.words[CHECKSUM].wrapping_sub(more);
    }
}

#[inline]
fn sum(words: Words) -> u64 {
    words.into_iter().fold(0, u64::wrapping_add)
}

/// Events that are there, as in a ring: both contestants take them from one like this.
#[derive(Debug)]
pub(super) struct Block {
    frames: Vec<Frame>,
    next: u32,
}

impl Block {
    pub(super) fn new() -> Self {
        Self { frames: (0..PER_BLOCK.into()).map(Frame::new).collect(), next: 0 }
    }

    /// The next events, at most a block of them.
    pub(super) fn next(&mut self, most: u64) -> &[Frame] {
        let events = usize::try_from(most).map_or(self.frames.len(), |most| most.min(self.frames.len()));
        let frames = &mut self.frames[..events];
        for frame in &mut *frames {
            frame.renew(self.next);
            self.next = self.next.wrapping_add(1);
        }
        frames
    }
}

/// What whoever takes them finds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) events: u64,
    /// Events that are not what was sent.
    pub(super) errors: u64,
    /// Numbers that did not come before a higher one did.
    pub(super) skipped: u64,
    /// One more than the last.
    pub(super) next: u32,
}

impl Seen {
    /// Looks at every byte.
    #[inline(always)]
    pub(super) fn on_event(&mut self, event: &[u8]) {
        self.events += 1;
        let Ok(event) = <&[u8; BYTES]>::try_from(event) else {
            self.errors += 1;
            return;
        };
        let words: Words = transmute!(*event);
        let number = (words[NUMBER] >> 32) as u32;
        self.errors += u64::from(sum(words) != 0);
        // A number that comes again or late makes this far too large.
        self.skipped += u64::from(number.wrapping_sub(self.next));
        self.next = number.wrapping_add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_seen() {
        let mut block = Block::new();
        let see = |seen: &mut Seen, frames: &[Frame]| {
            frames.iter().for_each(|frame| seen.on_event(&frame.event()));
        };
        let mut seen = Seen::default();
        see(&mut seen, block.next(u64::MAX));
        see(&mut seen, block.next(5));
        assert_eq!(seen, Seen { events: 1_005, errors: 0, skipped: 0, next: 1_005 });
        block.next(7);
        see(&mut seen, block.next(1));
        assert_eq!(seen, Seen { events: 1_006, errors: 0, skipped: 7, next: 1_013 });
        for bit in 0..8 * BYTES {
            let mut event = block.next(1)[0].event();
            event[bit / 8] ^= 1 << (bit % 8);
            let mut seen = seen;
            seen.on_event(&event);
            assert_eq!(seen.errors, 1, "bit {bit}");
        }
        let again = block.next(1)[0].event();
        seen.on_event(&again);
        let before = seen.skipped;
        seen.on_event(&again);
        assert_eq!(seen.skipped - before, u64::from(u32::MAX));
    }
}
