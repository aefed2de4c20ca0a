//! Faults that sanitizers must find, and work without one. Built with the flags and run with the options of the real tests.

#[cfg(test)]
mod tests {
    use std::{
        hint::black_box,
        sync::{Arc, Condvar, Mutex, OnceLock, RwLock, mpsc},
        thread,
    };

    #[test]
    fn use_after_free() {
        let at = Box::into_raw(Box::new(7_u64));
        // SAFETY: it came from a box.
        drop(unsafe { Box::from_raw(at) });
        // Not sound, and meant: nothing lives at `at` any more.
        black_box(unsafe { at.read_volatile() });
    }

    #[test]
    fn data_race() {
        struct Shared(*mut u64);
        // Not sound, and meant: nothing keeps two threads from using it at the same time.
        unsafe impl Send for Shared {}
        let at = Box::into_raw(Box::new(0_u64));
        let threads = [Shared(at), Shared(at)].map(|shared| {
            thread::spawn(move || {
                let shared = shared;
                for _ in 0..1000 {
                    // Not sound either, for the same reason.
                    unsafe { *shared.0 = black_box(*shared.0 + 1) };
                }
            })
        });
        threads.map(|thread| thread.join().expect("no panic"));
        // SAFETY: it came from a box, and the threads are gone.
        drop(unsafe { Box::from_raw(at) });
    }

    /// What the libraries and their tests do with threads, without a fault.
    #[test]
    fn nothing_wrong() {
        let sum = Arc::new((Mutex::new(0_u64), Condvar::new()));
        let (send, receive) = mpsc::channel();
        let once = Arc::new(OnceLock::new());
        let names = Arc::new(RwLock::new(Vec::new()));
        let threads = [1, 2, 3, 4].map(|number| {
            let (sum, send, once, names) = (Arc::clone(&sum), send.clone(), Arc::clone(&once), Arc::clone(&names));
            thread::spawn(move || {
                for _ in 0..1000 {
                    *sum.0.lock().expect("no panic") += number;
                    sum.1.notify_all();
                    send.send(vec![number; 10]).expect("the receiver is there");
                }
                names.write().expect("no panic").push(format!("thread {number}"));
                once.get_or_init(|| vec![number]).len()
            })
        });
        drop(send);
        let received: u64 = receive.iter().map(|numbers| numbers[0]).sum();
        let mut seen = sum.0.lock().expect("no panic");
        while *seen < received {
            seen = sum.1.wait(seen).expect("no panic");
        }
        assert_eq!((*seen, received), (10_000, 10_000));
        drop(seen);
        assert_eq!(threads.map(|thread| thread.join().expect("no panic")), [1; 4]);
        assert_eq!(names.read().expect("no panic").len(), 4);
    }
}
