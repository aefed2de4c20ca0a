//! The agent on the running kernel, as root. It records what the tests start themselves, and nothing else.
#![expect(clippy::unwrap_used, reason = "tests")]
#![allow(dead_code, unreachable_pub, missing_docs, reason = "two test targets share the support")]

#[path = "../support/mod.rs"]
mod support;

mod aggregates;
mod children;
mod command;
mod demo;
mod gate;
mod limits;
mod metrics;
mod off;
mod reload;
mod replay;
mod signals;
mod strace;
mod targets;

use std::sync::Arc;

use libtest_mimic::{Arguments, Failed, Trial};

/// The function `trials` of a module: its tests.
#[macro_export]
macro_rules! trials {
    ($($name:ident),+ $(,)?) => {
        pub fn trials() -> Vec<libtest_mimic::Trial> {
            vec![$($crate::trial(concat!(module_path!(), "::", stringify!($name)), $name)),+]
        }
    };
}

/// A test that fails by panicking.
pub fn trial(name: &str, test: impl FnOnce() + Send + 'static) -> Trial {
    let name = name.split_once("::").map_or(name, |(_, below)| below).to_owned();
    Trial::test(name, move || {
        test();
        Ok::<(), Failed>(())
    })
}

/// In an emulated machine of the tests' own, where a system call takes ten times as long and there is only busybox.
pub fn in_vm() -> bool {
    std::env::var_os("KPROBE_VM").is_some()
}

/// Elsewhere they would look at processes that are not the tests' own.
const IN_VM_ONLY: [&str; 1] = ["targets::the_whole_system"];

/// What a guest has not: it is left out there, and runs on the machine itself in the live tier.
const NOT_IN_VM: [(&str, &str); 2] = [
    ("strace::", "there is no strace, and none of the programs that it is compared on"),
    ("signals::from_before_the_first_program_on", "there is no strace"),
];

fn why_not_here(name: &str) -> Option<&'static str> {
    NOT_IN_VM.iter().find(|(start, _)| in_vm() && name.starts_with(start)).map(|(_, why)| *why)
}

#[expect(clippy::print_stdout, reason = "what a harness says")]
fn main() {
    // Whoever started the tests may have it ignored, and so would every agent; one with a handler begins with what is usual.
    signal_hook::flag::register(signal_hook::consts::SIGHUP, Arc::default()).unwrap();
    let trials = [
        command::trials(),
        signals::trials(),
        targets::trials(),
        replay::trials(),
        children::trials(),
        demo::trials(),
        limits::trials(),
        aggregates::trials(),
        off::trials(),
        metrics::trials(),
        reload::trials(),
        strace::trials(),
    ];
    let mut arguments = Arguments::from_args();
    // What the machine does besides is in no record, but it takes time from tests that wait.
    arguments.test_threads = Some(1);
    let trials = trials.into_iter().flatten();
    let trials = trials.filter(|trial| in_vm() || !IN_VM_ONLY.contains(&trial.name()));
    let trials = trials.map(|trial| {
        let Some(why) = why_not_here(trial.name()) else { return trial };
        // Whoever counts the ignored tests knows by this that the live tier has it.
        println!("KPROBE-ELSEWHERE {}: {why}", trial.name());
        trial.with_ignored_flag(true)
    });
    libtest_mimic::run(&arguments, trials.collect()).exit();
}
