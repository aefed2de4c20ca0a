//! Children with known behaviour: this binary again, told by its environment what to do.

use std::{
    io::{BufRead, BufReader, Write},
    path::PathBuf,
    process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio},
};

/// Holds the name of a workload and its arguments.
pub const WORKLOAD: &str = "KPROBE_TEST_WORKLOAD";

/// The command that runs a workload, `"name arg arg"`.
pub fn workload(text: &str) -> Command {
    let mut command = Command::new(own_path());
    command.env(WORKLOAD, text).stdin(Stdio::piped()).stdout(Stdio::piped());
    command
}

/// This binary.
pub fn own_path() -> PathBuf {
    std::env::current_exe().unwrap()
}

/// A running workload. It is killed when dropped.
///
/// Its standard output is what it reports, line by line; its standard input is what it waits on.
pub struct Workload {
    pub child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Workload {
    pub fn new(mut child: Child) -> Self {
        let input = child.stdin.take();
        let output = BufReader::new(child.stdout.take().unwrap());
        Self { child, input, output }
    }

    /// Started without any recorder.
    pub fn start(text: &str) -> Self {
        Self::new(workload(text).spawn().unwrap())
    }

    pub fn tgid(&self) -> u32 {
        self.child.id()
    }

    /// The next line that it writes; empty at the end.
    pub fn line(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    /// All lines up to the end.
    pub fn lines(&mut self) -> Vec<String> {
        std::iter::from_fn(|| Some(self.line()).filter(|line| !line.is_empty())).collect()
    }

    /// Lets it go on.
    pub fn go(&mut self) {
        self.input.as_mut().unwrap().write_all(b"g").unwrap();
    }

    /// Closes its standard input.
    pub fn close_input(&mut self) {
        self.input = None;
    }

    pub fn wait(&mut self) -> ExitStatus {
        self.child.wait().unwrap()
    }
}

impl Drop for Workload {
    fn drop(&mut self) {
        // Both fail only when it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
