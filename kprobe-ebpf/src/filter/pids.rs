use std::fs;
use std::io;

use kprobe_core::abi::PID_LIMIT;
use kprobe_core::event::{Tgid, Tid};
use rustix::io::Errno;
use rustix::process::{Pid, test_kill_process};

use super::FilterError;

/// A process of that id lives.
pub(super) fn check_process(tgid: Tgid) -> Result<(), FilterError> {
    match lookup(tgid.0)? {
        Found::Absent => Err(FilterError::NoProcess { tgid }),
        Found::In(of) if of != tgid => Err(FilterError::ThreadOfProcess { tid: Tid(tgid.0), tgid: of }),
        Found::In(_) | Found::Hidden => Ok(()),
    }
}

/// A thread of that id lives.
pub(super) fn check_thread(tid: Tid) -> Result<(), FilterError> {
    match lookup(tid.0)? {
        Found::Absent => Err(FilterError::NoThread { tid }),
        Found::In(_) | Found::Hidden => Ok(()),
    }
}

enum Found {
    Absent,
    /// A thread of this process.
    In(Tgid),
    /// It lives, and `/proc` is mounted so that it does not show whose it is (`hidepid`).
    Hidden,
}

fn lookup(id: u32) -> Result<Found, FilterError> {
    let pid = i32::try_from(id).ok().filter(|_| id < PID_LIMIT).and_then(Pid::from_raw);
    let pid = pid.ok_or(FilterError::PidRange { found: id })?;
    // Threads are not listed in /proc, but can be opened there by number.
    match fs::read_to_string(format!("/proc/{id}/status")) {
        Ok(status) => Ok(tgid_in(&status).map_or(Found::Hidden, Found::In)),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(Found::Hidden),
        Err(_) => match test_kill_process(pid) {
            Err(Errno::SRCH) => Ok(Found::Absent),
            _ => Ok(Found::Hidden),
        },
    }
}

fn tgid_in(status: &str) -> Option<Tgid> {
    let value = status.lines().find_map(|line| line.strip_prefix("Tgid:"))?;
    value.trim().parse().ok().map(Tgid)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn this_process_and_its_threads() {
        let tgid = Tgid(std::process::id());
        check_process(tgid).unwrap();
        let tid = fs::read_link("/proc/thread-self").unwrap();
        let tid: u32 = tid.file_name().unwrap().to_str().unwrap().parse().unwrap();
        check_thread(Tid(tid)).unwrap();
        // Tests run in threads of their own.
        assert_ne!(tid, tgid.0);
        let error = check_process(Tgid(tid)).unwrap_err();
        let expected = format!(
            "{tid} is a thread of process {tgid}, not a process: select process {tgid}, or the thread as a thread"
        );
        assert_eq!(error.to_string(), expected);
    }

    #[test]
    fn a_process_that_has_ended() {
        let mut child = Command::new("sleep").arg("1000").stdin(Stdio::null()).spawn().unwrap();
        let tgid = Tgid(child.id());
        check_process(tgid).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(
            check_process(tgid).unwrap_err().to_string(),
            format!("no process {tgid} (it may have ended)")
        );
        let error = check_thread(Tid(tgid.0)).unwrap_err();
        assert_eq!(error.to_string(), format!("no thread {tgid} (it may have ended)"));
    }

    #[test]
    fn numbers_that_no_process_has() {
        for id in [0, PID_LIMIT, u32::MAX] {
            let error = check_process(Tgid(id)).unwrap_err();
            assert_eq!(error.to_string(), format!("{id} is no process or thread id, expected 1 to 4194303"));
        }
    }
}
