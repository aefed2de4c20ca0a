//! `build-ebpf`: the kernel programs, from source to the committed object, and the proof that the one is what the other gives.

use std::{
    collections::BTreeSet,
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::{object, repo, sh, toolchain::Toolchain, wrapper};

const TARGET: &str = "bpfel-unknown-none";
/// Debug info is what BTF is made from; it does not stay in the object.
const RUSTFLAGS: [&str; 4] = ["-C", "debuginfo=2", "-C", "link-arg=--btf"];
const RECORD: &str = "TOOLCHAIN";
/// The programs for older kernels: what is built once more, and the feature that it is built with.
const OLDER: (&str, &str) = ("kprobe", "before-6.1");

/// Builds the objects into the source tree.
pub(crate) fn build(toolchain: &Toolchain) -> Result<()> {
    eprintln!("xtask: building the kernel programs with {toolchain}");
    let built = compile(toolchain, &repo::target().join("ebpf"), false)?;
    let dir = repo::object();
    fs::create_dir_all(&dir)?;
    for (name, bytes) in &built.files {
        // Not rewritten when equal: whatever embeds it is not rebuilt for nothing.
        if fs::read(dir.join(name)).ok().as_ref() != Some(bytes) {
            fs::write(dir.join(name), bytes)?;
            println!("{} written, {} bytes", dir.join(name).display(), bytes.len());
        } else {
            println!("{} unchanged", dir.join(name).display());
        }
    }
    for stale in names(&dir)?.difference(&built.names()) {
        fs::remove_file(dir.join(stale))?;
        println!("{} removed: no program of that name", dir.join(stale).display());
    }
    Ok(())
}

/// Builds from nothing in a temporary folder and compares every byte with what is committed.
pub(crate) fn check(toolchain: &Toolchain) -> Result<()> {
    let dir = repo::object();
    let made_by = fs::read_to_string(dir.join(RECORD)).with_context(|| {
        format!(
            "{} is missing: no object was built; run `cargo xtask build-ebpf`",
            dir.join(RECORD).display()
        )
    })?;
    let made_by = made_by.lines().find_map(|line| line.strip_prefix("toolchain: ")).unwrap_or("unknown");
    if made_by != toolchain.name {
        bail!(
            "the committed object was made with the toolchain `{made_by}` and this is `{}`: their bytes are never the same\n  \
             what to do: compare with --toolchain {made_by}; the project commits what `debian` makes",
            toolchain.name
        );
    }
    eprintln!("xtask: rebuilding the kernel programs from nothing with {toolchain}");
    let target = tempfile::tempdir()?;
    let built = compile(toolchain, target.path(), true)?;
    let mut wrong = Vec::new();
    for (name, bytes) in &built.files {
        match fs::read(dir.join(name)) {
            Ok(there) if there == *bytes => println!("{name}: the same {} bytes", bytes.len()),
            Ok(there) => wrong.push(object::difference(name, &there, bytes)),
            Err(error) => wrong.push(format!("{name}: built, but not in {}: {error}", dir.display())),
        }
    }
    for stale in names(&dir)?.difference(&built.names()) {
        wrong.push(format!("{stale}: is in {}, but the sources build no such object", dir.display()));
    }
    if !wrong.is_empty() {
        bail!(
            "the committed object is not what the sources build\n  {}\n  what to do: run `cargo xtask build-ebpf` and commit {}",
            wrong.join("\n  "),
            dir.display()
        );
    }
    Ok(())
}

/// The files of the object folder, as built.
#[derive(Debug)]
struct Built {
    files: Vec<(String, Vec<u8>)>,
}

impl Built {
    fn names(&self) -> BTreeSet<String> {
        self.files.iter().map(|(name, _)| name.clone()).collect()
    }
}

fn compile(toolchain: &Toolchain, target: &Path, locked: bool) -> Result<Built> {
    let programs = repo::programs();
    let manifest = programs.join("Cargo.toml");
    if !manifest.exists() {
        bail!("{} does not exist: there are no kernel programs to build", manifest.display());
    }
    let mut files = Vec::new();
    for bin in bins(&manifest)? {
        files.push((format!("{bin}.o"), object(toolchain, target, locked, &bin, &[])?));
    }
    let (bin, feature) = OLDER;
    let older = object(toolchain, target, locked, bin, &["--features", feature])?;
    files.push((format!("{bin}-{feature}.o"), older));
    no_local_path(&files, &[&programs, target])?;
    let record = record(toolchain, &files, &programs.join("Cargo.lock"))?;
    files.push((RECORD.to_owned(), record.into_bytes()));
    Ok(Built { files })
}

/// One binary target of the programs, as an object for loaders.
fn object(toolchain: &Toolchain, target: &Path, locked: bool, bin: &str, more: &[&str]) -> Result<Vec<u8>> {
    let programs = repo::programs();
    let mut build = toolchain.cargo()?;
    build
        .current_dir(&programs)
        .args(["build", "--release", "--quiet", "-Z", "build-std=core", "--target", TARGET, "--bin", bin])
        .args(more)
        .arg("--manifest-path")
        .arg(programs.join("Cargo.toml"))
        .arg("--target-dir")
        .arg(target)
        .env("CARGO_ENCODED_RUSTFLAGS", RUSTFLAGS.join("\u{1f}"))
        .env("RUSTC_WRAPPER", this_program()?)
        .env(wrapper::MARK, "1");
    if locked {
        build.arg("--locked");
    }
    sh::run(&mut build).context("the kernel programs do not build")?;
    let path = target.join(TARGET).join("release").join(bin);
    let bytes = fs::read(&path).with_context(|| format!("the build made no {}", path.display()))?;
    object::for_loaders(&bytes).with_context(|| path.display().to_string())
}

/// This program's file. A test run that builds the workspace replaces it; the new one does the same.
fn this_program() -> Result<PathBuf> {
    let path = env::current_exe()?;
    let replaced = path.to_string_lossy().strip_suffix(" (deleted)").map(PathBuf::from);
    Ok(replaced.unwrap_or(path))
}

/// Fails when a folder of this machine is in an object: it would differ on the next machine.
fn no_local_path(files: &[(String, Vec<u8>)], folders: &[&Path]) -> Result<()> {
    let home = env::var_os("HOME").map(PathBuf::from);
    let folders = folders.iter().copied().chain(home.as_deref()).filter(|dir| dir.components().count() > 1);
    for dir in folders {
        let needle = format!("{}/", dir.display());
        for (name, bytes) in files {
            if bytes.windows(needle.len()).any(|window| window == needle.as_bytes()) {
                bail!(
                    "{name} contains the path {needle}...: it would not be the same on another machine; remap it in xtask/src/wrapper.rs"
                );
            }
        }
    }
    Ok(())
}

/// The names of the package's binary targets.
fn bins(manifest: &Path) -> Result<Vec<String>> {
    let said = sh::output(
        sh::clean(repo::cargo())
            .args(["metadata", "--no-deps", "--format-version=1", "--manifest-path"])
            .arg(manifest),
    )?;
    let metadata: Value = serde_json::from_str(&said)?;
    let is_bin =
        |target: &&Value| target["kind"].as_array().is_some_and(|kinds| kinds.iter().any(|k| k == "bin"));
    let bins: Vec<String> = metadata["packages"]
        .as_array()
        .into_iter()
        .flatten()
        .flat_map(|package| package["targets"].as_array().into_iter().flatten())
        .filter(is_bin)
        .filter_map(|target| target["name"].as_str().map(str::to_owned))
        .collect();
    if bins.is_empty() {
        bail!("{} has no [[bin]]: each one gives an object of its name", manifest.display());
    }
    Ok(bins)
}

fn record(toolchain: &Toolchain, files: &[(String, Vec<u8>)], lock: &Path) -> Result<String> {
    let mut text =
        String::from("What made the objects in this folder. Written by `cargo xtask build-ebpf`.\n\n");
    let mut line = |name: &str, value: &str| text.extend([name, ": ", value, "\n"]);
    line("toolchain", toolchain.name);
    for (name, value) in &toolchain.facts {
        line(name, value);
    }
    line("target", TARGET);
    line("rustflags", &RUSTFLAGS.join(" "));
    line("sha256", &format!("{} Cargo.lock of the programs", sha256(&fs::read(lock)?)?));
    for (name, bytes) in files {
        line("sha256", &format!("{} {name}, {} bytes", sha256(bytes)?, bytes.len()));
    }
    Ok(text)
}

fn sha256(bytes: &[u8]) -> Result<String> {
    let file = tempfile::NamedTempFile::new()?;
    fs::write(file.path(), bytes)?;
    let said = sh::output(Command::new("sha256sum").arg(file.path()))?;
    Ok(said.split(' ').next().unwrap_or_default().to_owned())
}

/// The objects and the record that are in `dir`.
fn names(dir: &Path) -> Result<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    for entry in fs::read_dir(dir).with_context(|| format!("cannot read {}", dir.display()))? {
        let path: PathBuf = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name == RECORD || path.extension().is_some_and(|ext| ext == "o") {
            names.insert(name);
        }
    }
    Ok(names)
}
