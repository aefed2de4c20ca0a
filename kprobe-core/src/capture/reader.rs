use std::{
    fs::File,
    io::{self, Read},
    path::Path,
    time::Duration,
};

use bytes::BytesMut;
use zerocopy::FromBytes;

use super::{
    Cause, Damage, FORMAT_VERSION, IndexEntry, OpenError, Problem, Trailer,
    check::{Look, is_countable, look, payload, unpack},
    damage::DamageLog,
    format::{CHUNK_HEADER, CHUNK_MAGIC, Chunk, ChunkKind, FILE_MAGIC, MAX_JSON},
    index::Index,
    tally::Tally,
    window::Window,
};
use crate::{
    abi::ABI_VERSION,
    file::Head,
    pipeline::{BatchBuf, Polled, ProbeRow, Source, SourceError, StreamInfo},
};

/// Reads a capture: a [`Source`] that needs no privilege.
///
/// Each [`poll`](Source::poll) gives one block, in the order in which they were written. Bytes that are damaged are
/// skipped and listed in [`damage`](Self::damage); what is given was written, checksums and all. It reads forward only,
/// so a pipe will do; a limit for waiting is not kept.
#[derive(Debug)]
pub struct CaptureReader<R = File> {
    name: String,
    info: StreamInfo,
    /// Checksum of the info.
    stream: u32,
    window: Window<R>,
    at: Position,
    damage: DamageLog,
    index: Index,
    tally: Tally,
    trailer: Option<Trailer>,
    /// The rest is not wanted.
    stopped: bool,
}

/// How far the reader has come.
#[derive(Clone, Copy, Debug)]
struct Position {
    part: Part,
    /// Records in the blocks up to here, those that are damaged included.
    records: u64,
    /// Of these, how many are damaged.
    damaged: u64,
    /// Records that the writer could not write up to here.
    dropped: u64,
    /// Latest time of any record up to here.
    latest_ns: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    Infos,
    Blocks,
    Trailer,
    End,
    EndOfFile,
}

impl CaptureReader<File> {
    /// Opens the capture at `path` and reads its header.
    ///
    /// # Errors
    /// It cannot be read, or there is no capture in it that this version can read.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, OpenError> {
        let path = path.as_ref();
        let name = path.display().to_string();
        match File::open(path) {
            Ok(file) => Self::new(file, name),
            Err(error) => Err(OpenError { name, problem: Problem::Unreadable(error) }),
        }
    }
}

impl<R: Read> CaptureReader<R> {
    /// Reads the header of the capture that `reader` gives. `name` is for messages.
    ///
    /// # Errors
    /// As [`open`](CaptureReader::open).
    pub fn new(reader: R, name: impl Into<String>) -> Result<Self, OpenError> {
        let name = name.into();
        let mut window = Window::new(reader);
        let mut damage = DamageLog::default();
        match read_head(&mut window, &mut damage).and_then(|()| read_info(&mut window, &mut damage)) {
            Ok((info, stream)) => Ok(Self {
                name,
                info,
                stream,
                window,
                at: Position { part: Part::Infos, records: 0, damaged: 0, dropped: 0, latest_ns: 0 },
                damage,
                index: Index::new(),
                tally: Tally::new(),
                trailer: None,
                stopped: false,
            }),
            Err(problem) => Err(OpenError { name, problem }),
        }
    }

    /// What could not be read so far, in the order of the file; complete when [`poll`](Source::poll) has said that
    /// there is no more. More than 1,024 are not told apart.
    #[must_use]
    pub fn damage(&self) -> &[Damage] {
        self.damage.list()
    }

    /// The books of the recording, once the end of the file has been read; `None` if they are damaged or the recording
    /// was not finished.
    #[must_use]
    pub fn trailer(&self) -> Option<&Trailer> {
        self.trailer.as_ref()
    }

    /// The blocks so far that could be read; without damage this is at the end the index in the trailer.
    #[must_use]
    pub fn index(&self) -> &[IndexEntry] {
        self.index.entries()
    }

