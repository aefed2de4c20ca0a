//! Debian's kernels for virtual machines, the newest of each series, unpacked in the cache.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};
use clap::ValueEnum;

use crate::{cache::Cache, debian};

/// A series of kernels that the tests run on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Series {
    /// Debian 11's; older than what the programs ask for otherwise
    #[value(name = "5.10")]
    V5_10,
    /// Debian 12's own
    #[value(name = "6.1")]
    V6_1,
    /// Debian 12's newer one
    #[value(name = "6.12")]
    V6_12,
    /// The development distribution's; a newer one once it has moved on
    #[value(name = "7.2")]
    V7_2,
}

/// Where a series comes from.
struct Source {
    /// Names the package lists.
    suite: &'static str,
    releases: &'static [&'static str],
    /// What the package of a kernel image is called; the first pattern that finds one counts.
    patterns: &'static [&'static str],
}

impl Series {
    /// Every series, oldest first.
    pub(crate) const ALL: [Self; 4] = [Self::V5_10, Self::V6_1, Self::V6_12, Self::V7_2];

    /// As on the command line and in the environment of the tests.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::V5_10 => "5.10",
            Self::V6_1 => "6.1",
            Self::V6_12 => "6.12",
            Self::V7_2 => "7.2",
        }
    }

    /// The tests of a test binary that run on it, by the beginnings of their names. Before 6.1 many families are off, and their
    /// tests have nothing to look at. What the agent makes of its options is the same on each kernel, so after 6.1 only those
    /// of its tests run that begin and end recordings.
    pub(crate) fn chosen(self, binary: &str) -> &'static [&'static str] {
        const ALL: &[&str] = &[""];
        const AGENT: &[&str] = &["command::", "demo::", "targets::"];
        const LIVE: &[&str] = &[
            "counts::a_million_calls_by",
            "syscalls::",
            "life::",
            "sched::",
            "losses::",
            "pipeline::",
            "soak::",
            "rungs::",
            "attaching::nothing_stays",
            "attaching::an_error",
            "custom::",
            "security::",
            "memory::",
            "block::",
            "irq::",
            "udp::",
            "tcp::",
            "pipe::",
            // Not contention, and not the calls that are newer.
            "lock::ping_pong",
            "lock::a_futex",
            "lock::waits_that",
            "lock::requeued",
            "lock::threads_that",
            "lock::every_rung_of_futexes",
            "lock::only_long",
            "aggregates::",
            "filters::",
            "retuning::",
            "sampling::",
            "usage::",
        ];
        const VM: &[&str] = &[
            "older::",
            "ladders::",
            "privilege::two_capabilities",
            "end::",
            "system::a_workload",
            "memory::",
            "block::",
            "references::",
            "privacy::",
            // Not those that require what is off, and none that has to come after a suspension.
            "changes::type_information_without",
            "changes::pids_that",
            "changes::a_wall_clock",
        ];
        match (self, binary) {
            (Self::V5_10, "kprobe-ebpf-live") => LIVE,
            (Self::V5_10, "kprobe-ebpf-vm") => VM,
            (Self::V5_10, _) => &[],
            (Self::V6_12 | Self::V7_2, "kprobe-agent-live") => AGENT,
            (Self::V6_1 | Self::V6_12 | Self::V7_2, _) => ALL,
        }
    }

    fn source(self) -> Source {
        const BOOKWORM: &[&str] = &["bookworm", "bookworm-security"];
        match self {
            Self::V5_10 => Source {
                suite: "bullseye",
                releases: &["bullseye", "bullseye-security"],
                patterns: &[r"^linux-image-5\.10\.0-[0-9]+-cloud-amd64$"],
            },
            Self::V6_1 => Source {
                suite: "bookworm",
                releases: BOOKWORM,
                patterns: &[r"^linux-image-6\.1\.0-[0-9]+-cloud-amd64$"],
            },
            Self::V6_12 => Source {
                suite: "bookworm",
                releases: BOOKWORM,
                patterns: &[r"^linux-image-6\.12\.[0-9]+\+deb12-cloud-amd64$"],
            },
            // Since 7.x the image is in linux-binary and its modules in linux-modules.
            Self::V7_2 => Source {
                suite: "sid",
                releases: &["sid"],
                patterns: &[
                    r"^linux-binary-7\.2(\.[0-9]+)?\+deb[0-9]+-cloud-amd64$",
                    r"^linux-binary-[0-9.]+\+deb[0-9]+-cloud-amd64$",
                ],
            },
        }
    }
}

