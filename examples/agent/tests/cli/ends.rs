//! Ends other than the capture's: readers that go away, full disks, signals.

use std::{
    fs::OpenOptions,
    io::{BufRead, BufReader, PipeReader, Read},
    path::{Path, PathBuf},
    time::Duration,
};

use kprobe_core::{
    capture::{CaptureReader, CaptureWriter},
    pipeline::{BatchBuf, Ledger, Sink, Source},
};
use rustix::process::Signal;

use crate::support::{
    DEMO, Output, Running, agent, events, open_folder, run, wait_until, wait_until_signals_arrived,
};

const REPEATED: usize = 100;
/// The least that a pipe can hold.
const PIPE: usize = 4096;

/// A capture of several blocks: the records of the shipped one, again and again.
fn long_capture(folder: &Path) -> PathBuf {
    let path = folder.join("long.kcap");
    let mut reader = CaptureReader::new(DEMO, "demo").unwrap();
    let mut writer = CaptureWriter::create(&path, reader.info()).unwrap();
    let mut buf = BatchBuf::default();
    while !reader.poll(&mut buf, Some(Duration::ZERO)).unwrap().end {}
    let batch = buf.take();
    (0..REPEATED).for_each(|_| writer.write(&batch).unwrap());
    writer.finish(&Ledger::new(Vec::new(), Vec::new(), Vec::new()), None).unwrap();
    path
}

/// The agent, playing the long capture as JSON to a pipe that is full and that nobody reads.
fn stalled(folder: &Path) -> (Running, PipeReader) {
    stalled_with(folder, &[])
}

fn stalled_with(folder: &Path, args: &[&str]) -> (Running, PipeReader) {
    let path = long_capture(folder);
    let (reader, writer) = std::io::pipe().unwrap();
    rustix::pipe::fcntl_setpipe_size(&writer, PIPE).unwrap();
    let mut command = agent(["--stats=json", "--from"]);
    command.arg(path).args(args).stdout(writer);
    let running = Running::start(&mut command);
    // The test's own copy of the pipe's end goes with it.
    drop(command);
    wait_until("the pipe to be full", || rustix::io::ioctl_fionread(&reader).unwrap() == PIPE as u64);
    (running, reader)
}

fn ledger(stderr: &str) -> serde_json::Value {
    serde_json::from_str(stderr.lines().next().unwrap()).unwrap()
}

#[test]
fn a_reader_that_goes_away() {
    let folder = open_folder();
    let (running, reader) = stalled(folder.path());
    let mut reader = BufReader::new(reader);
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    events::line(&line);
    drop(reader);
    let output = running.finish().exits(0);
    // Nothing is said but the ledger that was asked for.
    assert_eq!(output.stderr.lines().count(), 1, "{}", output.stderr);
    let ledger = ledger(&output.stderr);
    assert_eq!(ledger["balance"], 0);
    assert!(ledger["sinks"][0]["dropped"]["closed"].as_u64().unwrap() > 0, "{ledger}");
}

