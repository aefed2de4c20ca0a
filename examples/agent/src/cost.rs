//! What the agent itself takes of the machine: with the ledger, and as metrics.

use std::fmt;

use anyhow::Result;
use kprobe_core::pipeline::{Ledger, Monitor};
use kprobe_ebpf::{CountRuns, ProgramStats, ProgramWatch, host};
use kprobe_sinks::prometheus::{Endpoint, Server};
use serde::Serialize;

use crate::options::Options;

/// Of this process and its kernel programs.
#[derive(Debug)]
pub(crate) struct Cost {
    programs: Option<ProgramWatch>,
    _counting: Option<CountRuns>,
}

/// The books, and what it took to keep them.
#[derive(Serialize)]
pub(crate) struct Stats<'a> {
    #[serde(flatten)]
    ledger: &'a Ledger,
    usage: host::Usage,
    #[serde(skip_serializing_if = "Option::is_none")]
    programs: Option<ProgramStats>,
}

impl Cost {
    /// Has the kernel count from now on, if it is to.
    ///
    /// # Errors
    /// That is not allowed.
    pub(crate) fn of(programs: Option<ProgramWatch>, count_runs: bool) -> Result<Self> {
        let counting = count_runs.then(CountRuns::start).transpose()?;
        Ok(Self { programs, _counting: counting })
    }

    /// What is shown with `--stats`.
    pub(crate) fn beside<'a>(&self, ledger: &'a Ledger) -> Result<Stats<'a>> {
        let programs = self.programs.as_ref().map(ProgramWatch::stats);
        Ok(Stats { ledger, usage: host::usage()?, programs })
    }

    /// Serves metrics where the options say, until the server is dropped.
    pub(crate) fn serve(&self, options: &Options, monitor: Monitor) -> Result<Option<Server>> {
        let Some(address) = options.metrics else { return Ok(None) };
        let programs = self.programs.clone();
        let endpoint = Endpoint::new(monitor).before_each_scrape(move || {
            if let Ok(usage) = host::usage() {
                kprobe_ebpf::metrics::publish_usage(&usage);
            }
            if let Some(programs) = &programs {
                kprobe_ebpf::metrics::publish_programs(&programs.stats());
            }
        });
        Ok(Some(endpoint.start(address)?))
    }
}

impl fmt::Display for Stats<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\n\nthis process: {}", self.ledger, self.usage)?;
        match &self.programs {
            Some(programs) => write!(f, "\n{programs}"),
            None => Ok(()),
        }
    }
}
