//! The command line and the configuration file: the same options, and flags win.

use std::{
    ffi::OsString,
    io::Read,
    net::SocketAddr,
    num::NonZero,
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use clap::{Args, Parser, ValueEnum};
use kprobe_core::{
    abi::{Family, Kind},
    event::{BootId, Tgid},
    pipeline::{Merge, Policy, SinkOptions},
    process::{ProcessTable, TableLimits},
    spill::{Spill, SpillLimits},
};
use kprobe_ebpf::{
    Block, By, DEFAULT_RING_BYTES, Filter, Irq, Lock, Memory, Need, Paths, Pipes, Process, Recorder,
    RecorderBuilder, Sched, Security, Syscalls, Tcp, Udp, UnixStreams, Wait, filter::SyscallSet,
    ring::Pacing,
};
use serde::{Deserialize, Serialize, Serializer};

use crate::paths::{self, Place};

/// Records what processes make the kernel do.
#[derive(Clone, Debug, Parser)]
#[command(
    version,
    override_usage = "kprobe-agent [OPTIONS] -- CMD [ARGS...]\n       kprobe-agent [OPTIONS] --pid N[,N...] | --cgroup PATH | --system | --from FILE.kcap | --demo",
    after_help = "Exit status: that of CMD; 125 if kprobe-agent itself failed before CMD, 126 if CMD cannot be run, 127 if \
                  it is not found. Without CMD: 0, 1 if what it gave is incomplete (a damaged capture, a full disk, no room for sums), or 2 if it could not start. Recording needs CAP_BPF and CAP_PERFMON."
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) options: Options,
    /// Options from a TOML file; flags win over it
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Check the options and the configuration file, and do nothing
    #[arg(long)]
    pub(crate) check_config: bool,
    /// Command to run and record, with its children
    #[arg(last = true, value_name = "CMD")]
    pub(crate) command: Vec<OsString>,
}

