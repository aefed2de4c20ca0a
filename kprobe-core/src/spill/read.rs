use std::{io, sync::Arc};

use super::{
    Cause, Count, Damage, Disk, Position,
    codec::unpack,
    damage::DamageLog,
    recover::{Queue, Recovered},
    segment::{Segment, Step, payload},
};
use crate::pipeline::{Batch, StreamInfo};

/// The end of the queue where batches are taken out.
#[derive(Debug)]
pub(super) struct Reader {
    /// Behind the last batch that was read.
    pub(super) read: Position,
    /// Batches that could not be read.
    pub(super) lost: Count,
    pub(super) log: DamageLog,
    place: Option<Place>,
    /// Of the batch read last, to be shared with the next.
    stream: Option<Arc<StreamInfo>>,
}

/// Where the next frame is.
#[derive(Debug)]
struct Place {
    /// Number of the segment's first batch.
    segment: u64,
    offset: u64,
    /// Batches before it were there already.
    expected: Position,
    /// Bytes before it that are no good: from where on, how many, and why.
    bad: Option<(u64, u64, Cause)>,
    stream: Option<Arc<StreamInfo>>,
}

/// A file that could not be read.
pub(super) struct Failed {
    pub(super) file: String,
    pub(super) source: io::Error,
}

impl Reader {
    pub(super) fn new(read: Position) -> Self {
        Self { read, lost: Count::default(), log: DamageLog::default(), place: None, stream: None }
    }

    /// The next batch. After an error nothing has changed.
    pub(super) fn next(
        &mut self,
        disk: &mut impl Disk,
        queue: &Queue,
        known: &Recovered,
    ) -> Result<Option<Batch>, Failed> {
        while self.read.batch < queue.end.batch {
            let Some(segment) = self.segment(queue) else {
                let next = self.place.as_ref().map_or(0, |place| place.segment + 1);
                self.enter(disk, queue, next, known)?;
                continue;
            };
            let failed = |source| Failed { file: segment.name(), source };
            let Some(place) = &mut self.place else { continue };
            match segment.step(disk, place.offset, place.expected).map_err(failed)? {
                Step::Frame(header) if header.end().batch <= self.read.batch => {
                    // It has arrived, and whatever was before it.
                    place.offset += header.size();
                    place.expected = header.end();
                    place.bad = None;
                }
                Step::Frame(header) => {
                    let (offset, file) = (place.offset, segment.name());
                    let bytes = payload(disk, &file, offset, &header).map_err(failed)?;
                    let batch = match bytes {
                        None => Err(Cause::Checksum),
                        Some(bytes) => unpack(&header, &bytes, place.stream.as_ref()).ok_or(Cause::Contents),
                    };
                    place.offset += header.size();
                    place.expected = header.end();
                    let bad = place.bad.take();
                    let missing = self.read.until(header.position());
                    if let Some(bad) = bad.filter(|_| missing.batches > 0) {
                        self.note(known, segment, bad, Some(missing.records));
                    }
                    self.pass(header.position());
                    match batch {
                        Ok(batch) => {
                            self.read = header.end();
                            return Ok(Some(batch));
                        }
                        Err(cause) => {
                            self.pass(header.end());
                            let (length, records) = (header.size(), Some(header.records.into()));
                            self.log.push(Damage { file, offset, length, records, cause });
                        }
                    }
                }
                Step::Bad(length, cause) => {
                    let (start, before, cause) = place.bad.unwrap_or((place.offset, 0, cause));
                    let length = length.min(segment.len - place.offset);
                    place.offset += length;
                    place.bad = Some((start, before + length, cause));
                }
                Step::Torn(_) => {
                    // It was whole when the spill was opened.
                    let length = segment.len - place.offset;
                    place.bad.get_or_insert((place.offset, length, Cause::NotAFrame));
                    place.offset = segment.len;
                }
                Step::End => {
                    let next = place.segment + 1;
                    if let Some(bad) = place.bad.take() {
                        self.note(known, segment, bad, None);
                    }
                    self.enter(disk, queue, next, known)?;
                }
            }
        }
        Ok(None)
    }

    /// The segment that it is in, if that is still there.
    fn segment<'q>(&self, queue: &'q Queue) -> Option<&'q Segment> {
        let place = self.place.as_ref()?;
        let at = queue.segments.binary_search_by_key(&place.segment, |segment| segment.first.batch).ok()?;
        queue.segments.get(at)
    }

    /// Goes to the first segment with that number or a higher one; behind the last one there is nothing more to read.
    fn enter(
        &mut self,
        disk: &mut impl Disk,
        queue: &Queue,
        number: u64,
        known: &Recovered,
    ) -> Result<(), Failed> {
        let at = queue.segments.partition_point(|segment| segment.first.batch < number);
        let Some(segment) = queue.segments.get(at) else {
            self.pass(queue.end);
            return Ok(());
        };
        let stream = segment.stream(disk).map_err(|source| Failed { file: segment.name(), source })?;
        let expected = self.place.as_ref().map_or(segment.first, |place| place.expected.later(segment.first));
        let mut place =
            Place { segment: segment.first.batch, offset: segment.body, expected, bad: None, stream: None };
        match stream {
            Some(Some(stream)) => {
                let shared = self.stream.take().filter(|last| **last == *stream).unwrap_or(stream);
                self.stream = Some(Arc::clone(&shared));
                place.stream = Some(shared);
            }
            Some(None) => (),
            None => {
                // Both descriptions were sound when the spill was opened or the segment written.
                let length = segment.len - segment.info_at;
                self.note(known, segment, (segment.info_at, length, Cause::Info), None);
                place.offset = segment.len;
            }
        }
        self.place = Some(place);
        Ok(())
    }

    /// What lies between here and `to` is lost.
    fn pass(&mut self, to: Position) {
        self.lost += self.read.until(to);
        self.read = self.read.later(to);
    }

    /// Takes down a damage that was not there when the spill was opened.
    fn note(
        &mut self,
        known: &Recovered,
        segment: &Segment,
        (offset, length, cause): (u64, u64, Cause),
        records: Option<u64>,
    ) {
        let file = segment.name();
        let is_known = |damage: &Damage| damage.offset == offset && damage.file == file;
        if known.damage_left_out == 0 && !known.damage.iter().any(is_known) {
            self.log.push(Damage { file, offset, length, records, cause });
        }
    }
}
