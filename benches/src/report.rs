//! A test's table in markdown, and the page that has those of all.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

use crate::{costs::Cost, machine, stats::Spread};

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

/// What one test has measured.
#[derive(Debug)]
pub(crate) struct Report {
    command: String,
    pub(crate) peer: Option<String>,
    pub(crate) rows: Vec<Row>,
    pub(crate) notes: Vec<String>,
    /// What each family adds.
    pub(crate) costs: Vec<Cost>,
}

impl Report {
    /// `command` measures it again.
    pub(crate) fn new(command: String) -> Self {
        Self { command, peer: None, rows: Vec::new(), notes: Vec::new(), costs: Vec::new() }
    }

    /// A row, and what it does not have room for.
    pub(crate) fn add(&mut self, (row, note): (Row, String)) {
        self.rows.push(row);
        self.notes.push(note);
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "Machine: {}  ", machine::describe())?;
        if let Some(peer) = &self.peer {
            writeln!(f, "Peer: {peer}  ")?;
        }
        writeln!(f, "Command: `{}`", self.command)?;
        if !self.rows.is_empty() {
            writeln!(
                f,
                "\n| test | what | ours | peer | ratio | goal | met | drops (ours, peer) | CPU (ours, peer) | turns |"
            )?;
            writeln!(f, "|---|---|---|---|---|---|---|---|---|---|")?;
        }
        for row in &self.rows {
            let Row { test, what, ours, theirs, compared, goal, met, drops, cpu, turns } = row;
            let met = if *met { "yes" } else { "**no**" };
            writeln!(
                f,
                "| {test} | {what} | {ours} | {theirs} | {compared} | {goal} | {met} | {drops} | {cpu} | {turns} |"
            )?;
        }
        if !self.costs.is_empty() {
            writeln!(f, "\n{}", Cost::HEAD)?;
        }
        for cost in &self.costs {
            writeln!(f, "{cost}")?;
        }
        writeln!(f)?;
        writeln!(f, "Figures are medians with quartiles in parentheses; ratios are taken pair by pair.")?;
        for note in &self.notes {
            writeln!(f, "\n{note}")?;
        }
        Ok(())
    }
}

/// A page with places for the reports of tests.
#[derive(Debug)]
pub(crate) struct Page {
    path: PathBuf,
    text: String,
}

impl Page {
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
        Ok(Self { path: path.to_owned(), text })
    }

    /// Puts the report between the marks of its test.
    pub(crate) fn write(&mut self, test: &str, report: &Report) -> Result<()> {
        let (begin, end) = (format!("<!-- bench:{test} -->\n"), format!("<!-- bench:{test}:end -->"));
        let parts = self
            .text
            .split_once(&begin)
            .and_then(|(before, rest)| rest.split_once(&end).map(|(_, after)| (before, after)));
        let (before, after) = parts.with_context(|| {
            format!("{} has no line {} with {end} behind it", self.path.display(), begin.trim_end())
        })?;
        self.text = format!("{before}{begin}{report}{end}{after}");
        fs::write(&self.path, &self.text).with_context(|| format!("write {}", self.path.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_stands_between_the_marks_is_replaced() {
        let path = std::env::temp_dir().join(format!("kprobe-benches-page-{}", std::process::id()));
        let place =
            |test: &str, text: &str| format!("<!-- bench:{test} -->\n{text}<!-- bench:{test}:end -->\n");
        let before = format!("a\n{}{}b\n", place("T1", "old\n"), place("T2", "other\n"));
        fs::write(&path, before).expect("a writable folder");
        let report = Report::new("run".to_owned());
        let mut page = Page::open(&path).expect("a page");
        page.write("T1", &report).expect("a writable file");
        let text = fs::read_to_string(&path).expect("it was written");
        assert_eq!(text, format!("a\n{}{}b\n", place("T1", &report.to_string()), place("T2", "other\n")));
        assert!(page.write("T3", &report).is_err());
        fs::write(&path, "<!-- bench:T1:end -->\n<!-- bench:T1 -->\n").expect("a writable folder");
        assert!(Page::open(&path).expect("a page").write("T1", &report).is_err());
        fs::remove_file(&path).expect("it is there");
    }
}