/// What can be set by flags and in the file; a name in the file is that of the flag.
#[derive(Args, Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Options {
    /// Record these processes and their children
    #[arg(long, value_name = "N,...", value_delimiter = ',')]
    pub(crate) pid: Vec<u32>,
    /// Record the processes in this cgroup (version 2) and below it
    #[arg(long, value_name = "PATH")]
    pub(crate) cgroup: Option<PathBuf>,
    /// Record the whole system
    #[arg(long)]
    pub(crate) system: bool,
    /// Read a capture instead of recording; needs no privilege
    #[arg(long, value_name = "FILE.kcap")]
    pub(crate) from: Option<PathBuf>,
    /// Record a small workload, or play the capture that ships with the source where that is not allowed
    #[arg(long)]
    pub(crate) demo: bool,
    /// Families to record: process, syscall, sched, tcp, udp, unix, pipe, block, memory, lock, wait, irq, security, path; `help` lists
    /// their events and fields [default: process,syscall]
    #[arg(long, value_name = "NAME,...", value_delimiter = ',')]
    pub(crate) probes: Vec<String>,
    /// Also record paths of files, of those in these directories alone: which programs are begun and which files opened
    #[arg(long, value_name = "DIR,...", value_delimiter = ',')]
    pub(crate) paths: Vec<PathBuf>,
    /// Only system calls, waits and waits for locks that took this long or longer, for example 50us
    #[arg(long, value_name = "TIME")]
    pub(crate) min_duration: Option<Span>,
    /// Only one record in N of each event, counted on each CPU; processes are never sampled
    #[arg(long, value_name = "N", value_parser = positive)]
    pub(crate) sample: Option<NonZero<u32>>,
    /// Also record one minor page fault in N, counted on each CPU; without it they are counted for --stats
    #[arg(long, value_name = "N", value_parser = positive)]
    pub(crate) minor_faults: Option<NonZero<u32>>,
    /// Only these system calls, by name or family: io, fsync, net, futex, poll, sleep, file, process, io_uring, all
    #[arg(long, value_name = "NAME,...", value_delimiter = ',')]
    pub(crate) syscalls: Vec<String>,
    /// Sum up durations in the kernel instead of recording each event, for example syscall=subject: by kind, tgid, cgroup or
    /// subject (what the event is about: the call, the device)
    #[arg(long, value_name = "NAME=BY,...", value_delimiter = ',')]
    pub(crate) aggregate: Vec<Summed>,
    /// How often what was summed up comes into the stream [default: 1s]
    #[arg(long, value_name = "TIME")]
    pub(crate) interval: Option<Span>,
    /// How many sums a CPU has room for in one interval, up to 65536 [default: 512]
    #[arg(long, value_name = "N", value_parser = positive)]
    pub(crate) aggregate_keys: Option<NonZero<u32>>,
    /// Bytes of the ring buffers together, a power of two [default: 8MiB]
    #[arg(long, value_name = "SIZE")]
    pub(crate) ring_bytes: Option<Size>,
    /// Stop recording after this time, for example 10s
    #[arg(long, value_name = "TIME")]
    pub(crate) duration: Option<Span>,
    /// Also record kprobe-agent itself
    #[arg(long)]
    pub(crate) include_self: bool,
    /// Never use this way of attaching, for example tp_btf
    #[arg(long, value_name = "RUNG,...", value_delimiter = ',')]
    pub(crate) forbid_rung: Vec<String>,
    /// Form of the events [default: human on a terminal, else json]
    #[arg(long, value_name = "FORM")]
    pub(crate) output: Option<Output>,
    /// Times of human output: since the first event, or of the clock (UTC) [default: relative]
    #[arg(long, value_name = "TIMES")]
    pub(crate) times: Option<Times>,
    /// Write events to this file [default: standard output; with CMD standard error]
    #[arg(short = 'o', long = "output-file", value_name = "FILE")]
    pub(crate) output_file: Option<PathBuf>,
    /// Also write a capture
    #[arg(long, value_name = "FILE.kcap")]
    pub(crate) capture: Option<PathBuf>,
    /// Bytes of records that may wait for the output, and as many for the capture [default: 16MiB]
    #[arg(long, value_name = "SIZE")]
    pub(crate) queue_bytes: Option<Size>,
    /// When so many wait: drop what comes and count it, block, so that records wait in the ring buffers and are lost where these
    /// are full, or spill to disk [default: drop; with --from block; with --spill-dir spill]
    #[arg(long, value_name = "POLICY")]
    pub(crate) when_full: Option<WhenFull>,
    /// Directory of this agent's own for records that do not fit into the queue of the output; what is left in it comes first next time
    #[arg(long, value_name = "DIR")]
    pub(crate) spill_dir: Option<PathBuf>,
    /// Bytes that may wait on disk [default: 1GiB]
    #[arg(long, value_name = "SIZE")]
    pub(crate) spill_bytes: Option<Size>,
    /// Bytes of records that are held back to be put in order [default: 16MiB]
    #[arg(long, value_name = "SIZE")]
    pub(crate) order_bytes: Option<Size>,
    /// Threads whose names are remembered, at about 200 bytes each [default: 131072]
    #[arg(long, value_name = "N")]
    pub(crate) known_threads: Option<NonZero<u32>>,
    /// How long a signal to end leaves to what is under way; the rest is dropped and counted [default: 5s]
    #[arg(long, value_name = "TIME")]
    pub(crate) shutdown_within: Option<Span>,
    /// Serve metrics for Prometheus on this address of the machine itself, for example 127.0.0.1:9464, with /healthz and /readyz
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub(crate) metrics: Option<SocketAddr>,
    /// Have the kernel count runs of all programs on this machine, for --stats and --metrics; needs CAP_SYS_ADMIN
    #[arg(long)]
    pub(crate) count_runs: bool,
    /// Say on standard error what was attached and how
    #[arg(long, value_name = "FORM", num_args = 0..=1, require_equals = true, default_missing_value = "human")]
    pub(crate) report: Option<Form>,
    /// Give the ledger on standard error at the end
    #[arg(long, value_name = "FORM", num_args = 0..=1, require_equals = true, default_missing_value = "human")]
    pub(crate) stats: Option<Form>,
}

/// What becomes of records that there is no room for.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum WhenFull {
    Drop,
    Block,
    Spill,
}

/// Form of the events.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Output {
    Human,
    Json,
    None,
}

/// Form of the report and the ledger.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Form {
    Human,
    Json,
}

/// First column of human output.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Times {
    Relative,
    Wall,
}

