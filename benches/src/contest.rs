//! A ring with its producers and two consumers.

use std::{
    os::fd::{AsFd, AsRawFd as _},
    path::Path,
    process::Command,
};

use anyhow::{Context as _, Result};
use rustix::io::{FdFlags, fcntl_setfd};

use crate::{
    bpf::{Producer, Program, RECORD, Rings, Wakeups},
    child::Talker,
    machine::CONSUMER_CORE,
    outcome::Work,
};

pub(crate) struct Contest {
    pub(crate) rings: Rings,
    ours: Talker,
    theirs: Talker,
}

impl Contest {
    /// `peer`: program of the other consumer.
    pub(crate) fn new(ring_bytes: u32, peer: &Path) -> Result<Self> {
        Self::of_records(RECORD, ring_bytes, peer)
    }

    /// With records of so many bytes.
    pub(crate) fn of_records(record_bytes: i32, ring_bytes: u32, peer: &Path) -> Result<Self> {
        let rings = Rings::new(ring_bytes).context("create maps (are you root?)")?;
        let filler = Producer::load_sized(&rings, Wakeups::Never, false, record_bytes);
        let filler = filler.context("load the filler")?;
        let this = std::env::current_exe()?;
        let ours = start(Command::new(this).arg("consumer"), &rings, &filler.one)?;
        let theirs = start(&mut Command::new(peer), &rings, &filler.one)?;
        Ok(Self { rings, ours, theirs })
    }

    pub(crate) fn consumer(&mut self, ours: bool) -> &mut Talker {
        if ours { &mut self.ours } else { &mut self.theirs }
    }

    /// What our consumer's last run consisted of.
    pub(crate) fn work(&mut self) -> Result<Work> {
        self.ours.tell("work")?;
        self.ours.answer()
    }

    /// What the peer calls itself.
    pub(crate) fn peer_version(&mut self) -> Result<String> {
        self.theirs.tell("version")?;
        self.theirs.line()
    }

    pub(crate) fn children(&self) -> [u32; 2] {
        [self.ours.pid(), self.theirs.pid()]
    }
}

/// Starts `program ARGS CORE RING READERS FILLER` with those descriptors open.
pub(crate) fn start(command: &mut Command, rings: &Rings, filler: &Program) -> Result<Talker> {
    command.arg(CONSUMER_CORE.to_string());
    for fd in [rings.ring.as_fd(), rings.readers.as_fd(), filler.0.as_fd()] {
        // Every consumer inherits what was passed to those before it as well, which does no harm.
        fcntl_setfd(fd, FdFlags::empty())?;
        command.arg(fd.as_raw_fd().to_string());
    }
    Talker::start(command)
}
