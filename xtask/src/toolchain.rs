//! What compiles the kernel programs: Debian's pinned packages (the committed bytes), or a rustup nightly (an equivalent object).

use std::{
    ffi::OsString,
    fmt, fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};
use clap::ValueEnum;

use crate::{cache::Cache, debian, repo, sh};

const BPF_LINKER: &str = "0.13.0";
const DEBIAN: [&str; 2] = ["bookworm", "bookworm-security"];
const RUST: &str = "1.96.0+dfsg1-1~deb12u2";
const RUST_PACKAGES: [&str; 4] = ["rustc-web", "rust-web-src", "libstd-rust-web-1.96", "libstd-rust-web-dev"];
const LLVM: &str = "1:22.1.8-1~deb12u1";
const LLVM_FEATURE: &str = "llvm-22";
const LLVM_RUN: &str = "libllvm22";
const LLVM_DEV: [&str; 2] = ["llvm-22", "llvm-22-dev"];
/// What libLLVM itself loads and a bare system may lack. No byte of the object depends on their versions.
const LLVM_LOADS: [&str; 7] = ["libbsd0", "libedit2", "libffi8", "libicu72", "libmd0", "libxml2", "libz3-4"];

/// The choice on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Choice {
    /// Debian's packages where apt is there, else rustup
    Auto,
    /// Debian's pinned rustc and LLVM: makes the committed bytes
    Debian,
    /// A rustup nightly with rust-src, and bpf-linker: an equivalent object, not the same bytes
    Rustup,
}

