//! A spill whose process ends at any byte of anything it writes, and one of which any byte is changed.

mod spill_support;

use std::ops::RangeInclusive;

use kprobe_core::spill::{Cause, Spill};
use spill_support::{Change, Files, Memory, PLENTY, apply, batch, damage_of, plain, read_all, stream};

/// What has been promised at some moment.
#[derive(Clone, Copy, Debug, Default)]
struct Promise {
    appended: u64,
    acked: u64,
}

/// A spill at work: what it did to its files, and what it had promised after so many changes.
fn history() -> (Vec<Change>, Vec<(usize, Promise)>) {
    let disk = Memory::new();
    let mut spill = Spill::on(disk.clone(), PLENTY).expect("an empty directory");
    let mut promise = Promise::default();
    let mut promises = vec![(0, promise)];
    let mut at = 0;
    let mut step = |spill: &mut Spill<Memory>, appends: u64, reads: u64, acks: u64| {
        for _ in 0..appends {
            // Another stream halfway.
            spill
                .append(&batch(promise.appended, &stream(if promise.appended < 7 { 4 } else { 5 })))
                .expect("room");
            promise.appended += 1;
            promises.push((disk.changes().len(), promise));
        }
        for _ in 0..reads {
            assert!(spill.next().expect("readable").is_some());
            at += 1;
            if at <= promise.acked + acks {
                promise.acked = at;
                spill.ack(spill.position()).expect("writable");
                promises.push((disk.changes().len(), promise));
            }
        }
    };
    step(&mut spill, 4, 2, 2);
    step(&mut spill, 5, 4, 1);
    step(&mut spill, 1, 3, 8);
    step(&mut spill, 3, 0, 0);
    assert!(disk.changes().iter().any(|change| matches!(change, Change::Remove(_))), "segments are done");
    (disk.changes(), promises)
}

/// Opens what a crash left and checks that it is what was promised. What had begun may be done or not.
fn check_crash(what: &str, files: Files, appended: RangeInclusive<u64>, acked: RangeInclusive<u64>) {
    let disk = Memory::with(files);
    let mut spill = Spill::on(disk.clone(), PLENTY).unwrap_or_else(|error| panic!("{what}: {error}"));
    let held = spill.held();
    let numbers = read_all(&mut spill);
    let first = numbers.first().copied().unwrap_or(*appended.end());
    let end = numbers.last().map_or(*appended.start(), |last| last + 1);
    assert_eq!(numbers, (first..end.max(first)).collect::<Vec<_>>(), "{what}: one after the other");
    assert!(numbers.is_empty() || acked.contains(&first), "{what}: {first} is the first, {acked:?}");
    assert!(appended.contains(&end), "{what}: {end} is the end, {appended:?}");
    assert!(!numbers.is_empty() || acked.end() >= appended.start(), "{what}: all are gone");
    assert_eq!(held.batches, numbers.len() as u64, "{what}");
    assert_eq!(spill.lost(), Default::default(), "{what}");
    for damage in damage_of(&spill) {
        assert!(matches!(damage.cause, Cause::Torn | Cause::Ack), "{what}: {damage}");
    }
    assert_eq!(spill.bytes(), disk.bytes(), "{what}");
    // It goes on.
    let next = 100;
    spill.append(&plain(next)).unwrap_or_else(|error| panic!("{what}: {error}"));
    drop(spill);
    let mut spill = Spill::on(disk, PLENTY).expect("readable");
    assert_eq!(spill.recovered().damage, [], "{what}: what was torn is gone");
    assert_eq!(read_all(&mut spill), [&numbers[..], &[next]].concat(), "{what}");
}

