use crate::event::{Comm, START_GRANULARITY_NS, Tgid};

/// What `/proc/PID/stat` or `/proc/PID/task/TID/stat` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProcStat {
    /// The process, or the thread if it is a thread's file.
    pub pid: u32,
    /// Name of the thread, as records of the kernel have it.
    pub comm: Comm,
    /// State as one letter. `Z` and `X` are threads that have ended.
    pub state: u8,
    /// Parent process.
    pub ppid: Tgid,
    /// Start of the process or thread, in ticks of 10 ms of `CLOCK_BOOTTIME`.
    pub starttime_ticks: u64,
}

/// Text that is not that of a stat file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StatError {
    /// There is no name in parentheses.
    #[error("no name in parentheses; expected `PID (NAME) STATE ...`")]
    NoName,
    /// A field is missing, or not what it should be.
    #[error("field {number} ({name}) is missing or no number")]
    Field {
        /// Its number in proc(5), from 1.
        number: usize,
        /// Its name in proc(5).
        name: &'static str,
    },
}

impl ProcStat {
    /// Start in nanoseconds of `CLOCK_BOOTTIME`. That of a process's own file is what
    /// [`ThreadSeed::start_ns`](crate::event::ThreadSeed) wants, for each of its threads.
    #[must_use]
    pub const fn start_ns(&self) -> u64 {
        self.starttime_ticks.saturating_mul(START_GRANULARITY_NS)
    }
}

/// Flag in field 9 of a kernel worker (`PF_WQ_WORKER`).
const WORKER: u64 = 0x20;

/// Reads the text of `/proc/PID/stat`.
///
/// The name may hold anything, parentheses, spaces and bytes that are not UTF-8 included. To the name of a kernel worker
/// the file adds what it works on (`kworker/0:1-events`), which is not part of it and is cut off.
///
/// # Errors
/// See [`StatError`].
///
/// ```
/// let stat = kprobe_core::process::parse_proc_stat(
///     b"4242 (a ) (b) S 1 4242 4242 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 123456 0 0\n",
/// )?;
/// assert_eq!((stat.pid, stat.comm.as_bytes(), stat.ppid.0), (4242, &b"a ) (b"[..], 1));
/// assert_eq!(stat.start_ns(), 1_234_560_000_000);
/// # Ok::<(), kprobe_core::process::StatError>(())
/// ```
pub fn parse_proc_stat(text: &[u8]) -> Result<ProcStat, StatError> {
    let open = text.iter().position(|&byte| byte == b'(').ok_or(StatError::NoName)?;
    let close = text.iter().rposition(|&byte| byte == b')').ok_or(StatError::NoName)?;
    let name = text.get(open + 1..close).ok_or(StatError::NoName)?;
    let pid = number(Some(text[..open].trim_ascii()), 1, "pid")?;
    // Field 3 is the first after the name.
    let mut fields = text[close + 1..].split(u8::is_ascii_whitespace).filter(|field| !field.is_empty());
    let state = match fields.next() {
        Some(&[state]) => state,
        _ => return Err(StatError::Field { number: 3, name: "state" }),
    };
    let ppid = number(fields.next(), 4, "ppid")?;
    let flags: u64 = number(fields.nth(4), 9, "flags")?;
    let starttime_ticks = number(fields.nth(12), 22, "starttime")?;
    Ok(ProcStat { pid, comm: comm(name, flags & WORKER != 0), state, ppid: Tgid(ppid), starttime_ticks })
}

fn number<T: std::str::FromStr>(
    text: Option<&[u8]>,
    number: usize,
    name: &'static str,
) -> Result<T, StatError> {
    text.and_then(|text| std::str::from_utf8(text).ok()?.parse().ok())
        .ok_or(StatError::Field { number, name })
}

