//! The tests of the code with `unsafe`, under AddressSanitizer.
//!
//! The sanitizers come with the toolchains of rustup, stable ones too; their flags are unstable. The standard library is
//! the precompiled one, which is not instrumented: what it does inside is not looked at. ThreadSanitizer
//! is not here: it took what two threads do under one `Mutex` for a race, perhaps for that reason.

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use super::{
    Args, fuzz,
    session::{Session, run_to},
    targets,
};
use crate::{repo, sh, table::Row};

/// What is run: `cargo test` with these words. The ring (`ring/buffer.rs`, `mapping.rs`, `state.rs`) against its model, with
/// one thread and with three. What else has `unsafe` there needs a kernel that attaches programs.
const TARGET: [&str; 3] = ["--package", "kprobe-ebpf", "--lib"];

/// A sanitizer, and how it is asked.
#[derive(Debug, Clone, Copy)]
struct Sanitizer {
    name: &'static str,
    /// How the file of its runtime ends.
    runtime: &'static str,
    flags: &'static str,
    /// The variable with its options, and those.
    options: (&'static str, &'static str),
    /// The test of the planted package that it must fail, and what it must say.
    finds: (&'static str, &'static str),
}

const SANITIZERS: [Sanitizer; 1] = [Sanitizer {
    name: "address",
    runtime: "_rt.asan.a",
    flags: "-Zsanitizer=address",
    options: ("ASAN_OPTIONS", "detect_leaks=1"),
    finds: ("use_after_free", "ERROR: AddressSanitizer: heap-use-after-free"),
}];

pub(super) fn run(args: &Args) -> Result<Vec<Row>> {
    let compiler = match Compiler::find(args.offline) {
        Ok(compiler) => compiler,
        Err(error) => return Ok(vec![Row::skipped("sanitizers", format!("{error:#}"))]),
    };
    let mut session = Session::start("sanitizers")?;
    let proofs = session.log("planted").with_extension("");
    for sanitizer in SANITIZERS {
        session.check(&format!("{}: finds what was planted", sanitizer.name), || {
            planted(&compiler, sanitizer, &proofs)
        });
    }
    for sanitizer in SANITIZERS {
        match build(&compiler, sanitizer) {
            Ok(binaries) => {
                for binary in &binaries {
                    session.tests(
                        &format!("{}: {}", sanitizer.name, binary.name),
                        &mut tests(sanitizer, binary),
                    );
                }
            }
            Err(error) => session.check(&format!("{}: build", sanitizer.name), || Err(error)),
        }
    }
    Ok(vec![session.finish()])
}

/// What compiles with sanitizers.
#[derive(Debug)]
struct Compiler {
    /// What is put before the words for cargo.
    cargo: Vec<OsString>,
    host: String,
}

impl Compiler {
    /// The toolchain that everything else is built with if it has the runtimes, else a nightly.
    fn find(offline: bool) -> Result<Self> {
        let own = Self::of(vec![repo::cargo().into()], &mut rustc(&["rustc"]));
        let Err(why) = own else { return own };
        eprintln!("xtask: {why:#}: trying a nightly of rustup's");
        fuzz::nightly("building with sanitizers", offline)?;
        let words = ["rustup", "run", "nightly", "cargo"].map(OsString::from);
        Self::of(words.to_vec(), &mut rustc(&["rustup", "run", "nightly", "rustc"]))
    }

    /// Fails if a runtime is missing.
    fn of(cargo: Vec<OsString>, rustc: &mut Command) -> Result<Self> {
        let said = sh::output(rustc.args(["--print", "host-tuple", "--print", "sysroot"]))?;
        let (host, sysroot) =
            said.trim().split_once('\n').context("rustc does not say where its libraries are")?;
        let host = host.to_owned();
        let folder = Path::new(sysroot).join("lib/rustlib").join(&host).join("lib");
        let entries = fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))?;
        let names: Vec<String> =
            entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        for sanitizer in SANITIZERS {
            if !names.iter().any(|name| name.ends_with(sanitizer.runtime)) {
                bail!("there is no runtime librustc-*{} in {}", sanitizer.runtime, folder.display());
            }
        }
        Ok(Self { cargo, host })
    }

    /// `cargo test` for a sanitizer, in this folder.
    fn test(&self, sanitizer: Sanitizer, folder: &Path) -> Command {
        let mut words = self.cargo.iter();
        let mut cmd = sh::clean(words.next().cloned().unwrap_or_default());
        cmd.args(words).arg("test").current_dir(folder);
        // With a target named, the flags are not for build scripts and macros, which rustc loads into itself.
        cmd.args(["--target", &self.host, "--target-dir"])
            // Not the others' folder: packages whose build scripts ask for RUSTC_BOOTSTRAP would be built again and again.
            .arg(repo::target().join("sanitizers"))
            .env("RUSTC_BOOTSTRAP", "1")
            .env("RUSTFLAGS", sanitizer.flags)
            .env("CARGO_PROFILE_DEV_DEBUG", "line-tables-only")
            .env(sanitizer.options.0, sanitizer.options.1);
        cmd
    }
}

