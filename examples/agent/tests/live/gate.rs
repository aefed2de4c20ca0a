//! A shell that waits for the test before it does what it is for.

use std::{
    fs,
    io::Write,
    process::{Child, Command, ExitStatus, Stdio},
};

use kprobe_core::event::Arch;

use crate::support::wait_until;

/// Not waited for but killed if the test fails.
pub struct Gate {
    child: Child,
}

impl Gate {
    /// Runs `script` once it may. It sleeps by now: whoever begins to look at it sees the same calls each time.
    pub fn closed(script: &str) -> Self {
        let mut command = Command::new("sh");
        command.args(["-c", &format!("read gate\n{script}")]);
        let gate = Self { child: command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap() };
        wait_until("a shell that reads its gate", || {
            // `running`, or the number of the call and its arguments.
            let call = fs::read_to_string(format!("/proc/{}/syscall", gate.tgid())).unwrap();
            let Some((number, arguments)) = call.split_once(' ') else { return false };
            let name = number.parse().ok().and_then(|nr| Arch::native().syscall_name(nr));
            // That of busybox polls first.
            name == Some("read") && arguments.starts_with("0x0 ") || matches!(name, Some("poll" | "ppoll"))
        });
        gate
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
