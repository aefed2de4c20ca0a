//! Reads what was written, every field of every line.

use std::{
    fs::File,
    io::{BufRead as _, BufReader, Seek as _},
    os::fd::AsRawFd as _,
};

use anyhow::{Context as _, Result, ensure};
use jiff::Timestamp;
use rustix::fs::{MemfdFlags, memfd_create};
use serde::Deserialize;

use super::{READ, Stage, Who, name_of};
use crate::{bpf::Call, harness::Effort};

/// A line, and nothing else may be in it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    kind: String,
    ktime_ns: u64,
    time: String,
    cpu: u16,
    tgid: u32,
    tid: u32,
    comm: Option<String>,
    cgroup_id: u64,
    seq: u32,
    parent_tgid: Option<u32>,
    nr: u16,
    name: String,
    enter_ktime_ns: u64,
    duration_ns: u64,
    fd: i32,
    requested: u64,
    ret: i64,
}

/// A run at a moderate rate into memory; how long a line is on average.
pub(super) fn read_lines(stage: &mut Stage, who: Who, effort: Effort) -> Result<f64> {
    let mut written = File::from(memfd_create(c"lines", MemfdFlags::CLOEXEC)?);
    let time = READ.1.mul_f64(if effort.quick { 0.1 } else { 1.0 });
    let step = stage.step(who, READ.0, time, &name_of(written.as_raw_fd()))?;
    ensure!(step.is_whole(), "{}: records are lost at {} a second", who.name(), READ.0);
    written.rewind()?;
    let (mut seen, mut bytes, mut others) = (Seen::default(), 0, 0);
    for line in BufReader::new(written).lines() {
        let line = line?;
        if who != Who::Peer
            && (line.contains(r#""kind":"meta.start""#) || line.contains(r#""kind":"meta.end""#))
        {
            others += 1;
            continue;
        }
        bytes += line.len() + 1;
        let parsed: Line = serde_json::from_str(&line).with_context(|| format!("{}: {line}", who.name()))?;
        ensure!(seen.is_next(&parsed, who), "{}: after {} lines: {line}", who.name(), seen.records);
    }
    let own = if who == Who::Peer { 0 } else { 2 };
    ensure!(
        (u64::from(seen.records), others) == (step.submitted, own),
        "{}: {} lines of {} records, and {others} others",
        who.name(),
        seen.records,
        step.submitted
    );
    Ok(bytes as f64 / f64::from(seen.records))
}

#[derive(Default)]
struct Seen {
    records: u32,
    last_ns: u64,
    /// Between the clock of the records and the wall clock, by the first line.
    offset_ns: Option<i128>,
}

impl Seen {
    /// Whether it is the line of the record with the next number, and has all that this record has.
    fn is_next(&mut self, line: &Line, who: Who) -> bool {
        let call = Call::numbered(self.records);
        let Ok(time) = line.time.parse::<Timestamp>() else { return false };
        let offset_ns = time.as_nanosecond() - i128::from(line.ktime_ns);
        let about = match who {
            Who::Agent => (Some("postgres"), Some(1)),
            Who::Plain | Who::Peer => (None, None),
        };
        let is_right = line.kind == "syscall"
            && line.cpu == 0
            && line.seq == self.records
            && line.ktime_ns >= self.last_ns
            && offset_ns == *self.offset_ns.get_or_insert(offset_ns)
            && line.duration_ns == line.ktime_ns - line.enter_ktime_ns
            && (line.comm.as_deref(), line.parent_tgid) == about
            && line.name == ["read", "write"][usize::from(call.nr)]
            && call
                == Call {
                    tgid: line.tgid,
                    tid: line.tid,
                    cgroup_id: line.cgroup_id,
                    nr: line.nr,
                    duration_ns: line.duration_ns,
                    fd: line.fd,
                    requested: line.requested,
                    ret: line.ret,
                };
        (self.records, self.last_ns) = (self.records + 1, line.ktime_ns);
        is_right
    }
}
