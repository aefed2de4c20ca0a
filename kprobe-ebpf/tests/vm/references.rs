//! Counts and lists beside those that the kernel keeps itself.

use std::{
    fs,
    path::PathBuf,
    process::{Command, Stdio},
};

use kprobe_core::event::{SecurityCapability, TcpRetransmit};
use kprobe_ebpf::{Filter, Recorder, Security, Tcp, host};

use crate::support::{kernel::wait_until_in_state, recording::Recording};

crate::trials!(checks_of_commands, retransmits_of_a_lossy_link);

const TRACING: &str = "/sys/kernel/tracing";

/// The kernel's own probes at the entry and the return of `cap_capable`, for one process and its children.
struct Reference(PathBuf);

impl Reference {
    fn start(tgid: u32) -> Self {
        let probes =
            "p:reference/entry cap_capable cap=%dx:s32\nr:reference/return cap_capable ret=$retval:s32\n";
        fs::write(format!("{TRACING}/kprobe_events"), probes).unwrap();
        let instance = PathBuf::from(format!("{TRACING}/instances/reference"));
        fs::create_dir(&instance).unwrap();
        fs::write(instance.join("options/event-fork"), "1").unwrap();
        fs::write(instance.join("set_event_pid"), tgid.to_string()).unwrap();
        fs::write(instance.join("events/reference/enable"), "1").unwrap();
        Self(instance)
    }

    /// Thread, capability and result of each check.
    fn checks(&self) -> Vec<(u32, i32, i32)> {
        let trace = fs::read_to_string(self.0.join("trace")).unwrap();
        let number = |text: &str| text.trim().parse::<i32>().unwrap();
        let (mut begun, mut checks) = (Vec::new(), Vec::new());
        for line in trace.lines().filter(|line| !line.starts_with('#')) {
            // `            ping-77      [001] .....    12.345: entry: (cap_capable+0x0/0x1b0) cap=13`
            let (task, rest) = line.split_once(" [").unwrap();
            let tid: u32 = task.trim().rsplit_once('-').unwrap().1.parse().unwrap();
            if let Some((_, cap)) = rest.split_once(" cap=") {
                begun.push((tid, number(cap)));
            } else if let Some((_, ret)) = rest.split_once(" ret=") {
                let at = begun.iter().position(|(of, _)| *of == tid).unwrap();
                checks.push((tid, begun.remove(at).1, number(ret)));
            }
        }
        assert!(begun.is_empty(), "{begun:?}");
        checks
    }
}

impl Drop for Reference {
    fn drop(&mut self) {
        // Whatever fails here is said by the next that wants the same names.
        let _ = fs::write(self.0.join("events/reference/enable"), "0");
        let _ = fs::remove_dir(&self.0);
        let _ = fs::write(format!("{TRACING}/kprobe_events"), "");
    }
}

fn checks_of_commands() {
    let script =
        "read go; ping -c 1 127.0.0.1; dmesg; mkdir -p /tmp/m; mount -t tmpfs none /tmp/m; umount /tmp/m";
    let builder = Recorder::builder().probe(Security::default()).filter(Filter::none());
    let mut recording = Recording::start(builder);
    let mut command = Command::new("sh");
    command.args(["-c", script]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut shell = recording.spawn_command(&mut command);
    // It waits for its input, and has been asked nothing more.
    wait_until_in_state(shell.tgid(), &[libc::SYS_read, libc::SYS_poll, libc::SYS_ppoll], 'S');
    let reference = Reference::start(shell.tgid());
    let began = host::clocks().monotonic_ns;
    shell.close_input();
    recording.run(&mut shell);
    let recorded = recording.finish().lossless();
    let checks = recorded.all::<SecurityCapability>();
    let checks: Vec<_> = checks.iter().filter(|check| check.origin.ktime_ns >= began).collect();
    for name in ["CAP_NET_RAW", "CAP_SYSLOG", "CAP_SYS_ADMIN"] {
        assert!(checks.iter().any(|check| check.name() == Some(name)), "{name}: {checks:?}");
    }
    let of = |tid: u32| {
        let checks = checks.iter().filter(|check| check.origin.tid.0 == tid);
        checks.map(|check| (tid, check.capability.cast_signed(), check.result)).collect::<Vec<_>>()
    };
    let expected = reference.checks();
    let mut tids: Vec<u32> = expected.iter().map(|(tid, ..)| *tid).collect();
    tids.sort_unstable();
    tids.dedup();
    // The shell itself and three commands at least.
    assert!(tids.len() >= 4, "{expected:?}");
    for tid in tids {
        let expected: Vec<_> = expected.iter().copied().filter(|(of, ..)| *of == tid).collect();
        assert_eq!(of(tid), expected);
    }
    assert_eq!(checks.len(), expected.len());
}

fn retransmits_of_a_lossy_link() {
    let builder = Recorder::builder().probe(Tcp::default()).filter(Filter::none());
    let (recorded, lines, _) = Recording::of_workload(builder, "lossy-link 8");
    let recorded = recorded.lossless();
    let [line] = &lines[..] else { panic!("{lines:?}") };
    let words: Vec<u64> = line.split(' ').map(|word| word.parse().unwrap()).collect();
    let [port, repeated, failed, dropped] = words[..] else { panic!("{line}") };
    let segments = |of: &TcpRetransmit| u64::from(of.segments);
    let all = recorded.all::<TcpRetransmit>();
    // In a net namespace of its own there are no other connections.
    assert!(
        all.iter().all(|again| [again.socket.local_port, again.socket.remote_port].contains(&(port as u16)))
    );
    let recorded: u64 = all.iter().map(segments).sum();
    assert_eq!(recorded, repeated - failed, "{line}");
    assert!(repeated > 0 && dropped > 0, "{line}");
}
