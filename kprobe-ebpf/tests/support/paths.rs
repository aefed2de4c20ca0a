//! What a workload says of the files that it opens, and the records of that.

use std::{fs, path::PathBuf};

use kprobe_core::event::Event;
use kprobe_ebpf::Paths;

use super::{
    recording::Recorded,
    rungs::{check_whole, record, rungs},
    workload::path::base,
};

/// The folder of a test, removed when dropped.
pub struct Folder {
    /// By which the workload knows it.
    pub id: u64,
    pub path: PathBuf,
}

impl Folder {
    pub fn new() -> Self {
        let id = std::process::id().into();
        let folder = Self { id, path: base(id) };
        // Of a test that was ended by force, with the same number.
        let _ = fs::remove_dir_all(&folder.path);
        for name in ["inside", "outside"] {
            let dir = folder.path.join(name);
            fs::create_dir_all(&dir).unwrap();
            fs::copy("/bin/true", dir.join("true")).unwrap();
        }
        folder
    }

    pub fn inside(&self) -> PathBuf {
        self.path.join("inside")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

/// One line of the workload, and the record that there should be for it.
#[derive(Debug, PartialEq, Eq)]
struct Line {
    tgid: u32,
    /// Of an open.
    fd: Option<i32>,
    odd: &'static str,
    inode: u64,
    path: Vec<u8>,
}

fn said(line: &str) -> Option<Line> {
    let words: Vec<_> = line.split(' ').collect();
    // An empty path leaves no word.
    let &[what, tgid, fd, odd, inode, ref path @ ..] = &words[..] else { return None };
    Some(Line {
        tgid: tgid.parse().unwrap(),
        fd: (what == "open").then(|| fd.parse().unwrap()),
        odd: ["-", "removed", "cut"].into_iter().find(|known| *known == odd).unwrap(),
        inode: inode.parse().unwrap(),
        path: path.iter().flat_map(|path| unhex(path)).collect(),
    })
}

fn recorded_line(event: &Event) -> Option<Line> {
    let odd = |truncated, unlinked| match (truncated, unlinked) {
        (false, false) => "-",
        (true, false) => "cut",
        (false, true) => "removed",
        both => panic!("{both:?} of {event:?}"),
    };
    Some(match event {
        Event::PathOpen(open) => Line {
            tgid: open.origin.tgid.0,
            fd: Some(open.fd),
            odd: odd(open.truncated, open.unlinked),
            inode: open.inode,
            path: open.path.as_bytes().to_owned(),
        },
        Event::PathExec(exec) => Line {
            tgid: exec.origin.tgid.0,
            fd: None,
            odd: odd(exec.truncated, exec.unlinked),
            inode: exec.inode,
            path: exec.path.as_bytes().to_owned(),
        },
        _ => return None,
    })
}

/// Each record is one that the workload speaks of, in this order, and each that it speaks of is there.
pub fn check(recorded: &Recorded, lines: &[String], rung: &str) -> usize {
    let mut found = recorded.events.iter().filter_map(recorded_line);
    for line in lines {
        let Some(found) = found.next() else { panic!("{rung}: no record for {line}") };
        match said(line) {
            Some(said) => assert_eq!(found, said, "{rung}"),
            // Of which the workload does not know everything.
            None => assert_eq!(line, &format!("any {} {}", found.tgid, hex(&found.path)), "{rung}"),
        }
    }
    assert_eq!(found.next(), None, "{rung}");
    lines.len()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// On each rung of the ladder the records are those that the workload says, at least so many.
pub fn on_every_rung(workload: &str, least: usize) {
    let paths = |folder: &Folder| Paths::allow([folder.inside()]).unwrap();
    let rungs = rungs(paths(&Folder::new()));
    assert_eq!(rungs.len(), 3, "{rungs:?}");
    let mut whole = 0;
    for rung in &rungs {
        let folder = Folder::new();
        let text = format!("{workload} {}", folder.id);
        let Some((recorded, lines, _)) = record(paths(&folder), &rungs, rung, &text) else { continue };
        let count = check(&recorded, &lines, rung);
        assert!(count >= least, "{rung}: {lines:?}");
        whole += 1;
    }
    check_whole(whole);
}
