//! The ring reader's handshake over loom; it lives beside the handshake.
#[path = "../../kprobe-ebpf/src/ring/handshake_loom.rs"]
mod handshake_loom;
