//! What an earlier run left.

use std::collections::VecDeque;

use super::{
    Cause, Count, Damage, Disk, FORMAT_VERSION, Position, Problem,
    acks::{Acks, Said},
    damage::DamageLog,
    format::SLOT,
    names,
    segment::{Beginning, Segment, Step, head},
};
use crate::abi::ABI_VERSION;

/// What an earlier run left in the directory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Recovered {
    /// Batches that were appended and not acknowledged. Those of them that turn out to be damaged are skipped when it
    /// is their turn, and then are in [`lost`](super::Spill::lost).
    pub held: Count,
    /// Bytes of all files of the spill.
    pub bytes: u64,
    /// What was found damaged, at most 1,024 of them, in the order of the files. A batch whose header is sound and whose
    /// contents are not is noticed when it is read: see [`damage`](super::Spill::damage).
    pub damage: Vec<Damage>,
    /// Damages that found no room in the list.
    pub damage_left_out: u64,
}

/// The queue on disk, without what reads and writes it.
#[derive(Debug)]
pub(super) struct Queue {
    /// In order; each has at least one batch.
    pub(super) segments: VecDeque<Segment>,
    /// Everything before it has arrived.
    pub(super) acked: Position,
    /// Where the next batch goes.
    pub(super) end: Position,
    /// Bytes of all files of ours.
    pub(super) bytes: u64,
}

impl Queue {
    /// Deletes the oldest segment.
    pub(super) fn remove_front(&mut self, disk: &mut impl Disk) -> std::io::Result<()> {
        if let Some(segment) = self.segments.front() {
            disk.remove(&segment.name())?;
            self.bytes = self.bytes.saturating_sub(segment.len);
            self.segments.pop_front();
        }
        Ok(())
    }

    /// The oldest segment has only batches that have arrived.
    pub(super) fn front_is_done(&self) -> bool {
        self.segments.front().is_some_and(|segment| segment.end.batch <= self.acked.batch)
    }
}

/// Looks through the directory, and takes out of it what no batch can be in.
pub(super) fn recover(disk: &mut impl Disk) -> Result<(Queue, Acks, Recovered), Problem> {
    let files = ours(disk)?;
    let mut segments: Vec<(u64, u64)> =
        files.iter().filter_map(|(name, len)| Some((names::first_of(name)?, *len))).collect();
    segments.sort_unstable();
    for (number, _) in &segments {
        refuse_later(disk, names::segment(*number))?;
    }
    let ack_len = files.iter().find(|(name, _)| name == names::ACK).map(|(_, len)| *len);
    let Said { mut acks, position, damaged } = Acks::read(disk, ack_len).map_err(io(names::ACK))?;
    let mut scan = Scan {
        disk,
        files,
        segments: VecDeque::new(),
        acked: position,
        at: Position::default(),
        pending: None,
        begun: false,
        log: DamageLog::default(),
    };
    if let Some(at) = damaged {
        scan.log.push(Damage {
            file: names::ACK.to_owned(),
            offset: at as u64,
            length: SLOT as u64,
            records: Some(0),
            cause: Cause::Ack,
        });
    }
    for (number, len) in segments {
        scan.segment(number, len)?;
    }
    let Scan { pending, mut log, segments, acked, at, .. } = scan;
    if let Some(damage) = pending {
        log.push(damage);
    }
    let mut queue = Queue { segments, acked, end: at.later(acked), bytes: 0 };
    while queue.front_is_done() {
        let name = queue.segments.front().map(Segment::name).unwrap_or_default();
        queue.remove_front(disk).map_err(io(&name))?;
    }
    if !acks.is_ready() || damaged.is_some() {
        // If there is no room for it on a full disk, the next acknowledgement will do.
        drop(acks.write(disk, acked));
    }
    queue.bytes = ours(disk)?.iter().map(|(_, len)| len).sum();
    let recovered = Recovered {
        held: acked.until(queue.end),
        bytes: queue.bytes,
        damage: log.list,
        damage_left_out: log.left_out,
    };
    Ok((queue, acks, recovered))
}

fn ours(disk: &mut impl Disk) -> Result<Vec<(String, u64)>, Problem> {
    let mut files = disk.list().map_err(io("list of files"))?;
    files.retain(|(name, _)| names::is_ours(name));
    Ok(files)
}

fn io(file: &str) -> impl FnOnce(std::io::Error) -> Problem {
    move |source| Problem::Io { file: file.to_owned(), source }
}

/// Refuses a segment that is whole, but of a later version.
fn refuse_later(disk: &mut impl Disk, file: String) -> Result<(), Problem> {
    match head(disk, &file).map_err(io(&file))? {
        Some(head) if head.version > FORMAT_VERSION => {
            Err(Problem::FutureVersion { file, found: head.version })
        }
        Some(head) if head.abi > ABI_VERSION => Err(Problem::FutureAbi { file, found: head.abi }),
        _ => Ok(()),
    }
}