/// A refusal of a name that is not known, "unknown field `x`, expected one of `y`, `z`", and what was perhaps meant.
fn with_nearest(message: &str) -> String {
    /// Names that have less in common are not confused.
    const ALIKE: f64 = 0.7;
    let names: Vec<_> = message.split('`').skip(1).step_by(2).collect();
    let is_refusal = message.starts_with("unknown ");
    if let (true, Some((wrong, known)), Some(expected)) =
        (is_refusal, names.split_first(), message.find(", expected"))
    {
        let likeness = |name: &&&str| strsim::normalized_damerau_levenshtein(wrong, name);
        let nearest = known.iter().max_by(|one, other| likeness(one).total_cmp(&likeness(other)));
        if let Some(nearest) = nearest.filter(|nearest| likeness(nearest) >= ALIKE) {
            let (refused, expected) = message.split_at(expected);
            return format!(
                "{refused}; did you mean `{nearest}`? There are{}",
                expected.replace(", expected one of", "")
            );
        }
    }
    message.to_owned()
}

/// A number that is not 0.
fn positive(text: &str) -> Result<NonZero<u32>, String> {
    text.parse().map_err(|_| format!("expected a number from 1 to {}", u32::MAX))
}

/// A length of time with its unit.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
#[serde(try_from = "String")]
pub(crate) struct Span(pub Duration);

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let hint = |error| format!("{error}; expected a number with a unit, such as 50us, 10ms or 2s");
        humantime::parse_duration(text).map(Self).map_err(hint)
    }
}

impl TryFrom<String> for Span {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

/// A family whose durations are summed up, and by what.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct Summed(pub Family, pub By);

impl Serialize for Summed {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{}={:?}", self.0.name(), self.1))
    }
}

impl FromStr for Summed {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected = "expected a family and what its durations are told apart by, such as syscall=subject";
        let (family, by) = text.split_once('=').ok_or(expected)?;
        let known = FAMILIES.map(Family::name).join(", ");
        let family = FAMILIES.into_iter().find(|known| known.name() == family);
        let by = match by {
            "kind" => Ok(By::Kind),
            "tgid" => Ok(By::Tgid),
            "cgroup" => Ok(By::Cgroup),
            "subject" => Ok(By::Subject),
            _ => Err(format!("{expected}; they can be told apart by kind, tgid, cgroup or subject")),
        };
        Ok(Self(family.ok_or_else(|| format!("{expected}; families are {known}"))?, by?))
    }
}

impl TryFrom<String> for Summed {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

/// A number of bytes, with or without a unit.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
#[serde(try_from = "Bytes")]
pub(crate) struct Size(pub usize);

/// As a file may have it.
#[derive(Deserialize)]
#[serde(untagged, expecting = "expected a number of bytes with or without a unit, such as \"8MiB\" or 65536")]
enum Bytes {
    Number(usize),
    Text(String),
}

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bytes = text.parse::<bytesize::ByteSize>().map_err(|error| {
            format!("{error}; expected a number of bytes with or without a unit, such as 8MiB or 65536")
        })?;
        usize::try_from(bytes.as_u64()).map(Self).map_err(|error| error.to_string())
    }
}

impl TryFrom<Bytes> for Size {
    type Error = String;

    fn try_from(bytes: Bytes) -> Result<Self, String> {
        match bytes {
            Bytes::Number(bytes) => Ok(Self(bytes)),
            Bytes::Text(text) => text.parse(),
        }
    }
}

/// What to record, or to read.
#[derive(Debug)]
pub(crate) enum Target {
    Command(Vec<OsString>),
    Pids(Vec<u32>),
    Cgroup(PathBuf),
    System,
    Capture(PathBuf),
    Demo,
}

/// Families that there are probes for.
const FAMILIES: [Family; 14] = [
    Family::Process,
    Family::Syscall,
    Family::Sched,
    Family::Tcp,
    Family::Udp,
    Family::Unix,
    Family::Pipe,
    Family::Block,
    Family::Memory,
    Family::Lock,
    Family::Wait,
    Family::Irq,
    Family::Security,
    Family::Path,
];
/// What is recorded if nothing is said.
const DEFAULT_FAMILIES: [Family; 2] = [Family::Process, Family::Syscall];

/// Families to record and to show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Families {
    wanted: Vec<Family>,
    /// They were asked for by name.
    named: bool,
}

impl Cli {
    /// The options of the file, overridden by the flags, and what they ask for.
    pub(crate) fn resolve(&self) -> Result<(Options, Option<Target>)> {
        self.resolved(false)
    }

    /// The same while something is recorded.
    pub(crate) fn resolve_again(&self) -> Result<(Options, Option<Target>)> {
        self.resolved(true)
    }

