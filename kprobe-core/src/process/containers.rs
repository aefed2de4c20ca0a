use std::sync::Arc;

use super::{
    hash::IdMap,
    slots::{Slot, Slots},
};

/// Names of containers by the ids of their cgroups; bounded. To make room the one is forgotten that was not asked for
/// the longest, so that a container that is at work keeps its name, however many others come and go.
#[derive(Debug)]
pub(super) struct Containers {
    limit: usize,
    by_id: IdMap<u64, Slot>,
    /// Linked in the order in which they were last used.
    slots: Slots<Container>,
    oldest: Option<Slot>,
    newest: Option<Slot>,
    pub(super) evicted: u64,
}

#[derive(Debug)]
struct Container {
    id: u64,
    name: Arc<str>,
    older: Option<Slot>,
    newer: Option<Slot>,
}

impl Containers {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            limit: limit.max(1),
            by_id: IdMap::default(),
            slots: Slots::default(),
            oldest: None,
            newest: None,
            evicted: 0,
        }
    }

    /// The name of a container, which is used now.
    #[inline]
    pub(super) fn find(&mut self, id: u64) -> Option<Arc<str>> {
        // Where there are no containers nothing is looked up.
        self.newest?;
        let slot = *self.by_id.get(&id)?;
        self.touch(slot);
        self.slots.get(slot).map(|container| Arc::clone(&container.name))
    }

    /// A cgroup is a container of that name.
    pub(super) fn put(&mut self, id: u64, name: Arc<str>) {
        if let Some(&slot) = self.by_id.get(&id) {
            self.touch(slot);
            if let Some(container) = self.slots.get_mut(slot) {
                container.name = name;
            }
            return;
        }
        if self.slots.len() >= self.limit
            && let Some(oldest) = self.oldest
        {
            self.remove_at(oldest);
            self.evicted += 1;
        }
        let slot = self.slots.insert(Container { id, name, older: None, newer: None });
        self.by_id.insert(id, slot);
        self.link(slot);
    }

    /// A cgroup is no container.
    pub(super) fn remove(&mut self, id: u64) {
        if let Some(&slot) = self.by_id.get(&id) {
            self.remove_at(slot);
        }
    }

    /// Records of one container come in runs: most find it in its place.
    #[inline]
    fn touch(&mut self, slot: Slot) {
        if self.newest != Some(slot) {
            self.unlink(slot);
            self.link(slot);
        }
    }

    fn remove_at(&mut self, slot: Slot) {
        self.unlink(slot);
        if let Some(container) = self.slots.remove(slot) {
            self.by_id.remove(&container.id);
        }
    }

    /// Makes it the newest.
    fn link(&mut self, slot: Slot) {
        let older = self.newest.replace(slot);
        if let Some(container) = self.slots.get_mut(slot) {
            (container.older, container.newer) = (older, None);
        }
        match older.and_then(|older| self.slots.get_mut(older)) {
            Some(older) => older.newer = Some(slot),
            None => self.oldest = Some(slot),
        }
    }

    fn unlink(&mut self, slot: Slot) {
        let Some((older, newer)) = self.slots.get(slot).map(|container| (container.older, container.newer))
        else {
            return;
        };
        match older.and_then(|older| self.slots.get_mut(older)) {
            Some(container) => container.newer = newer,
            None => self.oldest = newer,
        }
        match newer.and_then(|newer| self.slots.get_mut(newer)) {
            Some(container) => container.older = older,
            None => self.newest = older,
        }
    }
}
