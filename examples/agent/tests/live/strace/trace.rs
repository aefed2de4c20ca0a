//! strace's lines with `-f -e raw=all`: a thread, a call with its arguments as numbers, its result.

use std::collections::BTreeMap;

use serde_json::Value;

/// How a call ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Value(u64),
    /// By its name; also one that only the kernel and tracers see.
    Error(String),
    /// It does not return, or nobody knows.
    None,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    pub name: String,
    pub outcome: Outcome,
}

/// The calls of each thread in their order, and the thread of the first line.
pub fn parse(text: &str) -> (u64, BTreeMap<u64, Vec<Call>>) {
    let mut calls = BTreeMap::<u64, Vec<Call>>::new();
    let mut first = None;
    for line in text.lines() {
        let (tid, rest) = line.split_once(' ').unwrap();
        let tid = tid.parse().unwrap();
        first.get_or_insert(tid);
        let of_thread = calls.entry(tid).or_default();
        let rest = rest.trim_start();
        if rest.starts_with("---") || rest.starts_with("+++") {
            // A signal, or the end.
        } else if rest.starts_with("<... ") {
            // The call that was begun last; a thread has one at a time.
            of_thread.last_mut().unwrap().outcome = outcome(rest);
        } else {
            let name = rest.split_once('(').unwrap_or_else(|| panic!("no call: {line}")).0;
            of_thread.push(Call { name: name.to_owned(), outcome: outcome(rest) });
        }
    }
    (first.unwrap(), calls)
}

/// What follows the last equals sign. With raw arguments there is no text that could have one.
fn outcome(rest: &str) -> Outcome {
    let Some((_, result)) = rest.rsplit_once(" = ") else {
        assert!(rest.ends_with("<unfinished ...>"), "no result: {rest}");
        return Outcome::None;
    };
    let mut words = result.split(' ');
    let value = words.next().unwrap();
    match (value, words.next()) {
        ("?" | "-1", Some(name)) if name.starts_with('E') => Outcome::Error(name.to_owned()),
        ("?", None) => Outcome::None,
        (number, _) => Outcome::Value(match number.strip_prefix("0x") {
            Some(digits) => u64::from_str_radix(digits, 16).unwrap(),
            None => number.parse().unwrap_or_else(|_| panic!("no result: {rest}")),
        }),
    }
}

impl Call {
    /// Of the agent's line.
    pub fn of(event: &Value) -> Self {
        let outcome = match (event["errno"].as_str(), event["ret"].as_i64(), event["ret"].as_u64()) {
            (Some(name), _, _) => Outcome::Error(name.to_owned()),
            (None, Some(value), _) => Outcome::Value(value.cast_unsigned()),
            (None, None, Some(value)) => Outcome::Value(value),
            (None, None, None) => Outcome::None,
        };
        // strace names what it does not know by number.
        let name = match event["name"].as_str() {
            Some(name) => name.to_owned(),
            None => format!("syscall_{:#x}", event["nr"].as_u64().unwrap()),
        };
        Self { name, outcome }
    }

    pub fn ends_its_thread(&self) -> bool {
        ["exit", "exit_group"].contains(&self.name.as_str())
    }

    /// A signal ended it: the kernel's own codes for a call that may be entered again, or its code for one that may not.
    /// Or it had ended well when the signal came.
    pub fn was_interrupted_or_killed_late(&self) -> bool {
        match &self.outcome {
            Outcome::Error(name) => name.starts_with("ERESTART") || name == "EINTR",
            Outcome::Value(_) => true,
            Outcome::None => false,
        }
    }
}
