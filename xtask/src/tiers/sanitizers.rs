//! The tests of the code with `unsafe`, under AddressSanitizer and ThreadSanitizer.
//!
//! The runtimes come with the toolchains of rustup, stable ones too; the flags are unstable. AddressSanitizer has the
//! precompiled standard library, whose insides it does not look at. ThreadSanitizer must see how that passes memory from thread to
//! thread, or it reports what two threads do under one `Mutex`: it has one built with it, from the sources that the compiler of the
//! kernel programs has.

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::Command,
    thread,
};

use anyhow::{Context as _, Result, bail};

use super::{
    Args, fuzz,
    session::{Session, run_to},
    targets,
};
use crate::{
    cache::Cache,
    install, repo, sh,
    table::Row,
    toolchain::{Choice, Toolchain},
};

/// What is built: `cargo test` with these words. The ring (`ring/buffer.rs`, `mapping.rs`, `state.rs`) against its model, with one
/// thread and with three; and what has `unsafe` in the rest of the package, with a kernel that attaches programs.
const TARGETS: [&str; 7] =
    ["--package", "kprobe-ebpf", "--lib", "--test", "live", "--features", "live-tests"];

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
    with: Std,
    /// Which of the live tests, by the beginnings of their names, and what is left out of them.
    live: &'static [&'static str],
}

/// Which standard library.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Std {
    Precompiled,
    /// Built for it.
    Instrumented,
}

/// It takes a multiple of the memory.
const SKIPPED: &str = "cpu_time_and_memory";

const SANITIZERS: [Sanitizer; 2] = [
    Sanitizer {
        name: "address",
        runtime: "_rt.asan.a",
        flags: "-Zsanitizer=address",
        options: ("ASAN_OPTIONS", "detect_leaks=1"),
        finds: ("use_after_free", "ERROR: AddressSanitizer: heap-use-after-free"),
        with: Std::Precompiled,
        // Statistics of programs, and tables that both sides have mapped and read after a grace period.
        live: &["usage::", "aggregates::"],
    },
    Sanitizer {
        name: "thread",
        runtime: "_rt.tsan.a",
        // It has both sides of a ring at one address, or it would not see that they are one memory.
        flags: "-Zsanitizer=thread --cfg=kprobe_sanitize_thread",
        options: ("TSAN_OPTIONS", "history_size=7"),
        finds: ("data_race", "WARNING: ThreadSanitizer: data race"),
        with: Std::Instrumented,
        // What has threads.
        live: &["driving::", "usage::a_watch", "pipeline::two_recorders"],
    },
];

/// Compiles what will be run.
pub(super) fn ahead(args: &Args) {
    for sanitizer in SANITIZERS {
        let _told_later = Compiler::of(sanitizer, args.offline)
            .and_then(|(compiler, runtime)| build(&compiler, sanitizer, &runtime));
    }
}

/// Both at the same time: each has steps that take one processor.
pub(super) fn run(args: &Args) -> Result<Vec<Row>> {
    let one = |sanitizer: Sanitizer| {
        let name = format!("sanitizers {}", sanitizer.name);
        match Compiler::of(sanitizer, args.offline) {
            Ok((compiler, runtime)) => under(sanitizer, &compiler, &runtime, &name),
            Err(error) => Ok(vec![Row::skipped(&name, format!("{error:#}"))]),
        }
    };
    thread::scope(|scope| {
        let threads = SANITIZERS.map(|sanitizer| scope.spawn(move || one(sanitizer)));
        let rows = threads.map(|thread| match thread.join() {
            Ok(rows) => rows,
            Err(_) => bail!("the run of a sanitizer panicked"),
        });
        Ok(rows.into_iter().collect::<Result<Vec<_>>>()?.into_iter().flatten().collect())
    })
}

