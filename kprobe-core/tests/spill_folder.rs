//! Real directories: who may use one, what is refused, and a disk that is really full.

mod spill_support;

use std::{
    collections::BTreeMap,
    env, fs, io,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use kprobe_core::spill::{AppendError, Cause, Problem, Spill, SpillLimits};
use spill_support::{Change, Files, Memory, PLENTY, batch, damage_of, plain, read_all, stream};

/// What another process of this very program is to do; see [`elsewhere`].
const TASK: &str = "KPROBE_SPILL_TASK";
const DIRECTORY: &str = "KPROBE_SPILL_DIRECTORY";

/// Not a test by itself: the other process of the tests below.
#[test]
fn other_process() {
    let Some(task) = env::var_os(TASK) else { return };
    let dir = PathBuf::from(env::var_os(DIRECTORY).expect("a directory"));
    match task.to_str() {
        Some("open") => match Spill::open(&dir, PLENTY) {
            Ok(mut spill) => assert_eq!(read_all(&mut spill), [0]),
            Err(error) => panic!("refused: {error}"),
        },
        Some("fill") => fill(&dir),
        other => panic!("{other:?}"),
    }
}

fn elsewhere(mut command: Command, task: &str, dir: &Path) -> Output {
    let test = env::current_exe().expect("this program");
    let command = command.arg(test).args(["--exact", "other_process", "--nocapture"]);
    command.env(TASK, task).env(DIRECTORY, dir).output().expect("it starts")
}

fn here() -> Command {
    Command::new("env")
}

#[test]
fn a_second_process_is_refused_until_the_first_is_gone() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut spill = Spill::open(dir.path(), PLENTY).expect("an empty directory");
    spill.append(&plain(0)).expect("room");

    let output = elsewhere(here(), "open", dir.path());
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let expected = format!(
        "refused: spill directory {}: in use by process {}; every sink of every agent needs a directory of its own",
        dir.path().display(),
        std::process::id()
    );
    assert!(said.contains(&expected), "{said}");

    let error = Spill::open(dir.path(), PLENTY).expect_err("it is in use");
    assert!(matches!(error.problem, Problem::Locked { holder: Some(id) } if id == std::process::id()));
    assert!(error.to_string().contains("in use by this very process"), "{error}");

    drop(spill);
    let output = elsewhere(here(), "open", dir.path());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn modes_and_files_of_others() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("a/b");
    let mut spill = Spill::open(&path, PLENTY).expect("it is made");
    spill.append(&plain(0)).expect("room");
    let mode = |path: &Path| fs::metadata(path).expect("it is there").permissions().mode() & 0o777;
    assert_eq!((mode(&dir.path().join("a")), mode(&path)), (0o700, 0o700));
    let files: Vec<_> =
        fs::read_dir(&path).expect("readable").map(|entry| entry.expect("readable").path()).collect();
    assert_eq!(files.len(), 3);
    assert!(files.iter().all(|file| mode(file) == 0o600), "{files:?}");
    let bytes: u64 = files.iter().map(|file| fs::metadata(file).expect("it is there").len()).sum();
    assert_eq!(spill.bytes(), bytes);
    drop(spill);

    let others = ["notes.txt", "kprobe-spill-7.seg", "kprobe-spill-00000000000000000001.seg~"];
    others.iter().for_each(|name| fs::write(path.join(name), name).expect("writable"));
    fs::create_dir(path.join("kprobe-spill-00000000000000000009.seg")).expect("writable");
    let mut spill = Spill::open(&path, PLENTY).expect("others do not matter");
    assert_eq!(spill.bytes(), bytes);
    assert_eq!(read_all(&mut spill), [0]);
    spill.ack(spill.position()).expect("writable");
    drop(spill);
    let spill = Spill::open(&path, PLENTY).expect("others do not matter");
    assert_eq!((spill.held().batches, spill.recovered().damage.len()), (0, 0));
    others
        .iter()
        .for_each(|name| assert_eq!(fs::read(path.join(name)).expect("it is there"), name.as_bytes()));
    let mut left: Vec<_> =
        fs::read_dir(&path).expect("readable").map(|entry| entry.expect("readable").file_name()).collect();
    left.sort();
    assert_eq!(
        left,
        [
            "kprobe-spill-00000000000000000001.seg~",
            "kprobe-spill-00000000000000000009.seg",
            "kprobe-spill-7.seg",
            "kprobe-spill.ack",
            "kprobe-spill.lock",
            "notes.txt"
        ]
    );
}