#[test]
fn cut_off_at_every_byte() {
    let (changes, promises) = history();
    let mut files = Files::new();
    for (done, change) in changes.iter().enumerate() {
        let before = promises.iter().rfind(|(at, _)| *at <= done).expect("the beginning").1;
        let after = promises.iter().find(|(at, _)| *at > done).map_or(before, |(_, promise)| *promise);
        let appended = before.appended..=after.appended;
        let acked = before.acked..=after.acked;
        let bytes = if let Change::Write(_, _, bytes) = change { bytes.len() } else { 0 };
        for cut in 0..=bytes {
            let mut torn = files.clone();
            if cut > 0 {
                apply(&mut torn, change, cut).expect("it was possible");
            }
            check_crash(&format!("change {done}, byte {cut}"), torn, appended.clone(), acked.clone());
        }
        apply(&mut files, change, usize::MAX).expect("it was possible");
    }
    let last = promises.last().expect("some").1;
    check_crash("the end", files, last.appended..=last.appended, last.acked..=last.acked);
}

#[test]
fn what_is_torn_is_reported() {
    let disk = Memory::new();
    let mut spill = Spill::on(disk.clone(), PLENTY).expect("an empty directory");
    spill.append(&plain(0)).expect("room");
    let end = disk.bytes();
    spill.append(&plain(4)).expect("room");
    let mut files = disk.files();
    let name = "kprobe-spill-00000000000000000000.seg";
    let file = files.get_mut(name).expect("a segment");
    let whole = file.len();
    file.truncate(whole - 1);
    let spill = Spill::on(Memory::with(files), PLENTY).expect("readable");
    let [damage] = &spill.recovered().damage[..] else { panic!("{:?}", spill.recovered()) };
    assert_eq!(
        damage.to_string(),
        format!(
            "{name}: bytes {}..{}: an append was cut off; cut back to the last whole batch; 5 records are missing",
            end - 1024,
            whole - 1
        )
    );
    assert_eq!((spill.recovered().held.batches, spill.recovered().held.records), (1, 1));
}

/// A directory with three segments, one of them with one batch alone, and two of the batches acknowledged.
fn sample() -> (Files, Vec<(String, usize, usize)>) {
    let disk = Memory::new();
    let mut spill = Spill::on(disk.clone(), PLENTY).expect("an empty directory");
    for number in 0..4 {
        spill.append(&plain(number)).expect("room");
    }
    spill.append(&batch(4, &stream(9))).expect("room");
    for number in 5..8 {
        spill.append(&plain(number)).expect("room");
    }
    for _ in 0..2 {
        assert!(spill.next().expect("readable").is_some());
        spill.ack(spill.position()).expect("writable");
    }
    // Where each batch is.
    let mut places = Vec::new();
    for change in disk.changes() {
        if let Change::Write(name, offset, bytes) = change
            && name.ends_with(".seg")
        {
            let offset = usize::try_from(offset).expect("a short file");
            let start = if offset > 0 { offset } else { body(&bytes) };
            places.push((name, start, offset + bytes.len()));
        }
    }
    assert_eq!(places.len(), 8);
    (disk.files(), places)
}

/// Where the first batch is in a segment.
fn body(segment: &[u8]) -> usize {
    let len = u32::from_le_bytes(*segment[16 + 68..].first_chunk().expect("an info"));
    16 + 2 * (80 + usize::try_from(len).expect("short"))
}

#[test]
fn every_byte_changed() {
    let (files, places) = sample();
    for (name, file) in &files {
        for at in 0..file.len() {
            for mask in [1, 0xff] {
                let mut files = files.clone();
                files.get_mut(name).expect("it is there")[at] ^= mask;
                check_change(&format!("{name}: byte {at} ^ {mask:#x}"), name, at, files, &places);
            }
        }
    }
}

