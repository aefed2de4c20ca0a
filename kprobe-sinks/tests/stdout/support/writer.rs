//! A writer that fails by a script.

use std::{
    cell::RefCell,
    collections::VecDeque,
    io::{self, Write},
    rc::Rc,
};

/// What one call of `write` does.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Step {
    /// Takes at most so many bytes.
    Take(usize),
    /// Fails.
    Fail(io::ErrorKind),
}

/// Follows its steps, then takes everything. Clones share what was written.
#[derive(Clone, Debug, Default)]
pub(crate) struct Script {
    steps: Rc<RefCell<VecDeque<Step>>>,
    pub(crate) written: Rc<RefCell<Vec<u8>>>,
}

impl Script {
    pub(crate) fn new(steps: impl IntoIterator<Item = Step>) -> Self {
        Self { steps: Rc::new(RefCell::new(steps.into_iter().collect())), written: Rc::default() }
    }

    pub(crate) fn push(&self, step: Step) {
        self.steps.borrow_mut().push_back(step);
    }

    /// From now on everything is taken.
    pub(crate) fn recover(&self) {
        self.steps.borrow_mut().clear();
    }

    pub(crate) fn steps_left(&self) -> usize {
        self.steps.borrow().len()
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.written.borrow()).into_owned()
    }
}

impl Write for Script {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = match self.steps.borrow_mut().pop_front() {
            Some(Step::Take(count)) => count.min(bytes.len()),
            Some(Step::Fail(kind)) => return Err(kind.into()),
            None => bytes.len(),
        };
        self.written.borrow_mut().extend_from_slice(&bytes[..taken]);
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
