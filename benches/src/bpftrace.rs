//! The newest bpftrace, from Debian's unstable suite in a folder of its own.

use std::{
    fs::{self, File},
    io::{BufRead as _, BufReader, Read as _, Seek as _},
    path::PathBuf,
    process::{Child, ChildStderr, Command, Stdio},
};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::{
    fs::{MemfdFlags, memfd_create},
    process::{Pid, Signal, kill_process},
};

use crate::{
    machine::CONSUMER_CORE,
    peer::{cache_dir, install_missing, mirror},
};

/// Enters the folder in a mount namespace of its own, and dies with the harness: whatever happens, nothing stays mounted or
/// attached.
const ENTER: &str = r#"
set -e
mount --rbind /dev "$ROOT/dev"
mount -t proc proc "$ROOT/proc"
mount --rbind /sys "$ROOT/sys"
[ -e "$ROOT/sys/kernel/tracing/events" ] || mount -t tracefs tracefs "$ROOT/sys/kernel/tracing"
exec setpriv --pdeathsig KILL taskset -c "$CORE" chroot "$ROOT" /usr/bin/bpftrace "$@"
"#;

/// One line for each system call of a process. The entry is overwritten by the thread's next call and never deleted, which
/// is the cheapest way to pair.
const SCRIPT: &str = r#"
tracepoint:raw_syscalls:sys_enter /pid == $1/ { @enter[tid] = nsecs; }
tracepoint:raw_syscalls:sys_exit /pid == $1/ {
    printf("%llu %u %u %u %ld %ld %llu\n", nsecs, pid, tid, cpu, args.id, args.ret, nsecs - @enter[tid]);
}
"#;
/// The same, summed up in the kernel.
const SUMS: &str = r#"
tracepoint:raw_syscalls:sys_enter /pid == $1/ { @enter[tid] = nsecs; }
tracepoint:raw_syscalls:sys_exit /pid == $1/ { @ns[args.id] = hist(nsecs - @enter[tid]); }
"#;
const ATTACHED: &str = "Attached 2 probes";

/// Where it is.
#[derive(Debug)]
pub(crate) struct Bpftrace {
    root: PathBuf,
}

/// It is attached and prints.
#[derive(Debug)]
pub(crate) struct Printing {
    child: Child,
    stderr: BufReader<ChildStderr>,
    stdout: File,
}

/// What it printed.
#[derive(Debug)]
pub(crate) struct Printed {
    /// Lines of the call that is measured.
    pub(crate) calls: u64,
    /// Lines of other calls.
    pub(crate) others: u64,
    /// What it said about losses.
    pub(crate) complaints: Vec<String>,
}

impl Bpftrace {
    /// Finds it in the cache, or puts it there: 30 seconds and 600 MB.
    pub(crate) fn install(offline: bool) -> Result<Self> {
        let (cache, name) = (cache_dir()?, "bpftrace-sid");
        let root = cache.join(name);
        fs::create_dir_all(&cache)?;
        let lock = File::create(cache.join(format!("{name}.lock")))?;
        lock.lock().context("lock the cache")?;
        if root.is_dir() {
            return Ok(Self { root });
        }
        ensure!(!offline, "bpftrace is not in {}, and --offline was given", cache.display());
        install_missing(&["debootstrap"], offline)?;
        let partial = cache.join(format!("{name}.partial"));
        if partial.exists() {
            fs::remove_dir_all(&partial)?;
        }
        eprintln!("installing bpftrace from Debian's unstable suite into {}", root.display());
        // debootstrap mounts things in there: in a mount namespace of its own they are gone when it ends, however it ends.
        let made = Command::new("unshare")
            .args(["--mount", "debootstrap", "--variant=minbase", "--include=bpftrace", "sid"])
            .arg(&partial)
            .arg(mirror())
            .output()
            .context("start unshare")?;
        ensure!(made.status.success(), "debootstrap: {}", String::from_utf8_lossy(&made.stdout));
        fs::rename(&partial, &root)?;
        Ok(Self { root })
    }

    /// What it calls itself.
    pub(crate) fn version(&self) -> Result<String> {
        let said = self.command(&["--version"]).output().context("start unshare")?;
        ensure!(said.status.success(), "bpftrace --version: {}", String::from_utf8_lossy(&said.stderr));
        Ok(String::from_utf8_lossy(&said.stdout).trim().replace(" v", " "))
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", ENTER, "bpftrace"]).args(args);
        command.env("ROOT", &self.root).env("CORE", CONSUMER_CORE.to_string());
        command
    }

