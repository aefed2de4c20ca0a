//! A cgroup with a limit on its memory.

use std::{fs, os::unix::fs::MetadataExt as _, path::PathBuf};

use super::kernel::Deadline;

const V2: &str = "/sys/fs/cgroup";
const V1: &str = "/sys/fs/cgroup/memory";

/// It is removed when dropped: whoever was in it must have ended.
pub struct MemoryCgroup {
    path: PathBuf,
    pub is_v2: bool,
}

/// Where that of a test is, and whether in the v2 hierarchy. `id` is the test's own process. No value that removes it when dropped:
/// whoever enters it is not whoever made it.
fn place(id: u64) -> (PathBuf, bool) {
    let controllers = fs::read_to_string(format!("{V2}/cgroup.controllers")).unwrap_or_default();
    let is_v2 = controllers.split_whitespace().any(|controller| controller == "memory");
    (PathBuf::from(if is_v2 { V2 } else { V1 }).join(format!("kprobe-test-{id}")), is_v2)
}

impl MemoryCgroup {
    pub fn new(limit_bytes: u64) -> Self {
        let (path, is_v2) = place(std::process::id().into());
        let cgroup = Self { path, is_v2 };
        if cgroup.is_v2 {
            fs::write(format!("{V2}/cgroup.subtree_control"), "+memory").unwrap();
        }
        fs::create_dir(&cgroup.path).unwrap();
        let limit = if cgroup.is_v2 { "memory.max" } else { "memory.limit_in_bytes" };
        fs::write(cgroup.path.join(limit), limit_bytes.to_string()).unwrap();
        cgroup
    }

    /// Moves this process there.
    pub fn enter(id: u64) {
        fs::write(place(id).0.join("cgroup.procs"), std::process::id().to_string()).unwrap();
    }

    /// Its id, if it is in the v2 hierarchy.
    pub fn id(&self) -> Option<u64> {
        self.is_v2.then(|| fs::metadata(&self.path).unwrap().ino())
    }

    /// A number in one of its files, by its name.
    pub fn number(&self, file: &str, name: &str) -> u64 {
        let text = fs::read_to_string(self.path.join(file)).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("{name} in {file}: {text}")).parse().unwrap()
    }
}

impl Drop for MemoryCgroup {
    fn drop(&mut self) {
        // A process that has ended leaves it a moment later.
        Deadline::wait_for("an empty cgroup", || {
            fs::remove_dir(&self.path).is_ok() || std::thread::panicking()
        });
    }
}
