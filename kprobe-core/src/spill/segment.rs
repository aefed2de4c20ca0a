//! Finding one's way in a segment: its head, its infos, and from frame to frame.

use std::{io, sync::Arc};

use zerocopy::IntoBytes;

use super::{
    Cause, Disk, Position,
    format::{FRAME_MAGIC, HEAD, HEADER, Header, Kind, own_head, parse_head},
    names,
};
use crate::{file::Head, pipeline::StreamInfo};

/// A segment that can be read.
#[derive(Clone, Debug)]
pub(super) struct Segment {
    /// Position of its first batch.
    pub(super) first: Position,
    /// Position behind its last batch.
    pub(super) end: Position,
    /// Bytes of it, as far as they count.
    pub(super) len: u64,
    /// Where the first batch may be.
    pub(super) body: u64,
    /// Where a sound description of the stream is.
    pub(super) info_at: u64,
    /// Checksum of that description.
    pub(super) stream: u32,
}

/// What the beginning of a segment is like.
pub(super) enum Beginning {
    /// As it should be, but for these: what is damaged, from where on and how far.
    Sound(Segment, Vec<(Cause, u64, u64)>),
    /// It ends before the first batch.
    Torn,
    /// It cannot be read.
    Unreadable,
}

/// What stands at a place of a segment.
pub(super) enum Step {
    /// A batch. Its payload may still be damaged.
    Frame(Header),
    /// So many bytes that are no good.
    Bad(u64, Cause),
    /// A batch whose end is missing, with the number of its records if that is known.
    Torn(Option<u64>),
    /// The segment's end.
    End,
}

impl Segment {
    pub(super) fn name(&self) -> String {
        names::segment(self.first.batch)
    }

    /// Looks at the beginning of the segment with that number and length.
    pub(super) fn begin(disk: &mut impl Disk, number: u64, len: u64) -> io::Result<Beginning> {
        let file = names::segment(number);
        let mut head = [0; HEAD];
        let read = disk.read_at(&file, 0, &mut head)?;
        if read < HEAD {
            let torn = own_head().as_bytes().starts_with(&head[..read]);
            return Ok(if torn { Beginning::Torn } else { Beginning::Unreadable });
        }
        let mut damaged = Vec::new();
        let head = parse_head(&head);
        if head.is_none() {
            damaged.push((Cause::Head, 0, HEAD as u64));
        }
        let start = HEAD as u64;
        let first = header_at(disk, &file, start)?.filter(|(kind, _)| *kind == Kind::Info);
        let ends = first.map_or(start + HEADER as u64, |(_, info)| start + 2 * info.size());
        if head.is_some() && ends > len {
            return Ok(Beginning::Torn);
        }
        let (info_at, info, body) = match first {
            Some((_, info)) if is_info(disk, &file, start, &info)?.is_some() => {
                let second = start + info.size();
                let copy = header_at(disk, &file, second)?.filter(|(kind, _)| *kind == Kind::Info);
                let sound = match copy {
                    Some((_, copy)) => is_info(disk, &file, second, &copy)?.is_some(),
                    None => false,
                };
                if !sound {
                    damaged.push((Cause::Info, second, info.size()));
                }
                (start, info, second + info.size())
            }
            _ => {
                let second = find(disk, &file, start + 1, len, |kind, _| kind == Kind::Info)?;
                let Some((second, info)) = second else {
                    return Ok(Beginning::Unreadable);
                };
                if is_info(disk, &file, second, &info)?.is_none() {
                    return Ok(Beginning::Unreadable);
                }
                damaged.push((Cause::Info, start, second - start));
                (second, info, second + info.size())
            }
        };
        let first = info.position();
        if first.batch != number {
            return Ok(Beginning::Unreadable);
        }
        let stream = info.payload_checksum;
        Ok(Beginning::Sound(Self { first, end: first, len, body, info_at, stream }, damaged))
    }

