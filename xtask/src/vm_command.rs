//! `cargo xtask vm`: one command, or a shell, on one kernel or on all.

use std::{os::unix::fs::PermissionsExt as _, path::PathBuf, time::Duration};

use anyhow::{Context as _, Result, bail};

use crate::{
    cache::Cache,
    initramfs::Entry,
    kernels::{Kernel, Series},
    sh, vm,
};

/// The command line of `vm`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// 5.10, 6.1, 6.12, 7.2 or all
    #[arg(long, value_parser = kernels)]
    kernel: Kernels,
    /// A shell on this terminal instead of a command
    #[arg(long)]
    shell: bool,
    /// Put a file of the host into the machine, at GUEST or in /bin. Programs must be statically linked
    #[arg(long = "file", value_name = "HOST[:GUEST]")]
    files: Vec<String>,
    /// Stop a machine that takes longer, in seconds
    #[arg(long, default_value_t = 300)]
    timeout: u64,
    /// Download and install nothing
    #[arg(long)]
    offline: bool,
    /// What to run in it
    #[arg(trailing_var_arg = true)]
    command: Vec<String>,
}

#[derive(Debug, Clone)]
struct Kernels(Vec<Series>);

fn kernels(name: &str) -> Result<Kernels, String> {
    if name == "all" {
        return Ok(Kernels(Series::ALL.to_vec()));
    }
    let series = Series::ALL.into_iter().find(|series| series.name() == name);
    series.map(|series| Kernels(vec![series])).ok_or_else(|| {
        format!("there is no kernel {name}; there are {} and all", Series::ALL.map(Series::name).join(", "))
    })
}

pub(crate) fn run(args: &Args) -> Result<()> {
    if args.command.is_empty() && !args.shell {
        bail!("nothing to run: give a command after --, or --shell");
    }
    let files = args.files.iter().map(|spec| entry(spec)).collect::<Result<Vec<_>>>()?;
    let cache = Cache::open()?;
    vm::prepare(args.offline)?;
    let mut failed = Vec::new();
    for series in &args.kernel.0 {
        let kernel = Kernel::get(*series, &cache, args.offline)?;
        if args.shell {
            vm::shell(&kernel, &files)?;
            continue;
        }
        eprintln!("xtask: kernel {}", kernel.release);
        let script = args.command.iter().map(|word| sh::quote(word)).collect::<Vec<_>>().join(" ");
        let outcome = vm::run(&kernel, &files, &script, Duration::from_secs(args.timeout), true)?;
        if outcome.status != 0 {
            failed.push(format!(
                "{} on kernel {} (console: {})",
                outcome.status,
                series.name(),
                outcome.log.display()
            ));
        }
    }
    if !failed.is_empty() {
        bail!("the command exited with {}", failed.join(", "));
    }
    Ok(())
}

fn entry(spec: &str) -> Result<Entry> {
    let (host, guest) =
        spec.split_once(':').map_or((spec, None), |(host, guest)| (host, Some(guest.to_owned())));
    let host = PathBuf::from(host);
    let meta = host.metadata().with_context(|| format!("cannot read {}", host.display()))?;
    let name = host.file_name().with_context(|| format!("{} has no file name", host.display()))?;
    let guest = guest.unwrap_or_else(|| format!("/bin/{}", name.to_string_lossy()));
    if !guest.starts_with('/') {
        bail!("the path in the machine must be absolute, not {guest}");
    }
    Ok(Entry { host, guest, mode: meta.permissions().mode() & 0o777 })
}