fn under(sanitizer: Sanitizer, compiler: &Compiler, runtime: &Path, name: &str) -> Result<Vec<Row>> {
    let mut session = Session::start(name)?;
    let proofs = session.log("planted").with_extension("");
    let planted = planted(compiler, sanitizer, runtime, &proofs);
    session.check("finds what was planted", || planted);
    let binaries = match build(compiler, sanitizer, runtime) {
        Ok(binaries) => binaries,
        Err(error) => {
            session.check("build", || Err(error));
            return Ok(vec![session.finish()]);
        }
    };
    let mut skipped = None;
    for binary in &binaries {
        if binary.name != "live" {
            session.tests(&binary.name, &mut tests(sanitizer, binary, sh::clean(&binary.path)));
            continue;
        }
        for names in sanitizer.live {
            let Some(mut cmd) = install::as_root("env") else {
                skipped = Some(Row::skipped(&format!("{name} live"), super::live::NOT_ROOT));
                break;
            };
            let (option, value) = sanitizer.options;
            cmd.arg(format!("{option}={value}")).arg(&binary.path);
            let mut cmd = tests(sanitizer, binary, cmd);
            session.tests(&format!("live {names}"), cmd.args([names, "--skip", SKIPPED]));
        }
    }
    Ok([session.finish()].into_iter().chain(skipped).collect())
}

/// What compiles with a sanitizer.
#[derive(Debug)]
struct Compiler {
    /// What is put before the words for cargo.
    cargo: Vec<OsString>,
    env: Vec<(&'static str, OsString)>,
    host: String,
    /// Where the runtimes are.
    runtimes: PathBuf,
    /// It has them itself, and links them.
    links: bool,
}

impl Compiler {
    /// With the sanitizer's runtime.
    fn of(sanitizer: Sanitizer, offline: bool) -> Result<(Self, PathBuf)> {
        let compiler = match sanitizer.with {
            Std::Precompiled => Self::precompiled(offline),
            Std::Instrumented => Self::instrumented(offline),
        }?;
        let runtime = compiler.runtime(sanitizer)?;
        Ok((compiler, runtime))
    }

    /// The toolchain that everything else is built with if it has runtimes, else a nightly.
    fn precompiled(offline: bool) -> Result<Self> {
        let own = Self::with(vec![repo::cargo().into()], &mut rustc(&["rustc"]));
        let Err(why) = own else { return own };
        eprintln!("xtask: {why:#}: trying a nightly of rustup's");
        fuzz::nightly("building with sanitizers", offline)?;
        let words = ["rustup", "run", "nightly", "cargo"].map(OsString::from);
        Self::with(words.to_vec(), &mut rustc(&["rustup", "run", "nightly", "rustc"]))
    }

    /// The compiler of the kernel programs, which has the sources of the standard library. Debian's has no runtimes, but
    /// those of another compiler fit.
    fn instrumented(offline: bool) -> Result<Self> {
        let runtimes = Self::precompiled(offline)?;
        let toolchain = Toolchain::prepare(Choice::Auto, &Cache::open()?, offline)?;
        let (cargo, env) = toolchain.words();
        match toolchain.name {
            "debian" => Ok(Self { cargo: cargo.to_vec(), env: env.to_vec(), links: false, ..runtimes }),
            _ => Self::with(cargo.to_vec(), &mut rustc(&["rustup", "run", "nightly", "rustc"])),
        }
    }

    /// Fails if there are no runtimes.
    fn with(cargo: Vec<OsString>, rustc: &mut Command) -> Result<Self> {
        let said = sh::output(rustc.args(["--print", "host-tuple", "--print", "sysroot"]))?;
        let (host, sysroot) =
            said.trim().split_once('\n').context("rustc does not say where its libraries are")?;
        let host = host.to_owned();
        let runtimes = Path::new(sysroot).join("lib/rustlib").join(&host).join("lib");
        let compiler = Self { cargo, env: Vec::new(), host, runtimes, links: true };
        SANITIZERS.into_iter().try_for_each(|sanitizer| compiler.runtime(sanitizer).map(drop))?;
        Ok(compiler)
    }

