//! Running other programs, with errors that show the command and the end of what it said.

use std::{
    fs::{self, File},
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};

/// The command line as a person would type it.
pub(crate) fn line(cmd: &Command) -> String {
    std::iter::once(cmd.get_program())
        .chain(cmd.get_args())
        .map(|word| quote(&word.to_string_lossy()))
        .collect::<Vec<_>>()
        .join(" ")
}

/// One word, quoted for a shell when it needs it.
pub(crate) fn quote(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,+@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

/// The last `lines` lines of a text.
pub(crate) fn tail(text: &str, lines: usize) -> String {
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

/// Runs with the terminal's own output.
pub(crate) fn run(cmd: &mut Command) -> Result<()> {
    let status = cmd.status().with_context(|| format!("cannot start `{}`", line(cmd)))?;
    if !status.success() {
        bail!("`{}` failed: {status}", line(cmd));
    }
    Ok(())
}

/// Runs and returns what it wrote to stdout.
pub(crate) fn output(cmd: &mut Command) -> Result<String> {
    Ok(String::from_utf8_lossy(&bytes(cmd)?).into_owned())
}

/// Likewise, whatever the bytes are.
pub(crate) fn bytes(cmd: &mut Command) -> Result<Vec<u8>> {
    let out = cmd
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot start `{}`: is it installed?", line(cmd)))?;
    if !out.status.success() {
        let said = String::from_utf8_lossy(&out.stderr);
        bail!("`{}` failed: {}\n{}", line(cmd), out.status, tail(said.trim_end(), 20));
    }
    Ok(out.stdout)
}

/// Runs with all output in `log`; shows the end of it when the command fails.
pub(crate) fn logged(cmd: &mut Command, log: &Path) -> Result<()> {
    let file = File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
    let status = cmd
        .stdin(Stdio::null())
        .stdout(file.try_clone()?)
        .stderr(file)
        .status()
        .with_context(|| format!("cannot start `{}`: is it installed?", line(cmd)))?;
    if !status.success() {
        let said = String::from_utf8_lossy(&fs::read(log)?).into_owned();
        let end = tail(said.trim_end(), 40);
        bail!("`{}` failed: {status}\n{end}\n  whole output: {}", line(cmd), log.display());
    }
    Ok(())
}

/// Where `program` is on PATH, if it is.
pub(crate) fn which(program: &str) -> Option<std::path::PathBuf> {
    std::env::split_paths(&std::env::var_os("PATH")?).map(|dir| dir.join(program)).find(|path| path.is_file())
}

/// A command that is not influenced by settings meant for the build we were started from.
pub(crate) fn clean(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut cmd = Command::new(program);
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy().into_owned();
        let ours = name.starts_with("CARGO_PROFILE_")
            || name.starts_with("CARGO_BUILD_")
            || name.starts_with("CARGO_PKG_")
            || name.starts_with("CARGO_TARGET_")
            || name.starts_with("RUSTC")
            || [
                "RUSTFLAGS",
                "CARGO_ENCODED_RUSTFLAGS",
                "CARGO_MANIFEST_DIR",
                "CARGO_MANIFEST_PATH",
                "LD_LIBRARY_PATH",
            ]
            .contains(&name.as_str());
        if ours {
            cmd.env_remove(name);
        }
    }
    cmd
}
