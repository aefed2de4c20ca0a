//! Tests on the running kernel, as root, on processes that the tests start themselves.

use std::process::Command;

use anyhow::{Context as _, Result};

use super::{Args, session::Session, targets};
use crate::{
    install::{self, Need},
    table::Row,
};

/// What the tests compare with and record.
const NEEDS: [Need; 4] = [("strace", "strace"), ("git", "git"), ("python3", "python3"), ("curl", "curl")];

pub(super) const NOT_ROOT: &str =
    "not root, and sudo asks for a password: attaching needs root; run `sudo -v` first, or as root";

pub(super) fn run(args: &Args) -> Result<Vec<Row>> {
    if install::as_root("true").is_none() {
        return Ok(vec![Row::skipped("live", NOT_ROOT)]);
    }
    if let Err(error) =
        install::install(&NEEDS, "the live tests, which compare with strace on real programs", args.offline)
    {
        return Ok(vec![Row::skipped("live", format!("{error:#}"))]);
    }
    let mut session = Session::start("live")?;
    let targets = targets::find(&["live"])?;
    if targets.is_empty() {
        return Ok(vec![session.finish()]);
    }
    let built = targets::agent(|_| ()).and_then(|agent| Ok((agent, targets::build(&targets, |_| ())?)));
    let (agent, binaries) = match built {
        Ok(built) => built,
        Err(error) => {
            session.check("build", || Err(error));
            return Ok(vec![session.finish()]);
        }
    };
    for binary in &binaries {
        // Built as this user, run as root: nothing that root wrote gets into the target folder.
        let mut cmd: Command = install::as_root("env").context("root's rights were there a moment ago")?;
        cmd.current_dir(&binary.folder)
            .arg(format!("CARGO_MANIFEST_DIR={}", binary.folder.display()))
            .arg(format!("KPROBE_AGENT={}", agent.display()))
            .arg(&binary.path)
            .arg("--test-threads=1");
        session.tests(&binary.target.package, &mut cmd);
    }
    Ok(vec![session.finish()])
}
