//! xtask as cargo's RUSTC_WRAPPER while the kernel programs are compiled: takes out of every rustc call what would differ from one
//! machine to the next.
//!
//! Cargo hashes absolute paths and its own version into `-C metadata`, and rustc puts it into every symbol's name; source paths end up
//! in the line info. Both are replaced by names of packages, so the object depends on the sources and on rustc alone.

use std::{
    env,
    ffi::OsString,
    os::unix::process::CommandExt as _,
    process::{Command, ExitCode},
};

/// Set by the build: this process is a compiler call.
pub(crate) const MARK: &str = "KPROBE_XTASK_RUSTC_WRAPPER";

/// Becomes rustc. Returns only if that fails.
pub(crate) fn exec() -> ExitCode {
    let mut args = env::args_os().skip(1);
    let Some(rustc) = args.next() else {
        eprintln!("xtask: {MARK} is set but there is no compiler to run; unset it");
        return ExitCode::FAILURE;
    };
    let args: Vec<OsString> = args.collect();
    let args =
        match (env::var("CARGO_PKG_NAME"), env::var("CARGO_PKG_VERSION"), env::var("CARGO_MANIFEST_DIR")) {
            (Ok(name), Ok(version), Ok(dir)) => stable(args, &name, &version, &folders(dir)),
            // A question such as `-vV`, not the compilation of a package.
            _ => args,
        };
    let error = Command::new(&rustc).args(args).exec();
    eprintln!("xtask: cannot start {}: {error}", rustc.display());
    ExitCode::FAILURE
}

/// The names under which rustc may see the package's folder: rust-src is reached through symbolic links.
fn folders(dir: String) -> Vec<String> {
    let real = std::fs::canonicalize(&dir).map(|path| path.display().to_string());
    let mut folders = vec![dir];
    folders.extend(real);
    folders.dedup();
    folders
}

fn stable(args: Vec<OsString>, name: &str, version: &str, folders: &[String]) -> Vec<OsString> {
    // Our own packages go without the version: a release must not change the object.
    let package = if name.starts_with("kprobe") { name.to_owned() } else { format!("{name}-{version}") };
    let text: Vec<&str> = args.iter().filter_map(|arg| arg.to_str()).collect();
    let crate_name =
        text.iter().skip_while(|arg| **arg != "--crate-name").nth(1).copied().unwrap_or_default();
    let target = if text.contains(&"--target") { "bpf" } else { "host" };
    let metadata = format!("metadata={package}:{crate_name}:{target}");
    let mut stable: Vec<OsString> = args
        .into_iter()
        .map(|arg| {
            if arg.to_str().is_some_and(|a| a.starts_with("metadata=")) {
                metadata.clone().into()
            } else {
                arg
            }
        })
        .collect();
    stable.extend(folders.iter().map(|dir| OsString::from(format!("--remap-path-prefix={dir}=/{package}"))));
    if let (Some(out), "bpf") = (env::var_os("OUT_DIR"), target) {
        let mut remap = OsString::from("--remap-path-prefix=");
        remap.push(out);
        remap.push(format!("=/{package}/out"));
        stable.push(remap);
    }
    stable
}

#[cfg(test)]
mod tests {
    use super::stable;

    #[test]
    fn two_checkouts_give_the_same_call() {
        let call = |root: &str, hash: &str| {
            let args =
                ["--crate-name", "kprobe_core", "src/lib.rs", "-C", hash, "--target", "bpfel-unknown-none"];
            let args = args.iter().map(Into::into).collect();
            let call = stable(args, "kprobe-core", "0.1.0", &[format!("{root}/kprobe-core")]);
            call.into_iter()
                .map(|arg| arg.into_string().unwrap_or_default().replace(root, "ROOT"))
                .collect::<Vec<_>>()
        };
        let one = call("/home/a/kprobe", "metadata=0123456789abcdef");
        assert_eq!(one, call("/tmp/b", "metadata=fedcba9876543210"));
        let expected = [
            "--crate-name",
            "kprobe_core",
            "src/lib.rs",
            "-C",
            "metadata=kprobe-core:kprobe_core:bpf",
            "--target",
            "bpfel-unknown-none",
            "--remap-path-prefix=ROOT/kprobe-core=/kprobe-core",
        ];
        assert_eq!(one, expected);
    }
}
