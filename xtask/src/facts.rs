//! What the tests found out about each kernel, as a table of the documentation.

use std::{collections::BTreeMap, fmt::Write as _, fs, path::PathBuf};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::{kernels::Series, repo};

const PAGE: &str = "docs/src/kernels.md";
const BEGIN: &str = "<!-- kernels:begin -->\n";
const END: &str = "<!-- kernels:end -->";

/// Puts the table of the last run in emulated machines into its page.
pub(crate) fn write() -> Result<()> {
    let mut kernels = Vec::new();
    for series in Series::ALL {
        let path = folder().join(format!("{}.jsonl", series.name()));
        let text = fs::read_to_string(&path)
            .with_context(|| format!("{}: run `cargo xtask test --tier vm` first", path.display()))?;
        kernels.push(Kernel::of(&text).with_context(|| path.display().to_string())?);
    }
    let path = repo::root().join(PAGE);
    let page = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    fs::write(&path, replaced(&page, &table(&kernels))?).with_context(|| path.display().to_string())
}

/// Where the tests' facts are kept, a file for each kernel.
pub(crate) fn folder() -> PathBuf {
    repo::target().join("vm-facts")
}

#[derive(Debug, Default)]
struct Kernel {
    release: String,
    /// In the order in which they were seen: events, and the rungs that were taken.
    rungs: Vec<(String, Vec<String>)>,
    wake_context: String,
    /// Records lost, by the number of threads.
    lost: BTreeMap<u64, u64>,
}

impl Kernel {
    fn of(text: &str) -> Result<Self> {
        let mut kernel = Self::default();
        for line in text.lines() {
            let fact: Value = serde_json::from_str(line).with_context(|| format!("not JSON: {line}"))?;
            let word = |key: &str| fact[key].as_str().unwrap_or_default().to_owned();
            let number = |key: &str| fact[key].as_u64().unwrap_or_default();
            kernel.release = word("kernel");
            match word("fact").as_str() {
                "rung" if word("outcome") == "taken" => kernel.take(word("probe"), word("rung")),
                "wake_context" => kernel.wake_context = word("wake_context"),
                // Of others it depends on how fast the machine is.
                "getppid" if number("ring_bytes") == ROOM => {
                    kernel.lost.insert(number("threads"), number("lost"));
                }
                _ => {}
            }
        }
        if kernel.rungs.is_empty() {
            bail!("it has no rung that was taken");
        }
        Ok(kernel)
    }

    fn take(&mut self, event: String, rung: String) {
        let at = self.rungs.iter().position(|(known, _)| *known == event).unwrap_or_else(|| {
            self.rungs.push((event, Vec::new()));
            self.rungs.len() - 1
        });
        let rungs = &mut self.rungs[at].1;
        if !rungs.contains(&rung) {
            rungs.push(rung);
        }
    }
}

/// A ring in which all of a million records find room.
const ROOM: u64 = 128 << 20;

fn table(kernels: &[Kernel]) -> String {
    let mut events: Vec<&str> = Vec::new();
    for (event, _) in kernels.iter().flat_map(|kernel| &kernel.rungs) {
        if !events.contains(&event.as_str()) {
            events.push(event);
        }
    }
    let mut text = String::new();
    let mut row = |first: &str, cell: &dyn Fn(&Kernel) -> String| {
        let cells: Vec<_> = kernels.iter().map(cell).collect();
        // A `String` takes everything.
        let _ = writeln!(text, "| {first} | {} |", cells.join(" | "));
    };
    row("event", &|kernel| kernel.release.clone());
    row("---", &|_| "---".to_owned());
    for event in events {
        row(&format!("`{event}`"), &|kernel| {
            let rungs = kernel.rungs.iter().find(|(known, _)| known == event);
            let rungs = rungs.map_or(&[][..], |(_, rungs)| rungs);
            let rungs: Vec<_> = rungs.iter().map(|rung| format!("`{rung}`")).collect();
            if rungs.is_empty() { "off".to_owned() } else { rungs.join(", ") }
        });
    }
    row("context of a wake-up", &|kernel| kernel.wake_context.clone());
    row("1,000,000 `getppid` by 1 and by 4 threads, 128 MiB ring: records lost", &|kernel| match kernel
        .lost
        .iter()
        .next()
    {
        Some((threads, lost)) if kernel.lost.len() == 1 => format!("{lost} by {threads}"),
        _ => kernel.lost.values().map(u64::to_string).collect::<Vec<_>>().join(" and "),
    });
    text
}

fn replaced(page: &str, table: &str) -> Result<String> {
    let marks = page.split_once(BEGIN).and_then(|(before, rest)| Some((before, rest.split_once(END)?)));
    let Some((before, (old, after))) = marks else { bail!("{PAGE} has no lines {BEGIN}and {END}") };
    // What is said about the table stays.
    let head = old.split_once("| event |").map_or(old, |(head, _)| head);
    Ok(format!("{before}{BEGIN}{head}{table}{END}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FACTS: &str = r#"{"fact":"rung","kernel":"6.1.0","probe":"a.b","rung":"x","outcome":"taken"}
{"fact":"rung","kernel":"6.1.0","probe":"a.b","rung":"y","outcome":"refused"}
{"fact":"rung","kernel":"6.1.0","probe":"a.b","rung":"x","outcome":"taken"}
{"fact":"wake_context","kernel":"6.1.0","wake_context":"count"}
{"fact":"getppid","kernel":"6.1.0","threads":4,"ring_bytes":134217728,"lost":7}
{"fact":"getppid","kernel":"6.1.0","threads":4,"ring_bytes":8388608,"lost":9}
{"fact":"getppid","kernel":"6.1.0","threads":1,"ring_bytes":134217728,"lost":0}"#;

    #[test]
    fn a_column_for_each_kernel() {
        let text = table(&[Kernel::of(FACTS).expect("facts")]);
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(
            lines[..4],
            ["| event | 6.1.0 |", "| --- | --- |", "| `a.b` | `x` |", "| context of a wake-up | count |"]
        );
        assert!(lines[4].ends_with("| 0 and 7 |"));
        assert!(Kernel::of("").is_err() && Kernel::of("{").is_err());
    }

    #[test]
    fn what_is_said_about_the_table_stays() {
        let page = format!("a\n{BEGIN}said\n| event | old |\n{END}\nb\n");
        assert_eq!(replaced(&page, "new\n").expect("marks"), format!("a\n{BEGIN}said\nnew\n{END}\nb\n"));
        assert!(replaced("a", "b").is_err());
    }
}