fn check_change(what: &str, name: &str, at: usize, files: Files, places: &[(String, usize, usize)]) {
    let disk = Memory::with(files);
    let mut spill = Spill::on(disk.clone(), PLENTY).unwrap_or_else(|error| panic!("{what}: {error}"));
    let held = spill.held();
    let numbers = read_all(&mut spill);
    let hit = places.iter().position(|(file, start, end)| file == name && (*start..*end).contains(&at));
    let damage = damage_of(&spill);
    if name.ends_with(".ack") {
        // The slot written last says 2, the one before says 1.
        let first = if (0..40).contains(&at) { 1 } else { 2 };
        let in_slot = at % 512 < 40;
        let causes: Vec<_> = damage.iter().map(|damage| damage.cause).collect();
        assert_eq!(causes, if in_slot { vec![Cause::Ack] } else { vec![] }, "{what}");
        assert!(
            numbers == (2..8).collect::<Vec<_>>() || in_slot && numbers == (first..8).collect::<Vec<_>>(),
            "{what}"
        );
        assert!(!in_slot || at >= 40 || numbers.len() <= 7, "{what}: {numbers:?}");
        return;
    }
    let hit = hit.map(|hit| hit as u64);
    let expected: Vec<u64> = (2..8).filter(|number| Some(*number) != hit).collect();
    assert_eq!(numbers, expected, "{what}: {damage:?}");
    if hit.is_some_and(|hit| hit < 2) {
        // It has arrived, and nobody needs it.
        assert_eq!(damage, [], "{what}");
        return;
    }
    let [damage] = damage.as_slice() else { panic!("{what}: {damage:?}") };
    assert_eq!(damage.file, name, "{what}");
    assert!((damage.offset..damage.offset + damage.length).contains(&(at as u64)), "{what}: {damage:?}");
    // Of the last batch nothing says how many records it had, if it is its header that is damaged.
    let known = hit.is_none_or(|hit| hit < 7) || damage.cause == Cause::Checksum;
    let records = hit.map_or(0, |hit| hit % 6 + 1);
    assert_eq!(damage.records, known.then_some(records), "{what}: {damage:?}");
    assert_eq!(held.batches, spill.lost().batches + numbers.len() as u64, "{what}");
    assert_eq!(spill.lost().records, if known { records } else { 0 }, "{what}: {damage:?}");
    assert_eq!(spill.bytes(), disk.bytes());
    // It goes on.
    spill.append(&plain(50)).unwrap_or_else(|error| panic!("{what}: {error}"));
    assert_eq!(read_all(&mut spill), [50], "{what}");
}

#[test]
fn changed_behind_its_back() {
    let (files, _) = sample();
    for (name, file) in files.iter().filter(|(name, _)| name.ends_with(".seg")) {
        for at in (0..file.len()).step_by(3) {
            for cut in [false, true] {
                let what = format!("{name}: byte {at}, cut: {cut}");
                let disk = Memory::with(files.clone());
                let mut spill = Spill::on(disk.clone(), PLENTY).expect("readable");
                let held = spill.held();
                disk.tamper(name, |file| if cut { file.truncate(at) } else { file[at] ^= 0xff });
                let numbers = read_all(&mut spill);
                assert!(numbers.is_sorted_by(|a, b| a < b), "{what}: {numbers:?}");
                assert_eq!(spill.lost().batches + numbers.len() as u64, held.batches, "{what}");
                assert_eq!(numbers.len() == 6, spill.damage().is_empty(), "{what}: {:?}", spill.damage());
                spill.append(&plain(50)).expect("room");
                assert_eq!(read_all(&mut spill), [50], "{what}");
            }
        }
    }
}

#[test]
fn a_batch_that_cannot_be_read_now_is_still_the_next() {
    let (files, _) = sample();
    let disk = Memory::with(files);
    let mut spill = Spill::on(disk.clone(), PLENTY).expect("readable");
    for number in 2..8 {
        disk.set_unreadable(true);
        let error = spill.next().expect_err("nothing can be read");
        assert!(error.to_string().contains("unreadable"), "{error}");
        disk.set_unreadable(false);
        let batch = spill.next().expect("readable").expect("a batch");
        assert_eq!(spill_support::number_of(&batch), number);
    }
    assert_eq!((spill.lost(), spill.damage()), (Default::default(), &[][..]));
}