/// A compiler for the BPF target.
#[derive(Debug)]
pub(crate) struct Toolchain {
    /// `debian` or `rustup`.
    pub(crate) name: &'static str,
    /// The cargo command's first words.
    cargo: Vec<OsString>,
    /// Environment of the build.
    env: Vec<(&'static str, OsString)>,
    /// Folders before PATH.
    path: Option<PathBuf>,
    /// What to record, in order.
    pub(crate) facts: Vec<(&'static str, String)>,
}

impl Toolchain {
    /// Prepares the chosen toolchain, downloading and building what is not in the cache yet.
    pub(crate) fn prepare(choice: Choice, cache: &Cache, offline: bool) -> Result<Self> {
        match (choice, debian::unavailable()) {
            (Choice::Debian, _) | (Choice::Auto, None) => Self::debian(cache, offline),
            (Choice::Rustup, _) => Self::rustup(),
            (Choice::Auto, Some(why)) => {
                eprintln!(
                    "xtask: using a rustup nightly for the kernel programs, not Debian's packages: {why}"
                );
                Self::rustup()
            }
        }
    }

    /// Debian's packages, unpacked in the cache, with launchers that find their own libraries.
    fn debian(cache: &Cache, offline: bool) -> Result<Self> {
        let name = format!("bpf-debian-{}-{}-{BPF_LINKER}-v2", file_name(RUST), file_name(LLVM));
        let dir = cache.entry(&name, |dir| {
            if offline {
                bail!("Debian's rustc {RUST} is not in the cache, and --offline forbids downloading it");
            }
            eprintln!("xtask: preparing Debian's rustc {RUST} and bpf-linker {BPF_LINKER} in the cache (about 210 MB to download, two minutes)");
            fill_debian(cache, dir)
        })?;
        let rustc = dir.join("bin/rustc");
        let version = sh::output(Command::new(&rustc).arg("-vV"))?;
        let mut facts = vec![
            ("rustc", first_line(&version)),
            ("llvm", field(&version, "LLVM version: ")),
            ("bpf-linker", format!("{BPF_LINKER} built with Debian's {LLVM_FEATURE}")),
        ];
        for package in RUST_PACKAGES {
            facts.push(("package", format!("{package} {RUST}")));
        }
        facts.push(("package", format!("{LLVM_RUN} {LLVM}")));
        Ok(Self {
            name: "debian",
            cargo: vec![repo::cargo().into()],
            // Unstable cargo and rustc options with a release compiler: Debian's rustc is one.
            env: vec![("RUSTC", rustc.into()), ("RUSTC_BOOTSTRAP", "1".into())],
            path: Some(dir.join("bin")),
            facts,
        })
    }

    /// What a user with rustup has.
    fn rustup() -> Result<Self> {
        let rustup = |args: &[&str]| sh::output(sh::clean("rustup").args(args));
        let sysroot = rustup(&["run", "nightly", "rustc", "--print", "sysroot"])
            .context("no rustup nightly; run `rustup toolchain install nightly --component rust-src`")?;
        if !Path::new(sysroot.trim()).join("lib/rustlib/src/rust/library/core").is_dir() {
            bail!(
                "the rustup nightly has no rust-src, which the BPF target needs (core is built from source)\n  \
                 what to do: `rustup component add rust-src --toolchain nightly`, or --toolchain debian"
            );
        }
        let linker = sh::output(Command::new("bpf-linker").arg("--version")).context(
            "bpf-linker is not on PATH; install it with `cargo binstall bpf-linker` or `cargo install bpf-linker` (its LLVM must not be older than the nightly's)",
        )?;
        let version = rustup(&["run", "nightly", "rustc", "-vV"])?;
        Ok(Self {
            name: "rustup",
            cargo: ["rustup", "run", "nightly", "cargo"].map(OsString::from).to_vec(),
            env: Vec::new(),
            path: None,
            facts: vec![
                ("rustc", first_line(&version)),
                ("llvm", field(&version, "LLVM version: ")),
                ("bpf-linker", linker.trim().to_owned()),
            ],
        })
    }

    /// The cargo command's first words and its environment, for other targets.
    pub(crate) fn words(&self) -> (&[OsString], &[(&'static str, OsString)]) {
        (&self.cargo, &self.env)
    }

    /// The toolchain's cargo, ready for the BPF target.
    pub(crate) fn cargo(&self) -> Result<Command> {
        let (program, args) = self.cargo.split_first().context("a toolchain without cargo")?;
        let mut cmd = sh::clean(program);
        cmd.args(args).envs(self.env.iter().map(|(name, value)| (name, value)));
        if let Some(first) = &self.path {
            let rest = std::env::var_os("PATH").unwrap_or_default();
            let all = std::iter::once(first.clone()).chain(std::env::split_paths(&rest));
            cmd.env("PATH", std::env::join_paths(all)?);
        }
        Ok(cmd)
    }
}

impl fmt::Display for Toolchain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rustc = self.facts.iter().find(|(name, _)| *name == "rustc").map_or("", |(_, value)| value);
        write!(f, "{} ({rustc})", self.name)
    }
}

fn fill_debian(cache: &Cache, dir: &Path) -> Result<()> {
    let work = dir.join("work");
    let pinned =
        |names: &[&str], version: &str| names.iter().map(|n| format!("{n}={version}")).collect::<Vec<_>>();
    {
        let suite = debian::Suite::update(cache, "bookworm", &DEBIAN)?;
        let mut run = pinned(&RUST_PACKAGES, RUST);
        run.extend(pinned(&[LLVM_RUN], LLVM));
        run.extend(LLVM_LOADS.map(str::to_owned));
        suite.download(&run, &work.join("run"))?;
        suite.download(&pinned(&LLVM_DEV, LLVM), &work.join("dev"))?;
    }
    debian::unpack(&work.join("run"), dir)?;
    for unused in ["compiler", "src", "tests", "vendor"] {
        let path = dir.join("usr/src").join(source_folder()).join(unused);
        if path.is_dir() {
            fs::remove_dir_all(path)?;
        }
    }
    // Headers and static libraries are needed only while bpf-linker is built: 640 MB that need not stay.
    let llvm = work.join("llvm");
    debian::unpack(&work.join("dev"), &llvm)?;
    let library = format!("usr/lib/x86_64-linux-gnu/libLLVM.so.{}", library_version());
    fs::create_dir_all(llvm.join("usr/lib/x86_64-linux-gnu"))?;
    fs::hard_link(dir.join(&library), llvm.join(&library))?;
    let libraries = dir.join("usr/lib/x86_64-linux-gnu");
    eprintln!("xtask: building bpf-linker {BPF_LINKER} with that LLVM");
    sh::logged(
        sh::clean(repo::cargo())
            .args(["install", "bpf-linker", "--version", BPF_LINKER, "--locked", "--no-default-features"])
            .args(["--features", LLVM_FEATURE, "--root"])
            .arg(dir.join("linker"))
            .env("LLVM_PREFIX", llvm.join("usr/lib/llvm-22"))
            .env("CARGO_TARGET_DIR", work.join("target"))
            // libLLVM is linked from the cache: the linker must find what it loads there too.
            .env("CARGO_ENCODED_RUSTFLAGS", format!("-Clink-arg=-Wl,-rpath-link,{}", libraries.display())),
        &work.join("bpf-linker.log"),
    )?;
    fs::create_dir(dir.join("bin"))?;
    launcher(&dir.join("bin/rustc"), "usr/bin/rustc")?;
    launcher(&dir.join("bin/bpf-linker"), "linker/bin/bpf-linker")?;
    sh::output(Command::new(dir.join("bin/rustc")).arg("-vV"))?;
    sh::output(Command::new(dir.join("bin/bpf-linker")).arg("--version"))?;
    fs::remove_dir_all(work)?;
    Ok(())
}

/// A script that runs `program` of the folder above with the libraries of the folder above.
fn launcher(path: &Path, program: &str) -> Result<()> {
    let text = format!(
        "#!/bin/sh\n\
         top=$(dirname \"$(dirname \"$0\")\")\n\
         LD_LIBRARY_PATH=\"$top/usr/lib:$top/usr/lib/x86_64-linux-gnu${{LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}}\"\n\
         export LD_LIBRARY_PATH\n\
         exec \"$top/{program}\" \"$@\"\n"
    );
    fs::write(path, text)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))?;
    Ok(())
}

/// `rustc-1.96.0` of `1.96.0+dfsg1-1~deb12u2`, as in rust-web-src.
fn source_folder() -> String {
    format!("rustc-{}", RUST.split('+').next().unwrap_or(RUST))
}

/// `22.1` of `1:22.1.8-1~deb12u1`, as in the library's name.
fn library_version() -> String {
    let upstream = LLVM.split_once(':').map_or(LLVM, |(_, rest)| rest);
    upstream.split('.').take(2).collect::<Vec<_>>().join(".")
}

fn file_name(version: &str) -> String {
    version.chars().map(|c| if c.is_ascii_alphanumeric() || ".-".contains(c) { c } else { '_' }).collect()
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().to_owned()
}

fn field(text: &str, name: &str) -> String {
    text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or("unknown").to_owned()
}
