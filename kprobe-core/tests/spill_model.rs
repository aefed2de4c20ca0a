//! Anything that can happen to a spill, in any order, compared with a queue in memory. Disks fill up and fail, and processes
//! end.

mod spill_support;

use std::collections::VecDeque;

use kprobe_core::spill::{AppendError, Cause, Spill, SpillLimits};
use proptest::prelude::*;
use spill_support::{Memory, batch, number_of, stream};

const LIMITS: SpillLimits = SpillLimits { max_bytes: 9_000, segment_bytes: 2_200 };

#[derive(Clone, Debug)]
enum Action {
    /// Appends so many batches, of one of two streams.
    Append(u8, bool),
    Next(u8),
    /// Acknowledges all but so many of the batches that were read.
    Ack(usize),
    /// The process ends, and another one opens the directory.
    Reopen,
    /// So many bytes more can be written; or as many as anybody likes.
    Space(Option<usize>),
    /// Files cannot be cut and deleted, or can again.
    Stuck(bool),
    /// Files cannot be written to, or can again.
    Broken(bool),
}

fn actions() -> impl Strategy<Value = Action> {
    prop_oneof![
        6 => (1_u8..6, prop::bool::weighted(0.1)).prop_map(|(count, other)| Action::Append(count, other)),
        4 => (1_u8..8).prop_map(Action::Next),
        4 => (0_usize..4).prop_map(Action::Ack),
        2 => Just(Action::Reopen),
        1 => prop::option::of(0_usize..2_000).prop_map(Action::Space),
        1 => any::<bool>().prop_map(Action::Stuck),
        1 => any::<bool>().prop_map(Action::Broken),
    ]
}

/// What must be so.
#[derive(Default)]
struct Model {
    /// Numbers of the batches that are held, the oldest first.
    held: VecDeque<u64>,
    /// How many of them were read since the spill was opened.
    read: usize,
    /// How many before them may come again because their acknowledgement could not be written.
    unsure: VecDeque<u64>,
    next: u64,
}

struct Both {
    disk: Memory,
    spill: Spill<Memory>,
    model: Model,
    space: bool,
    stuck: bool,
    broken: bool,
    /// Positions behind the batches that were read and not acknowledged.
    positions: VecDeque<kprobe_core::spill::Position>,
}

impl Both {
    fn new() -> Self {
        let disk = Memory::new();
        let spill = Spill::on(disk.clone(), LIMITS).expect("an empty directory");
        let positions = VecDeque::new();
        Self { disk, spill, model: Model::default(), space: true, stuck: false, broken: false, positions }
    }

    fn act(&mut self, action: &Action) {
        match *action {
            Action::Append(count, other) => (0..count).for_each(|_| self.append(other)),
            Action::Next(count) => (0..count).for_each(|_| self.next()),
            Action::Ack(but) => self.ack(but),
            Action::Reopen => self.reopen(),
            Action::Space(space) => {
                self.space = space.is_none();
                let all = usize::try_from(self.disk.bytes()).expect("small");
                self.disk.set_space(space.map_or(usize::MAX, |more| all + more));
            }
            Action::Stuck(stuck) => {
                self.stuck = stuck;
                self.disk.set_stuck(stuck);
            }
            Action::Broken(broken) => {
                self.broken = broken;
                self.disk.set_broken(broken);
            }
        }
        assert_eq!(self.spill.held().batches, self.model.held.len() as u64);
        assert_eq!(self.spill.unread().batches, (self.model.held.len() - self.model.read) as u64);
        if !self.stuck {
            assert!(self.spill.bytes() <= LIMITS.max_bytes);
        }
    }

    fn append(&mut self, other: bool) {
        let number = self.model.next;
        let batch = batch(number, &stream(if other { 5 } else { 4 }));
        let all_done = self.model.held.is_empty();
        match self.spill.append(&batch) {
            Ok(()) => {
                self.model.held.push_back(number);
                self.model.next += 1;
                assert!(!self.broken, "nothing can be written");
                assert_eq!(self.spill.bytes(), self.disk.bytes(), "it counts every byte");
                assert!(self.disk.bytes() <= LIMITS.max_bytes);
            }
            Err(AppendError::Full { needed, held, max_bytes, .. }) => {
                assert!(held + needed > max_bytes && max_bytes == LIMITS.max_bytes);
                assert_eq!(held, self.spill.bytes());
                assert!(!all_done, "what has arrived makes room");
            }
            Err(AppendError::Io { source, .. }) => {
                assert!(!self.space || self.stuck || self.broken, "nothing is wrong with the disk: {source}");
                if !self.stuck {
                    assert_eq!(self.spill.bytes(), self.disk.bytes(), "a part of a batch was left there");
                }
            }
            Err(error) => panic!("{error}"),
        }
    }

    fn next(&mut self) {
        let expected = self.model.held.get(self.model.read).copied();
        let found = self.spill.next().expect("readable").map(|batch| number_of(&batch));
        assert_eq!(found, expected);
        if found.is_some() {
            self.model.read += 1;
            self.positions.push_back(self.spill.position());
        }
    }

    fn ack(&mut self, but: usize) {
        let count = self.model.read.saturating_sub(but);
        // With nothing new, one that could not be written is tried again.
        let position = match count.checked_sub(1) {
            Some(last) => self.positions[last],
            None if self.model.read == 0 => self.spill.position(),
            None => return,
        };
        let result = self.spill.ack(position);
        self.positions.drain(..count);
        let arrived: Vec<u64> = self.model.held.drain(..count).collect();
        self.model.read -= count;
        match result {
            Ok(()) => self.model.unsure.clear(),
            Err(error) => {
                assert!(!self.space || self.stuck || self.broken, "nothing is wrong with the disk: {error}");
                self.model.unsure.extend(arrived);
            }
        }
    }

    fn reopen(&mut self) {
        let spill = match Spill::on(self.disk.clone(), LIMITS) {
            Ok(spill) => spill,
            Err(error) => {
                assert!(self.stuck, "nothing is wrong with the disk: {error}");
                self.act(&Action::Stuck(false));
                Spill::on(self.disk.clone(), LIMITS).expect("nothing is wrong any more")
            }
        };
        self.spill = spill;
        self.model.read = 0;
        self.positions.clear();
        for damage in &self.spill.recovered().damage {
            assert!(matches!(damage.cause, Cause::Torn | Cause::Ack), "{damage}");
        }
        // Some of what has arrived may come again, but nothing else.
        let again = usize::try_from(self.spill.held().batches).expect("few") - self.model.held.len();
        assert!(again <= self.model.unsure.len(), "{again} more than there can be");
        let unsure = self.model.unsure.split_off(self.model.unsure.len() - again);
        self.model.unsure.clear();
        for number in unsure.into_iter().rev() {
            self.model.held.push_front(number);
        }
    }

    fn finish(mut self) {
        self.act(&Action::Stuck(false));
        self.act(&Action::Broken(false));
        self.act(&Action::Space(None));
        while self.model.read < self.model.held.len() {
            self.next();
        }
        self.next();
        self.ack(0);
        assert_eq!(self.spill.held(), Default::default());
        assert_eq!(self.spill.lost(), Default::default());
        assert_eq!(self.spill.damage(), []);
        self.reopen();
        assert_eq!(self.disk.files().keys().collect::<Vec<_>>(), ["kprobe-spill.ack"], "nothing is left");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn it_is_a_queue(actions in prop::collection::vec(actions(), 1..60)) {
        let mut both = Both::new();
        for action in &actions {
            both.act(action);
        }
        both.finish();
    }
}
