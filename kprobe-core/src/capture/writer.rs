use std::{fmt, fs::File, io, path::Path, time::Duration};

use lz4_flex::block::{CompressTable, compress_into_with_table, get_maximum_output_size};
use serde::Serialize;
use zerocopy::IntoBytes;

use super::{
    IndexEntry, Medium, Trailer,
    format::{CHUNK_HEADER, Chunk, ChunkKind, MAX_BLOCK, MAX_JSON, own_head},
    index::Index,
};
use crate::{
    decode::{FRAME_HEADER, Record, put_frame},
    event::BootId,
    pipeline::{Batch, Clocks, Ledger, Sink, SinkError, SinkRow, StreamInfo, Tally},
};

/// Name of the sink in the books and in errors.
const NAME: &str = "capture";
/// Why records were dropped: they could not be written.
const IO: &str = "io";
/// Why a record was dropped: its batch ended in the middle of it.
const TORN: &str = "torn";
/// Why records were dropped: they are of another stream than the capture, which a spill kept.
const OTHER_STREAM: &str = "other_stream";
/// Why records were dropped: they came after the end.
const FINISHED: &str = "finished";

/// Writes a capture: a [`Sink`].
///
/// Records wait for their block to be full; [`flush`](Sink::flush) writes what there is. Until then they are neither
/// delivered nor dropped in the books, so flush before drawing them up.
///
/// When a block cannot be written, its records are counted as dropped (`io`), the file is cut back to the last whole
/// block, and the error is returned. The next block is tried again: when there is space again, it goes on. A
/// reader of the capture learns how many records are not in it.
///
/// [`finish`](Sink::finish) writes the trailer with the source's books and brings all of it to storage. Without, the
/// capture lacks its last block and its books, and a reader says so.
pub struct CaptureWriter<M: Medium = File> {
    medium: M,
    boot: BootId,
    clocks: Clocks,
    /// Checksum of the info.
    stream: u32,
    /// Bytes of whole chunks in the medium.
    len: u64,
    /// There may be a part of a chunk behind them.
    torn: bool,
    /// The end of the capture is written.
    finished: bool,
    block: Block,
    packer: Packer,
    index: Index,
    row: SinkRow,
    /// Records that this sink was never given.
    missed: u64,
}

/// The records of the block being filled.
#[derive(Debug)]
struct Block {
    frames: Vec<u8>,
    records: u32,
    first_ktime_ns: u64,
    last_ktime_ns: u64,
}

impl CaptureWriter<File> {
    /// Creates the file at `path`, or empties the one that is there, and writes the header.
    ///
    /// # Errors
    /// What the system says.
    pub fn create(path: impl AsRef<Path>, info: &StreamInfo) -> io::Result<Self> {
        Self::new(File::create(path)?, info)
    }
}

impl<M: Medium> CaptureWriter<M> {
    /// Begins a capture on `medium`, which is empty, and writes the header.
    ///
    /// # Errors
    /// What the medium says; [`InvalidInput`](io::ErrorKind::InvalidInput) if `info` takes more than 4 MiB as JSON.
    pub fn new(mut medium: M, info: &StreamInfo) -> io::Result<Self> {
        let StreamInfo { boot, clocks, .. } = *info;
        let info = json(info)?;
        let stream = crc32fast::hash(&info);
        let mut chunk = Chunk::new(ChunkKind::Info);
        chunk.stream = stream;
        chunk.seal(&info);
        let copy = [chunk.as_bytes(), &info].concat();
        let start = [own_head().as_bytes(), &copy, &copy].concat();
        medium.write_all(&start)?;
        Ok(Self {
            medium,
            boot,
            clocks,
            stream,
            len: start.len() as u64,
            torn: false,
            finished: false,
            block: Block::new(),
            packer: Packer::new(),
            index: Index::new(),
            row: SinkRow { sink: NAME.to_owned(), ..SinkRow::default() },
            missed: 0,
        })
    }

    /// The books of this sink.
    #[must_use]
    pub fn row(&self) -> SinkRow {
        self.row.clone()
    }

