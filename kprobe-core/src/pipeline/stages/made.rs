use zerocopy::{Immutable, IntoBytes};

use crate::{
    abi::{CPU_NONE, Header, Kind, MAX_RECORD},
    decode::Record,
};

/// The records that a stage adds to the stream: by no CPU, and numbered by themselves.
#[derive(Debug, Default)]
pub(super) struct Made {
    count: u32,
}

impl Made {
    /// Makes a record of `kind`, number and CPU of whose header do not matter, and gives it to `put`.
    pub(super) fn make<B: IntoBytes + Immutable>(
        &mut self,
        kind: Kind,
        header: Header,
        body: &B,
        put: impl FnOnce(Record<'_>),
    ) {
        const { assert!(size_of::<Header>() + size_of::<B>() <= MAX_RECORD) };
        let header = Header { kind: kind.0, cpu: CPU_NONE, seq: self.count, ..header };
        self.count = self.count.wrapping_add(1);
        let mut bytes = [0; MAX_RECORD];
        let (head, rest) = bytes.split_at_mut(size_of::<Header>());
        head.copy_from_slice(header.as_bytes());
        rest[..size_of::<B>()].copy_from_slice(body.as_bytes());
        // Never shorter than a header.
        if let Ok(record) = Record::new(&bytes[..size_of::<Header>() + size_of::<B>()]) {
            put(record);
        }
    }
}
