//! What a test machine has beside its processors: disks, and modules of the kernel.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use crate::{initramfs::Entry, install::Need, kernels::Kernel, sh};

const MKFS: &str = "/usr/sbin/mkfs.ext4";
const MKFS_FAT: &str = "/usr/sbin/mkfs.vfat";
const XZ: &str = "xz";
/// What the host must have.
pub(crate) const NEEDS: [Need; 3] = [(MKFS, "e2fsprogs"), (MKFS_FAT, "dosfstools"), (XZ, "xz-utils")];

/// In the order in which they are loaded. What a kernel has no module of is part of it.
const MODULES: [&str; 15] = [
    "virtio_ring",
    "virtio",
    "virtio_pci_legacy_dev",
    "virtio_pci_modern_dev",
    "virtio_pci",
    "virtio_blk",
    "dm-mod",
    "dm-delay",
    "sch_netem",
    "fat",
    "vfat",
    "nls_cp437",
    "nls_ascii",
    "nls_utf8",
    "overlay",
];

/// The kernel's modules, unpacked in `dir`; the guest loads all that are in this folder, in the order of their names.
pub(crate) fn modules(kernel: &Kernel, dir: &Path) -> Result<Vec<Entry>> {
    let mut entries = Vec::new();
    for (number, name) in MODULES.iter().enumerate() {
        let Some(packed) = find(&kernel.modules, name)? else { continue };
        let bytes = match packed.extension().is_some_and(|extension| extension == "xz") {
            true => sh::bytes(Command::new(XZ).arg("-dc").arg(&packed))?,
            false => fs::read(&packed)?,
        };
        let host = dir.join(format!("{name}.ko"));
        fs::write(&host, bytes)?;
        entries.push(Entry { host, guest: format!("/lib/modules/{number:02}-{name}.ko"), mode: 0o644 });
    }
    Ok(entries)
}

fn find(folder: &Path, name: &str) -> Result<Option<PathBuf>> {
    for entry in fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let entry = entry?;
        let path = entry.path();
        if entry.file_type()?.is_dir() {
            if let Some(found) = find(&path, name)? {
                return Ok(Some(found));
            }
        } else if ["ko", "ko.xz"].iter().any(|ending| entry.file_name() == *format!("{name}.{ending}")) {
            return Ok(Some(path));
        }
    }
    Ok(None)
}

/// Arguments for three disks, new each time: `/dev/vda` with an ext4 file system, which the guest mounts at `/disk`, `/dev/vdb`
/// with nothing on it, and `/dev/vdc` with a FAT file system.
pub(crate) fn disks(dir: &Path) -> Result<Vec<String>> {
    let mut arguments = Vec::new();
    for (name, mebibytes) in [("vda", 64), ("vdb", 16), ("vdc", 16)] {
        let path = dir.join(format!("{name}.img"));
        File::create(&path)?.set_len(mebibytes << 20)?;
        let Some(place) = path.to_str() else { bail!("{} is not UTF-8", path.display()) };
        arguments.extend([
            "-drive".to_owned(),
            format!("file={place},if=none,id={name},format=raw,cache=unsafe"),
            "-device".to_owned(),
            format!("virtio-blk-pci,drive={name}"),
        ]);
    }
    sh::output(Command::new(MKFS).args(["-q", "-F"]).arg(dir.join("vda.img")))?;
    sh::output(Command::new(MKFS_FAT).arg(dir.join("vdc.img")))?;
    Ok(arguments)
}
