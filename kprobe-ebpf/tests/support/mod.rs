//! What the tests on a real kernel share: a recording whose books are checked, and children with known behaviour.

pub mod books;
pub mod child;
pub mod kernel;
pub mod memcg;
pub mod paths;
pub mod recording;
pub mod rungs;
pub mod soak;
pub mod workload;

use std::{
    process,
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::Duration,
};

use libtest_mimic::{Arguments, Conclusion, Failed, Trial};

/// A binary that runs as a workload if the environment says so, else as the tests `trials`.
pub fn main(trials: Vec<Trial>) {
    if let Ok(command) = std::env::var(child::WORKLOAD) {
        workload::run(&command);
    }
    let mut arguments = Arguments::from_args();
    // Each test looks at what this process has in the kernel.
    arguments.test_threads = Some(1);
    let conclusion: Conclusion = libtest_mimic::run(&arguments, trials);
    conclusion.exit();
}

/// Far longer than any test takes, on the slowest emulated machine.
const HANGS: Duration = Duration::from_secs(600);

/// A test that fails by panicking. If it never ends, the process does, with the test's name.
#[expect(clippy::print_stderr, reason = "nothing else is left to say it with")]
pub fn trial(name: &str, test: fn()) -> Trial {
    let name = name.split_once("::").map_or(name, |(_, below)| below).to_owned();
    Trial::test(name.clone(), move || {
        let (ended, watch) = mpsc::channel::<()>();
        thread::spawn(move || {
            if watch.recv_timeout(HANGS) == Err(RecvTimeoutError::Timeout) {
                eprintln!("\ntest {name} has not come to an end within {HANGS:?}");
                process::abort();
            }
        });
        test();
        drop(ended);
        Ok::<(), Failed>(())
    })
}

/// The function `trials` of a module: its tests.
#[macro_export]
macro_rules! trials {
    ($($name:ident),+ $(,)?) => {
        pub fn trials() -> Vec<libtest_mimic::Trial> {
            vec![$($crate::support::trial(concat!(module_path!(), "::", stringify!($name)), $name)),+]
        }
    };
}

/// In an emulated machine, where a system call takes ten times as long.
pub fn in_vm() -> bool {
    std::env::var_os("KPROBE_VM").is_some()
}

/// So many repetitions, or fewer where they are slow.
pub fn times(count: u32) -> u32 {
    if in_vm() { count / 5 } else { count }
}

/// A fact about a kernel for the documentation.
#[expect(clippy::print_stdout, reason = "this is how facts leave the virtual machine")]
pub fn fact(fact: &serde_json::Value) {
    println!("KPROBE-FACT {fact}");
}
