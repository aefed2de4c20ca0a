use std::{
    io, mem,
    num::NonZeroU64,
    os::fd::{AsFd, BorrowedFd},
    time::Duration,
};

use bytes::BytesMut;
use rustix::thread::set_current_timer_slack;

use super::{
    Drained, Next, Pacing, Ring, RingError, Stop, Waker, Woken,
    buffer::monotonic_ns,
    handshake,
    pacing::{Pacer, Plan},
    poll::Poll,
    state::ReaderStates,
};
use crate::host;

/// Reads several rings and knows when to read them again.
///
/// A thread of its own runs
///
/// ```no_run
/// # use kprobe_ebpf::ring::{Reader, Woken};
/// # fn run(mut reader: Reader, mut batch: bytes::BytesMut) -> std::io::Result<()> {
/// kprobe_ebpf::ring::precise_naps()?;
/// loop {
///     reader.copy_into(&mut batch, 256 << 10);
///     // ... use the batch, then:
///     let next = reader.pace()?;
///     // ... reader.drained_until_ns() will not move before `wait` returns
///     if reader.wait(next)? == Woken::ByWaker {
///         return Ok(());
///     }
/// }
/// # }
/// ```
///
/// A loop that belongs to somebody else polls the reader's descriptor (level- or edge-triggered), drains when it is
/// readable or the time is over that the last [`pace`](Self::pace) gave, then calls `pace` again; it never calls `wait`.
#[derive(Debug)]
pub struct Reader {
    rings: Vec<Ring>,
    states: ReaderStates,
    poll: Poll,
    pacer: Pacer,
    /// Ring at which the next drain begins.
    turn: usize,
    /// The last drain left records because of its limit.
    is_limited: bool,
    /// Sum of the rings' positions at the last plan.
    planned_at: usize,
    /// When the reader went idle, if the last plan was that.
    idle_since_ns: Option<u64>,
    /// How long it was idle before the first drain since the last nap, if it was.
    slept: Option<Duration>,
    /// The last plan was followed by `wait`, which took the descriptor's events.
    waited: bool,
    /// The last plan took an event of the waker.
    woken: bool,
    /// Records lost so far, when that was last looked at.
    lost: u64,
}

impl Reader {
    /// `states` are those of the rings, in the same order.
    pub fn new(rings: Vec<Ring>, states: ReaderStates, pacing: Pacing) -> Result<Self, RingError> {
        if states.count() < rings.len() {
            return Err(RingError::States { rings: rings.len(), states: states.count() });
        }
        let poll = Poll::new(rings.iter().map(Ring::as_fd))?;
        let cpus = host::possible_cpus().map_or(1, |cpus| cpus.count());
        for (index, ring) in rings.iter().enumerate() {
            states.set_thresholds(index, ring.len_bytes(), cpus.div_ceil(rings.len()));
        }
        let smallest = rings.iter().map(Ring::len_bytes).min().unwrap_or(0);
        let planned_at = positions(&rings);
        let pacer = Pacer::new(pacing, smallest);
        Ok(Self {
            rings,
            states,
            poll,
            pacer,
            turn: 0,
            is_limited: false,
            planned_at,
            idle_since_ns: None,
            slept: None,
            waited: true,
            woken: false,
            lost: 0,
        })
    }

    /// The rings, to be drained one by one.
    pub fn rings_mut(&mut self) -> &mut [Ring] {
        &mut self.rings
    }

    /// Appends what the rings hold to `out`, up to `limit_bytes` (but at least one record), in the form of
    /// [`Ring::copy_into`]. If it stopped at [`Stop::Limit`], the next call goes on with the ring at which this one
    /// stopped.
    pub fn copy_into(&mut self, out: &mut BytesMut, limit_bytes: usize) -> Drained {
        let mut all = Drained { records: 0, discarded: 0, bytes: 0, stop: Stop::CaughtUp };
        for _ in 0..self.rings.len() {
            if all.bytes != 0 && all.bytes >= limit_bytes {
                all.stop = all.stop.max(Stop::Limit);
                break;
            }
            let one = self.rings[self.turn].copy_into(out, limit_bytes - all.bytes);
            all.records += one.records;
            all.discarded += one.discarded;
            all.bytes += one.bytes;
            all.stop = all.stop.max(one.stop);
            if one.stop == Stop::Limit {
                break;
            }
            self.turn = (self.turn + 1) % self.rings.len();
        }
        self.is_limited = all.stop == Stop::Limit;
        all
    }