    /// Records that are not in the file because the writer could not write them, up to here.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.at.dropped
    }

    /// Appends the next good block; `false` at the end of the file.
    fn next_block(&mut self, out: &mut BytesMut) -> io::Result<bool> {
        while self.at.part != Part::EndOfFile {
            let (cause, header) = match look(&mut self.window)? {
                Look::End => {
                    let part = std::mem::replace(&mut self.at.part, Part::EndOfFile);
                    let (counted, complete) = (part >= Part::Trailer, part == Part::End);
                    self.at.damaged += self.damage.end(self.window.offset(), counted, complete);
                    break;
                }
                Look::Bad(cause, header) => (cause, header),
                Look::Chunk(kind, chunk) => match self.take(kind, &chunk, out) {
                    Ok(()) => {
                        self.window.skip(chunk.size());
                        if kind == ChunkKind::Block {
                            return Ok(true);
                        }
                        continue;
                    }
                    Err(cause) => (cause, Some(chunk)),
                },
            };
            self.skip_bad(cause, header)?;
        }
        Ok(false)
    }

    /// Takes a chunk in, or says what is wrong with it and leaves everything as it was.
    fn take(&mut self, kind: ChunkKind, chunk: &Chunk, out: &mut BytesMut) -> Result<(), Cause> {
        let part = self.belongs(kind, chunk)?;
        let payload = payload(&self.window, chunk);
        let start = out.len();
        match kind {
            ChunkKind::Info => (),
            ChunkKind::Block => unpack(chunk, payload, out)?,
            ChunkKind::Trailer => self.trailer = Some(trailer(chunk, payload)?),
            ChunkKind::End if payload.len() == 8 => (),
            ChunkKind::End => return Err(Cause::Contents),
        }
        let missing = chunk.first_record - self.at.records;
        self.damage.close(self.window.offset(), missing);
        self.at = Position {
            part,
            records: chunk.first_record + u64::from(chunk.records),
            damaged: self.at.damaged + missing,
            dropped: self.at.dropped.max(chunk.dropped),
            latest_ns: self.at.latest_ns.max(chunk.last_ktime_ns),
        };
        if kind == ChunkKind::Block {
            self.tally.count(&out[start..]);
            self.index.push(IndexEntry {
                offset: self.window.offset(),
                blocks: 1,
                records: chunk.records.into(),
                first_ktime_ns: chunk.first_ktime_ns,
                last_ktime_ns: chunk.last_ktime_ns,
            });
        }
        Ok(())
    }

    /// Where the reader is with this chunk, if it belongs here.
    fn belongs(&self, kind: ChunkKind, chunk: &Chunk) -> Result<Part, Cause> {
        let part = match kind {
            ChunkKind::Info => Part::Infos,
            ChunkKind::Block => Part::Blocks,
            ChunkKind::Trailer => Part::Trailer,
            ChunkKind::End => Part::End,
        };
        let in_order = self.at.part < part || self.at.part == part && part <= Part::Blocks;
        if in_order && self.continues(chunk) { Ok(part) } else { Err(Cause::Misplaced) }
    }

    /// It is of this stream, and none of what it has was there before.
    fn continues(&self, chunk: &Chunk) -> bool {
        chunk.stream == self.stream && is_countable(chunk) && chunk.first_record >= self.at.records
    }

    fn skip_bad(&mut self, cause: Cause, header: Option<Chunk>) -> io::Result<()> {
        let offset = self.window.offset();
        self.damage.open(offset, cause);
        if let Some(chunk) = header.filter(|chunk| self.continues(chunk)) {
            let missing = chunk.first_record - self.at.records + u64::from(chunk.records);
            self.damage.know(missing, offset + chunk.size() as u64);
        }
        self.window.seek_to(&CHUNK_MAGIC, 1)
    }
}

impl<R: Read> Source for CaptureReader<R> {
    fn info(&self) -> &StreamInfo {
        &self.info
    }

    fn poll(&mut self, out: &mut BatchBuf, _longest: Option<Duration>) -> Result<Polled, SourceError> {
        if self.stopped {
            return Ok(Polled { complete_until_ns: u64::MAX, end: true });
        }
        let more = self.next_block(out.frames_mut()).map_err(|error| SourceError {
            source_name: self.name.clone(),
            message: format!("cannot be read at byte {}: {error}", self.window.offset()),
            cause: Some(Box::new(error)),
        })?;
        Ok(match more {
            // The next block may begin with records of the very time this one ends with.
            true => Polled { complete_until_ns: self.at.latest_ns.saturating_sub(1), end: false },
            false => Polled { complete_until_ns: u64::MAX, end: true },
        })
    }

    fn is_live(&self) -> bool {
        false
    }

