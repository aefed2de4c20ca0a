/// Place in [`Slots`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Slot(u32);

/// Values that stay where they are, in memory that is used again.
#[derive(Debug)]
pub(super) struct Slots<T> {
    values: Vec<Option<T>>,
    free: Vec<Slot>,
}

impl<T> Default for Slots<T> {
    fn default() -> Self {
        Self { values: Vec::new(), free: Vec::new() }
    }
}

impl<T> Slots<T> {
    pub(super) fn insert(&mut self, value: T) -> Slot {
        if let Some(slot) = self.free.pop() {
            self.values[slot.0 as usize] = Some(value);
            return slot;
        }
        #[expect(clippy::cast_possible_truncation, reason = "the table holds fewer than 2^32 threads")]
        let slot = Slot(self.values.len() as u32);
        self.values.push(Some(value));
        slot
    }

    pub(super) fn remove(&mut self, slot: Slot) -> Option<T> {
        let value = self.values[slot.0 as usize].take();
        if value.is_some() {
            self.free.push(slot);
        }
        value
    }

    pub(super) fn get(&self, slot: Slot) -> Option<&T> {
        self.values.get(slot.0 as usize)?.as_ref()
    }

    pub(super) fn get_mut(&mut self, slot: Slot) -> Option<&mut T> {
        self.values.get_mut(slot.0 as usize)?.as_mut()
    }

    pub(super) const fn len(&self) -> usize {
        self.values.len() - self.free.len()
    }

    /// The place after `slot` that holds a value, round and round.
    pub(super) fn after(&self, slot: Slot) -> Option<Slot> {
        let (count, start) = (self.values.len(), slot.0 as usize + 1);
        let at = (start..start + count).map(|at| at % count).find(|&at| self.values[at].is_some())?;
        u32::try_from(at).ok().map(Slot)
    }

    pub(super) const fn start() -> Slot {
        Slot(0)
    }
}
