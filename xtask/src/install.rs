//! Programs that must be on the system itself, installed when they are missing.

use std::{collections::BTreeMap, path::Path, process::Command};

use anyhow::{Context as _, Result, bail};

use crate::sh;

/// Whether we run as root.
pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// A command with root's rights: itself for root, through sudo where that asks for no password.
pub(crate) fn as_root(program: &str) -> Option<Command> {
    if is_root() {
        return Some(Command::new(program));
    }
    let asks_nothing =
        Command::new("sudo").args(["-n", "true"]).output().is_ok_and(|out| out.status.success());
    asks_nothing.then(|| {
        let mut cmd = Command::new("sudo");
        cmd.args(["-n", "--", "env", "DEBIAN_FRONTEND=noninteractive", program]);
        cmd
    })
}

/// A program that must be on the system, and the package that brings it.
pub(crate) type Need = (&'static str, &'static str);

/// Installs the packages of those programs that are missing. Says what and why before it does.
pub(crate) fn install(needs: &[Need], why: &str, offline: bool) -> Result<()> {
    let missing: BTreeMap<&str, &str> = needs
        .iter()
        .filter(|(program, _)| !has(program))
        .map(|(program, package)| (*package, *program))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let packages: Vec<&str> = missing.keys().copied().collect();
    let list = packages.join(" ");
    if offline {
        bail!("{why} needs the Debian packages {list}, and --offline forbids installing them");
    }
    if sh::which("apt-get").is_none() {
        bail!(
            "{why} needs {}: there is no apt here, install them by hand",
            missing.values().copied().collect::<Vec<_>>().join(" ")
        );
    }
    let command = || {
        as_root("apt-get").with_context(|| {
        format!("{why} needs the Debian packages {list}; neither root nor sudo without a password: run `sudo apt-get install {list}`")
    })
    };
    eprintln!("xtask: installing {list} with apt-get: needed for {why}");
    let install = || -> Result<String> {
        sh::output(
            command()?
                .env("DEBIAN_FRONTEND", "noninteractive")
                .args(["install", "-y", "-q", "--no-install-recommends"])
                .args(&packages),
        )
    };
    // The lists are often absent (containers) or old: then the first attempt says so.
    if install().is_err() {
        sh::output(command()?.args(["-q", "update"]))?;
        install()?;
    }
    Ok(())
}

fn has(program: &str) -> bool {
    if program.starts_with('/') { Path::new(program).exists() } else { sh::which(program).is_some() }
}
