//! Any bytes, as frames and as a single record.

#![no_main]

#[path = "../../kprobe-core/tests/decode_support/mod.rs"]
mod decode_support;

use std::sync::LazyLock;

use kprobe_core::{
    decode::{FrameError, Frames},
    event::Registry,
};
use libfuzzer_sys::fuzz_target;

static REGISTRY: LazyLock<Registry> = LazyLock::new(Registry::builtin);

fuzz_target!(|bytes: &[u8]| {
    decode_support::decode_all(&REGISTRY, bytes);
    let mut torn = false;
    for record in Frames::new(bytes) {
        assert!(!torn, "nothing comes after a torn frame");
        match record {
            Ok(record) => decode_support::decode_all(&REGISTRY, record.bytes()),
            Err(error) => torn |= matches!(error, FrameError::Torn { .. }),
        }
    }
});
