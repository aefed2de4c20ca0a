use std::io;
use std::path::Path;

use super::{Btf, BtfError};

impl Btf {
    /// Where the kernel shows its type information; everybody may read it.
    pub const KERNEL: &'static str = "/sys/kernel/btf/vmlinux";

    /// The running kernel's types. Takes 10 to 20 ms and some 10 MB: drop it once the offsets are known.
    ///
    /// # Errors
    ///
    /// [`BtfError::Absent`] on a kernel without `CONFIG_DEBUG_INFO_BTF`, else what is wrong with the file.
    pub fn kernel() -> Result<Self, BtfError> {
        Self::read(Path::new(Self::KERNEL))
    }

    /// The types in a file that holds BTF and nothing else.
    ///
    /// # Errors
    ///
    /// As [`kernel`](Self::kernel).
    pub fn read(path: &Path) -> Result<Self, BtfError> {
        match std::fs::read(path) {
            Ok(bytes) => Self::parse(&bytes),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(BtfError::Absent { path: path.into() })
            }
            Err(source) => Err(BtfError::Read { path: path.into(), source }),
        }
    }
}
