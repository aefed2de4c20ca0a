use std::{
    collections::BTreeSet,
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io::{self, Read},
    os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use super::{Disk, Problem, names};

/// A directory of the file system, locked for as long as this lives.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    /// Files in use, the one used last behind the others.
    open: Vec<(String, File)>,
    /// Files that were written to since the last sync.
    unsynced: BTreeSet<String>,
    /// Files came or went since the last sync.
    changed: bool,
    lock: File,
}

/// So many files are kept open: the one written to, the one read from, the acknowledgement.
const OPEN: usize = 3;
/// A process id has at most so many digits.
const DIGITS: u64 = 10;

impl Folder {
    /// Takes the directory at `path`, and makes it if it is not there.
    pub(super) fn open(path: &Path) -> Result<Self, Problem> {
        match fs::metadata(path) {
            Ok(found) if !found.is_dir() => return Err(Problem::NotADirectory),
            Ok(_) => (),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(Problem::Create)?;
            }
            Err(error) if error.kind() == io::ErrorKind::NotADirectory => return Err(Problem::NotADirectory),
            Err(source) => return Err(Problem::Io { file: "look at it".to_owned(), source }),
        }
        let lock = lock(&path.join(names::LOCK))?;
        Ok(Self { path: path.to_owned(), open: Vec::new(), unsynced: BTreeSet::new(), changed: false, lock })
    }

    fn file(&mut self, name: &str) -> io::Result<&File> {
        let file = match self.open.iter().position(|(open, _)| open == name) {
            Some(at) => self.open.remove(at).1,
            None => OpenOptions::new().read(true).write(true).open(self.path.join(name))?,
        };
        self.keep(name, file)
    }

    fn keep(&mut self, name: &str, file: File) -> io::Result<&File> {
        if self.open.len() == OPEN {
            self.open.remove(0);
        }
        self.open.push((name.to_owned(), file));
        self.open.last().map(|(_, file)| file).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// The file of that name is no longer what it was.
    fn forget(&mut self, name: &str) {
        self.open.retain(|(open, _)| open != name);
        self.unsynced.remove(name);
        self.changed = true;
    }
}

impl Disk for Folder {
    fn name(&self) -> String {
        self.path.display().to_string()
    }

    fn list(&mut self) -> io::Result<Vec<(String, u64)>> {
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            let entry = entry?;
            // A name that is not UTF-8 is none of ours; a link or a directory is no file of ours, whatever its name.
            if let Ok(name) = entry.file_name().into_string()
                && entry.file_type()?.is_file()
            {
                if names::first_of(&name).is_some() || name == names::ACK {
                    // An earlier process may have written it and never synced it.
                    self.unsynced.insert(name.clone());
                    self.changed = true;
                }
                files.push((name, entry.metadata()?.len()));
            }
        }
        Ok(files)
    }

    fn create(&mut self, name: &str) -> io::Result<()> {
        let file = new_file(&self.path.join(name))?;
        self.changed = true;
        self.keep(name, file).map(drop)
    }

    fn read_at(&mut self, name: &str, mut offset: u64, mut buf: &mut [u8]) -> io::Result<usize> {
        let file = self.file(name)?;
        let mut read = 0;
        while !buf.is_empty() {
            match file.read_at(buf, offset) {
                Ok(0) => break,
                Ok(count) => {
                    read += count;
                    offset += count as u64;
                    buf = &mut buf[count..];
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => (),
                Err(error) => return Err(error),
            }
        }
        Ok(read)
    }

    fn write_at(&mut self, name: &str, offset: u64, bytes: &[u8]) -> io::Result<()> {
        if !self.unsynced.contains(name) {
            self.unsynced.insert(name.to_owned());
        }
        self.file(name)?.write_all_at(bytes, offset)
    }

    fn cut(&mut self, name: &str, len: u64) -> io::Result<()> {
        self.file(name)?.set_len(len)
    }

    fn remove(&mut self, name: &str) -> io::Result<()> {
        fs::remove_file(self.path.join(name))?;
        self.forget(name);
        Ok(())
    }

    fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.path.join(from), self.path.join(to))?;
        self.forget(from);
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        while let Some(name) = self.unsynced.first().cloned() {
            self.file(&name)?.sync_data()?;
            self.unsynced.remove(&name);
        }
        if self.changed {
            File::open(&self.path)?.sync_all()?;
            self.changed = false;
        }
        Ok(())
    }
}

impl Drop for Folder {
    /// A child that is being started has our descriptors until its program is there; the lock would be its own as long.
    fn drop(&mut self) {
        drop(self.lock.unlock());
    }
}

fn new_file(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path)
}

/// The lock of the directory, with our process id in it for others to see.
fn lock(path: &Path) -> Result<File, Problem> {
    let unwritable = Problem::Unwritable;
    let mut file = match new_file(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            // Whoever may write here could point it to a file that we would then write to.
            if !fs::symlink_metadata(path).map_err(unwritable)?.is_file() {
                let other = io::Error::other(format!("{} is not a regular file", names::LOCK));
                return Err(unwritable(other));
            }
            OpenOptions::new().read(true).write(true).open(path).map_err(unwritable)?
        }
        result => result.map_err(unwritable)?,
    };
    match file.try_lock() {
        Ok(()) => (),
        Err(TryLockError::WouldBlock) => {
            let mut text = String::new();
            let read = Read::by_ref(&mut file).take(DIGITS).read_to_string(&mut text);
            let holder = read.ok().and_then(|_| text.trim().parse().ok());
            return Err(Problem::Locked { holder });
        }
        Err(TryLockError::Error(error)) => return Err(unwritable(error)),
    }
    // Without room for ten bytes the lock holds all the same, only nobody can say whose it is.
    let id = format!("{}\n", std::process::id());
    drop(file.set_len(0).and_then(|()| file.write_all_at(id.as_bytes(), 0)));
    Ok(file)
}