    fn resolved(&self, again: bool) -> Result<(Options, Option<Target>)> {
        let file = self.config.as_deref().map(|path| Options::from_file(path, again));
        let file = file.transpose()?.unwrap_or_default();
        let options = self.options.clone().over(file);
        let has_command = !self.command.is_empty();
        let mut targets = Vec::new();
        if !self.command.is_empty() {
            targets.push(("-- CMD", Target::Command(self.command.clone())));
        }
        if !options.pid.is_empty() {
            targets.push(("--pid", Target::Pids(options.pid.clone())));
        }
        targets.extend(options.cgroup.clone().map(|path| ("--cgroup", Target::Cgroup(path))));
        targets.extend(options.system.then_some(("--system", Target::System)));
        targets.extend(options.from.clone().map(|path| ("--from", Target::Capture(path))));
        targets.extend(options.demo.then_some(("--demo", Target::Demo)));
        if targets.len() > 1 {
            let names: Vec<_> = targets.iter().map(|(name, _)| *name).collect();
            bail!("{} exclude each other: give one of them", names.join(" and "));
        }
        if !options.wants_probe_list() {
            options.recorder(Filter::none())?.check()?;
            options.check_values()?;
            options.check_files(self.config.as_ref(), has_command)?;
        }
        Ok((options, targets.pop().map(|(_, target)| target)))
    }
}

impl Target {
    /// Whose events are recorded from the beginning.
    ///
    /// # Errors
    /// There is no such cgroup, or it is nothing to record.
    pub(crate) fn filter(&self) -> Result<Filter> {
        Ok(match self {
            Self::Command(_) | Self::Demo => Filter::none(),
            Self::Pids(pids) => Filter::tgids(pids.iter().copied().map(Tgid)),
            Self::Cgroup(path) => Filter::cgroup(path)?,
            Self::System => Filter::all(),
            Self::Capture(_) => bail!("a capture is played, not recorded"),
        })
    }
}

impl Options {
    /// Names of the options that say something else there, those of `apart` apart.
    pub(crate) fn names_that_differ(&self, other: &Self, apart: &[&str]) -> Result<Vec<String>> {
        let (own, other) = (serde_json::to_value(self)?, serde_json::to_value(other)?);
        let names = own.as_object().into_iter().flatten().filter(|(name, value)| other[*name] != **value);
        Ok(names.map(|(name, _)| name.clone()).filter(|name| !apart.contains(&name.as_str())).collect())
    }

    /// A file with every option and a comment on each is a hundredth of it.
    const MOST_BYTES: u64 = 1 << 20;

    fn from_file(path: &Path, again: bool) -> Result<Self> {
        let cannot = || format!("cannot read the configuration file {}", path.display());
        let mut text = String::new();
        // Who reads it while he records cannot wait for somebody to write it.
        if again && !std::fs::metadata(path).with_context(cannot)?.is_file() {
            bail!("{} is no file that can be read again: a pipe or a device", path.display());
        }
        let file = std::fs::File::open(path).with_context(cannot)?;
        // A device may have no end.
        let read = file.take(Self::MOST_BYTES + 1).read_to_string(&mut text).with_context(cannot)?;
        if read as u64 > Self::MOST_BYTES {
            bail!("{} is no configuration file: expected at most {} bytes", path.display(), Self::MOST_BYTES);
        }
        toml::from_str(&text).map_err(|error| {
            let line =
                error.span().map_or(1, |span| text[..span.start.min(text.len())].matches('\n').count() + 1);
            let message = with_nearest(&error.message().replace('\n', " "));
            anyhow::anyhow!("{}, line {line}: {message}", path.display())
        })
    }

