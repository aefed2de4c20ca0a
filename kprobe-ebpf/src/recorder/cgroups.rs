use std::{
    collections::HashMap,
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use kprobe_core::{
    abi::{CGROUP_IS_CONTAINER, CgroupName, Kind},
    decode::Frames,
    pipeline::BatchBuf,
    process::container_of,
};

use super::own::{Own, OwnRecords};

/// Ids that are remembered; the root of the tree alone has thousands on a large host.
const MOST_KNOWN: usize = 65_536;
/// Directories that one walk through the tree looks at.
const MOST_WALKED: usize = 65_536;
/// A walk is expensive; one at most in this time.
const BETWEEN_WALKS: Duration = Duration::from_secs(1);

/// Names the cgroups of a stream: a `meta.cgroup` record in front of the first record that has the cgroup's id.
#[derive(Debug)]
pub(crate) struct CgroupNames {
    /// Where the cgroup v2 hierarchy is mounted; without one ids stay unnamed.
    mount: Option<PathBuf>,
    known: HashMap<u64, Named>,
    last: u64,
    walked: Option<Instant>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Named {
    /// Its record is in the stream.
    Yes,
    /// It was not found; a walk may find it.
    NotYet,
}

impl CgroupNames {
    pub(crate) fn new(mount: Option<PathBuf>) -> Self {
        Self { mount, known: HashMap::new(), last: 0, walked: None }
    }

    /// Names what is new among the records of `out` from byte `from` on.
    pub(crate) fn name_new(&mut self, out: &mut BatchBuf, from: usize, own: &mut OwnRecords) {
        let Some(mount) = self.mount.clone() else { return };
        let mut found = Vec::new();
        for record in Frames::new(&out.frames_mut()[from..]).flatten() {
            let header = record.header();
            if header.cgroup_id == self.last {
                continue;
            }
            self.last = header.cgroup_id;
            if header.cgroup_id == 0 || self.known.get(&header.cgroup_id) == Some(&Named::Yes) {
                continue;
            }
            let path = self.find(&mount, header.cgroup_id, header.tgid);
            self.known.insert(header.cgroup_id, if path.is_some() { Named::Yes } else { Named::NotYet });
            if let Some(path) = path {
                found.push((header, path));
            }
        }
        for (header, path) in found {
            own.push(
                &Own {
                    kind: Kind::META_CGROUP,
                    // In front of the record in the order of time.
                    ktime_ns: header.ktime_ns.saturating_sub(1),
                    cgroup_id: header.cgroup_id,
                    tgid: 0,
                    tid: 0,
                    body: body(&path),
                },
                out,
            );
        }
        if self.known.len() > MOST_KNOWN {
            self.known.clear();
        }
    }

    /// The cgroup's path below the mount.
    fn find(&mut self, mount: &Path, id: u64, tgid: u32) -> Option<String> {
        let of_process = fs::read_to_string(format!("/proc/{tgid}/cgroup")).ok().and_then(|text| {
            let path = text.lines().find_map(|line| line.strip_prefix("0::"))?.to_owned();
            (inode(&mount.join(path.trim_start_matches('/'))) == Some(id)).then_some(path)
        });
        if of_process.is_some() {
            return of_process;
        }
        // The process has gone or moved. Its cgroup may still be there.
        if self.walked.is_some_and(|walked| walked.elapsed() < BETWEEN_WALKS) {
            return None;
        }
        self.walked = Some(Instant::now());
        walk(mount, id)
    }
}

fn inode(directory: &Path) -> Option<u64> {
    fs::metadata(directory).ok().map(|metadata| metadata.ino())
}

fn walk(mount: &Path, id: u64) -> Option<String> {
    let mut todo = vec![mount.to_owned()];
    let mut looked_at = 0;
    while let Some(directory) = todo.pop() {
        looked_at += 1;
        if looked_at > MOST_WALKED {
            return None;
        }
        if inode(&directory) == Some(id) {
            let below = directory.strip_prefix(mount).ok()?;
            return Some(format!("/{}", below.display()));
        }
        let entries = fs::read_dir(&directory).into_iter().flatten().flatten();
        todo.extend(
            entries
                .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
                .map(|entry| entry.path()),
        );
    }
    None
}

fn body(path: &str) -> CgroupName {
    let container = container_of(path);
    let name = container.unwrap_or_else(|| match path.rsplit('/').next() {
        Some(last) if !last.is_empty() => last,
        _ => "/",
    });
    let mut text = [0; 64];
    let mut len = name.len().min(text.len());
    while !name.is_char_boundary(len) {
        len -= 1;
    }
    text[..len].copy_from_slice(&name.as_bytes()[..len]);
    CgroupName {
        len: u16::try_from(len).unwrap_or_default(),
        flags: if container.is_some() { CGROUP_IS_CONTAINER } else { 0 },
        reserved: 0,
        text,
    }
}
