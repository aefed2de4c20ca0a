//! A shell that waits for the test before it does what it is for.

use std::{
    io::Write,
    process::{Child, Command, ExitStatus, Stdio},
};

/// Not waited for but killed if the test fails.
pub struct Gate {
    child: Child,
}

impl Gate {
    /// Runs `script` once it may.
    pub fn closed(script: &str) -> Self {
        let mut command = Command::new("sh");
        command.args(["-c", &format!("read gate\n{script}")]);
        Self { child: command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap() }
    }

    pub fn tgid(&self) -> u32 {
        self.child.id()
    }

    pub fn is_waiting(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Lets it go on, up to its end.
    pub fn open(&mut self) -> ExitStatus {
        self.child.stdin.take().unwrap().write_all(b"go\n").unwrap();
        self.child.wait().unwrap()
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _gone = self.child.wait();
    }
}
