use std::io::{self, Write};

use kprobe_core::pipeline::{Batch, Drops, Enriched, SinkError, SinkRow, Tally};

/// Lines are handed to the writer in chunks of about this size.
const CHUNK: usize = 64 * 1024;

/// Why a record was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reason {
    NotShown,
    UnknownKind,
    Undecodable,
    Io,
    Closed,
    Shutdown,
}

impl Reason {
    const ALL: [(Self, &'static str); 6] = [
        (Self::NotShown, "not_shown"),
        (Self::UnknownKind, "unknown_kind"),
        (Self::Undecodable, "undecodable"),
        (Self::Io, "io"),
        (Self::Closed, "closed"),
        (Self::Shutdown, "shutdown"),
    ];
}

/// Buffers whole lines, writes them in large chunks, and knows of each record whether its line was written.
///
/// The buffer holds, in this order: lines of the sink's own or the rest of one record's line, then whole lines of records.
/// No line has a newline inside, so newlines in what was written tell how many lines were.
#[derive(Debug)]
pub(super) struct Outlet<W: Write> {
    sink: &'static str,
    out: W,
    buf: Vec<u8>,
    /// Lines at the front of the buffer that are about no record. They survive a failure.
    own: u64,
    /// The buffer begins with the rest of a record's line whose beginning was written before a failure.
    half: bool,
    /// Whole lines of records in the buffer.
    pending: u64,
    /// Nothing is written any more, for this reason.
    closed: Option<Reason>,
    books: Books,
    /// Records that never came, because the queue before the sink was full.
    missed: u64,
}

#[derive(Debug, Default)]
struct Books {
    received: u64,
    delivered: u64,
    dropped: [u64; Reason::ALL.len()],
}

impl Books {
    fn drop_for(&mut self, reason: Reason, count: u64) {
        self.dropped[reason as usize] += count;
    }
}

impl<W: Write> Outlet<W> {
    pub(super) fn new(sink: &'static str, out: W) -> Self {
        Self {
            sink,
            out,
            buf: Vec::with_capacity(CHUNK + CHUNK / 4),
            own: 0,
            half: false,
            pending: 0,
            closed: None,
            books: Books::default(),
            missed: 0,
        }
    }

    /// Adds a line that is about no record. The buffer must hold no records: they would be taken for it.
    pub(super) fn own_line(&mut self, encode: impl FnOnce(&mut Vec<u8>)) {
        debug_assert!(self.pending == 0 && !self.half);
        encode(&mut self.buf);
        self.buf.push(b'\n');
        self.own += 1;
    }