    /// What stands at `at`, where a batch at `expected` or a later one should be.
    pub(super) fn step(&self, disk: &mut impl Disk, at: u64, expected: Position) -> io::Result<Step> {
        let file = self.name();
        let left = self.len.saturating_sub(at);
        if left == 0 {
            return Ok(Step::End);
        }
        match header_at(disk, &file, at)?.filter(|_| left >= HEADER as u64) {
            Some((_, header)) if header.size() > left => Ok(Step::Torn(Some(header.records.into()))),
            Some((kind, header)) => match self.accepts(kind, &header, expected) {
                true => Ok(Step::Frame(header)),
                false => Ok(Step::Bad(header.size(), Cause::Misplaced)),
            },
            None if left < HEADER as u64 => Ok(Step::Torn(None)),
            None => {
                let accepts = |kind, header: &Header| self.accepts(kind, header, expected);
                let next = find(disk, &file, at + 1, self.len, accepts)?;
                Ok(Step::Bad(next.map_or(left, |(next, _)| next - at), Cause::NotAFrame))
            }
        }
    }

    fn accepts(&self, kind: Kind, header: &Header, expected: Position) -> bool {
        kind == Kind::Batch && header.stream == self.stream && header.position().is_not_behind(expected)
    }

    /// The description of its stream; `None` if it is damaged by now.
    pub(super) fn stream(&self, disk: &mut impl Disk) -> io::Result<Option<Option<Arc<StreamInfo>>>> {
        let file = self.name();
        match header_at(disk, &file, self.info_at)? {
            Some((Kind::Info, info)) if info.payload_checksum == self.stream => {
                Ok(is_info(disk, &file, self.info_at, &info)?.map(|stream| stream.map(Arc::new)))
            }
            _ => Ok(None),
        }
    }
}

/// The payload behind a header; `None` if the file ends in it or its checksum is wrong.
pub(super) fn payload(
    disk: &mut impl Disk,
    file: &str,
    at: u64,
    header: &Header,
) -> io::Result<Option<Vec<u8>>> {
    let mut payload = vec![0; header.len as usize];
    let read = disk.read_at(file, at + HEADER as u64, &mut payload)?;
    let sound = read == payload.len() && crc32fast::hash(&payload) == header.payload_checksum;
    Ok(sound.then_some(payload))
}

/// The head of a segment, if it can be trusted.
pub(super) fn head(disk: &mut impl Disk, file: &str) -> io::Result<Option<Head>> {
    let mut bytes = [0; HEAD];
    let read = disk.read_at(file, 0, &mut bytes)?;
    Ok(parse_head(&bytes[..read]))
}

/// The description of a stream behind that header, if it is one.
fn is_info(
    disk: &mut impl Disk,
    file: &str,
    at: u64,
    header: &Header,
) -> io::Result<Option<Option<StreamInfo>>> {
    let json = payload(disk, file, at, header)?;
    Ok(json.and_then(|json| serde_json::from_slice(&json).ok()))
}

fn header_at(disk: &mut impl Disk, file: &str, at: u64) -> io::Result<Option<(Kind, Header)>> {
    let mut bytes = [0; HEADER];
    let read = disk.read_at(file, at, &mut bytes)?;
    Ok(Header::parse(&bytes[..read]))
}

/// The first header from `from` up to `len` that is `wanted`, and where.
fn find(
    disk: &mut impl Disk,
    file: &str,
    mut from: u64,
    len: u64,
    wanted: impl Fn(Kind, &Header) -> bool,
) -> io::Result<Option<(u64, Header)>> {
    const WINDOW: usize = 64 << 10;
    let mut window = vec![0; WINDOW];
    while from.saturating_add(HEADER as u64) <= len {
        let read = disk.read_at(file, from, &mut window)?;
        let bytes = &window[..read];
        let starts = bytes.windows(FRAME_MAGIC.len()).enumerate().filter(|(_, start)| **start == FRAME_MAGIC);
        for (start, _) in starts {
            let at = from + start as u64;
            let header = match bytes.get(start..start + HEADER) {
                Some(bytes) => Header::parse(bytes),
                None => header_at(disk, file, at)?,
            };
            if let Some((kind, header)) = header
                && wanted(kind, &header)
            {
                return Ok(Some((at, header)));
            }
        }
        if read < WINDOW {
            break;
        }
        // A magic may lie across the end of the window.
        from += (WINDOW - FRAME_MAGIC.len() + 1) as u64;
    }
    Ok(None)
}
