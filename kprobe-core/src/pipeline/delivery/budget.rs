//! How many bytes may wait before a sink, and how a producer waits for room.
//!
//! One producer takes, anybody gives back. Producer and giver each write one thing and then read the other's (Dekker): the
//! producer sets `waiting` and reads `used`, the giver lowers `used` and reads `waiting`. Each has a full barrier between its
//! two steps, so at least one sees what the other wrote: either there is room already, or the giver wakes. A wake-up before
//! the producer parks is kept by the parker. Nothing else is published here, so the accesses themselves need no order.

use super::sync::{Arc, AtomicBool, AtomicUsize, Ordering, Parker, Unparker, fence};

/// The producer's end.
#[derive(Debug)]
pub(super) struct Budget {
    shared: Arc<Shared>,
    parker: Parker,
}

#[derive(Debug)]
struct Shared {
    most: usize,
    used: AtomicUsize,
    waiting: AtomicBool,
    producer: Unparker,
}

/// A share that was taken; dropping it gives it back.
#[derive(Debug)]
pub(super) struct Permit {
    cost: usize,
    shared: Arc<Shared>,
}

impl Budget {
    pub(super) fn new(most: usize) -> Self {
        let parker = Parker::new();
        let producer = parker.unparker().clone();
        let shared = Shared { most, used: AtomicUsize::new(0), waiting: AtomicBool::new(false), producer };
        Self { shared: Arc::new(shared), parker }
    }

    /// Takes a share if there is room for it. One that is larger than the whole is let in when nothing else is.
    pub(super) fn take(&self, cost: usize) -> Option<Permit> {
        if !self.shared.has_room(cost) {
            return None;
        }
        // Only this end adds, so there still is room.
        self.shared.used.fetch_add(cost, Ordering::Relaxed);
        Some(Permit { cost, shared: Arc::clone(&self.shared) })
    }

    /// Waits until there may be room, or a while.
    pub(super) fn wait(&self, cost: usize, park: impl FnOnce(&Parker)) {
        self.shared.waiting.store(true, Ordering::Relaxed);
        // Pairs with the fence of a giver.
        fence(Ordering::SeqCst);
        if !self.shared.has_room(cost) {
            park(&self.parker);
        }
        self.shared.waiting.store(false, Ordering::Relaxed);
    }

    /// Bytes in all.
    pub(super) fn most(&self) -> usize {
        self.shared.most
    }

    /// Bytes that are taken.
    pub(super) fn used(&self) -> usize {
        self.shared.used.load(Ordering::Relaxed)
    }
}

impl Shared {
    fn has_room(&self, cost: usize) -> bool {
        let used = self.used.load(Ordering::Relaxed);
        used == 0 || used.saturating_add(cost) <= self.most
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.shared.used.fetch_sub(self.cost, Ordering::Relaxed);
        // Pairs with the fence of a producer that waits.
        fence(Ordering::SeqCst);
        if self.shared.waiting.load(Ordering::Relaxed) {
            self.shared.producer.unpark();
        }
    }
}