    /// These options, and where they say nothing those of `below`.
    fn over(self, below: Self) -> Self {
        fn list<T>(above: Vec<T>, below: Vec<T>) -> Vec<T> {
            if above.is_empty() { below } else { above }
        }
        Self {
            pid: list(self.pid, below.pid),
            cgroup: self.cgroup.or(below.cgroup),
            system: self.system || below.system,
            from: self.from.or(below.from),
            demo: self.demo || below.demo,
            probes: list(self.probes, below.probes),
            paths: list(self.paths, below.paths),
            min_duration: self.min_duration.or(below.min_duration),
            sample: self.sample.or(below.sample),
            minor_faults: self.minor_faults.or(below.minor_faults),
            syscalls: list(self.syscalls, below.syscalls),
            aggregate: list(self.aggregate, below.aggregate),
            interval: self.interval.or(below.interval),
            aggregate_keys: self.aggregate_keys.or(below.aggregate_keys),
            ring_bytes: self.ring_bytes.or(below.ring_bytes),
            duration: self.duration.or(below.duration),
            include_self: self.include_self || below.include_self,
            forbid_rung: list(self.forbid_rung, below.forbid_rung),
            output: self.output.or(below.output),
            times: self.times.or(below.times),
            output_file: self.output_file.or(below.output_file),
            capture: self.capture.or(below.capture),
            queue_bytes: self.queue_bytes.or(below.queue_bytes),
            when_full: self.when_full.or(below.when_full),
            spill_dir: self.spill_dir.or(below.spill_dir),
            spill_bytes: self.spill_bytes.or(below.spill_bytes),
            order_bytes: self.order_bytes.or(below.order_bytes),
            known_threads: self.known_threads.or(below.known_threads),
            shutdown_within: self.shutdown_within.or(below.shutdown_within),
            metrics: self.metrics.or(below.metrics),
            count_runs: self.count_runs || below.count_runs,
            report: self.report.or(below.report),
            stats: self.stats.or(below.stats),
        }
    }

    /// Refuses values that cannot be, and options that would have no effect.
    fn check_values(&self) -> Result<()> {
        if self.pid.contains(&0) {
            bail!("--pid 0: no process has this id, expected 1 or more");
        }
        let of_sums =
            [("--interval", self.interval.is_some()), ("--aggregate-keys", self.aggregate_keys.is_some())];
        if let Some((name, _)) = of_sums.iter().find(|(_, given)| *given && self.aggregate.is_empty()) {
            bail!(
                "{name} is that of --aggregate: say what is to be summed up, for example --aggregate syscall=subject"
            );
        }
        if let Some(address) = self.metrics.filter(|address| !address.ip().to_canonical().is_loopback()) {
            let port = address.port();
            bail!(
                "--metrics {address}: other machines can reach it, and whoever reaches it may ask: expected an address of this \
                 machine alone, such as 127.0.0.1:{port} or [::1]:{port}"
            );
        }
        let spills = matches!(self.when_full, None | Some(WhenFull::Spill));
        match (&self.spill_dir, self.spill_bytes) {
            (Some(_), _) if !spills => {
                bail!("--spill-dir is that of --when-full spill: leave one of the two out");
            }
            (None, _) if self.when_full == Some(WhenFull::Spill) => {
                bail!(
                    "--when-full spill needs a directory: add --spill-dir, for example --spill-dir /var/lib/kprobe"
                );
            }
            (None, Some(_)) => bail!("--spill-bytes is that of --spill-dir: say where records are to wait"),
            _ => {}
        }
        for (at, Summed(family, _)) in self.aggregate.iter().enumerate() {
            if self.aggregate[..at].iter().any(|Summed(before, _)| before == family) {
                bail!(
                    "--aggregate names {} twice: the durations of a family are told apart by one thing",
                    family.name()
                );
            }
        }
        if self.from.is_none() {
            return self.check_families();
        }
        let of_recording = [
            ("--paths", !self.paths.is_empty()),
            ("--syscalls", !self.syscalls.is_empty()),
            ("--min-duration", self.min_duration.is_some()),
            ("--sample", self.sample.is_some()),
            ("--aggregate", !self.aggregate.is_empty()),
            ("--interval", self.interval.is_some()),
            ("--aggregate-keys", self.aggregate_keys.is_some()),
            ("--minor-faults", self.minor_faults.is_some()),
            ("--ring-bytes", self.ring_bytes.is_some()),
            ("--order-bytes", self.order_bytes.is_some()),
            ("--forbid-rung", !self.forbid_rung.is_empty()),
            ("--include-self", self.include_self),
            ("--count-runs", self.count_runs),
            ("--report", self.report.is_some()),
        ];
        let given: Vec<_> = of_recording.iter().filter(|(_, given)| *given).map(|(name, _)| *name).collect();
        if !given.is_empty() {
            bail!("{} cannot change a recording that is made: leave out with --from", given.join(" and "));
        }
        Ok(())
    }

