//! `handshake.rs` once more, over loom's atomics: every interleaving of a reader with two programs. A test of the benches'
//! package, so that this one need not depend on loom.

mod sync {
    pub(super) use loom::sync::atomic::{AtomicU32, AtomicUsize, Ordering, fence};
}
#[path = "handshake.rs"]
mod handshake;

use loom::sync::{Arc, Condvar, Mutex};
use sync::{AtomicU32, AtomicUsize, Ordering, fence};

/// A ring of records that are one position long, and no data. `committed` stands for the busy bits.
struct Shared {
    producer: AtomicUsize,
    committed: [AtomicU32; 2],
    idle: AtomicU32,
    doorbell: Mutex<bool>,
    rung: Condvar,
}

impl Shared {
    /// A kernel program: __bpf_ringbuf_reserve, the count, the question, bpf_ringbuf_commit.
    fn produce(&self, barrier: bool) {
        // Stands for the ring's spinlock and its smp_store_release.
        let position = self.producer.fetch_add(1, Ordering::AcqRel);
        if barrier {
            fence(Ordering::SeqCst);
        }
        let wake = self.idle.load(Ordering::Relaxed) != 0 && self.idle.swap(0, Ordering::AcqRel) != 0;
        self.committed[position].store(1, Ordering::Release);
        if wake {
            *self.doorbell.lock().expect("no panic") = true;
            self.rung.notify_one();
        }
    }

    /// The reader, until it has seen every record. It gives up after a number of naps that is larger than it can need.
    fn read_all(&self) {
        let mut consumed = 0;
        while consumed < self.committed.len() {
            if self.committed[consumed].load(Ordering::Acquire) != 0 {
                consumed += 1;
                continue;
            }
            handshake::announce([&self.idle].into_iter());
            if handshake::has_reserved(&self.producer, consumed) {
                handshake::retract(&self.idle);
                loom::thread::yield_now();
                continue;
            }
            let mut rung = self.doorbell.lock().expect("no panic");
            while !*rung {
                rung = self.rung.wait(rung).expect("no panic");
            }
            *rung = false;
        }
    }
}

fn explore(barrier: bool) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.check(move || {
        let shared = Arc::new(Shared {
            producer: AtomicUsize::new(0),
            committed: [AtomicU32::new(0), AtomicU32::new(0)],
            idle: AtomicU32::new(0),
            doorbell: Mutex::new(false),
            rung: Condvar::new(),
        });
        let programs = [(); 2].map(|()| {
            let shared = Arc::clone(&shared);
            loom::thread::spawn(move || shared.produce(barrier))
        });
        shared.read_all();
        for program in programs {
            program.join().expect("no panic");
        }
    });
}

#[test]
fn no_wake_up_is_lost() {
    explore(true);
}

/// The model can fail: without the program's barrier loom finds the reader blocked for ever.
#[test]
fn without_the_programs_barrier_one_is() {
    assert!(std::panic::catch_unwind(|| explore(false)).is_err(), "the model has no teeth");
}
