//! Paths: what is below the directories that are allowed, and nothing else.

use std::{
    fs,
    os::unix::{ffi::OsStrExt as _, fs::symlink},
    path::Path,
};

use kprobe_core::{
    abi::Kind,
    event::{Event, PathAllowed, PathExec, PathOpen},
    pipeline::Source as _,
};
use kprobe_ebpf::{AttachError, Filter, PathError, Paths, Process, Recorder, Syscalls, host};

use crate::support::{
    kernel::BpfObjects,
    paths::{Folder, check, on_every_rung},
    recording::Recording,
    times,
    workload::path::{DEEPEST, HIDDEN, base},
};

crate::trials!(
    every_rung_of_paths,
    every_rung_of_mounts,
    what_has_no_record_is_counted,
    which_entry,
    the_whole_tree,
    sampled_and_parts,
    a_name_that_is_used_again,
    while_it_is_renamed,
    what_is_not_there
);

fn every_rung_of_paths() {
    on_every_rung("paths", 36);
}

/// Bind mounts, other file systems, and another root directory, in a mount namespace.
fn every_rung_of_mounts() {
    on_every_rung("path-mounts", 13);
}

fn builder(paths: Paths) -> kprobe_ebpf::RecorderBuilder<(Paths, ())> {
    Recorder::builder().require(paths).filter(Filter::none())
}

fn what_has_no_record_is_counted() {
    let folder = Folder::new();
    let mut recording = Recording::start(builder(Paths::allow([folder.inside()]).unwrap()));
    let mut workload = recording.spawn(&format!("paths {}", folder.id));
    let lines = recording.run(&mut workload);
    recording.stop();
    let counts = recording.recorder.path_counts();
    let rows = recording.recorder.counts();
    assert_eq!(
        ["path.outside", "path.too_deep", "path.unstored"].map(|name| rows.get(name).copied().unwrap_or(0)),
        [counts.outside, counts.too_deep, counts.unstored]
    );
    let recorded = recording.finish().lossless();
    check(&recorded, &lines, "the best rung");
    assert_eq!((counts.too_deep, counts.unstored), (2, 0), "{counts:?}, {DEEPEST}");
    // Those that the workload opens on purpose, and what its programs need.
    assert!(counts.outside >= 12, "{counts:?}");
}

/// Paths of opened files of the workload that opens some, with the number of the entry that allows each.
fn some(paths: Paths, id: u64) -> (Vec<(String, u16)>, Vec<PathAllowed>) {
    let (recorded, ..) = Recording::of_workload(builder(paths), &format!("path-some {id}"));
    let recorded = recorded.lossless();
    let opens = recorded.all::<PathOpen>();
    let own = base(id);
    let of_test = opens.iter().filter(|open| open.path.as_bytes().starts_with(own.as_os_str().as_bytes()));
    (of_test.map(|open| (open.path.to_text().into_owned(), open.entry)).collect(), recorded.all())
}

fn with_files() -> Folder {
    let folder = Folder::new();
    fs::create_dir_all(folder.inside().join("a/b/c")).unwrap();
    fs::create_dir(folder.path.join("elsewhere")).unwrap();
    symlink("elsewhere", folder.path.join("link")).unwrap();
    for file in [
        "inside/a/b/c/file",
        "inside/a/b/file",
        "inside/a/file",
        "inside/file",
        "single",
        "link/file",
        "file",
    ] {
        fs::write(folder.path.join(file), "").unwrap();
    }
    folder
}

/// The innermost of several that lie in each other; a file; a link, by its own name; one that has two names.
fn which_entry() {
    let folder = with_files();
    let at = |name: &str| folder.path.join(name);
    let list =
        ["inside/a/b/", "inside", "inside/a/b/c", "single", "link", "elsewhere", "inside/../inside"].map(at);
    let (opens, allowed) = some(Paths::allow(&list).unwrap(), folder.id);
    let below = |name: &str, entry| (at(name).to_str().unwrap().to_owned(), entry);
    let expected = [
        below("inside/a/b/c/file", 2),
        below("inside/a/b/file", 0),
        below("inside/a/file", 1),
        below("inside/file", 1),
        below("single", 3),
        below("link/file", 4),
    ];
    assert_eq!(opens, expected);
    // The stream says what was allowed.
    let allowed: Vec<_> =
        allowed.iter().map(|entry| (entry.entry, entry.path.to_text().into_owned())).collect();
    let named = list.map(|path| path.to_str().unwrap().trim_end_matches('/').to_owned());
    assert_eq!(allowed, (0..).zip(named).collect::<Vec<_>>());
}

fn the_whole_tree() {
    let folder = with_files();
    let (opens, _) = some(Paths::allow(["/"]).unwrap(), folder.id);
    let names = [
        "inside/a/b/c/file",
        "inside/a/b/file",
        "inside/a/file",
        "inside/file",
        "single",
        "elsewhere/file",
        "file",
    ];
    let at = |name: &str| (folder.path.join(name).to_str().unwrap().to_owned(), 0);
    assert_eq!(opens, names.map(at));
}

