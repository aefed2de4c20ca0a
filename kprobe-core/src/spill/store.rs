use std::{fmt, path::Path};

use super::{
    AppendError, Count, Damage, Disk, Folder, Position, Problem, Recovered, SpillError, SpillLimits,
    acks::Acks,
    names,
    read::{Failed, Reader},
    recover::{Queue, recover},
    write::Writer,
};
use crate::pipeline::Batch;

/// A queue of batches on disk, for one sink.
///
/// Everything is done by the thread that calls; nothing waits for anything but the file system.
///
/// What was [`append`](Self::append)ed and not [`ack`](Self::ack)nowledged comes back after a restart, in the same order,
/// each batch once. It is delivery *at least once*: when a process is killed between the arrival of a batch and its
/// acknowledgement, the batch comes again, with the same [id](Batch::id), by which a destination knows that it has it.
///
/// ```
/// use kprobe_core::{pipeline::Batch, spill::{Spill, SpillLimits}};
///
/// # let dir = tempfile::tempdir()?;
/// # let dir = dir.path().join("clickhouse");
/// let mut spill = Spill::open(&dir, SpillLimits::of(64 << 20))?;
/// spill.append(&Batch::default())?;
/// while let Some(batch) = spill.next()? {
///     // Deliver it. When it has arrived:
///     spill.ack(spill.position())?;
/// }
/// assert_eq!(spill.held().batches, 0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Spill<D: Disk = Folder> {
    disk: D,
    limits: SpillLimits,
    queue: Queue,
    acks: Acks,
    writer: Writer,
    reader: Reader,
    recovered: Recovered,
}

impl Spill<Folder> {
    /// Opens the spill in that directory, which is made if it is not there, and locks it until this is dropped or the
    /// process ends in whatever way. Files of others are left alone.
    ///
    /// # Errors
    /// It cannot be made, locked, read or written to; or a later version of kprobe wrote into it. Damage is no error: see
    /// [`recovered`](Self::recovered).
    pub fn open(dir: impl AsRef<Path>, limits: SpillLimits) -> Result<Self, SpillError> {
        let dir = dir.as_ref();
        let folder =
            Folder::open(dir).map_err(|problem| SpillError { dir: dir.display().to_string(), problem })?;
        Self::on(folder, limits)
    }
}

impl<D: Disk> Spill<D> {
    /// Opens the spill that `disk` holds, which nobody else uses.
    ///
    /// # Errors
    /// As [`open`](Spill::open).
    pub fn on(mut disk: D, limits: SpillLimits) -> Result<Self, SpillError> {
        match recover(&mut disk) {
            Ok((queue, acks, recovered)) => {
                let reader = Reader::new(queue.acked);
                Ok(Self { disk, limits, queue, acks, writer: Writer::new(), reader, recovered })
            }
            Err(problem) => Err(SpillError { dir: disk.name(), problem }),
        }
    }

    /// What an earlier run left, as it was when the spill was opened.
    pub const fn recovered(&self) -> &Recovered {
        &self.recovered
    }

    /// Puts a batch at the end of the queue. Then it survives the end of this process at any time, but not a power cut:
    /// see [`sync`](Self::sync).
    ///
    /// # Errors
    /// See [`AppendError`]. The queue is as before.
    pub fn append(&mut self, batch: &Batch) -> Result<(), AppendError> {
        self.writer.append(&mut self.disk, &mut self.queue, &self.limits, batch)
    }

    /// The oldest batch that was not read since the spill was opened; `None` if there is none. Batches that cannot be read are passed
    /// over: see [`lost`](Self::lost) and [`damage`](Self::damage).
    ///
    /// # Errors
    /// The system refuses to read a file. The batch is still the next one.
    #[expect(clippy::should_implement_trait, reason = "more may come after None")]
    pub fn next(&mut self) -> Result<Option<Batch>, SpillError> {
        match self.reader.next(&mut self.disk, &self.queue, &self.recovered) {
            Ok(batch) => Ok(batch),
            Err(Failed { file, source }) => Err(self.error(&file, source)),
        }
    }

    /// The place behind the batch that was read last.
    pub const fn position(&self) -> Position {
        self.reader.read
    }

    /// Everything before `position` has arrived and shall not come again. Deletes segments that are done. It is one short
    /// write and waits for no storage.
    ///
    /// What is behind the batch read last is not acknowledged, whatever `position` says.
    ///
    /// # Errors
    /// It could not be written or deleted. It holds for this process all the same, and the next acknowledgement tries
    /// again; batches may come again after a restart.
    pub fn ack(&mut self, position: Position) -> Result<(), SpillError> {
        let to = position.min(self.reader.read);
        if to > self.queue.acked {
            self.queue.acked = to;
        } else if !self.acks.is_behind() {
            return self.remove_done();
        }
        let written = self.acks.write(&mut self.disk, self.queue.acked);
        let grown = written.map_err(|source| self.error(names::ACK, source));
        // Also without: that a segment is gone says as much.
        let removed = self.remove_done();
        self.queue.bytes += grown?;
        removed
    }

    /// Batches that were not acknowledged, read or not.
    pub const fn held(&self) -> Count {
        self.queue.acked.until(self.queue.end)
    }

    /// Batches that were not read yet.
    pub const fn unread(&self) -> Count {
        self.reader.read.until(self.queue.end)
    }

    /// Batches that [`next`](Self::next) had to pass over because they were damaged or gone, since the spill was opened.
    pub const fn lost(&self) -> Count {
        self.reader.lost
    }

    /// Bytes of all files of the spill. Bytes of batches that are acknowledged count until their segment is deleted:
    /// when all of its batches are acknowledged and it is not written to any more, or the space is needed.
    pub const fn bytes(&self) -> u64 {
        self.queue.bytes
    }

    /// Damage that was found since the spill was opened, at most 1,024 of them.
    pub fn damage(&self) -> &[Damage] {
        &self.reader.log.list
    }

    /// Brings everything to the storage, so that it outlives a power cut.
    ///
    /// # Errors
    /// What the system says.
    pub fn sync(&mut self) -> Result<(), SpillError> {
        self.disk.sync().map_err(|source| self.error("sync", source))
    }

    fn remove_done(&mut self) -> Result<(), SpillError> {
        while let Some(segment) = self.queue.segments.front()
            && self.queue.front_is_done()
            && !self.writer.is_writing(segment.first.batch)
        {
            let name = segment.name();
            self.queue.remove_front(&mut self.disk).map_err(|source| self.error(&name, source))?;
        }
        Ok(())
    }

    fn error(&self, file: &str, source: std::io::Error) -> SpillError {
        SpillError { dir: self.disk.name(), problem: Problem::Io { file: file.to_owned(), source } }
    }
}

impl<D: Disk> fmt::Debug for Spill<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Spill")
            .field("dir", &self.disk.name())
            .field("held", &self.held())
            .field("unread", &self.unread())
            .field("bytes", &self.bytes())
            .finish_non_exhaustive()
    }
}
