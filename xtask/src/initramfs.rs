//! An initial RAM file system in the kernel's `newc` format: busybox, an init, and the files of the caller.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

/// A file to put into the guest.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) host: PathBuf,
    /// Absolute.
    pub(crate) guest: String,
    pub(crate) mode: u32,
}

const FILE: u32 = 0o100_000;
const FOLDER: u32 = 0o040_000;
const DEVICE: u32 = 0o020_000;

/// Writes `/init`, `/run/script` and the entries to `path`.
pub(crate) fn write(path: &Path, init: &str, script: &str, entries: &[Entry]) -> Result<()> {
    let mut archive =
        Archive { out: BufWriter::new(File::create(path)?), at: 0, inode: 0, folders: BTreeSet::new() };
    for folder in
        ["/proc", "/sys", "/dev", "/tmp", "/run", "/root", "/sbin", "/usr/bin", "/usr/sbin", "/etc", "/var"]
    {
        archive.folder(folder)?;
    }
    // The kernel opens it for init's output before init can mount anything.
    archive.header("dev/console", DEVICE | 0o600, 0, (5, 1))?;
    archive.file("/init", 0o755, init.as_bytes())?;
    archive.file("/run/script", 0o755, script.as_bytes())?;
    archive.file(
        "/etc/passwd",
        0o644,
        b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n",
    )?;
    archive.file("/etc/group", 0o644, b"root:x:0:\nnogroup:x:65534:\n")?;
    for entry in entries {
        let content =
            fs::read(&entry.host).with_context(|| format!("cannot read {}", entry.host.display()))?;
        archive.file(&entry.guest, entry.mode, &content)?;
    }
    archive.header("TRAILER!!!", 0, 0, (0, 0))?;
    archive.out.flush()?;
    Ok(())
}

struct Archive<W> {
    out: W,
    at: usize,
    inode: u32,
    folders: BTreeSet<String>,
}

impl<W: Write> Archive<W> {
    fn file(&mut self, path: &str, mode: u32, content: &[u8]) -> io::Result<()> {
        if let Some((parent, _)) = path.rsplit_once('/') {
            self.folder(parent)?;
        }
        let size = u32::try_from(content.len()).map_err(|_| io::Error::other("a file of 4 GiB or more"))?;
        self.header(path.trim_start_matches('/'), FILE | mode, size, (0, 0))?;
        self.put(content)
    }

    /// The folder and those above it, once each.
    fn folder(&mut self, path: &str) -> io::Result<()> {
        let path = path.trim_matches('/');
        if path.is_empty() || !self.folders.insert(path.to_owned()) {
            return Ok(());
        }
        if let Some((parent, _)) = path.rsplit_once('/') {
            self.folder(parent)?;
        }
        self.header(path, FOLDER | 0o755, 0, (0, 0))
    }

    /// Documentation/driver-api/early-userspace/buffer-format.rst: thirteen fields of eight hex digits, then the name.
    fn header(&mut self, name: &str, mode: u32, size: u32, device: (u32, u32)) -> io::Result<()> {
        self.inode += 1;
        let name_size = u32::try_from(name.len() + 1).map_err(io::Error::other)?;
        let fields = [self.inode, mode, 0, 0, 1, 0, size, 0, 0, device.0, device.1, name_size, 0];
        let mut head = String::from("070701");
        for field in fields {
            head.push_str(&format!("{field:08X}"));
        }
        head.push_str(name);
        head.push('\0');
        self.put(head.as_bytes())
    }

    /// Bytes, then zeros up to a multiple of four.
    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.out.write_all(bytes)?;
        self.at += bytes.len();
        let pad = self.at.next_multiple_of(4) - self.at;
        self.out.write_all(&[0; 3][..pad])?;
        self.at += pad;
        Ok(())
    }
}