fn sampled_and_parts() {
    let folder = Folder::new();
    let text = format!("paths {}", folder.id);
    let paths = || Paths::allow([folder.inside()]).unwrap();
    let (recorded, ..) = Recording::of_workload(builder(paths().without_open()), &text);
    assert_eq!(recorded.books.received(Kind::PATH_OPEN), 0);
    let execs = recorded.books.received(Kind::PATH_EXEC);
    assert_eq!((execs, recorded.all::<PathExec>().len()), (4, 4));
    drop(folder);

    let folder = Folder::new();
    let (recorded, ..) = Recording::of_workload(builder(paths_of(&folder).without_exec().sample(3)), &text);
    assert_eq!(recorded.books.received(Kind::PATH_EXEC), 0);
    let (kept, left_out) =
        (recorded.books.received(Kind::PATH_OPEN), recorded.books.sampled_out(Kind::PATH_OPEN));
    // Each CPU keeps the first of three for itself: of those that it has begun, up to two are left.
    let cpus = u64::try_from(host::possible_cpus().unwrap().count()).unwrap();
    assert!(kept > 5 && kept * 2 <= left_out + 2 * cpus && left_out <= kept * 2, "{kept} {left_out}");
}

fn paths_of(folder: &Folder) -> Paths {
    Paths::allow([folder.inside()]).unwrap()
}

/// What is allowed is the directory, not its name or its number, of which another may be made.
fn a_name_that_is_used_again() {
    let folder = with_files();
    let recorder = builder(paths_of(&folder)).attach().unwrap();
    let mut recording = Recording::of(recorder, |_| true);
    let inside = folder.inside();
    fs::remove_dir_all(&inside).unwrap();
    fs::create_dir_all(inside.join("a/b/c")).unwrap();
    for file in ["a/b/c/file", "a/b/file", "a/file", "file"] {
        fs::write(inside.join(file), "").unwrap();
    }
    let mut workload = recording.spawn(&format!("path-some {}", folder.id));
    recording.run(&mut workload);
    assert_eq!(recording.finish().lossless().all::<PathOpen>(), []);

    // The one that is allowed, under another name: it is called as it was named.
    let recorder = builder(paths_of(&folder)).attach().unwrap();
    let mut recording = Recording::of(recorder, |_| true);
    fs::rename(&inside, folder.path.join("renamed")).unwrap();
    symlink("renamed", &inside).unwrap();
    let mut workload = recording.spawn(&format!("path-some {}", folder.id));
    recording.run(&mut workload);
    let opens = recording.finish().lossless().all::<PathOpen>();
    let names: Vec<_> = opens.iter().map(|open| open.path.to_text().into_owned()).collect();
    let at = |name: &str| folder.path.join(name).to_str().unwrap().to_owned();
    assert_eq!(names, ["inside/a/b/c/file", "inside/a/b/file", "inside/a/file", "inside/file"].map(at));
}

/// No record has a name from outside, not even half of one.
fn while_it_is_renamed() {
    let folder = Folder::new();
    let builder = builder(paths_of(&folder)).ring_bytes(64 << 20);
    let mut recording = Recording::keeping(builder, |event| matches!(event, Event::PathOpen(_)));
    let mut workload = recording.spawn(&format!("path-renames {} {}", folder.id, times(2_000)));
    let lines = recording.run(&mut workload);
    let opened: Vec<u64> = lines[0].split(' ').map(|count| count.parse().unwrap()).collect();
    let opens = recording.finish().lossless().all::<PathOpen>();
    let shown = folder.inside().join("moving");
    let others = opens.iter().filter(|open| open.path.as_bytes() != shown.as_os_str().as_bytes());
    assert_eq!(others.collect::<Vec<_>>(), Vec::<&PathOpen>::new(), "{HIDDEN}");
    // Both happened, and what was recorded was opened.
    assert!(opened.iter().all(|count| *count >= u64::from(times(2_000))), "{opened:?}");
    assert!(opens.len() > 100 && opens.len() as u64 <= opened[0] + opened[1], "{} {opened:?}", opens.len());
}

fn what_is_not_there() {
    let attach = |path: &Path| {
        Recorder::builder().probe(Paths::allow([path]).unwrap()).filter(Filter::none()).attach()
    };
    let error = attach(Path::new("/nonexistent/x")).unwrap_err();
    assert!(matches!(error, AttachError::Path(PathError::NotFound { .. })), "{error:?}");
    let nothing = Recorder::builder().probe(Paths::none()).filter(Filter::none());
    assert!(matches!(nothing.attach(), Err(AttachError::Path(PathError::Empty))));
    assert!(BpfObjects::own().is_empty());
    // Without the probe there is nothing of any path.
    let folder = Folder::new();
    let builder =
        Recorder::builder().require(Syscalls::all()).require(Process::default()).filter(Filter::none());
    let (recorded, lines, _) = Recording::of_workload(builder, &format!("paths {}", folder.id));
    assert!(lines.len() > 30);
    for kind in [Kind::PATH_EXEC, Kind::PATH_OPEN, Kind::META_PATH] {
        assert_eq!(recorded.books.received(kind), 0, "{kind}");
    }
}
