use std::{
    collections::HashMap,
    fs::{self, ReadDir},
    os::unix::fs::{DirEntryExt, MetadataExt},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use kprobe_core::{
    abi::{CGROUP_IS_CONTAINER, CgroupName, Header, Kind},
    decode::Frames,
    pipeline::BatchBuf,
    process::{TableLimits, container_of},
};

use super::own::{Own, OwnRecords};
use crate::host;

/// Processes that one drain asks for their cgroup. Each takes five system calls, and while a drain is busy with them
/// the rings fill up; a cgroup that has to wait is looked up by one of the next drains, 100 us later.
const LOOKUPS_A_DRAIN: usize = 2;
/// Steps of a walk that one drain makes when it found records, for the same reason, and when it found none.
const STEPS_A_DRAIN: usize = 1;
const STEPS_A_QUIET_DRAIN: usize = 16;
/// Entries of a directory that one step reads: about what there is in the directory of a cgroup.
const ENTRIES_A_STEP: usize = 128;
/// Directories that one walk opens.
const MOST_WALKED: usize = 65_536;
/// Directories inside each other, each of which is open while a walk is in it.
const MOST_NESTED: usize = 64;
/// From the start of a walk to that of the next.
const BETWEEN_WALKS: Duration = Duration::from_secs(1);
/// A cgroup that could not be found is looked for again after this time, after twice as long the next time, and so on:
/// most have been removed or are outside of what this process sees.
const FIRST_BACK_OFF: Duration = Duration::from_secs(1);
const MOST_DOUBLINGS: u32 = 8;

/// Names the cgroups of a stream: a `meta.cgroup` record in front of a record that has the cgroup's id, of the first
/// one if the name can be had at once.
#[derive(Debug)]
pub(crate) struct CgroupNames {
    /// Where the cgroup v2 hierarchy is mounted; without one ids stay unnamed.
    mount: Option<PathBuf>,
    known: Recent,
    walk: Option<Walk>,
    walk_began: Option<Instant>,
    /// Something could not be found since the last walk began.
    walk_wanted: bool,
    found: Vec<Named>,
}

/// A record to be made.
#[derive(Debug)]
struct Named {
    id: u64,
    ktime_ns: u64,
    body: CgroupName,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Known {
    /// Its record is in the stream.
    Named,
    /// It was looked for so often without success.
    Missing { times: u32, again: Instant },
}

impl CgroupNames {
    pub(crate) fn new(mount: Option<PathBuf>) -> Self {
        Self {
            mount,
            known: Recent::new(TableLimits::default().containers / 2),
            walk: None,
            walk_began: None,
            walk_wanted: false,
            found: Vec::new(),
        }
    }

    /// Names what is new among the records of `out` from byte `from` on, with a few system calls at most.
    pub(crate) fn name_new(&mut self, out: &mut BatchBuf, from: usize, own: &mut OwnRecords) {
        if self.mount.is_none() {
            return;
        }
        let mut lookups = LOOKUPS_A_DRAIN;
        let mut last = 0;
        for record in Frames::new(&out.frames_mut()[from..]).flatten() {
            let header = record.header();
            if header.cgroup_id != last && header.cgroup_id != 0 {
                last = header.cgroup_id;
                self.look_up(&header, &mut lookups);
            }
        }
        let steps = if out.len() == from { STEPS_A_QUIET_DRAIN } else { STEPS_A_DRAIN };
        self.walk_on(steps);
        for Named { id, ktime_ns, body } in self.found.drain(..) {
            own.push(&Own { cgroup_id: id, ..Own::new(Kind::META_CGROUP, ktime_ns, body) }, out);
        }
    }

    /// Looks the cgroup of a record up by its process, unless it is known or was looked for lately.
    fn look_up(&mut self, header: &Header, lookups: &mut usize) {
        let id = header.cgroup_id;
        let times = match self.known.get(id) {
            Some(Known::Named) => return,
            _ if *lookups == 0 => return,
            Some(Known::Missing { again, .. }) if again > Instant::now() => return,
            Some(Known::Missing { times, .. }) => times,
            None => 0,
        };
        *lookups -= 1;
        let path = self.mount.as_deref().and_then(|mount| of_process(mount, id, header.tgid));
        let known = match &path {
            Some(path) => {
                // In front of the record in the order of time.
                let ktime_ns = header.ktime_ns.saturating_sub(1);
                self.found.push(Named { id, ktime_ns, body: body(path) });
                Known::Named
            }
            None => {
                // The process has gone or moved. Its cgroup may still be there.
                self.walk_wanted = true;
                let back_off = FIRST_BACK_OFF * (1 << times.min(MOST_DOUBLINGS));
                Known::Missing { times: times + 1, again: Instant::now() + back_off }
            }
        };
        self.known.insert(id, known);
    }

    /// Walks on through the tree of cgroups, to name what no process told.
    fn walk_on(&mut self, steps: usize) {
        let Some(mount) = &self.mount else { return };
        if self.walk.is_none() {
            if !self.walk_wanted || self.walk_began.is_some_and(|began| began.elapsed() < BETWEEN_WALKS) {
                return;
            }
            self.walk_wanted = false;
            self.walk_began = Some(Instant::now());
            self.walk = Some(Walk::default());
        }
        let Some(walk) = &mut self.walk else { return };
        for _ in 0..steps {
            let more = walk.step(mount, |id, path| {
                if matches!(self.known.peek(id), Some(Known::Missing { .. })) {
                    self.known.insert(id, Known::Named);
                    // The records that it could have stood in front of have gone their way.
                    let ktime_ns = host::clocks().monotonic_ns;
                    self.found.push(Named { id, ktime_ns, body: body(&path.to_string_lossy()) });
                }
            });
            if !more {
                self.walk = None;
                return;
            }
        }
    }
}

/// What is known of the ids that were used last, in two generations: an id is remembered as long as fewer than
/// `generation` others were used since, and forgotten before `2 * generation` were.
///
/// The process table forgets a container when [`TableLimits::containers`] others were used since, so whatever it has
/// forgotten is named again.
#[derive(Debug)]
struct Recent {
    generation: usize,
    young: HashMap<u64, Known>,
    old: HashMap<u64, Known>,
}

impl Recent {
    fn new(generation: usize) -> Self {
        Self { generation: generation.max(1), young: HashMap::new(), old: HashMap::new() }
    }

    /// What is known of an id, which is used now.
    fn get(&mut self, id: u64) -> Option<Known> {
        if let Some(known) = self.young.get(&id) {
            return Some(*known);
        }
        let known = self.old.remove(&id)?;
        self.insert(id, known);
        Some(known)
    }

    fn peek(&self, id: u64) -> Option<Known> {
        self.young.get(&id).or_else(|| self.old.get(&id)).copied()
    }

    fn insert(&mut self, id: u64, known: Known) {
        if self.young.len() >= self.generation && !self.young.contains_key(&id) {
            std::mem::swap(&mut self.young, &mut self.old);
            self.young.clear();
        }
        self.young.insert(id, known);
    }
}

/// A walk through the tree of cgroups, a step at a time. It holds open the directories that it is in, not the names of
/// those that are to come.
#[derive(Debug, Default)]
struct Walk {
    opened: usize,
    inside: Vec<ReadDir>,
}

impl Walk {
    /// Opens the next directory, reading entries up to there, but so many at most. Gives the id and the path below the
    /// mount of each cgroup that it comes across; `false` at the end.
    fn step(&mut self, mount: &Path, mut see: impl FnMut(u64, &Path)) -> bool {
        if self.opened == 0 {
            if let Some(id) = inode(mount) {
                see(id, Path::new("/"));
            }
            self.open(mount);
            return true;
        }
        for _ in 0..ENTRIES_A_STEP {
            let Some(directory) = self.inside.last_mut() else { return false };
            match directory.next() {
                None => drop(self.inside.pop()),
                Some(Ok(entry)) if entry.file_type().is_ok_and(|kind| kind.is_dir()) => {
                    let path = entry.path();
                    see(entry.ino(), path.strip_prefix(mount).unwrap_or(&path));
                    self.open(&path);
                    return self.opened < MOST_WALKED;
                }
                Some(_) => {}
            }
        }
        true
    }

    /// A directory that has gone, or is nested too deeply, is left out.
    fn open(&mut self, path: &Path) {
        self.opened += 1;
        if self.inside.len() < MOST_NESTED {
            self.inside.extend(fs::read_dir(path));
        }
    }
}

/// The path below the mount of the cgroup that a process is in, if it is the one with this id.
fn of_process(mount: &Path, id: u64, tgid: u32) -> Option<String> {
    let text = fs::read_to_string(format!("/proc/{tgid}/cgroup")).ok()?;
    let path = text.lines().find_map(|line| line.strip_prefix("0::"))?;
    (inode(&mount.join(path.trim_start_matches('/'))) == Some(id)).then(|| path.to_owned())
}

fn inode(directory: &Path) -> Option<u64> {
    fs::metadata(directory).ok().map(|metadata| metadata.ino())
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

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use kprobe_core::decode::Record;
    use zerocopy::IntoBytes;

    use super::*;

    /// What a drain gives for records of these cgroups, all by this process: the ids it names, with the names.
    fn drain(names: &mut CgroupNames, cgroups: &[u64]) -> Vec<(u64, String)> {
        let mut out = BatchBuf::default();
        for cgroup_id in cgroups {
            let header = Header {
                ktime_ns: 100,
                cgroup_id: *cgroup_id,
                tgid: std::process::id(),
                kind: Kind::USER.0,
                ..Header::default()
            };
            out.push(Record::new(header.as_bytes()).unwrap());
        }
        names.name_new(&mut out, 0, &mut OwnRecords::default());
        let batch = out.take();
        let named = batch.records().flatten().filter(|record| record.kind() == Kind::META_CGROUP);
        let text = |record: Record<'_>| {
            let event = kprobe_core::event::Event::decode(record).unwrap().unwrap();
            let kprobe_core::event::Event::CgroupNamed(named) = event else { panic!("{event:?}") };
            (named.origin.cgroup_id, named.text().into_owned())
        };
        named.map(text).collect()
    }

    /// Directories `0` to `99`, each with one inside that has the same number and an `i`.
    fn tree() -> tempfile::TempDir {
        let tree = tempfile::tempdir().unwrap();
        (0..100).for_each(|n| fs::create_dir_all(tree.path().join(format!("{n}/{n}i"))).unwrap());
        tree
    }

    fn names(tree: &tempfile::TempDir) -> CgroupNames {
        CgroupNames::new(Some(tree.path().to_owned()))
    }

    #[test]
    fn what_no_process_tells_is_found_a_few_directories_at_a_time() {
        let tree = tree();
        let mut names = names(&tree);
        let id = |path: &str| inode(&tree.path().join(path)).unwrap();
        let wanted = [id("7"), id("93/93i")];
        let mut found = Vec::new();
        let mut drains = 0;
        while names.walk_began.is_none() || names.walk.is_some() {
            let before = names.walk.as_ref().map_or(0, |walk| walk.opened);
            found.extend(drain(&mut names, &wanted));
            let opened = names.walk.as_ref().map_or(before, |walk| walk.opened);
            assert!(opened - before <= STEPS_A_DRAIN, "{opened} after {before}");
            drains += 1;
        }
        found.sort_by(|one, other| one.1.cmp(&other.1));
        assert_eq!(found, [(wanted[0], "7".to_owned()), (wanted[1], "93i".to_owned())]);
        // The tree, its 200 directories, and the end.
        assert!(drains >= 201, "{drains}");
        assert!(drain(&mut names, &wanted).is_empty(), "named once");
    }

    #[test]
    fn a_quiet_drain_walks_faster() {
        let tree = tree();
        let mut names = names(&tree);
        let id = inode(&tree.path().join("50/50i")).unwrap();
        assert!(drain(&mut names, &[id]).is_empty());
        let found = (0..30).find_map(|_| drain(&mut names, &[]).pop());
        assert_eq!(found, Some((id, "50i".to_owned())));
    }

    #[test]
    fn what_cannot_be_found_is_looked_for_less_and_less() {
        let empty = tempfile::tempdir().unwrap();
        let mut names = names(&empty);
        let times = |names: &CgroupNames, id| match names.known.peek(id) {
            Some(Known::Missing { times, again }) => Some((times, again)),
            _ => None,
        };
        let (id, other) = (u64::MAX, u64::MAX - 1);
        // Over and over in one drain and in the next.
        for _ in 0..2 {
            assert!(drain(&mut names, &[id, other].repeat(1000)).is_empty());
            assert_eq!(times(&names, id).unwrap().0, 1);
        }
        for failed in 1..20 {
            names.known.insert(id, Known::Missing { times: failed, again: Instant::now() });
            let began = Instant::now();
            drain(&mut names, &[id]);
            let (times, again) = times(&names, id).unwrap();
            assert_eq!(times, failed + 1);
            let waits = again - began;
            assert!(waits >= Duration::from_secs(1 << failed.min(8)) && waits < Duration::from_secs(300));
        }
    }

    #[test]
    fn one_drain_looks_up_a_few() {
        let empty = tempfile::tempdir().unwrap();
        let mut names = names(&empty);
        let ids: Vec<u64> = (1 << 50..(1 << 50) + 10).collect();
        for drains in 1..=5 {
            drain(&mut names, &ids);
            let known = ids.iter().filter(|id| names.known.peek(**id).is_some()).count();
            assert_eq!(known, drains * LOOKUPS_A_DRAIN);
        }
    }

    #[test]
    fn what_is_used_is_remembered_and_memory_is_bounded() {
        let mut recent = Recent::new(10);
        recent.insert(0, Known::Named);
        for id in 1..1000 {
            assert_eq!(recent.get(id), None);
            recent.insert(id, Known::Named);
            assert!(recent.young.len() + recent.old.len() <= 20);
            // Used now and then.
            assert!(id % 9 != 0 || recent.get(0) == Some(Known::Named), "{id}");
        }
        assert_eq!(recent.get(995), Some(Known::Named));
        // Before as many others as the process table has room for came, it is forgotten.
        (2000..2020).for_each(|id| recent.insert(id, Known::Named));
        assert_eq!(recent.get(0), None);
    }
}