/// A kernel ready to boot.
#[derive(Debug, Clone)]
pub(crate) struct Kernel {
    pub(crate) series: Series,
    /// As `uname -r` says it.
    pub(crate) release: String,
    pub(crate) image: PathBuf,
    /// Folder of its modules.
    pub(crate) modules: PathBuf,
}

impl Kernel {
    /// `6.12` of `6.12.117+deb12-cloud-amd64`.
    pub(crate) fn version(&self) -> String {
        self.release.split('.').take(2).collect::<Vec<_>>().join(".")
    }

    /// The series' kernel: from the cache when it is there (delete it there to follow the mirror), else the mirror's newest.
    pub(crate) fn get(series: Series, cache: &Cache, offline: bool) -> Result<Self> {
        let key = format!("kernel-{}", series.name());
        let dir = cache.entry(&key, |dir| {
            if offline {
                bail!(
                    "there is no kernel {} in the cache, and --offline forbids downloading it",
                    series.name()
                );
            }
            fetch(series, cache, dir)
        })?;
        let modules = subfolder(&dir.join("lib/modules"))
            .or_else(|| subfolder(&dir.join("usr/lib/modules")))
            .with_context(|| format!("no modules folder in {}: delete it and try again", dir.display()))?;
        let release = modules.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let image = [dir.join("boot").join(format!("vmlinuz-{release}")), modules.join("vmlinuz")]
            .into_iter()
            .find(|path| path.is_file())
            .with_context(|| format!("no kernel image in {}: delete it and try again", dir.display()))?;
        Ok(Self { series, release, image, modules })
    }
}

fn fetch(series: Series, cache: &Cache, dir: &Path) -> Result<()> {
    let source = series.source();
    let suite = debian::Suite::update(cache, source.suite, source.releases)?;
    let mut found = None;
    for pattern in source.patterns {
        let mut names = suite.search(pattern)?;
        names.sort_by_key(|name| numbers(name));
        if let Some(newest) = names.pop() {
            found = Some(newest);
            break;
        }
    }
    let Some(image) = found else {
        bail!(
            "Debian {} has no cloud kernel {}: expected a package like {}; see what `apt-cache search linux-image` has now \
             and set the pattern in xtask/src/kernels.rs",
            source.suite,
            series.name(),
            source.patterns.join(" or ")
        );
    };
    if !image.contains(series.name()) {
        eprintln!("xtask: Debian {} has no kernel {} any more; taking {image}", source.suite, series.name());
    }
    let mut packages = vec![image.clone()];
    if image.starts_with("linux-binary-") {
        packages.push(image.replacen("linux-binary-", "linux-modules-", 1));
    }
    eprintln!(
        "xtask: downloading {} into the cache: needed for tests on kernel {}",
        packages.join(" "),
        series.name()
    );
    let debs = dir.join("debs");
    suite.download(&packages, &debs)?;
    debian::unpack(&debs, dir)
}

/// The numbers in a name, for the order of versions.
fn numbers(name: &str) -> Vec<u64> {
    name.split(|c: char| !c.is_ascii_digit()).filter_map(|digits| digits.parse().ok()).collect()
}

fn subfolder(dir: &Path) -> Option<PathBuf> {
    fs::read_dir(dir).ok()?.filter_map(|entry| Some(entry.ok()?.path())).find(|path| path.is_dir())
}

#[cfg(test)]
mod tests {
    use super::numbers;

    #[test]
    fn the_newest_is_the_largest_number_and_not_the_last_letter() {
        let mut names = [
            "linux-image-6.1.0-9-cloud-amd64",
            "linux-image-6.1.0-56-cloud-amd64",
            "linux-image-6.1.0-48-cloud-amd64",
        ];
        names.sort_by_key(|name| numbers(name));
        assert_eq!(names[2], "linux-image-6.1.0-56-cloud-amd64");
    }
}