fn rustc(words: &[&str]) -> Command {
    let mut cmd = sh::clean(words[0]);
    cmd.args(&words[1..]).current_dir(repo::root());
    cmd
}

#[derive(Debug)]
struct Binary {
    name: String,
    path: PathBuf,
    folder: PathBuf,
}

fn build(compiler: &Compiler, sanitizer: Sanitizer) -> Result<Vec<Binary>> {
    let mut cmd = compiler.test(sanitizer, &repo::root());
    cmd.args(TARGET).args(["--no-run", "--message-format=json-render-diagnostics"]);
    let mut binaries = Vec::new();
    for message in targets::artifacts(&mut cmd)? {
        let (Some(path), Some(name)) = (message["executable"].as_str(), message["target"]["name"].as_str())
        else {
            continue;
        };
        let manifest = PathBuf::from(message["manifest_path"].as_str().unwrap_or_default());
        let folder = manifest.parent().map(PathBuf::from).unwrap_or_default();
        binaries.push(Binary { name: name.to_owned(), path: path.into(), folder });
    }
    if binaries.is_empty() {
        bail!("`{}` built no test", sh::line(&cmd));
    }
    Ok(binaries)
}

/// Runs a binary as cargo would, one test at a time.
fn tests(sanitizer: Sanitizer, binary: &Binary) -> Command {
    let mut cmd = sh::clean(&binary.path);
    cmd.current_dir(&binary.folder)
        .env("CARGO_MANIFEST_DIR", &binary.folder)
        .env(sanitizer.options.0, sanitizer.options.1)
        .arg("--test-threads=1");
    cmd
}

/// The sanitizer finds the fault that is there for it, and none in work without one: with the flags, the options and the
/// way of running that the real tests have.
fn planted(compiler: &Compiler, sanitizer: Sanitizer, logs: &Path) -> Result<String> {
    let dir = tempfile::tempdir()?;
    let template = repo::root().join("xtask/templates/sanitizers");
    fs::create_dir(dir.path().join("src"))?;
    // Not called Cargo.toml in the tree, where it would be taken for a package of the workspace.
    fs::copy(template.join("manifest.toml"), dir.path().join("Cargo.toml"))?;
    fs::copy(template.join("src/lib.rs"), dir.path().join("src/lib.rs"))?;
    let mut cmd = compiler.test(sanitizer, dir.path());
    cmd.args(["--offline", "--lib", "--no-run", "--message-format=json-render-diagnostics"]);
    let built = targets::artifacts(&mut cmd)?;
    let path = built.iter().find_map(|message| message["executable"].as_str());
    let path = PathBuf::from(path.context("cargo built no test of the planted faults")?);
    let binary = Binary { name: "planted".to_owned(), path, folder: dir.path().to_owned() };
    let one = |test: &str| {
        let log = logs.with_file_name(format!("sanitizers-{}-{test}.log", sanitizer.name));
        run_to(tests(sanitizer, &binary).args(["--exact", &format!("tests::{test}")]), &log)
    };
    let (test, words) = sanitizer.finds;
    let (passed, said) = one(test)?;
    // The frame: it is this fault that was found.
    if passed || !said.contains(words) || !said.contains(&format!("::{test}")) {
        bail!(
            "the fault in `{test}` was not reported as `{words}` (passed: {passed})\n{}",
            sh::tail(&said, 40)
        );
    }
    let (passed, said) = one("nothing_wrong")?;
    if !passed || !said.contains("test result: ok. 1 passed") {
        bail!("a fault is reported where there is none\n{}", sh::tail(&said, 60));
    }
    Ok(format!("`{words}`, and nothing in `nothing_wrong`"))
}