    fn write_block(&mut self) -> io::Result<()> {
        if self.block.records == 0 {
            return Ok(());
        }
        let block = &self.block;
        let mut chunk = self.chunk(ChunkKind::Block);
        chunk.records = block.records;
        #[expect(clippy::cast_possible_truncation, reason = "a block has at most MAX_BLOCK bytes")]
        let raw_len = block.frames.len() as u32;
        chunk.raw_len = raw_len;
        chunk.first_ktime_ns = block.first_ktime_ns;
        chunk.last_ktime_ns = block.last_ktime_ns;
        let records = u64::from(block.records);
        let entry = IndexEntry {
            offset: self.len,
            blocks: 1,
            records,
            first_ktime_ns: block.first_ktime_ns,
            last_ktime_ns: block.last_ktime_ns,
        };
        let packed = self.packer.pack(chunk, &block.frames);
        self.block.clear();
        let result = packed.and_then(|bytes| append(&mut self.medium, &mut self.len, &mut self.torn, bytes));
        match &result {
            Ok(()) => {
                self.index.push(entry);
                self.row.delivered += records;
            }
            Err(_) => self.drop_records(IO, records),
        }
        result
    }

    fn write_trailer(&mut self, ledger: &Ledger, incomplete: Option<&str>) -> io::Result<()> {
        let index = self.index.entries();
        let json = json(&Trailer {
            records: self.row.delivered,
            blocks: index.iter().map(|entry| entry.blocks).sum(),
            written: self.row.clone(),
            probes: ledger.probes.clone(),
            uncounted: ledger.uncounted,
            incomplete: incomplete.map(str::to_owned),
            index: index.to_vec(),
        })?;
        let offset = self.len.to_le_bytes();
        let mut trailer = self.chunk(ChunkKind::Trailer);
        trailer.seal(&json);
        let mut end = self.chunk(ChunkKind::End);
        end.seal(&offset);
        let bytes = [trailer.as_bytes(), &json, end.as_bytes(), &offset].concat();
        append(&mut self.medium, &mut self.len, &mut self.torn, &bytes)?;
        self.finished = true;
        Ok(())
    }

    /// A header with what the header of every chunk says.
    fn chunk(&self, kind: ChunkKind) -> Chunk {
        let mut chunk = Chunk::new(kind);
        chunk.stream = self.stream;
        chunk.first_record = self.row.delivered;
        let dropped = [IO, OTHER_STREAM].iter().filter_map(|reason| self.row.dropped.get(*reason));
        chunk.dropped = self.missed + dropped.sum::<u64>();
        chunk
    }

    fn drop_records(&mut self, reason: &str, count: u64) {
        match self.row.dropped.get_mut(reason) {
            Some(dropped) => *dropped += count,
            None => drop(self.row.dropped.insert(reason.to_owned(), count)),
        }
    }
}

impl<M: Medium> Sink for CaptureWriter<M> {
    fn name(&self) -> &str {
        NAME
    }

    fn write(&mut self, batch: &Batch) -> Result<(), SinkError> {
        // It says whose records it has, so it can have no others.
        if batch.stream().is_some_and(|stream| (stream.boot, stream.clocks) != (self.boot, self.clocks)) {
            self.row.received += batch.count();
            self.drop_records(OTHER_STREAM, batch.count());
            return Err(SinkError::lossy(
                "records of another recording, which a capture cannot have beside its own: begin it with what \
                 PipelineBuilder::info says, and without a spill",
            ));
        }
        let mut told = Ok(());
        for record in batch.records() {
            self.row.received += 1;
            let Ok(record) = record else {
                self.drop_records(TORN, 1);
                continue;
            };
            if self.finished {
                self.drop_records(FINISHED, 1);
                continue;
            }
            if !self.block.has_room(record) {
                told = told.and(self.write_block().map_err(sink_error));
            }
            self.block.push(record);
        }
        told
    }

