use std::{
    mem::MaybeUninit,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::Arc,
    time::Duration,
};

use rustix::{
    event::{EventfdFlags, PollFd, PollFlags, Timespec, epoll, eventfd, poll},
    io::{self, Errno},
};

/// What the waker is registered as; rings are registered by their index.
const WAKER: u64 = u64::MAX;
/// Events that one wait fetches. Those that are left over come with the next.
const EVENTS: usize = 16;

/// Why [`Reader::wait`](super::Reader::wait) returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Woken {
    /// A program woke it: there are records.
    ByRecord,
    /// The nap is over, or a signal came.
    ByTime,
    /// [`Waker::wake`] was called.
    ByWaker,
}

/// Wakes a [`Reader`](super::Reader) from another thread or from a signal handler.
#[derive(Clone, Debug)]
pub struct Waker(Arc<OwnedFd>);

impl Waker {
    /// Makes the current or the next [`Reader::wait`](super::Reader::wait) return, and the reader's descriptor readable.
    pub fn wake(&self) {
        // It fails only if the counter is full, after 2^64 - 2 calls.
        let written = io::write(&self.0, &1u64.to_ne_bytes());
        debug_assert_eq!(written, Ok(8));
    }
}

/// An epoll instance with the rings and the waker.
#[derive(Debug)]
pub(super) struct Poll {
    epoll: OwnedFd,
    waker: Waker,
}

impl Poll {
    pub(super) fn new<'a>(rings: impl Iterator<Item = BorrowedFd<'a>>) -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let waker = Waker(Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?));
        // Edge-triggered: during a nap a ring that holds records must not count as an event, a wake-up must. Nobody
        // reads the eventfd: each write to it is a new edge.
        let edge = epoll::EventFlags::IN | epoll::EventFlags::ET;
        epoll::add(&epoll, &*waker.0, epoll::EventData::new_u64(WAKER), edge)?;
        for (index, ring) in rings.enumerate() {
            epoll::add(&epoll, ring, epoll::EventData::new_u64(index as u64), edge)?;
        }
        Ok(Self { epoll, waker })
    }

    pub(super) fn waker(&self) -> &Waker {
        &self.waker
    }

    /// Waits for an event, without limit if there is no `timeout`, and takes it.
    pub(super) fn take(&self, timeout: Option<Duration>) -> io::Result<Woken> {
        let Some(nap) = timeout else { return self.take_within(None) };
        if !nap.is_zero() {
            // epoll_wait counts in milliseconds, and epoll_pwait2 is of Linux 5.11: ppoll on the epoll instance counts
            // in nanoseconds everywhere.
            let nap = Timespec {
                tv_sec: nap.as_secs().try_into().unwrap_or(i64::MAX),
                tv_nsec: nap.subsec_nanos().into(),
            };
            match poll(&mut [PollFd::new(&self.epoll, PollFlags::IN)], Some(&nap)) {
                Ok(0) | Err(Errno::INTR) => return Ok(Woken::ByTime),
                Ok(_) => {}
                Err(error) => return Err(error),
            }
        }
        self.take_within(Some(&Timespec { tv_sec: 0, tv_nsec: 0 }))
    }

    fn take_within(&self, timeout: Option<&Timespec>) -> io::Result<Woken> {
        let mut events = [MaybeUninit::<epoll::Event>::uninit(); EVENTS];
        let events = match epoll::wait(&self.epoll, &mut events, timeout) {
            Ok((events, _)) => events,
            Err(Errno::INTR) => return Ok(Woken::ByTime),
            Err(error) => return Err(error),
        };
        Ok(if events.iter().any(|event| event.data.u64() == WAKER) {
            Woken::ByWaker
        } else if events.is_empty() {
            Woken::ByTime
        } else {
            Woken::ByRecord
        })
    }
}

impl AsFd for Poll {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }
}
