//! Debian packages: into a folder of the cache without touching the system, or onto the system when a program must run from there.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use crate::{cache::Cache, sh};

const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
const MIRROR: &str = "http://deb.debian.org/debian";

/// Why packages cannot be fetched here, if so.
pub(crate) fn unavailable() -> Option<String> {
    for (program, what) in [("apt-get", "apt"), ("dpkg", "dpkg")] {
        if sh::which(program).is_none() {
            return Some(format!("this is not a Debian-like system: there is no {what}"));
        }
    }
    (!Path::new(KEYRING).exists()).then(|| format!("{KEYRING} is not there (package debian-archive-keyring)"))
}

/// Debian releases with package lists of their own in the cache: the system's lists and settings are not read or changed.
#[derive(Debug)]
pub(crate) struct Suite {
    dir: PathBuf,
    _lock: fs::File,
}

impl Suite {
    /// Opens and updates the lists of `releases`; `name` keeps them apart from others.
    pub(crate) fn update(cache: &Cache, name: &str, releases: &[&str]) -> Result<Self> {
        if let Some(why) = unavailable() {
            bail!("cannot fetch Debian packages: {why}");
        }
        let key = format!("apt-{name}");
        let lock = cache.lock(&key)?;
        let dir = cache.folder(&key)?;
        for sub in ["lists/partial", "cache/archives/partial", "state"] {
            fs::create_dir_all(dir.join(sub))?;
        }
        let mirror = mirror();
        let sources: String = releases
            .iter()
            .map(|release| {
                let place = match release.ends_with("-security") {
                    true => format!("{}-security", mirror.trim_end_matches('/')),
                    false => mirror.clone(),
                };
                format!("deb [signed-by={KEYRING}] {place} {release} main\n")
            })
            .collect();
        fs::write(dir.join("sources.list"), sources)?;
        let suite = Self { dir, _lock: lock };
        sh::output(suite.apt("apt-get").arg("-q").arg("update"))
            .with_context(|| format!("cannot read the package lists of {}", releases.join(", ")))?;
        Ok(suite)
    }

    fn apt(&self, program: &str) -> Command {
        let mut cmd = Command::new(program);
        let dir = self.dir.display();
        cmd.env("LC_ALL", "C").args([
            "-o".to_owned(),
            format!("Dir::Etc::sourcelist={dir}/sources.list"),
            "-o".to_owned(),
            "Dir::Etc::sourceparts=-".to_owned(),
            "-o".to_owned(),
            format!("Dir::State::lists={dir}/lists"),
            "-o".to_owned(),
            format!("Dir::Cache={dir}/cache"),
            "-o".to_owned(),
            // Root would drop to a user that may not write here; the signatures are checked either way.
            format!("APT::Sandbox::User={}", if rustix::process::geteuid().is_root() { "root" } else { "" }),
        ]);
        cmd
    }

    /// The versions of `package` that the mirror has, newest first.
    pub(crate) fn versions(&self, package: &str) -> Result<Vec<String>> {
        let said = sh::output(self.apt("apt-cache").args(["madison", package]))?;
        Ok(said.lines().filter_map(|line| line.split('|').nth(1)).map(|v| v.trim().to_owned()).collect())
    }

    /// The names of packages that match a regular expression.
    pub(crate) fn search(&self, pattern: &str) -> Result<Vec<String>> {
        let said = sh::output(self.apt("apt-cache").args(["search", "--names-only", pattern]))?;
        Ok(said.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect())
    }

    /// Downloads packages (`name` or `name=version`) into `into`.
    pub(crate) fn download(&self, packages: &[String], into: &Path) -> Result<()> {
        for package in packages {
            let Some((name, version)) = package.split_once('=') else { continue };
            let there = self.versions(name)?;
            if !there.iter().any(|v| v == version) {
                let there = if there.is_empty() { "none at all".to_owned() } else { there.join(", ") };
                bail!(
                    "the pinned Debian package is gone from the mirror\n  expected: {name} {version}\n  found:    {there}\n  \
                     what to do: set the new version in xtask/src/toolchain.rs, run `cargo xtask build-ebpf` and commit both"
                );
            }
        }
        fs::create_dir_all(into)?;
        sh::output(self.apt("apt-get").arg("-q").arg("download").args(packages).current_dir(into))?;
        Ok(())
    }
}

/// Unpacks every package file in `debs` into `root`, as files only: no script of a package runs.
pub(crate) fn unpack(debs: &Path, root: &Path) -> Result<()> {
    for entry in fs::read_dir(debs)? {
        let path = entry?.path();
        if path.extension().is_some_and(|ext| ext == "deb") {
            sh::output(Command::new("dpkg").arg("-x").arg(&path).arg(root))?;
        }
    }
    Ok(())
}

/// The mirror this system uses for Debian itself, else the well-known one.
fn mirror() -> String {
    let deb822 = fs::read_to_string("/etc/apt/sources.list.d/debian.sources").unwrap_or_default();
    let list = fs::read_to_string("/etc/apt/sources.list").unwrap_or_default();
    let from_deb822 = deb822.lines().filter_map(|line| line.strip_prefix("URIs:")).map(str::trim);
    let from_list = list
        .lines()
        .filter(|line| line.starts_with("deb "))
        .filter_map(|line| line.split_whitespace().find(|word| word.contains("://")));
    from_deb822
        .chain(from_list)
        .map(|uri| uri.trim_end_matches('/'))
        .find(|uri| uri.ends_with("/debian") && !uri.contains(' '))
        .unwrap_or(MIRROR)
        .to_owned()
}
