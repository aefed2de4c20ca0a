//! The agent as a program: started with arguments, looked at from outside.

pub mod events;

use std::{
    env,
    ffi::OsStr,
    fs,
    io::{BufRead, BufReader, Read},
    os::unix::process::{CommandExt, ExitStatusExt},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc::{self, Receiver, Sender},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

/// The capture that ships with the source.
pub static DEMO: &[u8] = include_bytes!("../../demo.kcap");

/// `nobody`.
pub const UNPRIVILEGED: u32 = 65_534;

/// No test takes so long, in an emulated machine either.
const TOO_LONG: Duration = Duration::from_secs(300);

/// Where the agent is.
pub fn agent_path() -> PathBuf {
    env::var_os("KPROBE_AGENT").map_or_else(|| env!("CARGO_BIN_EXE_kprobe-agent").into(), PathBuf::from)
}

/// The agent with these arguments, its input and output not those of the tests.
pub fn agent<I: IntoIterator<Item: AsRef<OsStr>>>(args: I) -> Command {
    agent_at(&agent_path(), args)
}

/// As [`agent`], from this file.
pub fn agent_at<I: IntoIterator<Item: AsRef<OsStr>>>(path: &Path, args: I) -> Command {
    let mut command = Command::new(path);
    command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// A folder of a test's own that everybody may enter and write.
pub fn open_folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    set_mode(folder.path(), 0o777);
    folder
}

pub fn set_mode(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// The agent without any privilege. What it reads and runs is in `folder`: it may not be allowed to enter others.
pub fn unprivileged<I: IntoIterator<Item: AsRef<OsStr>>>(folder: &Path, args: I) -> Command {
    if !is_root() {
        let mut command = agent(args);
        command.current_dir(folder);
        return command;
    }
    let copy = folder.join("kprobe-agent");
    if !copy.exists() {
        // By another process: a file that is open for writing cannot be executed, and a test that forks meanwhile
        // keeps it open.
        assert!(Command::new("cp").arg(agent_path()).arg(&copy).status().unwrap().success());
        set_mode(&copy, 0o755);
    }
    let mut command = agent_at(&copy, args);
    command.uid(UNPRIVILEGED).gid(UNPRIVILEGED).current_dir(folder);
    command
}

/// What a program left.
#[derive(Debug)]
pub struct Output {
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
}

impl Output {
    /// The exit code; 128 and the number of the signal that ended it.
    pub fn code(&self) -> i32 {
        self.status.code().unwrap_or_else(|| 128 + self.status.signal().unwrap())
    }

    /// Nothing was said on standard error.
    pub fn silent(self) -> Self {
        assert_eq!(self.stderr, "");
        self
    }

    /// As [`silent`](Self::silent), of one whose output is no text.
    pub fn silent_but_output(self) {
        assert_eq!(self.stderr, "");
    }

    /// It ended with this code.
    pub fn exits(self, code: i32) -> Self {
        assert_eq!(self.code(), code, "{}", self.stderr);
        self
    }
}

/// Runs a program to its end.
pub fn run(command: &mut Command) -> Output {
    Running::start(command).finish()
}

/// What a program writes, line by line, read as it comes.
struct Stream {
    lines: Receiver<String>,
    /// Those that were looked at.
    read: String,
}

impl Stream {
    fn of(from: impl Read + Send + 'static) -> Self {
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            let mut from = BufReader::new(from);
            let mut line = String::new();
            while from.read_line(&mut line).unwrap() > 0 && sender.send(std::mem::take(&mut line)).is_ok() {}
        });
        Self { lines, read: String::new() }
    }

    fn wait_for(&mut self, text: &str) -> &str {
        loop {
            let from = self.read.len();
            let line = self.lines.recv().unwrap_or_else(|_| panic!("no line with {text}: {}", self.read));
            self.read.push_str(&line);
            if line.contains(text) {
                return &self.read[from..];
            }
        }
    }

    fn all(mut self) -> String {
        self.read.extend(self.lines);
        self.read
    }
}

/// A program that runs. It is killed if it is dropped or takes too long.
pub struct Running {
    child: Child,
    stdout: Option<Stream>,
    stderr: Option<Stream>,
    _watchdog: Sender<()>,
}

impl Running {
    pub fn start(command: &mut Command) -> Self {
        let mut child = command.spawn().unwrap();
        let (stdout, stderr) = (child.stdout.take().map(Stream::of), child.stderr.take().map(Stream::of));
        let (watchdog, ended) = mpsc::channel();
        let pid = pid(child.id());
        thread::spawn(move || {
            if ended.recv_timeout(TOO_LONG) == Err(mpsc::RecvTimeoutError::Timeout) {
                let _gone = kill_process(pid, Signal::KILL);
            }
        });
        Self { child, stdout, stderr, _watchdog: watchdog }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// Waits for a line of standard output that contains `text`.
    pub fn wait_for(&mut self, text: &str) -> &str {
        self.stdout.as_mut().unwrap().wait_for(text)
    }

    /// Waits until the agent records, or plays: it has attached, it has its handlers of signals.
    pub fn wait_until_running(mut self) -> Self {
        self.wait_for("meta.start");
        self
    }

    /// Likewise of standard error.
    pub fn wait_for_error(&mut self, text: &str) -> &str {
        self.stderr.as_mut().unwrap().wait_for(text)
    }

    /// Of standard error what was looked at.
    pub fn errors(&self) -> &str {
        &self.stderr.as_ref().unwrap().read
    }

    /// Waits until nothing is recorded any more, of an agent that writes events to standard error.
    pub fn wait_until_recorded(&mut self) {
        self.stderr.as_mut().unwrap().wait_for("meta.end");
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(pid(self.pid()), signal).unwrap();
    }

    /// Sends a signal to its process group, as a terminal does. It must lead one.
    pub fn signal_group(&self, signal: Signal) {
        rustix::process::kill_process_group(pid(self.pid()), signal).unwrap();
    }

    /// Waits for its end.
    pub fn finish(mut self) -> Output {
        let status = self.child.wait().unwrap();
        let all = |stream: Option<Stream>| stream.map(Stream::all).unwrap_or_default();
        Output { status, stdout: all(self.stdout.take()), stderr: all(self.stderr.take()) }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // No effect if it has ended.
        let _gone = self.child.kill();
        let _gone = self.child.wait();
    }
}

pub fn pid(number: u32) -> Pid {
    Pid::from_raw(number.try_into().unwrap()).unwrap()
}

/// Asks again and again until the answer is yes.
pub fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + TOO_LONG;
    while !done() {
        assert!(Instant::now() < deadline, "no end of waiting for {what}");
        thread::yield_now();
    }
}

/// Waits until a process has no signal pending: what was sent has reached it.
pub fn wait_until_signals_arrived(process: u32) {
    wait_until("signals to arrive", || {
        let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
        status
            .lines()
            .filter_map(|line| line.strip_prefix("SigPnd:").or(line.strip_prefix("ShdPnd:")))
            .all(|set| set.trim().bytes().all(|digit| digit == b'0'))
    });
}
