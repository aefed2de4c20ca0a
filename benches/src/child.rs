//! A process of a measurement, spoken to by lines: commands go to its standard input, answers come from its standard output.

use std::{
    fmt,
    io::{BufRead as _, BufReader, Write as _, stdout},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    str::FromStr,
};

use anyhow::{Context as _, Error, Result, ensure};

/// In such a process: an answer.
pub(crate) fn say(answer: impl fmt::Display) -> Result<()> {
    let mut stdout = stdout().lock();
    writeln!(stdout, "{answer}")?;
    Ok(stdout.flush()?)
}

/// The harness's end of it.
#[derive(Debug)]
pub(crate) struct Talker {
    child: Child,
    commands: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Talker {
    pub(crate) fn start(command: &mut Command) -> Result<Self> {
        let name = command.get_program().display().to_string();
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("start {name}"))?;
        let commands = child.stdin.take().context("its standard input")?;
        let answers = BufReader::new(child.stdout.take().context("its standard output")?);
        Ok(Self { child, commands, answers })
    }

    /// Starts this program in another role.
    pub(crate) fn start_own(role: &str, core: usize) -> Result<Self> {
        Self::start(Command::new(std::env::current_exe()?).arg(role).arg(core.to_string()))
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn tell(&mut self, command: &str) -> Result<()> {
        writeln!(self.commands, "{command}").context("a process of the measurement died")
    }

    pub(crate) fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        ensure!(!line.is_empty(), "a process of the measurement died");
        Ok(line.trim_end().to_owned())
    }

    pub(crate) fn answer<T: FromStr<Err = Error>>(&mut self) -> Result<T> {
        self.line()?.parse()
    }

    /// Reads the line that says so.
    pub(crate) fn ready(&mut self) -> Result<()> {
        let ready = self.line()?;
        ensure!(ready == "ready", "a process of the measurement said {ready:?}");
        Ok(())
    }
}

impl Drop for Talker {
    fn drop(&mut self) {
        // It ends by itself at the end of its input, unless it waits for a record. Both may fail if it is gone.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
