//! Boots a Debian kernel under an emulated CPU and runs a script in it as root.

use std::{
    fs::{self, File},
    io::{BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context as _, Result, bail};

use crate::{
    devices,
    initramfs::{self, Entry},
    install::{self, Need},
    kernels::Kernel,
    repo, sh,
};

const QEMU: &str = "qemu-system-x86_64";
const BUSYBOX: &str = "/bin/busybox";
const INIT: &str = include_str!("init.sh");
/// What the host must have.
const NEEDS: [Need; 2] = [(QEMU, "qemu-system-x86"), (BUSYBOX, "busybox-static")];
/// An oops is a panic, and a panic ends the machine: with `-no-reboot` qemu exits.
/// An emulated machine that shares its cores stalls now and then, which the clock watchdog would take for an unstable TSC.
const CMDLINE: &str =
    "console=ttyS0 panic=-1 oops=panic quiet tsc=reliable lsm=lockdown,capability,landlock,bpf";

/// What a script in a guest did.
#[derive(Debug)]
pub(crate) struct VmOutcome {
    /// The script's exit status.
    pub(crate) status: i32,
    /// What the script and its children wrote, lines ending in `\n`.
    pub(crate) console: String,
    /// The whole console, from the first line of the kernel.
    pub(crate) log: PathBuf,
}

/// Installs what running a machine needs, or says why it cannot.
pub(crate) fn prepare(offline: bool) -> Result<()> {
    install::install(&[&NEEDS[..], &devices::NEEDS].concat(), "booting test kernels", offline)
}

/// Runs `script` (busybox sh, as root) in a machine with `files`. A hang, a panic, an oops or a lost result is an error.
///
/// `echo` shows what the script writes while it runs.
pub(crate) fn run(
    kernel: &Kernel,
    files: &[Entry],
    script: &str,
    timeout: Duration,
    echo: bool,
) -> Result<VmOutcome> {
    let dir = tempfile::tempdir()?;
    let nonce = nonce();
    let mut machine = machine(kernel, files, script, dir.path(), &nonce)?;
    machine.args(["-display", "none", "-monitor", "none", "-serial", "stdio"]).stdin(Stdio::null());
    let logs = repo::target().join("vm");
    fs::create_dir_all(&logs)?;
    let log = logs.join(format!("{}-{nonce}.log", kernel.version()));
    let mut child =
        Running(machine.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().context("cannot start qemu")?);
    let ended = watch(&mut child, &nonce, &log, timeout, echo)?;
    let Console { all, script, status } = ended;
    let (release, place) = (&kernel.release, log.display());
    let end = sh::tail(&all, 40);
    match status {
        End::Result(status) => Ok(VmOutcome { status, console: script, log }),
        End::Timeout => bail!(
            "kernel {release}: nothing came to an end within {timeout:?}; the machine was stopped\n{end}\n  whole console: {place}"
        ),
        End::Closed if all.contains("Kernel panic") || all.contains("Oops") => {
            bail!("kernel {release}: the kernel panicked\n{end}\n  whole console: {place}")
        }
        End::Closed => bail!(
            "kernel {release}: the machine ended without a result line\n{end}\n  whole console: {place}"
        ),
    }
}

/// A machine with a shell on this terminal.
pub(crate) fn shell(kernel: &Kernel, files: &[Entry]) -> Result<()> {
    let dir = tempfile::tempdir()?;
    eprintln!("xtask: kernel {}; `exit` powers it off, ctrl-a x stops it at once", kernel.release);
    sh::run(machine(kernel, files, "", dir.path(), "0 kprobe.shell")?.args([
        "-display",
        "none",
        "-serial",
        "mon:stdio",
    ]))
}

fn machine(kernel: &Kernel, files: &[Entry], script: &str, dir: &Path, nonce: &str) -> Result<Command> {
    let mut entries = vec![Entry { host: BUSYBOX.into(), guest: BUSYBOX.to_owned(), mode: 0o755 }];
    entries.extend_from_slice(files);
    entries.extend(devices::modules(kernel, dir)?);
    let initrd = dir.join("initrd");
    let script = format!("export KPROBE_KERNEL={}\n{script}", kernel.version());
    initramfs::write(&initrd, INIT, &script, &entries)?;
    let mut qemu = Command::new(QEMU);
    // One host thread for all CPUs. Attaching to a tracepoint makes the kernel patch its own code by way of a breakpoint, and
    // with a thread for each CPU the emulator now and then runs the breakpoint after the kernel has replaced it: an oops.
    qemu.args([
        "-accel",
        "tcg,thread=single",
        "-cpu",
        "max",
        "-smp",
        "2",
        "-m",
        "1024",
        "-no-reboot",
        "-nodefaults",
    ])
    .args(["-append", &format!("{CMDLINE} kprobe.nonce={nonce}"), "-kernel"])
    .arg(&kernel.image)
    .arg("-initrd")
    .arg(&initrd)
    .args(devices::disks(dir)?);
    Ok(qemu)
}

/// Killed when dropped: no machine outlives the run that started it.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail only when it has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

enum End {
    Result(i32),
    Closed,
    Timeout,
}

struct Console {
    all: String,
    script: String,
    status: End,
}

fn watch(child: &mut Running, nonce: &str, log: &Path, timeout: Duration, echo: bool) -> Result<Console> {
    let deadline = Instant::now() + timeout;
    let (send, lines) = mpsc::sync_channel(1024);
    let streams: [Box<dyn std::io::Read + Send>; 2] = [
        Box::new(child.0.stdout.take().context("qemu without stdout")?),
        Box::new(child.0.stderr.take().context("qemu without stderr")?),
    ];
    for stream in streams {
        let send = send.clone();
        thread::spawn(move || {
            let mut reader = BufReader::new(stream);
            let mut line = Vec::new();
            while reader.read_until(b'\n', &mut line).is_ok_and(|n| n > 0) {
                let text = String::from_utf8_lossy(&line).trim_end().to_owned();
                if send.send(text).is_err() {
                    return;
                }
                line.clear();
            }
        });
    }
    drop(send);
    let begin = format!("KPROBE-VM-BEGIN {nonce}");
    let result = format!("KPROBE-VM-RESULT {nonce} ");
    let mut file = File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
    let mut console = Console { all: String::new(), script: String::new(), status: End::Closed };
    let mut in_script = false;
    loop {
        let line = match lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(line) => line,
            Err(mpsc::RecvTimeoutError::Disconnected) => return Ok(console),
            Err(mpsc::RecvTimeoutError::Timeout) => {
                console.status = End::Timeout;
                return Ok(console);
            }
        };
        writeln!(file, "{line}")?;
        console.all.push_str(&line);
        console.all.push('\n');
        if line.contains(&begin) {
            in_script = true;
        } else if let Some((before, status)) = line.split_once(&result) {
            console.script.push_str(before);
            console.status = End::Result(status.trim().parse().context("a result line without a number")?);
            return Ok(console);
        } else if in_script {
            console.script.push_str(&line);
            console.script.push('\n');
            if echo {
                println!("{line}");
            }
        }
    }
}

/// Tells this run's result line from anything a test may print.
fn nonce() -> String {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    format!("{:x}{:x}", now.as_nanos(), std::process::id())
}
