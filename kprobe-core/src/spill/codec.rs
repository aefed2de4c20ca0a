//! A batch as bytes, and back.

use std::{collections::HashMap, sync::Arc};

use bytes::Bytes;
use lz4_flex::block::{CompressTable, compress_into_with_table, decompress_into, get_maximum_output_size};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

use super::{
    Position,
    format::{HEADER, Header, Kind, LABELLED, MAX_BATCH},
};
use crate::{
    abi::COMM_LEN,
    decode::Frames,
    event::{BootId, Comm, ProcessKey, Tgid},
    pipeline::{Batch, BatchId, Context, Contexts, StreamInfo},
};

const HAS_PROCESS: u32 = 1;
const HAS_PARENT: u32 = 2;
const HAS_CONTAINER: u32 = 4;

/// A context, with its container by number.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Entry {
    comm: [u8; COMM_LEN],
    other_comm: [u8; COMM_LEN],
    boot: [u8; 16],
    start_ns: u64,
    tgid: u32,
    parent: u32,
    container: u32,
    flags: u32,
}

/// Makes frames of batches, in buffers that are used again.
pub(super) struct Packer {
    table: CompressTable,
    raw: Vec<u8>,
    out: Vec<u8>,
}

/// A frame as it is written.
pub(super) struct Packed<'a> {
    pub(super) frame: &'a [u8],
    /// The position behind it.
    pub(super) end: Position,
}

/// A batch takes more than [`MAX_BATCH`] bytes.
pub(super) struct TooLong(pub(super) usize);

impl Packer {
    pub(super) fn new() -> Self {
        Self { table: CompressTable::large(), raw: Vec::new(), out: Vec::new() }
    }

    /// The frame of `batch`, of the stream with that checksum, to stand at `at`.
    pub(super) fn pack(&mut self, batch: &Batch, stream: u32, at: Position) -> Result<Packed<'_>, TooLong> {
        let mut header = Header::new(Kind::Batch, at);
        header.stream = stream;
        if let Some(id) = batch.id() {
            header.flags = LABELLED;
            header.run = id.run.to_le_bytes();
            header.seq = id.seq;
        }
        let frames = batch.bytes();
        let records = batch.records().count();
        self.raw.clear();
        self.raw.extend_from_slice(frames);
        if let Some(contexts) = batch.contexts()
            && records > 0
            && frames.len() <= MAX_BATCH
        {
            put_contexts(&mut self.raw, contexts, records);
        }
        if self.raw.len() > MAX_BATCH {
            return Err(TooLong(self.raw.len()));
        }
        header.records = number(records);
        header.frames_len = number(frames.len());
        header.raw_len = number(self.raw.len());
        self.out.resize(HEADER + get_maximum_output_size(self.raw.len()), 0);
        let packed = compress_into_with_table(&self.raw, &mut self.out[HEADER..], &mut self.table);
        // There is room for whatever comes out.
        let len = HEADER + packed.unwrap_or_default();
        let out = &mut self.out[..len];
        header.seal(&out[HEADER..]);
        out[..HEADER].copy_from_slice(header.as_bytes());
        Ok(Packed { frame: out, end: header.end() })
    }
}

/// What keeps to [`MAX_BATCH`] as a field of a header.
fn number(value: usize) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

/// Whoever reads the batch sees no more contexts than records.
fn put_contexts(raw: &mut Vec<u8>, contexts: &Contexts, records: usize) {
    let mut containers = HashMap::new();
    let mut names = Vec::new();
    let mut known = HashMap::new();
    let mut entries = Vec::new();
    // Where each stands on disk: once, also those that the batch has more than once.
    let mut places: Vec<u32> = Vec::with_capacity(contexts.entries().len());
    for context in contexts.entries() {
        let Context { comm, other_comm, process, parent, container } = context;
        let entry = *known.entry((comm, other_comm, process, parent, container)).or_insert_with(|| {
            let container = container.as_deref().map(|name| {
                *containers.entry(name).or_insert_with(|| {
                    names.push(name);
                    number(names.len() - 1)
                })
            });
            entries.push(Entry::of(context, container));
            number(entries.len() - 1)
        });
        places.push(entry);
    }
    put_number(raw, names.len());
    for name in names {
        put_number(raw, name.len());
        raw.extend_from_slice(name.as_bytes());
    }
    put_number(raw, entries.len());
    raw.extend_from_slice(entries.as_bytes());
    let numbers = &contexts.numbers()[..contexts.len().min(records)];
    put_number(raw, numbers.len());
    let places = numbers.iter().filter_map(|number| places.get(*number as usize));
    places.for_each(|place| raw.extend_from_slice(&place.to_le_bytes()));
}

