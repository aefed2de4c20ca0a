use std::{io, sync::Arc};

use zerocopy::IntoBytes;

use super::{
    AppendError, Disk, Position, SpillLimits,
    codec::{Packed, Packer, TooLong},
    format::{ACK_LEN, HEAD, HEADER, Header, Kind, MAX_BATCH, MAX_JSON, own_head},
    recover::Queue,
    segment::Segment,
};
use crate::pipeline::{Batch, StreamInfo};

/// Room that is kept for the acknowledgement and the lock.
const RESERVED: u64 = ACK_LEN as u64 + 11;

/// The end of the queue where batches are put in.
pub(super) struct Writer {
    packer: Packer,
    described: Option<Described>,
    /// Number of the first batch of the segment being written.
    segment: Option<u64>,
    undone: Option<Undone>,
}

/// A stream as a segment describes it.
struct Described {
    stream: Option<Arc<StreamInfo>>,
    json: Vec<u8>,
    checksum: u32,
}

/// What an append that failed left behind.
enum Undone {
    Cut(String, u64),
    Remove(String),
}

impl Undone {
    fn undo(&self, disk: &mut impl Disk) -> io::Result<()> {
        match self {
            Self::Cut(file, len) => disk.cut(file, *len),
            Self::Remove(file) => match disk.remove(file) {
                // Somebody else has done it.
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
                removed => removed,
            },
        }
    }
}

impl Writer {
    pub(super) fn new() -> Self {
        Self { packer: Packer::new(), described: None, segment: None, undone: None }
    }

    /// Appends whole, or leaves all as it was.
    pub(super) fn append(
        &mut self,
        disk: &mut impl Disk,
        queue: &mut Queue,
        limits: &SpillLimits,
        batch: &Batch,
    ) -> Result<(), AppendError> {
        self.undo(disk).map_err(|source| AppendError::Io { dir: disk.name(), source })?;
        self.describe(batch.stream()).map_err(|reason| AppendError::Stream { dir: disk.name(), reason })?;
        let Some(described) = &self.described else { return Ok(()) };
        let Packed { frame, end } = match self.packer.pack(batch, described.checksum, queue.end) {
            Ok(packed) => packed,
            Err(TooLong(needed)) => {
                let (needed, most) = (needed as u64, MAX_BATCH as u64);
                return Err(AppendError::TooLarge { dir: disk.name(), needed, most });
            }
        };
        let room = Room { limits, len: frame.len() as u64, beginning: described.len() };
        let new = room.find(disk, queue, self.segment)?;
        let written = match queue.segments.back_mut().filter(|_| !new) {
            Some(segment) => {
                let name = segment.name();
                let written = disk.write_at(&name, segment.len, frame);
                match written {
                    Ok(()) => {
                        segment.len += room.len;
                        segment.end = end;
                        queue.bytes += room.len;
                    }
                    Err(_) => self.undone = Some(Undone::Cut(name, segment.len)),
                }
                written
            }
            None => {
                let bytes = [&described.beginning(queue.end), frame].concat();
                let segment = Segment {
                    first: queue.end,
                    end,
                    len: bytes.len() as u64,
                    body: described.len(),
                    info_at: HEAD as u64,
                    stream: described.checksum,
                };
                let name = segment.name();
                disk.create(&name).and_then(|()| {
                    let written = disk.write_at(&name, 0, &bytes);
                    match written {
                        Ok(()) => {
                            self.segment = Some(segment.first.batch);
                            queue.bytes += segment.len;
                            queue.segments.push_back(segment);
                        }
                        Err(_) => self.undone = Some(Undone::Remove(name)),
                    }
                    written
                })
            }
        };
        if let Err(source) = written {
            // If it cannot be undone now, then before the next append.
            drop(self.undo(disk));
            return Err(AppendError::Io { dir: disk.name(), source });
        }
        queue.end = end;
        Ok(())
    }

    /// The segment with that number may get more batches.
    pub(super) fn is_writing(&self, first: u64) -> bool {
        self.segment == Some(first)
    }

    fn undo(&mut self, disk: &mut impl Disk) -> io::Result<()> {
        if let Some(undone) = &self.undone {
            undone.undo(disk)?;
            self.undone = None;
        }
        Ok(())
    }

    /// Makes `described` that of `stream`; another one begins a segment.
    fn describe(&mut self, stream: Option<&Arc<StreamInfo>>) -> Result<(), String> {
        let is_same = |described: &Described| match (&described.stream, stream) {
            (Some(described), Some(stream)) => Arc::ptr_eq(described, stream) || described == stream,
            (None, None) => true,
            _ => false,
        };
        if !self.described.as_ref().is_some_and(is_same) {
            self.described = Some(Described::new(stream)?);
            self.segment = None;
        }
        Ok(())
    }
}

/// What an append needs.
struct Room<'a> {
    limits: &'a SpillLimits,
    /// Bytes of the frame.
    len: u64,
    /// Bytes in front of it in a segment of its own.
    beginning: u64,
}

impl Room<'_> {
    /// Looks that there is room in the directory, and says whether the frame begins a segment. `current` is the number of
    /// the segment that is being written, if there is one.
    fn find(
        &self,
        disk: &mut impl Disk,
        queue: &mut Queue,
        current: Option<u64>,
    ) -> Result<bool, AppendError> {
        let max_bytes = self.limits.max_bytes;
        let most = max_bytes.saturating_sub(RESERVED);
        if self.beginning + self.len > most {
            let needed = self.beginning + self.len;
            return Err(AppendError::TooLarge { dir: disk.name(), needed, most });
        }
        loop {
            let new = !self.fits(queue, current);
            let needed = self.len + if new { self.beginning } else { 0 };
            if queue.bytes + needed <= max_bytes {
                return Ok(new);
            }
            if !queue.front_is_done() {
                return Err(AppendError::Full { dir: disk.name(), needed, held: queue.bytes, max_bytes });
            }
            // All of it has arrived, so that it can go although more was to be written to it.
            queue.remove_front(disk).map_err(|source| AppendError::Io { dir: disk.name(), source })?;
        }
    }

    /// The frame can go behind those of the segment being written.
    fn fits(&self, queue: &Queue, current: Option<u64>) -> bool {
        queue.segments.back().is_some_and(|last| {
            current == Some(last.first.batch) && last.len + self.len <= self.limits.segment_bytes
        })
    }
}

impl Described {
    fn new(stream: Option<&Arc<StreamInfo>>) -> Result<Self, String> {
        let stream = stream.cloned();
        let json = serde_json::to_vec(&stream.as_deref()).map_err(|error| error.to_string())?;
        if json.len() > MAX_JSON as usize {
            return Err(format!("{} bytes of JSON where at most {MAX_JSON} can be", json.len()));
        }
        // Better no batch than one that cannot be read again.
        let read: Option<StreamInfo> = serde_json::from_slice(&json).map_err(|error| error.to_string())?;
        if read.as_ref() != stream.as_deref() {
            return Err("its JSON reads as something else".to_owned());
        }
        let checksum = crc32fast::hash(&json);
        Ok(Self { stream, json, checksum })
    }

    /// Length of the [`beginning`](Self::beginning).
    fn len(&self) -> u64 {
        (HEAD + 2 * (HEADER + self.json.len())) as u64
    }

    /// What stands in a segment in front of its first batch.
    fn beginning(&self, first: Position) -> Vec<u8> {
        let mut header = Header::new(Kind::Info, first);
        header.stream = self.checksum;
        header.seal(&self.json);
        let info = [header.as_bytes(), &self.json].concat();
        [own_head().as_bytes(), &info, &info].concat()
    }
}
