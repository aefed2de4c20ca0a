//! Which of the files that were named are one.

use std::{
    ffi::OsString,
    fs, io,
    os::{
        fd::AsFd,
        unix::fs::{FileTypeExt, MetadataExt},
    },
    path::{Path, PathBuf},
};

use anyhow::{Result, bail};

/// A file, whatever names and links lead to it.
#[derive(PartialEq, Eq)]
pub(crate) enum Place {
    There {
        device: u64,
        inode: u64,
    },
    /// It would be created under this name in that directory.
    New {
        device: u64,
        inode: u64,
        name: OsString,
    },
}

impl Place {
    /// As many links in a row as the kernel follows.
    const MOST_LINKS: usize = 40;

    /// `None` for what writing takes nothing from: a terminal, /dev/null. Also for what cannot be found out: opening it
    /// will say why.
    pub(crate) fn of(path: &Path) -> Option<Self> {
        let mut path = path.to_owned();
        for _ in 0..=Self::MOST_LINKS {
            match fs::metadata(&path) {
                Ok(found) => return Self::there(&found),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(_) => return None,
            }
            let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
            let folder = folder.unwrap_or(Path::new(".")).to_owned();
            // What a link that leads nowhere names is created.
            let Ok(target) = fs::read_link(&path) else {
                let found = fs::metadata(folder).ok()?;
                let name = path.file_name()?.to_owned();
                return Some(Self::New { device: found.dev(), inode: found.ino(), name });
            };
            path = folder.join(target);
        }
        None
    }

    /// Of an open stream.
    pub(crate) fn of_stream(stream: impl AsFd) -> Option<Self> {
        Self::there(&fs::File::from(stream.as_fd().try_clone_to_owned().ok()?).metadata().ok()?)
    }

    fn there(found: &fs::Metadata) -> Option<Self> {
        let is_device = found.file_type().is_char_device();
        (!is_device).then(|| Self::There { device: found.dev(), inode: found.ino() })
    }
}

/// Refuses to write to a file that is read or written under another name.
///
/// # Errors
/// Two of them are one.
pub(crate) fn all_different(read: &[(&str, &PathBuf)], written: Vec<(String, Option<Place>)>) -> Result<()> {
    let read = read.iter().map(|(name, path)| (format!("{name} {}", path.display()), Place::of(path)));
    let mut before: Vec<_> = read.collect();
    for (name, place) in written {
        if let Some((other, _)) = before.iter().find(|(_, other)| place.is_some() && *other == place) {
            bail!(
                "{other} and {name} are the same file, which would be overwritten: give each one of its own"
            );
        }
        before.push((name, place));
    }
    Ok(())
}