    /// Refuses options that are about families which are not recorded.
    fn check_families(&self) -> Result<()> {
        use Family::{Lock, Memory, Syscall, Wait};
        let wanted = self.families()?.wanted;
        let options: [(&str, bool, &[Family]); 3] = [
            ("--syscalls", !self.syscalls.is_empty(), &[Syscall]),
            ("--minor-faults", self.minor_faults.is_some(), &[Memory]),
            ("--min-duration", self.min_duration.is_some(), &[Syscall, Lock, Wait]),
        ];
        for (name, _, of) in options.iter().filter(|(_, given, _)| *given) {
            if !of.iter().any(|family| wanted.contains(family)) {
                let names: Vec<_> = of.iter().map(|family| family.name()).collect();
                let names = names.join(" or ");
                bail!(
                    "{name} has no effect without the family {names}: add it to --probes, or leave {name} out"
                );
            }
        }
        Ok(())
    }

    /// Refuses to write over what is read, or twice to one file.
    fn check_files(&self, config: Option<&PathBuf>, has_command: bool) -> Result<()> {
        let mut read = Vec::new();
        read.extend(config.map(|path| ("--config", path)));
        read.extend(self.from.as_ref().map(|path| ("--from", path)));
        let mut written = Vec::new();
        let lines = self.lines().is_some();
        written.extend(match &self.output_file {
            Some(path) => lines.then(|| (format!("--output-file {}", path.display()), Place::of(path))),
            None if !lines => None,
            None if has_command => Some(("standard error".to_owned(), Place::of_stream(std::io::stderr()))),
            None => Some(("standard output".to_owned(), Place::of_stream(std::io::stdout()))),
        });
        let capture = self.capture.as_ref();
        written.extend(capture.map(|path| (format!("--capture {}", path.display()), Place::of(path))));
        paths::all_different(&read, written)
    }

    /// `--probes help` was asked for.
    pub(crate) fn wants_probe_list(&self) -> bool {
        self.probes.iter().any(|name| name == "help")
    }

    /// The families that `--probes` names.
    pub(crate) fn families(&self) -> Result<Families> {
        let named = !self.probes.is_empty();
        let wanted = self.probes.iter().filter(|name| *name != "help").map(|name| {
            if let Some(family) = FAMILIES.into_iter().find(|family| family.name() == name) {
                return Ok(family);
            }
            let known = FAMILIES.map(Family::name).join(", ");
            bail!("--probes {name}: no such family; there are {known}")
        });
        let wanted: Vec<_> = wanted.collect::<Result<_>>()?;
        let mut wanted = if named { wanted } else { DEFAULT_FAMILIES.to_vec() };
        // So are paths, by saying of what.
        wanted.extend((!self.paths.is_empty()).then_some(Family::Path));
        // What is to be summed up is also asked for.
        wanted.extend(self.aggregate.iter().map(|summed| summed.0));
        Ok(Families { wanted, named })
    }

    /// What records all that.
    pub(crate) fn recorder(&self, filter: Filter) -> Result<RecorderBuilder<impl Sized + use<>>> {
        let families = self.families()?;
        let one_in = self.one_in();
        let (path_need, paths) = self.path_probe(&families)?;
        let builder = Recorder::builder()
            // Names and parents of all other events come from the first.
            .probe_with(families.need(Family::Process, Need::Optional), Process::default())
            .probe_with(families.need(Family::Syscall, Need::Off), self.syscall_probe()?)
            .probe_with(families.need(Family::Sched, Need::Off), Sched::default().sample(one_in))
            .probe_with(families.need(Family::Tcp, Need::Off), Tcp::default().sample(one_in))
            .probe_with(families.need(Family::Memory, Need::Off), self.memory_probe())
            .probe_with(families.need(Family::Lock, Need::Off), self.lock_probe())
            .probe_with(families.need(Family::Wait, Need::Off), self.wait_probe())
            .probe_with(families.need(Family::Security, Need::Off), Security::default().sample(one_in))
            .probe_with(families.need(Family::Pipe, Need::Off), Pipes::default().sample(one_in))
            .probe_with(families.need(Family::Udp, Need::Off), Udp::default().sample(one_in))
            .probe_with(families.need(Family::Unix, Need::Off), UnixStreams::default().sample(one_in))
            .probe_with(families.need(Family::Block, Need::Off), Block::default().sample(one_in))
            .probe_with(families.need(Family::Irq, Need::Off), Irq::default().sample(one_in))
            .probe_with(path_need, paths)
            .ring_bytes(self.ring_bytes.map_or(DEFAULT_RING_BYTES, |size| size.0))
            // Lines for people and files need no sooner.
            .pacing(Pacing { nap: Duration::from_millis(1), longest_nap: Duration::from_millis(5) })
            .filter(filter.include_self(self.include_self));
        let builder = self.forbid_rung.iter().fold(builder, |builder, rung| builder.forbid_rung(rung));
        let builder =
            self.aggregate.iter().fold(builder, |builder, summed| builder.aggregate(summed.0, summed.1));
        let builder = match &self.interval {
            Some(interval) => builder.aggregate_every(interval.0),
            None => builder,
        };
        Ok(match self.aggregate_keys {
            Some(most) => builder.aggregate_keys(most.get()),
            None => builder,
        })
    }

