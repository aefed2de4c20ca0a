//! What was downloaded or built once: one folder, keyed by name and version, safe to delete at any time.

use std::{
    env,
    fs::{self, File, TryLockError},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

/// The cache folder.
#[derive(Debug, Clone)]
pub(crate) struct Cache {
    root: PathBuf,
}

impl Cache {
    /// `$KPROBE_CACHE`, else `$XDG_CACHE_HOME/kprobe`, else `~/.cache/kprobe`.
    pub(crate) fn open() -> Result<Self> {
        let set = |name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let root = set("KPROBE_CACHE")
            .or_else(|| set("XDG_CACHE_HOME").map(|dir| dir.join("kprobe")))
            .or_else(|| set("HOME").map(|dir| dir.join(".cache/kprobe")))
            .context("no place for the cache: none of KPROBE_CACHE, XDG_CACHE_HOME and HOME is set; set KPROBE_CACHE to a folder")?;
        fs::create_dir_all(&root).with_context(|| {
            format!(
                "cannot create the cache folder {}; set KPROBE_CACHE to one that is writable",
                root.display()
            )
        })?;
        Ok(Self { root })
    }

    /// A folder of the cache that stays as it is between runs and is worked on under `lock`.
    pub(crate) fn folder(&self, name: &str) -> Result<PathBuf> {
        let path = self.root.join(name);
        fs::create_dir_all(&path)?;
        Ok(path)
    }

    /// The finished entry `name`; when it is not there, `fill` makes it in an empty folder that becomes the entry only if it succeeds.
    pub(crate) fn entry(&self, name: &str, fill: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
        let path = self.root.join(name);
        let _lock = self.lock(name)?;
        if path.is_dir() {
            return Ok(path);
        }
        let partial = self.root.join(format!("{name}.partial"));
        if partial.exists() {
            fs::remove_dir_all(&partial)?;
        }
        fs::create_dir_all(&partial)?;
        fill(&partial)?;
        fs::rename(&partial, &path)?;
        Ok(path)
    }

    /// Held until dropped: nobody else works on `name` meanwhile, in this process or another.
    pub(crate) fn lock(&self, name: &str) -> Result<File> {
        let path = self.root.join(format!("{name}.lock"));
        let file = File::create(&path).with_context(|| format!("cannot create {}", path.display()))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                eprintln!("xtask: waiting for another run that prepares {name}");
                file.lock()?;
            }
            Err(TryLockError::Error(error)) => return Err(error).context("cannot lock the cache"),
        }
        Ok(file)
    }
}
