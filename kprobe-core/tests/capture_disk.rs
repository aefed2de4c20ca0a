//! A disk that fills up at any byte: the file stays a capture, each record is delivered or dropped, and when there is
//! space again it goes on.

mod capture_support;

use std::{
    cell::RefCell,
    io::{self, Write},
    rc::Rc,
};

use capture_support::{batch_of, every_kind, info, read_all};
use kprobe_core::{
    capture::{CaptureReader, CaptureWriter, Cause, Medium},
    pipeline::{Ledger, Sink, SinkError, SinkRow},
};

/// A file on a disk with so much space. The system calls are the ones of a file system: a write takes what fits.
#[derive(Clone, Default)]
struct Disk(Rc<RefCell<State>>);

#[derive(Default)]
struct State {
    bytes: Vec<u8>,
    space: usize,
    /// Cutting fails as well.
    stuck: bool,
    /// Bytes that have reached the storage behind it.
    synced: usize,
}

impl Disk {
    fn with_space(space: usize) -> Self {
        let disk = Self::default();
        disk.0.borrow_mut().space = space;
        disk
    }

    fn bytes(&self) -> Vec<u8> {
        self.0.borrow().bytes.clone()
    }
}

impl Write for Disk {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let mut state = self.0.borrow_mut();
        let fits = buf.len().min(state.space - state.bytes.len());
        if fits == 0 {
            return Err(io::ErrorKind::StorageFull.into());
        }
        state.bytes.extend_from_slice(&buf[..fits]);
        Ok(fits)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Medium for Disk {
    fn cut(&mut self, len: u64) -> io::Result<()> {
        let mut state = self.0.borrow_mut();
        if state.stuck {
            return Err(io::ErrorKind::Other.into());
        }
        let len = usize::try_from(len).expect("a length");
        assert!(len <= state.bytes.len(), "it is only ever cut");
        state.bytes.truncate(len);
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        let mut state = self.0.borrow_mut();
        state.synced = state.bytes.len();
        Ok(())
    }
}

const BLOCKS: usize = 4;

/// Writes blocks of one to four records of their own, then finishes; `before` is called before each block. Gives the
/// row and the results of the blocks and of the end.
fn write_blocks(
    disk: &Disk,
    mut before: impl FnMut(usize, &CaptureWriter<Disk>),
) -> Option<(SinkRow, Vec<Result<(), SinkError>>)> {
    let mut writer = CaptureWriter::new(disk.clone(), &info()).ok()?;
    let mut results = Vec::new();
    for number in 0..BLOCKS {
        before(number, &writer);
        let delivered = writer.row().delivered;
        writer.write(&batch_of(&block(number))).expect("it only fills the block");
        assert_eq!(writer.row().delivered, delivered, "not before it is written");
        results.push(writer.flush());
        let row = writer.row();
        assert_eq!(row.received, row.delivered + row.dropped.get("io").unwrap_or(&0));
    }
    before(BLOCKS, &writer);
    results.push(writer.finish(&Ledger::default(), None));
    Some((writer.row(), results))
}

fn block(number: usize) -> Vec<Vec<u8>> {
    every_kind()[4 * number..=4 * number + number].to_vec()
}

/// Which blocks are in the file, by the records it gives.
fn blocks_in(records: &[Vec<u8>]) -> Vec<usize> {
    let mut rest = records;
    let mut found = Vec::new();
    for number in 0..BLOCKS {
        if let Some(after) = rest.strip_prefix(block(number).as_slice()) {
            found.push(number);
            rest = after;
        }
    }
    assert!(rest.is_empty(), "whole blocks only, in order");
    found
}

#[test]
fn full_at_every_byte() {
    let enough = Disk::with_space(usize::MAX);
    write_blocks(&enough, |_, _| ()).expect("there is space");
    assert_eq!(enough.0.borrow().synced, enough.bytes().len(), "what is finished outlives a power cut");
    for space in 0..enough.bytes().len() {
        let disk = Disk::with_space(space);
        let Some((row, results)) = write_blocks(&disk, |_, _| ()) else {
            // One copy of the info may have fitted: an unfinished capture without records.
            let records = read_all(disk.bytes().as_slice()).map_or_else(|_| Vec::new(), |file| file.records);
            assert!(records.is_empty(), "space {space}");
            continue;
        };
        let contents = read_all(disk.bytes().as_slice()).expect("a capture");
        let found = blocks_in(&contents.records);
        assert_eq!(row.delivered, contents.records.len() as u64, "space {space}");
        assert_eq!((row.received, row.dropped.get("io").copied().unwrap_or(0)), (10, 10 - row.delivered));
        // Blocks may fit that are shorter than one that did not.
        for (number, result) in results[..BLOCKS].iter().enumerate() {
            let fits = found.contains(&number);
            assert_eq!(result.is_err(), !fits, "space {space}, block {number}");
            if let Err(error) = result {
                assert_eq!(error.to_string(), "no storage space");
                assert!(matches!(error, SinkError::Lossy(_)));
            }
        }
        let finished = results[BLOCKS].is_ok();
        assert_eq!(contents.trailer.is_some(), finished);
        // Nothing but the trailer is missing: the file was cut back to whole blocks.
        let damage: Vec<_> = contents.damage.iter().map(|damage| damage.cause).collect();
        assert_eq!(damage, if finished { vec![] } else { vec![Cause::Unfinished] }, "space {space}");
        if let Some(trailer) = contents.trailer {
            assert_eq!(trailer.written, row);
            assert_eq!(contents.dropped, 10 - row.delivered);
        }
    }
}

#[test]
fn goes_on_when_there_is_space_again() {
    let start = Disk::with_space(usize::MAX);
    drop(CaptureWriter::new(start.clone(), &info()).expect("there is space"));
    let start = start.bytes().len();
    for space in start..start + 400 {
        for stuck in [false, true] {
            let disk = Disk::with_space(space);
            let written = write_blocks(&disk, |number, writer| {
                let mut state = disk.0.borrow_mut();
                // Up to the block for which there is space: only a cut before it takes out what is torn.
                state.stuck = stuck && number < 3;
                if number == 3 {
                    assert!(
                        writer.row().dropped.contains_key("io"),
                        "400 bytes are not enough for three blocks"
                    );
                    state.space = usize::MAX;
                }
            });
            let (row, results) = written.expect("the header fits");
            assert!(results[3].is_ok() && results[4].is_ok());
            let contents = read_all(disk.bytes().as_slice()).expect("a capture");
            let found = blocks_in(&contents.records);
            assert!(found.contains(&3), "space {space}: {found:?}");
            assert_eq!(row.delivered, contents.records.len() as u64);
            assert_eq!(contents.dropped, row.dropped["io"]);
            assert_eq!(contents.damage, [], "a torn block is cut off before anything else is written");
            let written = contents.trailer.expect("it is finished").written;
            assert_eq!(written, row);
        }
    }
}

#[test]
fn a_reader_without_trailer_knows_what_was_dropped() {
    let disk = Disk::with_space(usize::MAX);
    let mut writer = CaptureWriter::new(disk.clone(), &info()).expect("there is space");
    disk.0.borrow_mut().space = disk.bytes().len();
    writer.write(&batch_of(&every_kind()[..5])).expect("it only fills the block");
    assert!(writer.flush().is_err());
    disk.0.borrow_mut().space = usize::MAX;
    writer.write(&batch_of(&every_kind()[5..6])).expect("it only fills the block");
    writer.flush().expect("there is space");
    let contents = read_all(disk.bytes().as_slice()).expect("a capture");
    assert_eq!(contents.records, every_kind()[5..6]);
    assert_eq!(contents.dropped, 5);
    let missing = contents.probes.iter().find(|row| row.probe == "capture.missing").expect("a row");
    assert_eq!((missing.submitted, missing.lost), (5, 5));
}

#[test]
fn a_real_full_disk() {
    let error = CaptureWriter::create("/dev/full", &info()).expect_err("it is always full");
    assert_eq!(error.kind(), io::ErrorKind::StorageFull);
}

#[test]
fn a_real_file() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("x.kcap");
    std::fs::write(&path, vec![0xaa; 100_000]).expect("writable");
    let mut writer = CaptureWriter::create(&path, &info()).expect("writable");
    writer.write(&batch_of(&every_kind())).expect("writable");
    writer.finish(&Ledger::default(), None).expect("writable");
    assert_eq!(writer.row().delivered, 18);
    let contents = read_all(std::fs::File::open(&path).expect("readable")).expect("a capture");
    assert_eq!(contents.records, every_kind());
    assert_eq!(contents.damage, []);
    assert!(CaptureReader::open(&path).is_ok());
}

#[test]
fn a_real_file_is_cut_back() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut file = std::fs::File::create(directory.path().join("x")).expect("writable");
    file.write_all(b"whole torn").expect("writable");
    file.cut(5).expect("a file");
    file.write_all(b" again").expect("writable");
    file.sync().expect("a file");
    assert_eq!(std::fs::read(directory.path().join("x")).expect("readable"), b"whole again");
}
