use std::{
    io,
    os::unix::process::CommandExt,
    process::{Child, Command},
    sync::Arc,
};

use kprobe_core::event::{Comm, Tgid};

use super::{
    Recorder, SelectError,
    seeds::{self, Seed},
};
use crate::{attach::Object, host};

impl<Probes> Recorder<Probes> {
    /// Starts `command` and records it and its children, nothing missed from its exec on.
    ///
    /// The child selects itself between fork and exec, by writing to memory that it shares with the kernel programs;
    /// its next system call is the exec. For that to be exactly one call give the program as a path, for which
    /// [`host::command::resolve`](crate::host::command::resolve) is there.
    ///
    /// Only this start is recorded, not a later one of the same `command`; each call leaves a few dozen bytes in it.
    ///
    /// The recorder must have been built with [`Filter::none`](crate::Filter::none) or with processes.
    ///
    /// # Errors
    /// The command cannot be started, or the filter was not made for it.
    pub fn spawn(&mut self, command: &mut Command) -> Result<Child, SpawnError> {
        self.may_select()?;
        let sets: Vec<_> = self.objects.iter().filter_map(|object| object.tgids.clone()).collect();
        if !host::children_in_initial_pid_namespace().map_err(io::Error::other).map_err(SpawnError::Start)? {
            return Err(SpawnError::PidNamespace);
        }
        let now_ns = host::clocks().monotonic_ns;
        // The closure stays in the `Command` for ever. What it refers to goes with this call, so that a later start of
        // the same `Command` is not selected, and no memory of the kernel programs stays mapped.
        let sets = Arc::new(sets);
        let of_child = Arc::downgrade(&sets);
        // SAFETY: between fork and exec in a process that may have other threads only async-signal-safe calls are
        // allowed: getpid is one, `upgrade` and its end are atomic operations on the child's copy of a counter that the
        // copy of `sets` keeps above 0, and `insert` is one on memory that was mapped before the fork.
        unsafe {
            command.pre_exec(move || {
                if let Some(sets) = of_child.upgrade() {
                    // Asked once: from the first insertion on its calls are recorded.
                    let own = std::process::id();
                    for set in sets.iter() {
                        set.insert(own);
                    }
                }
                Ok(())
            });
        }
        let unsettled: Vec<_> = self.objects.iter().map(Object::unsettle).collect();
        // It returns when the child has come to its exec, or has failed to.
        let child = command.spawn().map_err(SpawnError::Start)?;
        drop((sets, unsettled));
        // Until its exec the child has the name of the thread that forked it. It is there until it is waited for.
        let mut seeds = seeds::threads(&Seed::Tgids(vec![child.id()]), now_ns);
        seeds.retain(|seed| seed.tid == child.id());
        for seed in &mut seeds {
            seed.body.comm = own_comm().to_field();
        }
        self.pending.threads.extend(seeds);
        Ok(child)
    }

    /// Whether this process is being recorded.
    #[must_use]
    pub fn records(&self, process: Tgid) -> bool {
        self.objects.iter().filter_map(|object| object.tgids.as_ref()).any(|set| set.contains(process.0))
    }
}

fn own_comm() -> Comm {
    std::fs::read("/proc/thread-self/comm")
        .map_or_else(|_| Comm::default(), |text| Comm::from_text(text.trim_ascii_end()))
}

/// A command was not started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SpawnError {
    /// The recorder does not record processes by their id, or not for this process.
    #[error(transparent)]
    Select(#[from] SelectError),
    /// The child would select itself by an id that is another process's.
    #[error(
        "the command would start in another pid namespace, where its process id is not the kernel's; start it from a \
         thread that has not left the initial one (no `unshare --pid`)"
    )]
    PidNamespace,
    /// The system refused to start it.
    #[error("cannot start the command: {0}")]
    Start(#[source] io::Error),
}