fn put_number(raw: &mut Vec<u8>, value: usize) {
    raw.extend_from_slice(&number(value).to_le_bytes());
}

/// The batch of a frame whose checksums are right; `None` if the payload is not what the header says.
pub(super) fn unpack(header: &Header, payload: &[u8], stream: Option<&Arc<StreamInfo>>) -> Option<Batch> {
    let mut raw = vec![0; header.raw_len as usize];
    if decompress_into(payload, &mut raw).ok()? != raw.len() {
        return None;
    }
    let (frames, rest) = raw.split_at_checked(header.frames_len as usize)?;
    let records = header.records as usize;
    if Frames::new(frames).count() != records {
        return None;
    }
    let contexts = if rest.is_empty() { Contexts::default() } else { Rest(rest).contexts(records)? };
    let bytes = Bytes::from(raw).slice(..header.frames_len as usize);
    let batch = Batch::from_frames(bytes).with_contexts(contexts);
    match (header.flags, stream) {
        (0, None) => Some(batch),
        (LABELLED, Some(stream)) => {
            let id = BatchId { run: u128::from_le_bytes(header.run), seq: header.seq };
            Some(batch.labelled(id, stream))
        }
        _ => None,
    }
}

/// Bytes not read yet.
struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }

    fn number(&mut self) -> Option<usize> {
        let bytes = self.take(4)?.try_into().ok()?;
        usize::try_from(u32::from_le_bytes(bytes)).ok()
    }

    /// All the contexts of a batch with so many records.
    fn contexts(mut self, records: usize) -> Option<Contexts> {
        let count = self.number()?;
        // What is counted has at least four bytes each: no room is made for more than there can be.
        let mut containers: Vec<Arc<str>> = Vec::with_capacity(count.min(self.0.len() / 4));
        for _ in 0..count {
            let len = self.number()?;
            containers.push(std::str::from_utf8(self.take(len)?).ok()?.into());
        }
        let count = self.number()?;
        let entries = self.take(count.checked_mul(size_of::<Entry>())?)?.chunks_exact(size_of::<Entry>());
        let known: Vec<Context> = entries
            .map(|bytes| Entry::read_from_bytes(bytes).ok()?.context(&containers))
            .collect::<Option<_>>()?;
        let count = self.number()?;
        if count > records {
            return None;
        }
        let numbers = self.take(count.checked_mul(4)?)?;
        if !self.0.is_empty() {
            return None;
        }
        let (numbers, _) = numbers.as_chunks::<4>();
        Contexts::from_parts(known, numbers.iter().map(|number| u32::from_le_bytes(*number)).collect())
    }
}

impl Entry {
    fn of(context: &Context, container: Option<u32>) -> Self {
        let Context { comm, other_comm, process, parent, .. } = context;
        let mut entry =
            Self { comm: comm.to_field(), other_comm: other_comm.to_field(), ..Self::new_zeroed() };
        if let Some(ProcessKey { boot, tgid, start_ns }) = *process {
            entry.flags |= HAS_PROCESS;
            entry.boot = boot.0.to_le_bytes();
            entry.tgid = tgid.0;
            entry.start_ns = start_ns;
        }
        if let Some(parent) = *parent {
            entry.flags |= HAS_PARENT;
            entry.parent = parent.0;
        }
        if let Some(container) = container {
            entry.flags |= HAS_CONTAINER;
            entry.container = container;
        }
        entry
    }

