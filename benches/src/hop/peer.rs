//! The peer: each event by value through a channel of crossbeam's.

use std::thread;

use anyhow::{Result, anyhow};
use crossbeam_channel::{Receiver, Sender, bounded};

use super::{
    Hops, PAUSE, Use, Waits,
    events::{BYTES, Block, Seen},
    on_core,
};
use crate::{
    heap::Heap,
    machine::{CONSUMER_CORE, process_cpu_ns},
};

fn start(
    capacity: usize,
    take: impl FnOnce(Receiver<[u8; BYTES]>) -> Seen + Send + 'static,
) -> Result<(Sender<[u8; BYTES]>, thread::JoinHandle<Seen>)> {
    let (to, from) = bounded(capacity);
    Ok((to, on_core(CONSUMER_CORE, || Ok(thread::spawn(move || take(from))))?))
}

fn take(from: Receiver<[u8; BYTES]>) -> Seen {
    let mut seen = Seen::default();
    for event in from {
        seen.on_event(&event);
    }
    seen
}

fn end(thread: thread::JoinHandle<Seen>) -> Result<Seen> {
    thread.join().map_err(|_| anyhow!("the peer's receiver panicked"))
}

/// All events through a channel of `capacity`.
pub(super) fn hop(events: u64, capacity: usize) -> Result<Hops> {
    let mut block = Block::new();
    let (to, thread) = start(capacity, take)?;
    let used = Use::now();
    let (mut given, mut at_half) = (0, None);
    while given < events {
        for frame in block.next(events - given) {
            to.send(frame.event())?;
            given += 1;
        }
        if 2 * given >= events {
            at_half.get_or_insert_with(Heap::now);
        }
    }
    let late = Heap::now().since(at_half.unwrap_or_default());
    drop(to);
    let seen = end(thread)?;
    Ok(used.until_now().hops(events, seen, late))
}

/// What waiting costs both threads: nothing comes, and nothing is taken.
pub(super) fn waits(capacity: usize) -> Result<Waits> {
    let mut block = Block::new();
    let (to, thread) = start(capacity, take)?;
    for frame in block.next(u64::MAX) {
        to.send(frame.event())?;
    }
    thread::sleep(PAUSE / 10);
    let cpu = process_cpu_ns();
    thread::sleep(PAUSE);
    let empty_ns = process_cpu_ns() - cpu;
    drop(to);
    end(thread)?;

    let (to, thread) = start(capacity, |from| {
        thread::sleep(PAUSE + PAUSE / 10);
        take(from)
    })?;
    let event = block.next(1)[0].event();
    while to.try_send(event).is_ok() {}
    let cpu = process_cpu_ns();
    // Waits until the receiver begins.
    to.send(event)?;
    let full_ns = process_cpu_ns() - cpu;
    drop(to);
    end(thread)?;
    Ok(Waits { empty_ns, full_ns })
}
