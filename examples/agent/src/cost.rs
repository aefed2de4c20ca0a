//! What the agent itself takes of the machine: with the ledger, and as metrics.

use std::{
    fmt,
    net::{SocketAddr, TcpListener},
};

use anyhow::{Context, Result};
use kprobe_core::pipeline::{Ledger, Monitor};
use kprobe_ebpf::{CountRuns, ProgramStats, ProgramWatch, host};
use kprobe_sinks::prometheus::{Endpoint, Server};
use serde::Serialize;

use crate::{cli::say, options::Options};

/// Of this process and its kernel programs.
#[derive(Debug)]
pub(crate) struct Cost {
    programs: Option<ProgramWatch>,
    _counting: Option<CountRuns>,
    listener: Option<TcpListener>,
}

/// The books, and what it took to keep them.
#[derive(Serialize)]
pub(crate) struct Stats<'a> {
    #[serde(flatten)]
    ledger: &'a Ledger,
    /// Absent where there is no `/proc`.
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<host::Usage>,
    #[serde(skip_serializing_if = "Option::is_none")]
    programs: Option<ProgramStats>,
}

impl Cost {
    /// Has the kernel count from now on, if it is to, and listens where metrics are to be served.
    ///
    /// # Errors
    /// One of them cannot be.
    pub(crate) fn of(programs: Option<ProgramWatch>, options: &Options) -> Result<Self> {
        let counting = options.count_runs.then(CountRuns::start).transpose()?;
        let listen = |address: SocketAddr| {
            TcpListener::bind(address).with_context(|| format!("cannot serve metrics on {address}"))
        };
        Ok(Self { programs, _counting: counting, listener: options.metrics.map(listen).transpose()? })
    }

    /// What is shown with `--stats`.
    pub(crate) fn beside<'a>(&self, ledger: &'a Ledger) -> Stats<'a> {
        let programs = self.programs.as_ref().map(ProgramWatch::stats);
        Stats { ledger, usage: host::usage().ok(), programs }
    }

    /// Serves metrics of this pipeline, until the server is dropped.
    pub(crate) fn serve(&mut self, monitor: Monitor) -> Result<Option<Server>> {
        let Some(listener) = self.listener.take() else { return Ok(None) };
        let programs = self.programs.clone();
        let mut described = false;
        let endpoint = Endpoint::new(monitor).before_each_scrape(move || {
            if !std::mem::replace(&mut described, true) {
                kprobe_ebpf::metrics::describe();
            }
            if let Ok(usage) = host::usage() {
                kprobe_ebpf::metrics::publish_usage(&usage);
            }
            if let Some(programs) = &programs {
                kprobe_ebpf::metrics::publish_programs(&programs.stats());
            }
        });
        let server = endpoint.start_on(listener)?;
        say(format_args!("metrics on http://{}/metrics", server.address()));
        Ok(Some(server))
    }
}

impl fmt::Display for Stats<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.ledger)?;
        if let Some(usage) = &self.usage {
            write!(f, "\n\nthis process: {usage}")?;
        }
        match &self.programs {
            Some(programs) => write!(f, "\n{programs}"),
            None => Ok(()),
        }
    }
}
