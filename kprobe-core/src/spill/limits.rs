/// How much a spill may keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpillLimits {
    /// Bytes of all its files together.
    pub max_bytes: u64,
    /// A segment with more bytes gets no further batch. Only whole segments give their bytes back, so this should be a
    /// small part of `max_bytes`.
    pub segment_bytes: u64,
}

impl SpillLimits {
    /// So many bytes in all, in segments of a sixteenth of that, of 64 KiB to 16 MiB.
    #[must_use]
    pub const fn of(max_bytes: u64) -> Self {
        let segment_bytes = match max_bytes / 16 {
            ..=0xffff => 64 << 10,
            part @ 0x1_0000..=0xff_ffff => part,
            _ => 16 << 20,
        };
        Self { max_bytes, segment_bytes }
    }
}