    fn context(&self, containers: &[Arc<str>]) -> Option<Context> {
        if self.flags & !(HAS_PROCESS | HAS_PARENT | HAS_CONTAINER) != 0 {
            return None;
        }
        let has = |flag| self.flags & flag != 0;
        let container = match has(HAS_CONTAINER) {
            true => Some(Arc::clone(containers.get(self.container as usize)?)),
            false => None,
        };
        Some(Context {
            comm: Comm::new(self.comm),
            other_comm: Comm::new(self.other_comm),
            process: has(HAS_PROCESS).then(|| ProcessKey {
                boot: BootId(u128::from_le_bytes(self.boot)),
                tgid: Tgid(self.tgid),
                start_ns: self.start_ns,
            }),
            parent: has(HAS_PARENT).then_some(Tgid(self.parent)),
            container,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use lz4_flex::block::{compress, decompress};
    use zerocopy::FromBytes;

    use super::{Packer, unpack};
    use crate::{
        decode::Record,
        event::{BootId, Comm, ProcessKey, Tgid},
        pipeline::{Batch, BatchBuf, Context},
        spill::{
            Position,
            format::{HEADER, Header, LABELLED},
        },
    };

    /// Two records with a context each, as header and payload before compression.
    fn sample() -> (Header, Vec<u8>) {
        let mut buf = BatchBuf::default();
        for name in ["a", "b"] {
            let context = Context {
                comm: Comm::from_text(name.as_bytes()),
                process: Some(ProcessKey { boot: BootId(1), tgid: Tgid(2), start_ns: 3 }),
                parent: Some(Tgid(4)),
                container: Some(Arc::from(name)),
                ..Context::default()
            };
            buf.push_enriched(Record::new(&[1; 40]).expect("a record"), &context);
        }
        let mut packer = Packer::new();
        let at = Position::default();
        let Ok(packed) = packer.pack(&buf.take(), 0, at) else { panic!("it is short") };
        let (header, payload) = Header::read_from_prefix(packed.frame).expect("a header");
        assert_eq!(packed.frame.len(), HEADER + payload.len());
        let raw = decompress(payload, header.raw_len as usize).expect("LZ4");
        (header, raw)
    }

    /// What a frame with that payload and a header with some change gives.
    fn of(mut header: Header, raw: &[u8], change: impl FnOnce(&mut Header)) -> Option<Batch> {
        header.raw_len = u32::try_from(raw.len()).expect("short");
        change(&mut header);
        unpack(&header, &compress(raw), None)
    }

    #[test]
    fn contents_that_are_not_what_the_header_says() {
        let (header, raw) = sample();
        let changed = |change: fn(&mut Header)| of(header, &raw, change);
        assert!(changed(|_| ()).is_some());
        assert!(changed(|header| header.records = 1).is_none(), "fewer records");
        assert!(changed(|header| header.records = 3).is_none(), "more records");
        assert!(changed(|header| header.flags = LABELLED).is_none(), "an id without a stream");
        assert!(changed(|header| header.flags = 2).is_none(), "an unknown flag");
        assert!(changed(|header| header.frames_len -= 8).is_none(), "short frames");
        assert!(changed(|header| header.frames_len = header.raw_len + 1).is_none(), "long frames");
        assert!(changed(|header| header.raw_len += 1).is_none(), "fewer bytes than it says");
        assert!(changed(|header| header.raw_len -= 1).is_none(), "more bytes than it says");
        let frames = header.frames_len as usize;
        for len in frames + 1..raw.len() {
            assert!(of(header, &raw[..len], |_| ()).is_none(), "contexts cut off at {len}");
        }
        assert!(of(header, &raw[..frames], |_| ()).is_some(), "no contexts at all");
        assert!(of(header, &[&raw[..], &[0]].concat(), |_| ()).is_none(), "bytes behind the contexts");
    }

    #[test]
    fn any_byte_of_the_contexts_changed() {
        let (header, raw) = sample();
        let mut refused = 0;
        for at in header.frames_len as usize..raw.len() {
            for mask in [1, 0x80, 0xff] {
                let mut raw = raw.clone();
                raw[at] ^= mask;
                match of(header, &raw, |_| ()) {
                    Some(batch) => assert_eq!(batch.enriched().flatten().count(), 2),
                    None => refused += 1,
                }
            }
        }
        // Every count, length, number and flag.
        assert!(refused > 30, "{refused}");
    }
}