    fn runtime(&self, sanitizer: Sanitizer) -> Result<PathBuf> {
        let folder = self.runtimes.display();
        let entries = fs::read_dir(&self.runtimes).with_context(|| format!("cannot read {folder}"))?;
        let mut paths = entries.flatten().map(|entry| entry.path());
        paths
            .find(|path| path.to_string_lossy().ends_with(sanitizer.runtime))
            .with_context(|| format!("there is no runtime librustc-*{} in {folder}", sanitizer.runtime))
    }

    /// `cargo test` for a sanitizer, in this folder.
    fn test(&self, sanitizer: Sanitizer, runtime: &Path, folder: &Path) -> Command {
        let mut flags = sanitizer.flags.to_owned();
        if !self.links {
            // Before all else: some of its symbols are versions of those in libc, which must come later.
            let whole = format!("-Wl,--whole-archive,{},--no-whole-archive", runtime.display());
            flags += &format!(" -Zexternal-clangrt -Zpre-link-args={whole}");
        }
        let mut words = self.cargo.iter();
        let mut cmd = sh::clean(words.next().cloned().unwrap_or_default());
        cmd.args(words)
            .arg("test")
            .current_dir(folder)
            .envs(self.env.iter().map(|(name, value)| (name, value)));
        if sanitizer.with == Std::Instrumented {
            cmd.arg("-Zbuild-std");
        }
        // With a target named, the flags are not for build scripts and macros, which rustc loads into itself.
        cmd.args(["--target", &self.host, "--target-dir"])
            // Not the others' folder: packages whose build scripts ask for RUSTC_BOOTSTRAP would be built again and again.
            .arg(repo::target().join("sanitizers").join(sanitizer.name))
            .env("RUSTC_BOOTSTRAP", "1")
            .env("RUSTFLAGS", flags)
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

fn build(compiler: &Compiler, sanitizer: Sanitizer, runtime: &Path) -> Result<Vec<Binary>> {
    let mut cmd = compiler.test(sanitizer, runtime, &repo::root());
    cmd.args(TARGETS).args(["--no-run", "--message-format=json-render-diagnostics"]);
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
    if !["kprobe_ebpf", "live"].iter().all(|name| binaries.iter().any(|binary| binary.name == *name)) {
        bail!("`{}` built {binaries:?}: not the unit tests and the live tests", sh::line(&cmd));
    }
    Ok(binaries)
}

/// Runs a binary as cargo would, one test at a time.
fn tests(sanitizer: Sanitizer, binary: &Binary, mut cmd: Command) -> Command {
    cmd.current_dir(&binary.folder)
        .env("CARGO_MANIFEST_DIR", &binary.folder)
        .env(sanitizer.options.0, sanitizer.options.1)
        .arg("--test-threads=1");
    cmd
}

/// The sanitizer finds the fault that is there for it, and none in work without one: with the flags, the options and the
/// way of running that the real tests have.
fn planted(compiler: &Compiler, sanitizer: Sanitizer, runtime: &Path, logs: &Path) -> Result<String> {
    let dir = tempfile::tempdir()?;
    let template = repo::root().join("xtask/templates/sanitizers");
    fs::create_dir(dir.path().join("src"))?;
    // Not called Cargo.toml in the tree, where it would be taken for a package of the workspace.
    fs::copy(template.join("manifest.toml"), dir.path().join("Cargo.toml"))?;
    fs::copy(template.join("src/lib.rs"), dir.path().join("src/lib.rs"))?;
    let mut cmd = compiler.test(sanitizer, runtime, dir.path());
    cmd.args(["--lib", "--no-run", "--message-format=json-render-diagnostics"]);
    let built = targets::artifacts(&mut cmd)?;
    let path = built.iter().find_map(|message| message["executable"].as_str());
    let path = PathBuf::from(path.context("cargo built no test of the planted faults")?);
    let binary = Binary { name: "planted".to_owned(), path, folder: dir.path().to_owned() };
    let one = |test: &str| {
        let log = logs.with_file_name(format!("sanitizers-{}-{test}.log", sanitizer.name));
        let mut cmd = tests(sanitizer, &binary, sh::clean(&binary.path));
        run_to(cmd.args(["--exact", &format!("tests::{test}")]), &log)
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
