//! Gets peers and what they need. The libbpf peer is a package of its own, because it needs a C compiler and libelf's headers.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};

/// What libbpf-sys needs to build libbpf from source, as Debian calls it.
const PACKAGES: [&str; 5] = ["gcc", "make", "pkg-config", "libelf-dev", "zlib1g-dev"];

/// Builds the peer, after installing what that needs, and says where it is.
pub(crate) fn build(offline: bool) -> Result<PathBuf> {
    install_missing(&PACKAGES, offline)?;
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("peer/Cargo.toml");
    let target = cache_dir()?.join("peer");
    eprintln!("building the libbpf peer");
    let built = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(["build", "--release", "--quiet", "--locked", "--manifest-path"])
        .arg(manifest)
        .arg("--target-dir")
        .arg(&target)
        .status()
        .context("start cargo")?;
    ensure!(built.success(), "the libbpf peer does not build");
    Ok(target.join("release/libbpf-peer"))
}

/// Where downloads and builds of peers are kept.
pub(crate) fn cache_dir() -> Result<PathBuf> {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    set("KPROBE_CACHE")
        .or_else(|| set("XDG_CACHE_HOME").map(|dir| dir.join("kprobe")))
        .or_else(|| set("HOME").map(|dir| dir.join(".cache/kprobe")))
        .context("none of KPROBE_CACHE, XDG_CACHE_HOME and HOME is set")
}

/// The mirror that this system has its packages from, else the well-known one.
pub(crate) fn mirror() -> String {
    let sources = fs::read_to_string("/etc/apt/sources.list.d/debian.sources").unwrap_or_default();
    let uri = sources.lines().filter_map(|line| line.strip_prefix("URIs:")).map(str::trim);
    let mut uris = uri.filter(|uri| uri.trim_end_matches('/').ends_with("/debian") && !uri.contains(' '));
    uris.next().unwrap_or("http://deb.debian.org/debian").to_owned()
}

/// Installs Debian packages that are not there, and says so first.
pub(crate) fn install_missing(packages: &[&str], offline: bool) -> Result<()> {
    let is_missing = |package: &&&str| {
        let query = Command::new("dpkg-query").args(["-W", "-f=${Status}", package]).output();
        !query.is_ok_and(|query| query.stdout.ends_with(b"ok installed"))
    };
    let missing: Vec<&str> = packages.iter().filter(is_missing).copied().collect();
    if missing.is_empty() {
        return Ok(());
    }
    ensure!(!offline, "not installed, and --offline was given: {}", missing.join(" "));
    eprintln!("installing {}", missing.join(" "));
    let apt_get = |args: &[&str]| {
        Command::new("apt-get")
            .args(["-qq", "-y"])
            .args(args)
            .env("DEBIAN_FRONTEND", "noninteractive")
            .output()
    };
    // An outdated list of packages is worth a second try.
    let args = [&["install", "--no-install-recommends"], &missing[..]].concat();
    let mut installed = apt_get(&args).context("start apt-get")?;
    if !installed.status.success() {
        apt_get(&["update"])?;
        installed = apt_get(&args)?;
    }
    ensure!(installed.status.success(), "apt-get: {}", String::from_utf8_lossy(&installed.stderr));
    Ok(())
}