    /// Prints the calls of a process from now on, into memory: what reads it must not compete with bpftrace.
    pub(crate) fn print_calls_of(&self, tgid: u32) -> Result<Printing> {
        self.start(&["-e", SCRIPT, &tgid.to_string()])
    }

    /// Sums up the durations of the calls of a process from now on.
    pub(crate) fn sum_up_calls_of(&self, tgid: u32) -> Result<Printing> {
        self.start(&["-e", SUMS, &tgid.to_string()])
    }

    fn start(&self, script: &[&str]) -> Result<Printing> {
        let stdout = File::from(memfd_create(c"bpftrace", MemfdFlags::CLOEXEC)?);
        // Several lines to a write: the cheapest way to print.
        let args = [&["--no-warnings", "-B", "full"], script].concat();
        let mut child = self
            .command(&args)
            .stdin(Stdio::null())
            .stdout(stdout.try_clone()?)
            .stderr(Stdio::piped())
            .spawn()
            .context("start unshare")?;
        let stderr = BufReader::new(child.stderr.take().context("its standard error")?);
        let mut printing = Printing { child, stderr, stdout };
        printing.wait_until_attached()?;
        Ok(printing)
    }
}

impl Printing {
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    fn wait_until_attached(&mut self) -> Result<()> {
        let mut said = String::new();
        while self.stderr.read_line(&mut said)? > 0 {
            if said.trim_end().ends_with(ATTACHED) {
                return Ok(());
            }
        }
        bail!("bpftrace ended: {said}")
    }

    fn end(&mut self) -> Result<String> {
        kill_process(Pid::from_child(&self.child), Signal::INT)?;
        let status = self.child.wait()?;
        let mut said = String::new();
        self.stderr.read_to_string(&mut said)?;
        ensure!(status.success(), "bpftrace ended with {status}: {said}");
        Ok(said)
    }

    /// Ends it; how many calls of `getppid` its histogram has.
    pub(crate) fn stop_sums(mut self) -> Result<u64> {
        let said = self.end()?;
        ensure!(said.trim().is_empty(), "bpftrace said {said:?}");
        self.stdout.rewind()?;
        let title = format!("@ns[{}]:", libc::SYS_getppid);
        let (mut calls, mut is_getppid) = (0, false);
        for line in BufReader::new(&self.stdout).lines() {
            let line = line?;
            if line.starts_with('@') {
                is_getppid = line.trim_end() == title;
            } else if is_getppid && line.starts_with(['[', '(']) {
                // [256, 512)  count |@@@|
                let count =
                    line.split([')', ']']).next_back().and_then(|rest| rest.split_whitespace().next());
                let count: u64 = count.and_then(|count| count.parse().ok()).context(line.clone())?;
                calls += count;
            }
        }
        Ok(calls)
    }

    /// Ends it and looks at every line. `tgid` is the process, `parent` what its `getppid` returns.
    pub(crate) fn stop(mut self, tgid: u32, parent: u32) -> Result<Printed> {
        let said = self.end()?;
        let mut printed = Printed { calls: 0, others: 0, complaints: Vec::new() };
        printed.complaints.extend(said.lines().filter(|line| !line.is_empty()).map(str::to_owned));
        self.stdout.rewind()?;
        let mut last_ns = 0;
        for line in BufReader::new(&self.stdout).lines() {
            let line = line?;
            let fields: Vec<i64> = line.split(' ').map_while(|word| word.parse().ok()).collect();
            match fields[..] {
                [ns, process, thread, _cpu, nr, ret, _duration] => {
                    let is_getppid = nr == libc::SYS_getppid;
                    let is_right = process == i64::from(tgid)
                        && thread == process
                        && ns >= last_ns
                        && (!is_getppid || ret == i64::from(parent));
                    ensure!(is_right, "bpftrace printed {line:?}");
                    last_ns = ns;
                    printed.calls += u64::from(is_getppid);
                    printed.others += u64::from(!is_getppid);
                }
                // At its end it prints its maps.
                _ if line.is_empty() || line.starts_with('@') => {}
                _ => printed.complaints.push(line),
            }
        }
        Ok(printed)
    }
}

impl Drop for Printing {
    fn drop(&mut self) {
        // Both fail if it was stopped.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