/// Goes through the segments in order.
struct Scan<'a, D> {
    disk: &'a mut D,
    files: Vec<(String, u64)>,
    segments: VecDeque<Segment>,
    acked: Position,
    /// Behind the last sound batch; a later one is expected.
    at: Position,
    /// A damage whose records are known when the next sound batch is found.
    pending: Option<Damage>,
    /// It is known where the queue begins.
    begun: bool,
    log: DamageLog,
}

impl<D: Disk> Scan<'_, D> {
    fn segment(&mut self, number: u64, len: u64) -> Result<(), Problem> {
        let name = names::segment(number);
        let beginning = Segment::begin(self.disk, number, len).map_err(io(&name))?;
        match beginning {
            Beginning::Torn => self.remove_torn(&name, len, None)?,
            Beginning::Unreadable => self.put_aside(&name, number, len)?,
            Beginning::Sound(segment, damaged) => {
                if !std::mem::replace(&mut self.begun, true) {
                    if let Some(damage) = self.pending.take() {
                        self.log.push(damage);
                    }
                    // What came before was deleted, and so had arrived.
                    self.at = segment.first;
                    self.acked = self.acked.later(segment.first);
                }
                self.reach(&name, 0, segment.first);
                for (cause, offset, length) in damaged {
                    self.log.push(Damage { file: name.clone(), offset, length, records: Some(0), cause });
                }
                self.batches(segment)?;
            }
        }
        Ok(())
    }

    fn batches(&mut self, mut segment: Segment) -> Result<(), Problem> {
        let name = segment.name();
        let mut offset = segment.body;
        let mut any = false;
        // What is missing at the end; nothing but that if there is no batch before.
        let mut torn = None;
        loop {
            match segment.step(self.disk, offset, self.at).map_err(io(&name))? {
                Step::Frame(header) => {
                    self.reach(&name, offset, header.position());
                    offset += header.size();
                    self.at = header.end();
                    segment.end = header.end();
                    any = true;
                }
                Step::Bad(length, cause) => {
                    let end = offset.saturating_add(length).min(segment.len);
                    self.suspect(&name, offset, end - offset, cause);
                    offset = end;
                }
                Step::Torn(records) => {
                    torn = Some(records);
                    break;
                }
                Step::End => break,
            }
        }
        if !any {
            let length = segment.len;
            return match self.pending.take() {
                Some(_) => self.put_aside(&name, segment.first.batch, length),
                None => self.remove_torn(&name, length, torn.flatten()),
            };
        }
        if let Some(records) = torn {
            let length = segment.len - offset;
            self.disk.cut(&name, offset).map_err(io(&name))?;
            segment.len = offset;
            self.log.push(Damage { file: name, offset, length, records, cause: Cause::Torn });
        }
        self.segments.push_back(segment);
        Ok(())
    }

    /// The next sound batch is at `to`.
    fn reach(&mut self, file: &str, offset: u64, to: Position) {
        let missing = self.at.later(self.acked).until(to);
        let is_news = to.batch > self.acked.batch;
        match self.pending.take() {
            Some(damage) if damage.cause == Cause::PutAside || is_news => {
                self.log.push(Damage { records: Some(missing.records), ..damage });
            }
            None if missing.batches > 0 => self.log.push(Damage {
                file: file.to_owned(),
                offset,
                length: 0,
                records: Some(missing.records),
                cause: Cause::Missing,
            }),
            _ => (),
        }
        self.at = self.at.later(to);
    }

    /// Bytes that are no good.
    fn suspect(&mut self, file: &str, offset: u64, length: u64, cause: Cause) {
        if let Some(before) = self.pending.take() {
            match before.file == file && before.offset + before.length == offset {
                true => {
                    self.pending = Some(Damage { length: before.length + length, ..before });
                    return;
                }
                false => self.log.push(before),
            }
        }
        self.pending = Some(Damage { file: file.to_owned(), offset, length, records: None, cause });
    }

    fn remove_torn(&mut self, name: &str, length: u64, records: Option<u64>) -> Result<(), Problem> {
        self.disk.remove(name).map_err(io(name))?;
        self.log.push(Damage { file: name.to_owned(), offset: 0, length, records, cause: Cause::Torn });
        Ok(())
    }

    fn put_aside(&mut self, name: &str, number: u64, length: u64) -> Result<(), Problem> {
        let to = names::aside(name, &self.files);
        self.disk.rename(name, &to).map_err(io(name))?;
        // Where it began is written in it, and cannot be read; but for what has arrived, that does not matter.
        self.begun |= number <= self.acked.batch;
        self.suspect(name, 0, length, Cause::PutAside);
        Ok(())
    }
}