/// The name behind the escapes of `proc_task_name` (fs/proc/array.c): newline and backslash.
fn comm(escaped: &[u8], worker: bool) -> Comm {
    let mut name = Vec::with_capacity(escaped.len());
    let mut rest = escaped;
    while let Some((&byte, after)) = rest.split_first() {
        let (byte, after) = match (byte, after.first()) {
            (b'\\', Some(b'n')) => (b'\n', &after[1..]),
            (b'\\', Some(b'\\')) => (b'\\', &after[1..]),
            _ => (byte, after),
        };
        name.push(byte);
        rest = after;
    }
    if worker && !name.starts_with(b"kworker/R-") {
        // `wq_worker_comm` (kernel/workqueue.c) adds `-` or `+` and the work's name.
        let end = name.iter().position(|byte| matches!(byte, b'-' | b'+')).unwrap_or(name.len());
        name.truncate(end);
    }
    Comm::from_text(&name)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TAIL: &str = "S 2 0 0 0 -1 69238880 0 0 0 0 0 0 0 0 20 0 1 0 77 0 0 18446744073709551615 0 0 0";

    fn stat(name: &[u8]) -> ProcStat {
        parse_proc_stat(&[b"7 (", name, b") ", TAIL.as_bytes()].concat()).expect("a stat file")
    }

    #[test]
    fn names_of_any_bytes() {
        let names: &[(&[u8], &[u8])] = &[
            (b"cat", b"cat"),
            (b"", b""),
            (b"tmux: server", b"tmux: server"),
            (b"a) S 1 (b", b"a) S 1 (b"),
            (b")))(((", b")))((("),
            (b"\xff\xfe\x01", b"\xff\xfe\x01"),
            (b"line\\nfeed", b"line\nfeed"),
            (b"back\\\\slash", b"back\\slash"),
            (b"\\\\n", b"\\n"),
            (b"kworker/0:1-events", b"kworker/0:1"),
            (b"kworker/u8:2+flush-254:0", b"kworker/u8:2"),
            (b"kworker/1:1H-kblockd", b"kworker/1:1H"),
            (b"kworker/R-rcu_gp", b"kworker/R-rcu_gp"),
            (b"kworker/R-a_name_too_long", b"kworker/R-a_nam"),
        ];
        for (text, name) in names {
            // Comm holds 15 bytes.
            let name = &name[..name.len().min(15)];
            assert_eq!(stat(text).comm.as_bytes(), name, "{}", text.escape_ascii());
        }
    }

    #[test]
    fn a_user_thread_with_a_workers_name_keeps_it() {
        let text = b"9 (kworker/0:1-me) R 1 9 9 0 -1 4194304 0 0 0 0 0 0 0 0 20 0 1 0 5 0";
        assert_eq!(parse_proc_stat(text).expect("a stat file").comm.as_bytes(), b"kworker/0:1-me");
    }

    #[test]
    fn the_fields() {
        let text = b"1234 (nginx) Z 987 1234 1234 0 -1 4194560 9 9 9 9 9 9 9 9 20 0 1 0 45678901 9 9 9\n";
        let stat = parse_proc_stat(text).expect("a stat file");
        let comm = Comm::from_text(b"nginx");
        let expected =
            ProcStat { pid: 1234, comm, state: b'Z', ppid: Tgid(987), starttime_ticks: 45_678_901 };
        assert_eq!(stat, expected);
        assert_eq!(stat.start_ns(), 456_789_010_000_000);
    }

    #[test]
    fn what_is_no_stat_file() {
        let field = |number, name| Err(StatError::Field { number, name });
        let cases: &[(&[u8], Result<ProcStat, StatError>)] = &[
            (b"", Err(StatError::NoName)),
            (b"12 cat S 1", Err(StatError::NoName)),
            (b"12 )cat( S 1", Err(StatError::NoName)),
            (b"x (cat) S 1", field(1, "pid")),
            (b"12 (cat)", field(3, "state")),
            (b"12 (cat) SS 1", field(3, "state")),
            (b"12 (cat) S one", field(4, "ppid")),
            (b"12 (cat) S 1 2 3 4 5", field(9, "flags")),
            (b"12 (cat) S 1 2 3 4 5 6 7 8 9", field(22, "starttime")),
        ];
        for (text, expected) in cases {
            assert_eq!(parse_proc_stat(text), *expected, "{}", text.escape_ascii());
        }
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn this_very_process() {
        let text = std::fs::read("/proc/self/stat").expect("a Linux with /proc");
        let stat = parse_proc_stat(&text).expect("a stat file");
        assert_eq!(stat.pid, std::process::id());
        assert!(stat.starttime_ticks > 0);
    }
}