    /// Every record that no drain has taken yet, of any ring, was reserved after this time: nanoseconds of
    /// `CLOCK_MONOTONIC`. Drains and [`pace`](Self::pace) move it forward.
    #[must_use]
    pub fn drained_until_ns(&self) -> u64 {
        self.rings.iter().map(Ring::drained_until_ns).min().unwrap_or(0)
    }

    /// To be called after the rings were drained: says when to drain them next.
    ///
    /// After a [`copy_into`](Self::copy_into) that stopped at its limit that is at once.
    /// With [`Next::Idle`] the programs were told to wake the reader with their next record. A call of [`Waker::wake`]
    /// since the last plan makes it [`Next::Again`] without a nap: whoever was to be woken looks around once more.
    pub fn pace(&mut self) -> io::Result<Next> {
        // In somebody else's loop nobody took the events that made the descriptor readable. A record's wake-up that is
        // lost here came while the rings were being drained, before the programs are asked for another. The waker's may
        // have come after the loop looked for what it stands for, and must not be lost.
        self.woken = !self.waited && self.poll.take(Some(Duration::ZERO))? == Woken::ByWaker;
        self.waited = false;
        let now_ns = monotonic_ns();
        if let Some(since) = self.idle_since_ns.take() {
            self.slept = Some(Duration::from_nanos(now_ns.saturating_sub(since)));
        }
        if mem::take(&mut self.is_limited) {
            // How long to nap is decided by what has come since the last nap, when all of it was drained.
            self.retract();
            return Ok(Next::Again(Duration::ZERO));
        }
        let position = positions(&self.rings);
        let bytes = position.wrapping_sub(self.planned_at);
        self.planned_at = position;
        let unread = self.rings.iter().map(Ring::unread_bytes).max().unwrap_or(0);
        let nap = match self.pacer.plan(bytes, unread, self.slept.take()) {
            _ if self.woken => Duration::ZERO,
            Plan::TryIdle(_) if self.arm() => {
                self.idle_since_ns = Some(now_ns);
                return Ok(Next::Idle);
            }
            Plan::TryIdle(nap) | Plan::Nap(nap) => nap,
        };
        self.retract();
        Ok(Next::Again(nap))
    }

    /// No ring's programs need to wake the reader.
    fn retract(&self) {
        for ring in 0..self.rings.len() {
            handshake::retract(self.states.idle(ring));
        }
    }

    /// Waits as the last [`pace`](Self::pace) said.
    pub fn wait(&mut self, next: Next) -> io::Result<Woken> {
        self.take(match next {
            Next::Idle => None,
            Next::Again(nap) => Some(nap),
        })
    }

    /// Waits as the last [`pace`](Self::pace) said, but not longer than this.
    pub fn wait_at_most(&mut self, next: Next, longest: Duration) -> io::Result<Woken> {
        self.take(Some(match next {
            Next::Idle => longest,
            Next::Again(nap) => nap.min(longest),
        }))
    }

    fn take(&mut self, timeout: Option<Duration>) -> io::Result<Woken> {
        self.waited = true;
        match mem::take(&mut self.woken) {
            true => Ok(Woken::ByWaker),
            false => Ok(self.poll.take(timeout)?),
        }
    }

    /// Whether records were lost, in any ring, since this was asked before.
    pub fn has_new_losses(&mut self) -> bool {
        let lost = self.states.lost();
        mem::replace(&mut self.lost, lost) != lost
    }

    /// Wakes this reader from elsewhere.
    #[must_use]
    pub fn waker(&self) -> Waker {
        self.poll.waker().clone()
    }

    /// Asks the programs of all rings for a wake-up with the next record; `false` if one came before they could see it.
    fn arm(&mut self) -> bool {
        // Before the producer positions are loaded, as `drained_until_ns` needs it: an idle reader has seen everything.
        let now_ns = monotonic_ns();
        handshake::announce((0..self.rings.len()).map(|ring| self.states.idle(ring)));
        for ring in &mut self.rings {
            if handshake::has_reserved(ring.producer_position(), ring.position()) {
                return false;
            }
            ring.look_at(now_ns);
        }
        true
    }
}

impl AsFd for Reader {
    /// For poll, select or another epoll: readable when a program or a [`Waker`] woke this reader.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.poll.as_fd()
    }
}

/// Makes the naps of the calling thread as long as asked, where Linux would add up to 50 us to each.
///
/// For a thread that does nothing but drain: it sets the thread's timer slack to 1 ns.
pub fn precise_naps() -> io::Result<()> {
    Ok(set_current_timer_slack(NonZeroU64::new(1))?)
}

fn positions(rings: &[Ring]) -> usize {
    rings.iter().fold(0, |sum, ring| sum.wrapping_add(ring.position()))
}