#[test]
fn what_is_no_directory_for_a_spill() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("file");
    fs::write(&file, "text").expect("writable");
    for path in [file.clone(), file.join("below")] {
        let error = Spill::open(&path, PLENTY).expect_err("it is a file");
        assert!(matches!(error.problem, Problem::NotADirectory), "{error:?}");
        assert_eq!(
            error.to_string(),
            format!(
                "spill directory {}: is not a directory; name one that is empty or not there yet",
                path.display()
            )
        );
    }
    // The lock of another's making, that points elsewhere.
    let trap = dir.path().join("trap");
    fs::create_dir(&trap).expect("writable");
    symlink(&file, trap.join("kprobe-spill.lock")).expect("writable");
    let error = Spill::open(&trap, PLENTY).expect_err("it is a trap");
    assert!(matches!(error.problem, Problem::Unwritable(_)), "{error:?}");
    assert_eq!(fs::read(&file).expect("readable"), b"text");
    // Not even root writes there.
    let error = Spill::open("/proc/self", PLENTY).expect_err("nothing can be made there");
    assert!(matches!(error.problem, Problem::Unwritable(_)), "{error:?}");
    assert!(error.to_string().starts_with("spill directory /proc/self: cannot be written to: "), "{error}");
    let error = Spill::open("/proc/self/below", PLENTY).expect_err("nothing can be made there");
    assert!(matches!(error.problem, Problem::Create(_)), "{error:?}");
}

const SEGMENT: &str = "kprobe-spill-00000000000000000000.seg";

/// A directory with one segment of two batches, and its segment with other first bytes.
fn with_head(change: impl Fn(&mut Vec<u8>)) -> Files {
    let disk = Memory::new();
    let mut spill = Spill::on(disk.clone(), PLENTY).expect("an empty directory");
    spill.append(&plain(0)).expect("room");
    spill.append(&plain(1)).expect("room");
    let mut files = disk.files();
    change(files.get_mut(SEGMENT).expect("a segment"));
    files
}

fn seal(head: &mut [u8]) {
    let checksum = crc32fast::hash(&head[..12]);
    head[12..16].copy_from_slice(&checksum.to_le_bytes());
}

#[test]
fn a_later_version_is_refused_and_nothing_is_changed() {
    for (at, expected) in [(8, "spill format 2"), (10, "records of ABI 2")] {
        let mut files = with_head(|file| {
            file[at] = 2;
            seal(&mut file[..16]);
        });
        // Something that would be cut off, or put aside.
        files.insert("kprobe-spill-00000000000000000002.seg".to_owned(), b"\x89KS".to_vec());
        files.insert("kprobe-spill-00000000000000000003.seg".to_owned(), b"hello".to_vec());
        let disk = Memory::with(files.clone());
        let error = Spill::on(disk.clone(), PLENTY).expect_err("it is of a later version");
        assert!(error.to_string().contains(expected), "{error}");
        assert!(error.to_string().contains("use a newer one"), "{error}");
        assert_eq!(disk.files(), files);
    }
}

