//! What the processes of a measurement answer: one line of names and numbers.

use std::{
    fmt,
    str::{FromStr, SplitWhitespace},
};

use anyhow::{Context as _, Error, Result};

macro_rules! answer {
    ($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub(crate) struct $name {
            $($(#[$field_doc])* pub(crate) $field: u64,)+
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let numbers = [$((stringify!($field), self.$field)),+];
                let words = numbers.map(|(name, number)| format!("{name} {number}"));
                f.write_str(&words.join(" "))
            }
        }

        impl FromStr for $name {
            type Err = Error;

            fn from_str(line: &str) -> Result<Self> {
                let mut words = line.split_whitespace();
                let answer = (|| Some(Self { $($field: number(&mut words, stringify!($field))?),+ }))();
                answer.with_context(|| format!("a process of the measurement answered {line:?}"))
            }
        }
    };
}

answer! {
    /// Of a consumer of the ring benches.
    Outcome {
        /// Records whose number and contents were checked.
        records,
        /// Records that failed a check.
        errors,
        /// Time it took.
        ns,
        /// CPU time it took, user and kernel.
        cpu_ns,
        /// Half of the records were delivered within so many microseconds.
        p50_us,
        /// 99 % of them.
        p99_us,
    }
}

answer! {
    /// Of our consumer: what its CPU time of the last run went into. The rest is for sleeping and waking up.
    Work {
        /// Time of copying records out of the ring.
        copy_ns,
        /// Time of decoding and checking them.
        decode_ns,
        /// Times it slept.
        sleeps,
    }
}

answer! {
    /// Of the process that makes the calls.
    Calls {
        /// Calls it made, including those that were not timed.
        made,
        /// Calls of one burst.
        per_burst,
        /// Time that half of the timed bursts took at most.
        burst_ns,
        /// Time from the first call to the last, pauses included.
        elapsed_ns,
    }
}

answer! {
    /// Of the process that makes calls at a steady pace.
    Paced {
        /// Calls it made.
        made,
        /// Of them those that are no sleeps.
        getppid,
        /// Time from the first to the last.
        elapsed_ns,
        /// CPU time of that, user and kernel.
        cpu_ns,
    }
}

answer! {
    /// Of our recorder.
    Recorded {
        /// Calls whose record came, every field of it decoded and checked.
        calls,
        /// Records of other calls of the same process.
        others,
        /// Records that failed a check.
        errors,
        /// Records that the kernel counted as lost.
        lost,
        /// Record numbers that did not come.
        missing,
    }
}

answer! {
    /// Of who makes lines of records.
    Lines {
        /// Records whose line was written.
        records,
        /// Records that it had no room for.
        dropped,
        /// Bytes of all that was written.
        bytes,
        /// When the last of it was written.
        last_ns,
        /// CPU time of all its threads, user and kernel.
        cpu_ns,
    }
}

answer! {
    /// Of events that went from one thread to another.
    Hops {
        /// Events that were looked at.
        events,
        /// Events that were not what was sent, or were not there.
        errors,
        /// Time from the first to the last.
        ns,
        /// CPU time of the thread that gives them, user and kernel.
        source_cpu_ns,
        /// Of the thread that takes them.
        sink_cpu_ns,
        /// Allocations while the second half of the events was given.
        allocations,
        /// Their bytes.
        allocated_bytes,
        /// Times that a thread went to sleep.
        waited,
        /// Times that the kernel took the core away from one.
        preempted,
    }
}

answer! {
    /// Of the same with a sink beside it that hangs, or none.
    Beside {
        /// Events that came to the sink that does not hang.
        events,
        /// Events that were not what was sent, or were not there.
        errors,
        /// Time from the first to the last.
        ns,
        /// CPU time of all threads.
        cpu_ns,
        /// Events that came to the other sink in the end.
        taken,
        /// Events that did not, all of them counted.
        dropped,
    }
}

answer! {
    /// CPU time of two threads that wait for a second.
    Waits {
        /// For events.
        empty_ns,
        /// For room.
        full_ns,
    }
}

impl Calls {
    /// In the median burst: a burst is long enough to have all that a call may cost now and then, and another process that
    /// got the core for a moment spoils one burst and not the turn.
    pub(crate) fn ns_per_call(&self) -> f64 {
        self.burst_ns as f64 / self.per_burst as f64
    }
}

fn number(words: &mut SplitWhitespace<'_>, name: &str) -> Option<u64> {
    if words.next()? != name {
        return None;
    }
    words.next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways() {
        let outcome = Outcome { records: 1, errors: 2, ns: 3, cpu_ns: 4, p50_us: 5, p99_us: 6 };
        assert_eq!(outcome.to_string(), "records 1 errors 2 ns 3 cpu_ns 4 p50_us 5 p99_us 6");
        assert_eq!(outcome.to_string().parse::<Outcome>().expect("its own words"), outcome);
        assert!("records 1 errors x".parse::<Outcome>().is_err());
    }
}