    /// Takes a batch; `encode` appends one record's line, without the newline. What it appends before it fails is
    /// taken back. After an error the rest of the batch is taken all the same; the first error is returned.
    pub(super) fn write_batch(
        &mut self,
        batch: &Batch,
        mut encode: impl FnMut(&Enriched<'_>, &mut Vec<u8>) -> Result<(), Reason>,
    ) -> Result<(), SinkError> {
        let mut result = Ok(());
        for record in batch.enriched() {
            self.books.received += 1;
            if let Some(reason) = self.closed {
                self.books.drop_for(reason, 1);
                continue;
            }
            let start = self.buf.len();
            match record.map_err(|_| Reason::Undecodable).and_then(|record| encode(&record, &mut self.buf)) {
                Ok(()) => {
                    self.buf.push(b'\n');
                    self.pending += 1;
                }
                Err(reason) => {
                    self.buf.truncate(start);
                    self.books.drop_for(reason, 1);
                }
            }
            if self.buf.len() >= CHUNK {
                result = result.and(self.drain());
            }
        }
        if self.closed.is_some() { result.and(Err(self.closed_error())) } else { result }
    }

    /// Writes the buffer. Afterwards no record is pending: each is delivered or dropped.
    pub(super) fn drain(&mut self) -> Result<(), SinkError> {
        if self.closed.is_some() {
            return Err(self.closed_error());
        }
        let mut done = 0;
        while done < self.buf.len() {
            let error = match self.out.write(&self.buf[done..]) {
                Ok(0) => io::ErrorKind::WriteZero.into(),
                Ok(count) => {
                    done += count;
                    continue;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => error,
            };
            return Err(self.fail(done, error));
        }
        self.books.delivered += self.pending + u64::from(self.half);
        (self.own, self.half, self.pending) = (0, false, 0);
        self.buf.clear();
        Ok(())
    }

    /// Writes the buffer and makes the writer pass everything on.
    pub(super) fn flush(&mut self) -> Result<(), SinkError> {
        self.drain()?;
        self.out.flush().map_err(|error| {
            self.closed = closing(&error);
            self.error(error)
        })
    }

    /// Settles the books after `done` bytes of the buffer were written. What must come first in the next write stays in
    /// the buffer: the sink's own lines, and the rest of a line that has begun, so that no later line follows half of one.
    fn fail(&mut self, done: usize, error: io::Error) -> SinkError {
        let written = &self.buf[..done];
        let mut lines = count_lines(written);
        let in_line = written.last().is_some_and(|&last| last != b'\n');

        let own = lines.min(self.own);
        self.own -= own;
        lines -= own;
        if self.half && lines > 0 {
            self.half = false;
            lines -= 1;
            self.books.delivered += 1;
        }
        self.books.delivered += lines;
        self.pending -= lines;
        if in_line && self.own == 0 && !self.half {
            self.half = true;
            self.pending -= 1;
        }

        self.closed = closing(&error);
        if let Some(reason) = self.closed {
            self.books.drop_for(reason, self.pending + u64::from(self.half));
            (self.own, self.half) = (0, false);
        } else {
            self.books.drop_for(Reason::Io, self.pending);
        }
        self.pending = 0;

        let keep = self.own + u64::from(self.half);
        let kept = end_of_line(&self.buf[done..], keep);
        self.buf.truncate(done + kept);
        self.buf.drain(..done);
        self.error(error)
    }

    pub(super) const fn name(&self) -> &'static str {
        self.sink
    }

    pub(super) fn miss(&mut self, records: u64) {
        self.missed += records;
    }

    pub(super) const fn missed(&self) -> u64 {
        self.missed
    }

    /// What became of the records so far.
    pub(super) fn tally(&self) -> Tally {
        let SinkRow { delivered, dropped, .. } = self.row();
        Tally { delivered, dropped }
    }

    /// The books. A line of which only the beginning is written counts as dropped until its rest is.
    pub(super) fn row(&self) -> SinkRow {
        let mut dropped = Drops::new();
        for (reason, name) in Reason::ALL {
            let half = u64::from(self.half && reason == Reason::Io);
            let count = self.books.dropped[reason as usize] + half;
            if count > 0 {
                dropped.insert(name.to_owned(), count);
            }
        }
        SinkRow {
            sink: self.sink.to_owned(),
            received: self.books.received,
            delivered: self.books.delivered,
            dropped,
            ..SinkRow::default()
        }
    }

    fn error(&self, source: io::Error) -> SinkError {
        match self.closed {
            Some(Reason::Closed) => self.closed_error(),
            // Once it is said what became of the rest, it is closed like any other.
            _ => SinkError::lossy(source),
        }
    }

    fn closed_error(&self) -> SinkError {
        SinkError::Closed
    }
}

impl<W: Write> Drop for Outlet<W> {
    /// As a `BufWriter` does: a last try, for a sink that was not flushed. One that never got a record leaves nothing:
    /// what it was made for did not begin.
    fn drop(&mut self) {
        if !std::thread::panicking() && !self.buf.is_empty() && self.books.received > 0 {
            let _ = self.drain();
        }
    }
}

fn closing(error: &io::Error) -> Option<Reason> {
    match error.kind() {
        io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => Some(Reason::Closed),
        io::ErrorKind::TimedOut => Some(Reason::Shutdown),
        _ => None,
    }
}

fn count_lines(bytes: &[u8]) -> u64 {
    bytes.iter().map(|&byte| u64::from(byte == b'\n')).sum()
}

/// Where the `lines`-th line ends.
fn end_of_line(bytes: &[u8], lines: u64) -> usize {
    let mut left = lines;
    bytes
        .iter()
        .take_while(|&&byte| {
            let more = left > 0;
            left -= u64::from(more && byte == b'\n');
            more
        })
        .count()
}
