use std::io;

use zerocopy::IntoBytes;

use super::{
    Disk, Position,
    format::{ACK_LEN, SLOT, SLOTS, Slot},
    names,
};

/// Writes down how far everything has arrived.
#[derive(Debug)]
pub(super) struct Acks {
    /// Generation of the slot written last.
    generation: u64,
    /// The slot to write next.
    slot: usize,
    file: File,
    /// The last write failed.
    behind: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum File {
    /// Not there yet.
    Missing,
    /// There, but not as long as it should be, or without one sound slot.
    Partial,
    /// As it should be.
    Whole,
}

/// What the file says.
pub(super) struct Said {
    pub(super) acks: Acks,
    /// The beginning, if nothing is known.
    pub(super) position: Position,
    /// Where the slot is that was written and cannot be read.
    pub(super) damaged: Option<usize>,
}

impl Acks {
    /// Reads the file of that length, if there is one.
    pub(super) fn read(disk: &mut impl Disk, len: Option<u64>) -> io::Result<Said> {
        let mut bytes = [0; ACK_LEN];
        if len.is_some() {
            disk.read_at(names::ACK, 0, &mut bytes)?;
        }
        let slots = SLOTS.map(|at| Slot::parse(&bytes[at..]));
        let latest = (0..SLOTS.len()).filter_map(|at| Some((slots[at]?, at)));
        let latest = latest.max_by_key(|(slot, _)| slot.generation);
        let whole = len.is_some_and(|len| len >= ACK_LEN as u64);
        let is_damaged =
            |at: &usize| Slot::parse(&bytes[*at..]).is_none() && bytes[*at..][..SLOT] != [0; SLOT];
        let damaged = SLOTS.into_iter().find(is_damaged).filter(|_| whole);
        let file = match (len, latest) {
            (None, _) => File::Missing,
            (Some(_), Some(_)) if whole => File::Whole,
            _ => File::Partial,
        };
        let acks = Self {
            generation: latest.map_or(0, |(slot, _)| slot.generation),
            slot: latest.map_or(0, |(_, at)| (at + 1) % SLOTS.len()),
            file,
            behind: false,
        };
        Ok(Said { acks, position: latest.map(|(slot, _)| slot.position()).unwrap_or_default(), damaged })
    }

    /// The file is there, so that an acknowledgement needs no space that a full disk may not have.
    pub(super) const fn is_ready(&self) -> bool {
        matches!(self.file, File::Whole)
    }

    /// The last [`write`](Self::write) failed.
    pub(super) const fn is_behind(&self) -> bool {
        self.behind
    }

    /// Writes that everything before `position` has arrived. Gives by how many bytes the file grew.
    pub(super) fn write(&mut self, disk: &mut impl Disk, position: Position) -> io::Result<u64> {
        self.behind = true;
        let slot = Slot::new(self.generation.wrapping_add(1), position);
        let grown = match self.file {
            File::Whole => {
                disk.write_at(names::ACK, SLOTS[self.slot] as u64, slot.as_bytes())?;
                self.slot = (self.slot + 1) % SLOTS.len();
                0
            }
            file => {
                if file == File::Missing {
                    disk.create(names::ACK)?;
                    self.file = File::Partial;
                }
                let mut bytes = [0; ACK_LEN];
                bytes[..SLOT].copy_from_slice(slot.as_bytes());
                disk.write_at(names::ACK, 0, &bytes)?;
                self.file = File::Whole;
                self.slot = 1;
                ACK_LEN as u64
            }
        };
        self.generation = slot.generation;
        self.behind = false;
        Ok(grown)
    }
}
