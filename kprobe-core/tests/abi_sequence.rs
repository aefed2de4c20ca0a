//! The numbers of records without an atomic instruction that returns something: every way in which programs of one CPU can
//! interrupt each other, to a depth that there is.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::cell::{Cell, RefCell};

use kprobe_core::abi::sequence::{Word, Words, next};

/// A task, a softirq in it, a hardware interrupt in that.
const DEEPEST: u32 = 3;

/// A CPU on which a program can be interrupted before each of its steps, by one that takes a number too.
struct Cpu {
    words: [Cell<u64>; 3],
    depth: Cell<u32>,
    /// How many more interrupts there may be.
    interrupts: Cell<u32>,
    /// Whether there is one, at each step at which there may be.
    decisions: RefCell<Vec<bool>>,
    step: Cell<usize>,
    taken: RefCell<Vec<u64>>,
}

impl Cpu {
    fn new(interrupts: u32, decisions: Vec<bool>) -> Self {
        Self {
            words: Default::default(),
            depth: Cell::new(0),
            interrupts: Cell::new(interrupts),
            decisions: RefCell::new(decisions),
            step: Cell::new(0),
            taken: RefCell::default(),
        }
    }

    fn take(&self) {
        self.depth.set(self.depth.get() + 1);
        let number = next(self);
        self.depth.set(self.depth.get() - 1);
        self.taken.borrow_mut().push(number);
    }

    fn maybe_interrupt(&self) {
        if self.depth.get() == DEEPEST || self.interrupts.get() == 0 {
            return;
        }
        let step = self.step.get();
        self.step.set(step + 1);
        let mut decisions = self.decisions.borrow_mut();
        if step == decisions.len() {
            decisions.push(false);
        }
        let comes = decisions[step];
        drop(decisions);
        if comes {
            self.interrupts.set(self.interrupts.get() - 1);
            self.take();
        }
    }
}

impl Words for Cpu {
    fn get(&self, word: Word) -> u64 {
        self.maybe_interrupt();
        self.words[word as usize].get()
    }

    fn set(&self, word: Word, value: u64) {
        self.maybe_interrupt();
        self.words[word as usize].set(value);
    }
}

/// Runs every course of events with at most so many interrupts; says how many there were.
fn every_course(interrupts: u32) -> u64 {
    let mut courses = 0;
    let mut decisions = Vec::new();
    loop {
        let cpu = Cpu::new(interrupts, decisions);
        // The first may leave something behind that the others stumble over.
        cpu.take();
        cpu.take();
        cpu.interrupts.set(0);
        cpu.take();
        courses += 1;
        let mut taken = cpu.taken.take();
        taken.sort_unstable();
        let count = taken.len() as u64;
        decisions = cpu.decisions.take();
        assert_eq!(taken, (0..count).collect::<Vec<_>>(), "{decisions:?}");
        assert_eq!(cpu.words[Word::Next as usize].get(), count, "{decisions:?}");
        // The next course: the last step at which none came, one comes.
        while decisions.pop_if(|came| *came).is_some() {}
        let Some(last) = decisions.last_mut() else { return courses };
        *last = true;
    }
}

#[test]
fn every_number_is_taken_once_whoever_interrupts_whom() {
    let courses = every_course(4);
    assert!(courses > 100_000, "{courses}");
}

#[test]
fn without_interrupts_the_numbers_follow_each_other() {
    let cpu = Cpu::new(0, Vec::new());
    for _ in 0..5 {
        cpu.take();
    }
    assert_eq!(cpu.taken.into_inner(), [0, 1, 2, 3, 4]);
    assert_eq!(cpu.words.map(Cell::into_inner).first().copied().unwrap(), 5);
}
