use std::{ops::Range, time::Duration};

use kprobe_core::{
    decode::Record,
    pipeline::{BatchBuf, Polled, ProbeRow, Source, SourceError, StreamInfo},
};

use super::{info, plain};

/// A source of numbered records: so many at each poll.
pub(crate) struct Counted {
    pub(crate) info: StreamInfo,
    pub(crate) live: bool,
    each: u64,
    begin: u64,
    /// Behind the last number that was given.
    pub(crate) given: u64,
    all: Range<u64>,
}

pub(crate) fn counted(all: Range<u64>, each: u64, live: bool) -> Counted {
    Counted { info: info(), live, each, begin: all.start, given: all.start, all }
}

/// The record of that number.
pub(crate) fn numbered(number: u64) -> Vec<u8> {
    #[expect(clippy::cast_possible_truncation, reason = "as the kernel does")]
    plain(number, 0, number as u32, number)
}

/// The number of such a record.
pub(crate) fn number_of(record: &[u8]) -> u64 {
    u64::from_le_bytes(record[32..40].try_into().expect("a numbered record"))
}

impl Source for Counted {
    fn info(&self) -> &StreamInfo {
        &self.info
    }

    fn poll(&mut self, out: &mut BatchBuf, _: Option<Duration>) -> Result<Polled, SourceError> {
        for _ in 0..self.each.min(self.all.end - self.given) {
            out.push(Record::new(&numbered(self.given)).expect("a record"));
            self.given += 1;
        }
        Ok(Polled::until(self.given).ended(self.given == self.all.end))
    }

    fn probes(&self) -> Vec<ProbeRow> {
        let submitted = self.given - self.begin;
        vec![ProbeRow { probe: "user".into(), cpu: Some(0), submitted, lost: 0, sampled_out: 0 }]
    }

    fn is_live(&self) -> bool {
        self.live
    }
}
