//! `budget.rs` once more, over loom's atomics: a producer that waits for room and two that give it back, in every
//! interleaving. A test of the benches' package, so that this one need not depend on loom.

mod sync {
    pub(super) use loom::sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering, fence},
    };
    use loom::sync::{Condvar, Mutex};

    /// What crossbeam's parker promises, and no more: an unpark before a park is kept.
    #[derive(Debug)]
    pub(super) struct Parker(Unparker);

    #[derive(Clone, Debug)]
    pub(super) struct Unparker(Arc<(Mutex<bool>, Condvar)>);

    impl Parker {
        pub(super) fn new() -> Self {
            Self(Unparker(Arc::new((Mutex::new(false), Condvar::new()))))
        }

        pub(super) fn unparker(&self) -> &Unparker {
            &self.0
        }

        pub(super) fn park(&self) {
            let (token, told) = &*self.0.0;
            let mut token = token.lock().expect("no panic");
            while !*token {
                token = told.wait(token).expect("no panic");
            }
            *token = false;
        }
    }

    impl Unparker {
        pub(super) fn unpark(&self) {
            let (token, told) = &*self.0;
            *token.lock().expect("no panic") = true;
            told.notify_one();
        }
    }
}
#[path = "budget.rs"]
mod budget;

use budget::{Budget, Permit};
use sync::Parker;

/// Waits for ever if a wake-up is lost, which loom calls a deadlock.
fn take_patiently(budget: &Budget, cost: usize) -> Permit {
    loop {
        if let Some(permit) = budget.take(cost) {
            return permit;
        }
        budget.wait(cost, Parker::park);
    }
}

/// Every interleaving with at most three switches that no thread asked for; what a lost wake-up takes is two.
fn model(test: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(test);
}

#[test]
fn whoever_waits_for_room_gets_it() {
    model(|| {
        let budget = Budget::new(3);
        let held: Vec<_> = [1, 2].into_iter().filter_map(|cost| budget.take(cost)).collect();
        assert_eq!((held.len(), budget.used()), (2, 3));
        assert!(budget.take(1).is_none() && budget.used() == budget.most());
        let givers: Vec<_> =
            held.into_iter().map(|permit| loom::thread::spawn(move || drop(permit))).collect();
        // Needs what both give back.
        let permit = take_patiently(&budget, 3);
        assert_eq!(budget.used(), 3);
        givers.into_iter().for_each(|giver| giver.join().expect("no panic"));
        drop(permit);
        assert_eq!(budget.used(), 0);
    });
}

#[test]
fn a_share_larger_than_all_is_let_in_alone() {
    model(|| {
        let budget = Budget::new(2);
        let small = budget.take(1).expect("it is empty");
        let giver = loom::thread::spawn(move || drop(small));
        let large = take_patiently(&budget, 5);
        assert!(budget.take(1).is_none());
        drop(large);
        giver.join().expect("no panic");
        assert_eq!(budget.used(), 0);
    });
}