    /// The system calls that are asked for.
    fn syscall_probe(&self) -> Result<Syscalls> {
        let set = match self.syscalls.is_empty() {
            true => SyscallSet::all(),
            false => SyscallSet::named(self.syscalls.iter().map(String::as_str)).context("--syscalls")?,
        };
        let least = self.min_duration.map_or(Duration::ZERO, |span| span.0);
        Ok(Syscalls::of(set).min_duration(least).sample(self.one_in()))
    }

    /// Paths, but not by the family's name alone. Whoever says of what must have them.
    fn path_probe(&self, families: &Families) -> Result<(Need, Paths)> {
        if !self.paths.is_empty() {
            let paths = Paths::allow(&self.paths).context("--paths")?;
            return Ok((Need::Required, paths.sample(self.one_in())));
        }
        // Those of a capture were recorded with somebody's leave.
        if self.from.is_none() && families.wanted.contains(&Family::Path) {
            bail!(
                "--probes path: paths are recorded only of directories that you name; add --paths, for example --paths /etc,/usr"
            );
        }
        Ok((Need::Off, Paths::none()))
    }

    fn memory_probe(&self) -> Memory {
        Memory::default().minor_faults(self.minor_faults.map_or(0, NonZero::get)).sample(self.one_in())
    }

    /// Waits for locks.
    fn lock_probe(&self) -> Lock {
        let least = self.min_duration.map_or(Duration::ZERO, |span| span.0);
        Lock::default().min_duration(least).sample(self.one_in())
    }

    /// Waits without a CPU.
    fn wait_probe(&self) -> Wait {
        let least = self.min_duration.map_or(Duration::ZERO, |span| span.0);
        Wait::default().min_duration(least).sample(self.one_in())
    }

    /// What is kept where records are sampled.
    fn one_in(&self) -> u32 {
        self.sample.map_or(1, NonZero::get)
    }

    /// The stage that gives records the names of their threads.
    pub(crate) fn process_table(&self, boot: BootId) -> ProcessTable {
        let mut limits = TableLimits::default();
        if let Some(threads) = self.known_threads {
            limits.threads = threads.get() as usize;
        }
        ProcessTable::with_limits(boot, limits)
    }

    /// What puts the records of a recording in order.
    pub(crate) fn merge(&self) -> Merge {
        self.order_bytes.map_or_else(Merge::default, |most| Merge::new(Merge::SLACK, most.0))
    }

    /// Where records wait on disk that find no room in the queue of this sink, and how many bytes of them.
    fn spill(&self, sink: &str) -> Option<(PathBuf, u64)> {
        /// Unless it is said.
        const SPILL_BYTES: u64 = 1 << 30;
        // A capture cannot have what an earlier run left.
        let dir = self.spill_dir.as_ref().filter(|_| sink != "capture")?;
        Some((dir.join(sink), self.spill_bytes.map_or(SPILL_BYTES, |bytes| bytes.0 as u64)))
    }

    /// The folder of that, kept from other agents.
    pub(crate) fn claim_spill(&self, sink: &str) -> Result<Option<Spill>> {
        let spill = self.spill(sink).map(|(dir, max_bytes)| Spill::open(dir, SpillLimits::of(max_bytes)));
        spill.transpose().with_context(|| sink.to_owned())
    }