#[test]
fn a_reader_that_was_never_there() {
    let folder = open_folder();
    let path = long_capture(folder.path());
    for args in [&["--probes", "help"][..], &["--help"], &["--output", "human"], &["--output", "json"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = agent(args);
        let command = command.arg("--from").arg(&path).stdout(writer);
        run(command).exits(0).silent();
    }
}

fn full(args: &[&str]) -> Output {
    let folder = open_folder();
    let path = long_capture(folder.path());
    let disk = OpenOptions::new().write(true).open("/dev/full").unwrap();
    let mut command = agent(["--stats=json", "--from"]);
    run(command.arg(path).args(args).stdout(disk)).exits(1)
}

#[test]
fn a_full_disk() {
    for (args, sink) in [
        (&["--output", "json"][..], "json"),
        (&["--output", "human"], "human"),
        (&["-o", "/dev/full"], "json"),
    ] {
        let output = full(args);
        let lines: Vec<_> = output.stderr.lines().collect();
        let [said, books] = lines[..] else { panic!("{}", output.stderr) };
        assert_eq!(said, format!("kprobe-agent: {sink}: No space left on device (os error 28)"));
        let ledger = ledger(books);
        assert_eq!((&ledger["balance"], &ledger["sinks"][0]["delivered"]), (&0.into(), &0.into()));
    }
}

/// Each sink for itself: what the disk has no room for takes nothing from the others.
#[test]
fn a_full_disk_for_the_capture() {
    let folder = open_folder();
    let path = long_capture(folder.path());
    let mut command = agent(["--output", "json", "--capture", "/dev/full", "--from"]);
    let output = run(command.arg(&path));
    let expected =
        "kprobe-agent: cannot write the capture /dev/full: No space left on device (os error 28)\n";
    assert_eq!((output.code(), output.stdout.as_str(), output.stderr.as_str()), (2, "", expected));
}

/// What was read goes its way; the stream says that the rest is missing.
#[test]
fn a_signal() {
    let folder = open_folder();
    for signal in [Signal::INT, Signal::TERM] {
        let (running, mut reader) = stalled(folder.path());
        running.signal(signal);
        wait_until_signals_arrived(running.pid());
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        let output = running.finish().exits(1);
        let (events, end) = events::stream(&text);
        assert_eq!(end["complete"], false);
        let all = events::of_kind(&events, "process.exec").count();
        assert!(all > 0 && events.len() < REPEATED * 150, "{} events", events.len());
        assert_eq!(ledger(&output.stderr)["balance"], 0);
        let reason = end["incomplete_reason"].as_str().unwrap();
        assert!(reason.contains("reading was stopped at byte"), "{reason}");
        assert_eq!(output.stderr.lines().nth(1).unwrap(), format!("kprobe-agent: incomplete: {reason}"));
    }
}

/// A reader that takes nothing is given up soon after it is time to end; the capture and the ledger are whole.
#[test]
fn a_reader_that_does_not_read() {
    let folder = open_folder();
    let capture = folder.path().join("again.kcap");
    for (args, signal) in
        [(&[][..], Some(Signal::INT)), (&[], Some(Signal::TERM)), (&["--duration", "1s"], None)]
    {
        let mut args = args.to_vec();
        args.extend(["--capture", capture.to_str().unwrap()]);
        let (running, reader) = stalled_with(folder.path(), &args);
        if let Some(signal) = signal {
            running.signal(signal);
        }
        let output = running.finish().exits(1);
        let told = "kprobe-agent: json: nobody reads, and it was time to end: what was left is dropped";
        assert!(output.stderr.lines().any(|line| line == told), "{}", output.stderr);
        let ledger = output.stderr.lines().find(|line| line.starts_with('{')).unwrap();
        let ledger: serde_json::Value = serde_json::from_str(ledger).unwrap();
        assert_eq!(ledger["balance"], 0, "{ledger}");
        let sink = &ledger["sinks"][1];
        assert!(sink["dropped"]["shutdown"].as_u64().unwrap() > 0, "{ledger}");
        let mut again = CaptureReader::open(&capture).unwrap();
        let mut buf = BatchBuf::default();
        while !again.poll(&mut buf, Some(Duration::ZERO)).unwrap().end {}
        assert!(again.trailer().is_some());
        drop(reader);
    }
}

/// Longer than a clock can tell is for ever.
#[test]
fn a_duration_without_end() {
    let folder = open_folder();
    let path = long_capture(folder.path());
    let mut command = agent(["--duration", "18446744073709551615s", "--output", "none", "--from"]);
    run(command.arg(path)).exits(0).silent();
}

/// Nobody has to wait for a reader that does not read.
#[test]
fn a_second_signal() {
    let folder = open_folder();
    for (signal, code) in [(Signal::INT, 130), (Signal::TERM, 143)] {
        let (running, reader) = stalled(folder.path());
        running.signal(signal);
        wait_until_signals_arrived(running.pid());
        running.signal(signal);
        running.finish().exits(code).silent();
        drop(reader);
    }
}

/// What a reader did not take waits on disk, and goes first the next time.
#[test]
fn a_reader_that_does_not_read_until_the_next_time() {
    let folder = open_folder();
    let spill = folder.path().join("spill");
    let args = ["--spill-dir", spill.to_str().unwrap(), "--queue-bytes", "16KiB"];
    let (running, reader) = stalled_with(folder.path(), &args);
    // The capture is short, and all of it is read meanwhile.
    wait_until("records on disk", || {
        std::fs::read_dir(spill.join("output")).is_ok_and(|files| files.count() > 1)
    });
    let demo = folder.path().join("demo.kcap");
    std::fs::write(&demo, DEMO).unwrap();
    let other = |args: &[&str]| {
        let mut command = agent(["--stats=json", "-o", "out.json", "--from", "demo.kcap", "--spill-dir"]);
        run(command.arg(&spill).args(args).current_dir(folder.path()))
    };
    std::fs::write(folder.path().join("out.json"), "of the last year").unwrap();
    let refused = other(&[]).exits(2);
    assert_eq!(std::fs::read_to_string(folder.path().join("out.json")).unwrap(), "of the last year");
    assert!(refused.stderr.contains(&format!("in use by process {}", running.pid())), "{}", refused.stderr);
    running.signal(Signal::TERM);
    let output = running.finish().exits(1);
    drop(reader);
    let sink = |output: &Output| {
        let line =
            output.stderr.lines().find(|line| line.starts_with('{')).unwrap_or_else(|| panic!("{output:?}"));
        let ledger: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!(ledger["balance"], 0, "{ledger}");
        ledger["sinks"][0].clone()
    };
    let held = sink(&output)["held"].as_u64().unwrap_or_else(|| panic!("{}", output.stderr));
    assert!(held > 0, "{}", output.stderr);

    let output = other(&[]).exits(0);
    let row = sink(&output);
    assert_eq!(row["recovered"], held, "{row}");
    let text = std::fs::read_to_string(folder.path().join("out.json")).unwrap();
    let lines = text.lines().filter(|line| !line.contains("\"meta.")).count() as u64;
    assert_eq!(lines, row["delivered"], "{row}");
    assert!(lines > held - held / 50, "{lines} {held}");
    let left = std::fs::read_dir(spill.join("output")).unwrap().count();
    // The lock, how far it was read, and the segment that was written last.
    assert!(left <= 3, "{left} files are left of nothing");
}