    fn flush(&mut self) -> Result<(), SinkError> {
        if self.block.records == 0 {
            return Ok(());
        }
        self.write_block().and_then(|()| self.medium.flush()).map_err(sink_error)
    }

    /// A second of the stream at most is lost if the recording is killed; a flush ends a block.
    fn flush_every(&self) -> Duration {
        Duration::from_secs(1)
    }

    fn missed(&mut self, records: u64) {
        self.missed += records;
    }

    fn tally(&self) -> Option<Tally> {
        Some(Tally { delivered: self.row.delivered, dropped: self.row.dropped.clone() })
    }

    fn finish(&mut self, ledger: &Ledger, incomplete: Option<&str>) -> Result<(), SinkError> {
        if self.finished {
            return Ok(());
        }
        // Without its last block it is still worth a trailer, which says what is missing.
        let flushed = self.write_block();
        flushed
            .and(self.write_trailer(ledger, incomplete))
            .and_then(|()| self.medium.sync())
            .map_err(sink_error)
    }
}

impl<M: Medium> fmt::Debug for CaptureWriter<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CaptureWriter")
            .field("len", &self.len)
            .field("row", &self.row)
            .finish_non_exhaustive()
    }
}

impl Block {
    fn new() -> Self {
        Self { frames: Vec::with_capacity(MAX_BLOCK), records: 0, first_ktime_ns: u64::MAX, last_ktime_ns: 0 }
    }

    fn has_room(&self, record: Record<'_>) -> bool {
        self.frames.len() + FRAME_HEADER + record.bytes().len().next_multiple_of(8) <= MAX_BLOCK
    }

    fn push(&mut self, record: Record<'_>) {
        put_frame(&mut self.frames, record.bytes());
        let ktime_ns = record.header().ktime_ns;
        self.records += 1;
        self.first_ktime_ns = self.first_ktime_ns.min(ktime_ns);
        self.last_ktime_ns = self.last_ktime_ns.max(ktime_ns);
    }

    fn clear(&mut self) {
        self.frames.clear();
        self.records = 0;
        self.first_ktime_ns = u64::MAX;
        self.last_ktime_ns = 0;
    }
}

/// Makes the bytes of a block's chunk, in a buffer that is used again.
struct Packer {
    table: CompressTable,
    out: Vec<u8>,
}

impl Packer {
    fn new() -> Self {
        // The large table also for a short block: with another table the same records would give other bytes.
        Self {
            table: CompressTable::large(),
            out: vec![0; CHUNK_HEADER + get_maximum_output_size(MAX_BLOCK)],
        }
    }

    fn pack(&mut self, mut chunk: Chunk, frames: &[u8]) -> io::Result<&[u8]> {
        let len = compress_into_with_table(frames, &mut self.out[CHUNK_HEADER..], &mut self.table)
            .map_err(io::Error::other)?;
        let out = &mut self.out[..CHUNK_HEADER + len];
        chunk.seal(&out[CHUNK_HEADER..]);
        out[..CHUNK_HEADER].copy_from_slice(chunk.as_bytes());
        Ok(out)
    }
}

/// Writes whole chunks at the end of the medium, or leaves it as it was.
fn append(medium: &mut impl Medium, len: &mut u64, torn: &mut bool, bytes: &[u8]) -> io::Result<()> {
    if *torn {
        medium.cut(*len)?;
        *torn = false;
    }
    match medium.write_all(bytes) {
        Ok(()) => {
            *len += bytes.len() as u64;
            Ok(())
        }
        Err(error) => {
            *torn = medium.cut(*len).is_err();
            Err(error)
        }
    }
}

fn json(value: &impl Serialize) -> io::Result<Vec<u8>> {
    let json = serde_json::to_vec(value)?;
    if json.len() > MAX_JSON as usize {
        let message = format!("{} bytes of JSON where a capture takes at most {MAX_JSON}", json.len());
        return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
    }
    Ok(json)
}

fn sink_error(source: io::Error) -> SinkError {
    match source.kind() {
        io::ErrorKind::BrokenPipe => SinkError::Closed,
        _ => SinkError::lossy(source),
    }
}
