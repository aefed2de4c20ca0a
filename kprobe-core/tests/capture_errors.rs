//! What cannot be opened says why, in one line.

mod capture_support;

use std::io::{self, Read};

use capture_support::{capture_of, every_kind, read_all};
use kprobe_core::{
    capture::{CaptureReader, Problem},
    pipeline::{BatchBuf, Source},
};

fn message(bytes: &[u8]) -> String {
    let message = read_all(bytes).expect_err("not a capture").to_string();
    assert_eq!(message.lines().count(), 1);
    message
}

/// A capture with another version or ABI in its head, checksum and all.
fn with_head(version: u16, abi: u16) -> Vec<u8> {
    let mut bytes = capture_of(&[every_kind()], Some(&[]));
    bytes[8..10].copy_from_slice(&version.to_le_bytes());
    bytes[10..12].copy_from_slice(&abi.to_le_bytes());
    let checksum = crc32fast::hash(&bytes[..12]);
    bytes[12..16].copy_from_slice(&checksum.to_le_bytes());
    bytes
}

#[test]
fn one_line_each() {
    assert_eq!(message(b""), "test.kcap: is empty; nothing was recorded into it");
    assert_eq!(
        message(b"#!/bin/sh\n"),
        "test.kcap: not a capture: it starts with \"#!/bin/s\", a capture with \"\\x89KCAP\""
    );
    assert_eq!(
        message(b"\0\n"),
        "test.kcap: not a capture: it starts with \"\\x00\\n\", a capture with \"\\x89KCAP\""
    );
    assert_eq!(
        message(&with_head(2, 1)),
        "test.kcap: capture format 2; this program reads up to 1: use a newer one"
    );
    assert_eq!(
        message(&with_head(1, 7)),
        "test.kcap: a capture with records of ABI 7; this program reads up to 1: use a newer one"
    );
    let whole = capture_of(&[every_kind()], Some(&[]));
    assert_eq!(
        message(&whole[..100]),
        "test.kcap: ends at byte 100, in the header of the capture: it was cut off before the first record"
    );
    let garbage = [&whole[..16], &[0; 5000]].concat();
    assert_eq!(
        message(&garbage),
        "test.kcap: both copies of the capture's header are damaged; its records cannot be read without"
    );
    let error = CaptureReader::open("/nonexistent/x.kcap").expect_err("not there");
    assert_eq!(
        error.to_string(),
        "/nonexistent/x.kcap: cannot be read: No such file or directory (os error 2)"
    );
    let error = CaptureReader::open("/").expect_err("a directory");
    assert_eq!(error.to_string(), "/: cannot be read: Is a directory (os error 21)");
    assert!(matches!(error.problem, Problem::Unreadable(_)));
}

/// Fails once after so many bytes, then goes on.
struct Flaky<'a>(&'a [u8], usize, bool);

impl Read for Flaky<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.1 == 0 && !std::mem::replace(&mut self.2, true) {
            return Err(io::Error::other("bad sector"));
        }
        let len = if self.2 { buf.len() } else { buf.len().min(self.1) };
        let read = self.0.read(&mut buf[..len])?;
        self.1 = self.1.saturating_sub(read);
        Ok(read)
    }
}

#[test]
fn a_read_error_is_told_and_nothing_is_lost_by_it() {
    let bytes = capture_of(&[every_kind(), every_kind()], Some(&[]));
    let mut opened = 0;
    for fails_at in 0..=bytes.len() {
        let Ok(mut reader) = CaptureReader::new(Flaky(&bytes, fails_at, false), "test.kcap") else {
            continue;
        };
        opened += 1;
        let mut batch = BatchBuf::default();
        let mut errors = Vec::new();
        loop {
            match reader.poll(&mut batch, None) {
                Ok(polled) if polled.end => break,
                Ok(_) => (),
                Err(error) => errors.push(error.to_string()),
            }
        }
        assert_eq!(errors.len(), 1);
        assert!(errors[0].starts_with("test.kcap: cannot be read at byte "), "{errors:?}");
        assert!(errors[0].ends_with(": bad sector"), "{errors:?}");
        assert_eq!(batch.take().records().count(), 2 * every_kind().len());
        assert_eq!(reader.damage(), []);
    }
    assert!(opened > 1000, "most of the bytes are not in the header");
}