#[test]
fn what_is_no_segment_is_put_aside() {
    let hello =
        b"hello, this is the beginning of quite another file, with more than a header's worth of bytes in it"
            .to_vec();
    for (what, bytes) in [("text", hello.clone()), ("zeros", vec![0; 5_000]), ("short", b"hello".to_vec())] {
        let mut files = with_head(|_| ());
        let name = "kprobe-spill-00000000000000000002.seg";
        files.insert(name.to_owned(), bytes.clone());
        files.insert(format!("{name}.aside"), b"earlier".to_vec());
        let disk = Memory::with(files);
        let mut spill = Spill::on(disk.clone(), PLENTY).unwrap_or_else(|error| panic!("{what}: {error}"));
        let [damage] = &spill.recovered().damage[..] else { panic!("{what}: {:?}", spill.recovered()) };
        assert_eq!(
            (damage.file.as_str(), damage.cause, damage.records),
            (name, Cause::PutAside, None),
            "{what}"
        );
        assert_eq!(disk.files()[&format!("{name}.aside.1")], bytes, "{what}");
        assert_eq!(disk.files()[&format!("{name}.aside")], b"earlier", "{what}");
        assert_eq!(spill.bytes(), disk.bytes(), "{what}: it counts");
        assert_eq!(read_all(&mut spill), [0, 1], "{what}");
        spill.append(&plain(2)).expect("its name is free");
        assert_eq!(read_all(&mut spill), [2], "{what}");
    }
    // In front of others it is known how many batches it must have had.
    let disk = Memory::new();
    let mut spill = Spill::on(disk.clone(), PLENTY).expect("an empty directory");
    for number in 0..4 {
        spill.append(&batch(number, &stream(if number < 3 { 4 } else { 5 }))).expect("room");
    }
    let mut files = disk.files();
    files.insert(SEGMENT.to_owned(), hello);
    let mut spill = Spill::on(Memory::with(files), PLENTY).expect("readable");
    assert_eq!((spill.held().batches, spill.held().records), (4, 10));
    assert_eq!(read_all(&mut spill), [3]);
    assert_eq!((spill.lost().batches, spill.lost().records), (3, 6));
    let damage: Vec<_> = damage_of(&spill).iter().map(|damage| (damage.cause, damage.records)).collect();
    assert_eq!(damage, [(Cause::PutAside, Some(6))]);
}

#[test]
fn a_segment_that_is_gone_is_missed() {
    let disk = Memory::new();
    let mut spill = Spill::on(disk.clone(), PLENTY).expect("an empty directory");
    for number in 0..9 {
        spill.append(&batch(number, &stream(u16::try_from(number / 3).expect("small")))).expect("room");
    }
    let gone = |first: u64| {
        let mut files = disk.files();
        files.remove(&format!("kprobe-spill-{first:020}.seg")).expect("a segment");
        let mut spill = Spill::on(Memory::with(files), PLENTY).expect("readable");
        let numbers = read_all(&mut spill);
        (
            numbers,
            spill.lost().batches,
            damage_of(&spill).iter().map(|damage| damage.cause).collect::<Vec<_>>(),
        )
    };
    assert_eq!(gone(3), (vec![0, 1, 2, 6, 7, 8], 3, vec![Cause::Missing]));
    // The oldest: it is as if they had arrived. The newest: nothing says that there was more.
    assert_eq!(gone(0), ((3..9).collect(), 0, vec![]));
    assert_eq!(gone(6), ((0..6).collect(), 0, vec![]));
}

/// A child has every descriptor of its parent until it runs its own program.
#[test]
fn children_do_not_keep_the_lock() {
    let dir = tempfile::tempdir().expect("a directory");
    let enough = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !enough.load(Ordering::Relaxed) {
                assert!(Command::new("true").status().expect("it starts").success());
            }
        });
        let refused = (0..2_000).filter(|_| Spill::open(dir.path(), PLENTY).is_err()).count();
        enough.store(true, Ordering::Relaxed);
        assert_eq!(refused, 0);
    });
}

