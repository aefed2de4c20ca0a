use super::Context;

/// The contexts of a batch's records, one for each in their order.
///
/// Few threads make most records, and what is known of them seldom changes: what is the same is there once, so that a record
/// costs four bytes and not a hundred, which would be more than most records have.
#[derive(Clone, Debug, Default)]
pub(crate) struct Contexts {
    entries: Vec<Context>,
    /// Of each record its entry.
    numbers: Vec<u32>,
    /// Entries that were used last, each at the place of its hint.
    recent: [u32; RECENT],
}

/// So many threads may take turns. With more the same entry may be there twice, which costs its bytes.
const RECENT: usize = 32;

impl Contexts {
    /// With room for so many entries and records, as [`room`](Self::room) of another one has them.
    pub(crate) fn with_room((entries, numbers): (usize, usize)) -> Self {
        Self {
            entries: Vec::with_capacity(entries),
            numbers: Vec::with_capacity(numbers),
            recent: [0; RECENT],
        }
    }

    /// Of what was written down; `None` if a number is that of no entry.
    pub(crate) fn from_parts(entries: Vec<Context>, numbers: Vec<u32>) -> Option<Self> {
        let is_there = |number: &u32| (*number as usize) < entries.len();
        numbers.iter().all(is_there).then_some(Self { entries, numbers, recent: [0; RECENT] })
    }

    /// The next record has this one. The same `hint`, its thread, has had it before, most likely.
    #[inline]
    pub(crate) fn push(&mut self, hint: u32, context: &Context) {
        let place = hint as usize % RECENT;
        let number = self.recent[place];
        let number = match self.entries.get(number as usize) {
            Some(entry) if entry == context => number,
            _ => self.enter(place, context.clone()),
        };
        self.numbers.push(number);
    }

    #[cold]
    fn enter(&mut self, place: usize, context: Context) -> u32 {
        // A batch has fewer bytes.
        let number = u32::try_from(self.entries.len()).unwrap_or(u32::MAX);
        self.entries.push(context);
        self.recent[place] = number;
        number
    }

    /// So many more records have an empty one.
    pub(crate) fn skip(&mut self, records: usize) {
        (0..records).for_each(|_| self.push(0, &super::batch::NO_CONTEXT));
    }

    /// Room that all this takes.
    pub(crate) fn room(&self) -> (usize, usize) {
        (self.entries.len(), self.numbers.len())
    }

    /// How many records have one.
    pub(crate) fn len(&self) -> usize {
        self.numbers.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.numbers.is_empty()
    }

    /// One for each record.
    #[inline]
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Context> {
        self.numbers.iter().filter_map(|number| self.entries.get(*number as usize))
    }

    /// Each once, or some more than once.
    pub(crate) fn entries(&self) -> &[Context] {
        &self.entries
    }

    /// Of each record the place among the entries.
    pub(crate) fn numbers(&self) -> &[u32] {
        &self.numbers
    }

    /// Bytes of memory.
    pub(crate) fn cost(&self) -> usize {
        size_of::<Self>()
            + self.entries.capacity() * size_of::<Context>()
            + self.numbers.capacity() * size_of::<u32>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Comm;

    fn context(name: u32) -> Context {
        Context { comm: Comm::from_text(name.to_string().as_bytes()), ..Context::default() }
    }

    #[test]
    fn what_is_the_same_is_there_once() {
        let mut contexts = Contexts::default();
        let names = |at: u32| at % 7;
        (0..1000).for_each(|at| contexts.push(names(at), &context(names(at))));
        assert_eq!((contexts.len(), contexts.entries().len()), (1000, 7));
        assert!(contexts.iter().cloned().eq((0..1000).map(|at| context(names(at)))));
    }

    #[test]
    fn hints_that_get_into_each_others_way() {
        let mut contexts = Contexts::default();
        let hint = |at: u32| at % 2 * u32::try_from(RECENT).unwrap_or_default();
        (0..10).for_each(|at| contexts.push(hint(at), &context(at % 2)));
        assert!(contexts.iter().cloned().eq((0..10).map(|at| context(at % 2))));
    }

    #[test]
    fn numbers_of_no_entry() {
        assert!(Contexts::from_parts(vec![context(1)], vec![0, 0]).is_some());
        assert!(Contexts::from_parts(vec![context(1)], vec![0, 1]).is_none());
        assert!(Contexts::from_parts(Vec::new(), vec![0]).is_none());
    }
}
