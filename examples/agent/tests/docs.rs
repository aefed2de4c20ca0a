//! The book says what the program does: its options, its configuration file, its events, and links that lead somewhere.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn book() -> PathBuf {
    root().join("docs/src")
}

fn page(name: &str) -> String {
    fs::read_to_string(book().join(name)).unwrap()
}

fn agent(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_kprobe-agent")).args(args).output().unwrap()
}

fn answer(args: &[&str]) -> String {
    String::from_utf8(agent(args).stdout).unwrap()
}

/// Every `--name` in a text.
fn flags(text: &str) -> BTreeSet<&str> {
    let is_name = |character: char| character.is_ascii_lowercase() || character == '-';
    let starts = text.match_indices("--").map(|(at, _)| at);
    let starts = starts.filter(|at| !text[..*at].ends_with(is_name));
    let names = starts.map(|at| {
        let name = &text[at + 2..];
        &name[..name.find(|character| !is_name(character)).unwrap_or(name.len())]
    });
    names.filter(|name| name.starts_with(|first: char| first.is_ascii_lowercase())).collect()
}

/// What stands between backticks.
fn quoted(text: &str) -> BTreeSet<&str> {
    text.split('`').skip(1).step_by(2).collect()
}

#[test]
fn every_option_and_no_other() {
    let (page, help) = (page("agent.md"), answer(&["--help"]));
    let options = flags(&help);
    assert!(options.len() > 20, "{options:?}");
    let rows = page.lines().filter(|line| line.starts_with("| `-") || line.starts_with("| `--"));
    let rows: Vec<_> = rows.map(|row| row.split('|').nth(1).unwrap()).collect();
    let explained: BTreeSet<_> = rows.iter().flat_map(|cell| flags(cell)).collect();
    assert_eq!(explained, options);
    let unknown: Vec<_> = flags(&page).difference(&options).copied().collect();
    assert!(unknown.is_empty(), "{unknown:?}");

    let names = page.split("\nAll names: ").nth(1).unwrap().split("\n\n").next().unwrap();
    let only_flags = ["check-config", "config", "help", "version"];
    let in_file: BTreeSet<_> = options.into_iter().filter(|name| !only_flags.contains(name)).collect();
    assert_eq!(quoted(names), in_file);
}

#[test]
fn the_configuration_file() {
    let page = page("agent.md");
    let files: Vec<_> =
        page.split("\n```toml\n").skip(1).map(|rest| rest.split("\n```").next().unwrap()).collect();
    let [text] = files[..] else { panic!("{files:?}") };
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("agent.toml");
    fs::write(&file, text).unwrap();
    let output = agent(&["--check-config", "--config", file.to_str().unwrap()]);
    assert!(output.status.success(), "{output:?}");
    assert!(text.lines().count() > 5);
}

/// Each event is on the page of its family, with each of its fields.
#[test]
fn every_event_and_every_field() {
    let list = answer(&["--probes", "help"]);
    let (mut text, mut event) = (String::new(), "");
    let (mut events, mut fields, mut missing) = (0, 0, Vec::new());
    for line in list.lines() {
        let Some(name) = line.split_whitespace().next() else { continue };
        if line.starts_with("every event") {
            (event, text) = ("every event", page("json.md"));
            continue;
        }
        let is_event = !line.starts_with(' ');
        if is_event {
            event = name;
            text = page(&format!("{}.md", event.split('.').next().unwrap()));
        }
        let words = quoted(&text);
        let named =
            words.contains(name) || words.iter().any(|word| word.split([' ', ',']).any(|part| part == name));
        if !named {
            missing.push(format!("{name} of {event}"));
        }
        events += u32::from(is_event);
        fields += u32::from(!is_event);
    }
    assert!(missing.is_empty(), "not on the page of its family: {missing:?}");
    assert!(events > 5 && fields > 20, "{events} events, {fields} fields");
}

/// The Markdown files of the book and those beside it.
fn texts() -> Vec<PathBuf> {
    let folders =
        [root(), book(), root().join("fuzz"), root().join("kprobe-core"), root().join("kprobe-ebpf")];
    let files = folders.iter().flat_map(|folder| fs::read_dir(folder).unwrap());
    files
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|kind| kind == "md"))
        .collect()
}

/// Where a title leads.
fn anchor(title: &str) -> String {
    let kept =
        title.trim().chars().filter(|character| character.is_alphanumeric() || " -_".contains(*character));
    kept.map(|character| if character == ' ' { '-' } else { character.to_ascii_lowercase() }).collect()
}

#[test]
fn every_link() {
    let mut seen = 0;
    for from in texts() {
        let text = fs::read_to_string(&from).unwrap();
        let links = text.split("](").skip(1).map(|rest| rest.split(')').next().unwrap());
        for link in links.filter(|link| !link.contains("://") && !link.contains(char::is_whitespace)) {
            let (path, part) = link.split_once('#').unwrap_or((link, ""));
            let to = if path.is_empty() { from.clone() } else { from.parent().unwrap().join(path) };
            assert!(to.exists(), "{}: {link}", from.display());
            if !part.is_empty() {
                let text = fs::read_to_string(to).unwrap();
                let titles = text.lines().filter(|line| line.starts_with('#'));
                let found =
                    titles.map(|line| anchor(line.trim_start_matches('#'))).any(|anchor| anchor == part);
                assert!(found, "{}: no title for {link}", from.display());
            }
            seen += 1;
        }
    }
    assert!(seen > 40, "{seen} links");
}

/// A page that is not in the summary is not in the book.
#[test]
fn every_page_is_in_the_summary() {
    let summary = page("SUMMARY.md");
    for entry in fs::read_dir(book()).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if name.ends_with(".md") && name != "SUMMARY.md" {
            assert!(summary.contains(&format!("]({name})")), "{name}");
        }
    }
}

/// The whole programs of a page.
fn programs(page: &str) -> Vec<&str> {
    let blocks = page.split("\n```rust\n").skip(1).map(|rest| rest.split("\n```").next().unwrap());
    blocks.filter(|block| block.contains("fn main()")).collect()
}

/// The page's sink is the one in the documentation of the trait, where it is compiled and run. That has besides, hidden, what
/// gives it a capture and looks at what it made.
#[test]
fn the_sink_that_is_shown_is_the_one_that_is_run() {
    let page = page("writing-a-sink.md");
    let [shown] = programs(&page)[..] else { panic!("one program") };
    let source = fs::read_to_string(root().join("kprobe-core/src/pipeline/sink.rs")).unwrap();
    let docs: Vec<_> = source.lines().take_while(|line| *line != "pub trait Sink {").collect();
    let fence = docs.iter().rposition(|line| *line == "/// ```").unwrap();
    let opened = docs[..fence].iter().rposition(|line| *line == "/// ```").unwrap();
    let lines = docs[opened + 1..fence].iter().map(|line| line[3..].strip_prefix(' ').unwrap_or_default());
    let run: Vec<_> = lines.filter(|line| !line.starts_with("# ")).collect();
    assert_eq!(run.join("\n"), shown);
}
