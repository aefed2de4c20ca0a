//! One table in markdown.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

use crate::{machine, stats::Spread};

/// One line of the table: a figure of ours beside one of a peer.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) test: &'static str,
    pub(crate) what: String,
    pub(crate) ours: String,
    pub(crate) theirs: String,
    /// How the two compare, pair by pair: mostly ours divided by theirs.
    pub(crate) compared: String,
    pub(crate) goal: Goal,
    /// Whether it is met.
    pub(crate) met: bool,
    pub(crate) drops: String,
    pub(crate) cpu: String,
    pub(crate) turns: String,
}

/// What the figure should be.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Goal {
    /// Ratio of at most this.
    AtMost(f64),
    /// Ratio of at least this.
    AtLeast(f64),
    /// Described in words.
    Words(&'static str),
}

impl Goal {
    /// Whether a ratio meets it. Words do not judge ratios.
    pub(crate) fn is_met(self, ratio: Option<Spread>) -> bool {
        match (self, ratio) {
            (Self::AtMost(most), Some(ratio)) => ratio.median <= most,
            (Self::AtLeast(least), Some(ratio)) => ratio.median >= least,
            _ => false,
        }
    }
}

impl fmt::Display for Goal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtMost(most) => write!(f, "≤ {most}"),
            Self::AtLeast(least) => write!(f, "≥ {least}"),
            Self::Words(words) => f.write_str(words),
        }
    }
}

/// Everything that was measured.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) command: String,
    pub(crate) peers: Vec<String>,
    pub(crate) rows: Vec<Row>,
    pub(crate) notes: Vec<String>,
}

impl Report {
    /// A row, and what it does not have room for.
    pub(crate) fn add(&mut self, (row, note): (Row, String)) {
        self.rows.push(row);
        self.notes.push(note);
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "Machine: {}  ", machine::describe())?;
        writeln!(f, "Peers: {}  ", self.peers.join(", "))?;
        writeln!(f, "Command: `{}`", self.command)?;
        writeln!(f)?;
        writeln!(
            f,
            "| test | what | ours | peer | ratio | goal | met | drops (ours, peer) | CPU (ours, peer) | turns |"
        )?;
        writeln!(f, "|---|---|---|---|---|---|---|---|---|---|")?;
        for row in &self.rows {
            let Row { test, what, ours, theirs, compared, goal, met, drops, cpu, turns } = row;
            let met = if *met { "yes" } else { "**no**" };
            writeln!(
                f,
                "| {test} | {what} | {ours} | {theirs} | {compared} | {goal} | {met} | {drops} | {cpu} | {turns} |"
            )?;
        }
        writeln!(f)?;
        writeln!(f, "Figures are medians with quartiles in parentheses; ratios are taken pair by pair.")?;
        for note in &self.notes {
            writeln!(f, "\n{note}")?;
        }
        Ok(())
    }
}

/// The part of a page that a report replaces.
#[derive(Debug)]
pub(crate) struct Page {
    path: PathBuf,
    before: String,
    after: String,
}

impl Page {
    const BEGIN: &str = "<!-- bench:begin -->\n";
    const END: &str = "<!-- bench:end -->";

    pub(crate) fn open(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
        let parts = text.split_once(Self::BEGIN).and_then(|(before, rest)| {
            rest.split_once(Self::END).map(|(_, after)| (before.to_owned(), after.to_owned()))
        });
        let (before, after) = parts.with_context(|| {
            format!("{} has no line {} with {} behind it", path.display(), Self::BEGIN.trim_end(), Self::END)
        })?;
        Ok(Self { path: path.to_owned(), before, after })
    }

    pub(crate) fn write(&self, report: &Report) -> Result<()> {
        let Self { path, before, after } = self;
        let text = format!("{before}{}{report}{}{after}", Self::BEGIN, Self::END);
        fs::write(path, text).with_context(|| format!("write {}", path.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_stands_between_the_marks_is_replaced() {
        let path = std::env::temp_dir().join(format!("kprobe-benches-page-{}", std::process::id()));
        fs::write(&path, "a\n<!-- bench:begin -->\nold\n<!-- bench:end -->\nb\n").expect("a writable folder");
        let report = Report { command: "run".to_owned(), peers: vec![], rows: vec![], notes: vec![] };
        let page = Page::open(&path).expect("marks");
        page.write(&report).expect("a writable file");
        let text = fs::read_to_string(&path).expect("it was written");
        assert_eq!(text, format!("a\n<!-- bench:begin -->\n{report}<!-- bench:end -->\nb\n"));
        fs::write(&path, "<!-- bench:end -->\n<!-- bench:begin -->\n").expect("a writable folder");
        assert!(Page::open(&path).is_err());
        fs::remove_file(&path).expect("it is there");
    }
}