#[test]
fn a_folder_does_what_the_disk_in_memory_does() {
    let dir = tempfile::tempdir().expect("a directory");
    let disk = Memory::new();
    let mut real = Spill::open(dir.path(), PLENTY).expect("an empty directory");
    let mut fake = Spill::on(disk.clone(), PLENTY).expect("an empty directory");
    let files = || -> BTreeMap<String, Vec<u8>> {
        let entries = fs::read_dir(dir.path()).expect("readable").map(|entry| entry.expect("readable"));
        let named = entries.map(|entry| (entry.file_name().into_string().expect("UTF-8"), entry.path()));
        named
            .filter(|(name, _)| name != "kprobe-spill.lock")
            .map(|(name, path)| (name, fs::read(path).expect("readable")))
            .collect()
    };
    for number in 0..30 {
        real.append(&plain(number)).expect("room");
        fake.append(&plain(number)).expect("room");
        if number % 3 != 0 {
            assert!(real.next().expect("readable").is_some() && fake.next().expect("readable").is_some());
            real.ack(real.position()).expect("writable");
            fake.ack(fake.position()).expect("writable");
        }
        if number % 7 == 0 {
            real.sync().expect("writable");
        }
        if number % 11 == 10 {
            drop(real);
            real = Spill::open(dir.path(), PLENTY).expect("readable");
            fake = Spill::on(disk.clone(), PLENTY).expect("readable");
        }
        assert_eq!(files(), disk.files(), "after {number}");
    }
    let removed = disk.changes().iter().filter(|change| matches!(change, Change::Remove(_))).count();
    assert!(removed > 1, "{removed} segments were deleted");
}

#[test]
fn a_real_full_disk() {
    let dir = tempfile::tempdir().expect("a directory");
    // A small file system of its own, which nobody else sees. Whoever is not root is it in a namespace of users.
    let namespace = |flags: &str| {
        let mut command = Command::new("unshare");
        let script = format!("mount -t tmpfs -o size=256k none {} && exec \"$@\"", dir.path().display());
        command.args([flags, "sh", "-c", &script, "sh"]);
        command
    };
    let may =
        |flags| Command::new("unshare").args([flags, "true"]).status().is_ok_and(|status| status.success());
    let Some(flags) = ["-m", "-mr"].into_iter().find(|flags| may(flags)) else {
        let _ = io::Write::write_all(
            &mut io::stderr(),
            b"skipped: this machine lets nobody mount a small file system\n",
        );
        return;
    };
    let output = elsewhere(namespace(flags), "fill", dir.path());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// In a file system of 256 KiB.
fn fill(dir: &Path) {
    let spill_dir = dir.join("spill");
    let mut spill =
        Spill::open(&spill_dir, SpillLimits { max_bytes: 1 << 30, segment_bytes: 20_000 }).expect("room");
    let ballast = dir.join("ballast");
    let mut space = 20_000;
    let (mut appended, mut acked) = (0, 0);
    // Full in the middle of a segment, and full where one begins.
    for round in 0..30 {
        fs::write(&ballast, vec![1; space]).expect("room");
        space -= 500;
        let error = loop {
            match spill.append(&plain(appended)) {
                Ok(()) => appended += 1,
                Err(error) => break error,
            }
        };
        let AppendError::Io { source, .. } = &error else { panic!("{error}") };
        assert_eq!(source.kind(), io::ErrorKind::StorageFull, "round {round}: {error}");
        let bytes: u64 = fs::read_dir(&spill_dir)
            .expect("readable")
            .map(|entry| entry.expect("readable").metadata().expect("readable").len())
            .sum();
        assert_eq!(spill.bytes(), bytes, "nothing of the batch is left");
        // There still is nothing, and then there is.
        assert!(spill.append(&plain(appended)).is_err());
        fs::remove_file(&ballast).expect("it is there");
        spill.append(&plain(appended)).expect("there is space again");
        appended += 1;
        if round % 2 == 1 {
            drop(spill);
            spill = Spill::open(&spill_dir, PLENTY).expect("readable");
            assert_eq!(spill.recovered().damage, []);
        }
        let held = spill.held().batches;
        assert_eq!(held, appended - acked, "round {round}");
        // Half of it goes; on a full disk as well.
        for _ in 0..held / 2 {
            assert!(spill.next().expect("readable").is_some());
        }
        spill.ack(spill.position()).expect("it needs no space");
        acked += held / 2;
    }
    drop(spill);
    let mut spill = Spill::open(&spill_dir, PLENTY).expect("readable");
    assert_eq!(read_all(&mut spill), (acked..appended).collect::<Vec<_>>());
}
