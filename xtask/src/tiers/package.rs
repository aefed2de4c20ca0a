//! `cargo add kprobe-core` from the user's side: the packages as they would be published, and a crate that has nothing else.

use std::{fs, path::Path, process::Command};

use anyhow::{Context as _, Result, bail};

use super::everywhere::cargo;
use crate::{repo, sh};

const LIBRARIES: [&str; 3] = ["kprobe-core", "kprobe-ebpf", "kprobe-sinks"];

/// Packs the three libraries, unpacks them elsewhere, and builds and runs `templates/outside` against them.
pub(super) fn outside() -> Result<String> {
    let target = repo::target();
    let mut pack = cargo();
    // The crate outside compiles the unpacked files: cargo's own trial build would be the same work once more.
    pack.args(["package", "--quiet", "--no-verify", "--allow-dirty"]);
    for library in LIBRARIES {
        pack.args(["--package", library]);
    }
    sh::output(pack.arg("--target-dir").arg(&target))?;

    let dir = tempfile::tempdir()?;
    let template = repo::root().join("xtask/templates/outside");
    copy(&template, dir.path())?;
    fs::copy(repo::root().join("examples/agent/demo.kcap"), dir.path().join("demo.kcap"))?;
    let version = version()?;
    let mut patches = String::from("\n[patch.crates-io]\n");
    for library in LIBRARIES {
        let package = target.join(format!("package/{library}-{version}.crate"));
        sh::output(Command::new("tar").arg("-xzf").arg(&package).arg("-C").arg(dir.path()))?;
        patches.push_str(&format!("{library} = {{ path = \"{library}-{version}\" }}\n"));
    }
    let manifest = dir.path().join("Cargo.toml");
    // Not called Cargo.toml in the tree, where it would be taken for a package of the workspace.
    let text = fs::read_to_string(dir.path().join("manifest.toml"))?;
    fs::write(&manifest, text.replace("VERSION", &version) + &patches)?;
    // The same versions of everything else: what is tested is the packages, not today's registry.
    fs::copy(repo::root().join("Cargo.lock"), dir.path().join("Cargo.lock"))?;

    let programs = programs(&dir.path().join("examples"))?;
    let cargo = |words: &[&str]| {
        let mut cmd = sh::clean(repo::cargo());
        cmd.current_dir(dir.path()).args(words).args(["--quiet", "--target-dir"]).arg(target.join("outside"));
        cmd.env("CARGO_PROFILE_DEV_DEBUG", "none");
        cmd
    };
    // Not only checked: what it compiles is what runs below.
    sh::output(&mut cargo(&["build", "--bins", "--examples"]))
        .context("a program of the documentation does not compile")?;
    let mut run = cargo(&["run"]);
    let said = sh::output(&mut run).context("the crate outside the workspace does not build or run")?;
    let said = said.trim();
    let events: u64 = said.split(' ').next().and_then(|count| count.parse().ok()).with_context(|| {
        format!("the crate outside the workspace should print `N events`, and printed {said:?}")
    })?;
    if events == 0 {
        bail!("the crate outside the workspace decoded no event of the capture in its folder");
    }
    Ok(format!("{said}, {programs} programs of the documentation"))
}

/// Where whole programs are shown.
const SHOWN: [&str; 5] = [
    "README.md",
    "docs/src/embedding.md",
    "docs/src/metrics.md",
    "docs/src/self-observation.md",
    "docs/src/writing-a-sink.md",
];

/// Puts every whole program of the documentation into `examples`; how many there are.
fn programs(examples: &Path) -> Result<usize> {
    fs::create_dir_all(examples)?;
    let mut count = 0;
    for page in SHOWN {
        let text =
            fs::read_to_string(repo::root().join(page)).with_context(|| format!("cannot read {page}"))?;
        let blocks = text.split("\n```rust").skip(1).filter_map(|block| block.split_once('\n'));
        let blocks = blocks.filter_map(|(_, block)| block.split("\n```").next());
        let before = count;
        for block in blocks.filter(|block| block.contains("fn main()")) {
            count += 1;
            fs::write(examples.join(format!("shown{count}.rs")), format!("//! From {page}.\n{block}\n"))?;
        }
        if count == before {
            bail!("{page} shows no whole program any more: take it out of the list of pages");
        }
    }
    Ok(count)
}

fn version() -> Result<String> {
    let id = sh::output(cargo().args(["pkgid", "--package", LIBRARIES[0]]))?;
    let version = id.trim().rsplit(['#', '@']).next().unwrap_or_default();
    Ok(version.to_owned())
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    for entry in fs::read_dir(from).with_context(|| format!("cannot read {}", from.display()))? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            fs::create_dir_all(&target)?;
            copy(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}