    /// Queue of a sink, and what becomes of records that find no room in it.
    pub(crate) fn queue(&self, sink: &str) -> SinkOptions {
        let options = SinkOptions::default();
        let options = match self.queue_bytes {
            Some(bytes) => options.queue_bytes(bytes.0),
            None => options,
        };
        match (self.when_full, self.spill(sink)) {
            (Some(WhenFull::Drop), _) => options.policy(Policy::DropNewest),
            (Some(WhenFull::Block), _) => options.policy(Policy::Block),
            (_, Some((dir, max_bytes))) => options.policy(Policy::Spill { dir, max_bytes }),
            _ => options,
        }
    }

    /// Form of the lines, where it was said; `None` if no lines are wanted.
    pub(crate) fn lines(&self) -> Option<Option<kprobe_sinks::stdout::Form>> {
        match self.output {
            Some(Output::None) => None,
            Some(Output::Human) => Some(Some(kprobe_sinks::stdout::Form::Human)),
            Some(Output::Json) => Some(Some(kprobe_sinks::stdout::Form::Json)),
            None => Some(None),
        }
    }

    /// First column of lines for people.
    pub(crate) fn times(&self) -> kprobe_sinks::stdout::Times {
        match self.times {
            Some(Times::Wall) => kprobe_sinks::stdout::Times::Wall,
            Some(Times::Relative) | None => kprobe_sinks::stdout::Times::Relative,
        }
    }
}

impl Families {
    /// How much a family is needed: what was asked for by name must be had.
    fn need(&self, family: Family, otherwise: Need) -> Need {
        match (self.wanted.contains(&family), self.named) {
            (true, true) => Need::Required,
            (true, false) => Need::Optional,
            (false, _) => otherwise,
        }
    }

    /// Whether records of this kind are to be shown: without names all that were recorded. Those about the stream itself
    /// always are.
    pub(crate) fn show(&self, kind: Kind) -> bool {
        let is_chosen = |family| !FAMILIES.contains(&family) || self.wanted.contains(&family);
        !self.named || kind.family().is_none_or(is_chosen)
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::{Cli, Options};

    fn flags(line: &str) -> Options {
        Cli::try_parse_from(line.split(' ')).map(|cli| cli.options).unwrap_or_default()
    }

    /// Every option at once: whichever is not taken from where it should be is seen.
    #[test]
    fn flags_win_and_the_file_fills_in() {
        let above = flags(
            "kprobe-agent --pid 1 --cgroup a --system --from a --demo --probes process --min-duration 1s --sample 2 \
             --minor-faults 2 --syscalls read --aggregate syscall=kind --paths /a --interval 1s --aggregate-keys 2 --ring-bytes 1MiB --duration 1s --include-self --forbid-rung tp_btf --output human \
             --times wall -o a --capture a --queue-bytes 1MiB --when-full drop --spill-dir a --spill-bytes 1MiB --order-bytes 1MiB --known-threads 1 --shutdown-within 1s \
             --metrics 127.0.0.1:1 --count-runs --report --stats",
        );
        let below: Options = toml::from_str(
            "pid = [2]\ncgroup = \"b\"\nsystem = true\nfrom = \"b\"\ndemo = true\nprobes = [\"sched\"]\npaths = [\"/b\"]\n\
             min-duration = \"2s\"\nsample = 3\nminor-faults = 3\nsyscalls = [\"write\"]\naggregate = [\"sched=tgid\"]\ninterval = \"2s\"\naggregate-keys = 3\nring-bytes = 4096\nduration = \"2s\"\n\
             include-self = true\nforbid-rung = [\"raw_tp\"]\noutput = \"json\"\ntimes = \"relative\"\n\
             output-file = \"b\"\ncapture = \"b\"\nqueue-bytes = 4096\nwhen-full = \"block\"\nspill-dir = \"b\"\nspill-bytes = 4096\n\
             order-bytes = 4096\nknown-threads = 2\nshutdown-within = \"2s\"\nmetrics = \"127.0.0.1:2\"\ncount-runs = true\nreport = \"json\"\nstats = \"json\"\n",
        )
        .unwrap_or_default();
        let text = |options: &Options| format!("{options:?}");
        let is_full =
            |options: &Options| !["None", "[]", "false"].iter().any(|empty| text(options).contains(empty));
        assert!(is_full(&above) && is_full(&below), "{above:?} {below:?}");
        assert_eq!(text(&above.clone().over(below.clone())), text(&above));
        assert_eq!(text(&above.clone().over(Options::default())), text(&above));
        assert_eq!(text(&Options::default().over(below.clone())), text(&below));
    }
}
