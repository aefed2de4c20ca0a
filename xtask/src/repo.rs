//! Where things are in the source tree.

use std::{env, path::PathBuf};

/// The root of the workspace.
pub(crate) fn root() -> PathBuf {
    // Cargo says at run time where the package is; a binary that was moved or shared still has the compiled-in place.
    let package = env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    package.parent().map_or_else(|| package.clone(), PathBuf::from)
}

/// Cargo's target folder for the workspace.
pub(crate) fn target() -> PathBuf {
    let dir = env::var_os("CARGO_TARGET_DIR").map_or_else(|| PathBuf::from("target"), PathBuf::from);
    root().join(dir)
}

/// The kernel programs' own package.
pub(crate) fn programs() -> PathBuf {
    root().join("kprobe-ebpf/programs")
}

/// The built objects, committed.
pub(crate) fn object() -> PathBuf {
    root().join("kprobe-ebpf/object")
}

/// The cargo that started us, else the one on PATH.
pub(crate) fn cargo() -> PathBuf {
    env::var_os("CARGO").map_or_else(|| PathBuf::from("cargo"), PathBuf::from)
}