    /// At the end of the file the books of its trailer; before it, or if there is none, what follows from the records
    /// read. In both, submitted less lost is the number of records read.
    fn probes(&self) -> Vec<ProbeRow> {
        match &self.trailer {
            Some(trailer) => self.tally.rows_with(trailer),
            None => self.tally.rows(self.at.damaged + self.at.dropped),
        }
    }

    fn uncounted(&self) -> u64 {
        self.trailer.as_ref().map_or(0, |trailer| trailer.uncounted)
    }

    /// The rest of the file is not read.
    fn stop(&mut self) {
        self.stopped = true;
    }

    fn incomplete(&self) -> Option<String> {
        let mut reasons: Vec<String> = self.damage().first().map(ToString::to_string).into_iter().collect();
        match self.damage().len() {
            0 | 1 => {}
            2 => reasons.push("1 more damage".to_owned()),
            found => reasons.push(format!("{} more damages", found - 1)),
        }
        if self.stopped && self.at.part != Part::EndOfFile {
            reasons.push(format!("reading was stopped at byte {}", self.window.offset()));
        }
        if self.dropped() > 0 {
            reasons.push(format!("{} records could not be written when it was recorded", self.dropped()));
        }
        reasons.extend(self.trailer.as_ref().and_then(|trailer| trailer.incomplete.clone()));
        (!reasons.is_empty()).then(|| format!("{}: {}", self.name, reasons.join("; ")))
    }
}

fn read_head(window: &mut Window<impl Read>, damage: &mut DamageLog) -> Result<(), Problem> {
    let bytes = window.fill(size_of::<Head>()).map_err(Problem::Unreadable)?;
    let magic = &bytes[..bytes.len().min(FILE_MAGIC.len())];
    if magic.is_empty() {
        return Err(Problem::Empty);
    }
    if !FILE_MAGIC.starts_with(magic) {
        return Err(Problem::NotACapture { found: magic.to_vec() });
    }
    let Ok((head, _)) = Head::read_from_prefix(bytes) else {
        return Err(Problem::Truncated { length: bytes.len() as u64 });
    };
    if !head.is_sound() {
        damage.open(0, Cause::Head);
        // The first chunk may have moved.
        return window.seek_to(&CHUNK_MAGIC, FILE_MAGIC.len()).map_err(Problem::Unreadable);
    }
    if head.version > FORMAT_VERSION {
        return Err(Problem::FutureVersion { found: head.version });
    }
    if head.abi > ABI_VERSION {
        return Err(Problem::FutureAbi { found: head.abi });
    }
    window.skip(size_of::<Head>());
    Ok(())
}

/// Looks no further than two infos can reach.
const MAX_START: u64 = size_of::<Head>() as u64 + 2 * (CHUNK_HEADER as u64 + MAX_JSON as u64);

fn read_info(window: &mut Window<impl Read>, damage: &mut DamageLog) -> Result<(StreamInfo, u32), Problem> {
    while window.offset() <= MAX_START {
        let cause = match look(window).map_err(Problem::Unreadable)? {
            Look::End => break,
            Look::Bad(cause, _) => cause,
            Look::Chunk(ChunkKind::Info, chunk) => {
                if chunk.abi > ABI_VERSION {
                    return Err(Problem::FutureAbi { found: chunk.abi });
                }
                match serde_json::from_slice(payload(window, &chunk)) {
                    Ok(info) if chunk.stream == chunk.payload_checksum => {
                        damage.close(window.offset(), 0);
                        window.skip(chunk.size());
                        return Ok((info, chunk.stream));
                    }
                    _ => Cause::Contents,
                }
            }
            Look::Chunk(..) => return Err(Problem::DamagedHeader),
        };
        damage.open(window.offset(), cause);
        window.seek_to(&CHUNK_MAGIC, 1).map_err(Problem::Unreadable)?;
    }
    match damage.open_cause() {
        None | Some(Cause::Cut) => Err(Problem::Truncated { length: window.offset() }),
        Some(_) => Err(Problem::DamagedHeader),
    }
}

fn trailer(chunk: &Chunk, payload: &[u8]) -> Result<Trailer, Cause> {
    serde_json::from_slice(payload)
        .ok()
        .filter(|trailer: &Trailer| trailer.records == chunk.first_record && trailer.is_countable())
        .ok_or(Cause::Contents)
}
