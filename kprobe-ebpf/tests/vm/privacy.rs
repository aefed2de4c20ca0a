//! I8: nothing that a process writes, reads, names or is called with is in any record.

use std::{collections::BTreeSet, path::Path, time::Duration};

use kprobe_core::{
    abi::{Family, Kind},
    pipeline::{BatchBuf, Source},
};

use kprobe_ebpf::host;

use super::{
    secrets::{FUTEX_VALUE, SECRET},
    system::every_family_with,
};
use crate::support::{
    child::{Workload, own_path, workload},
    recording::Recording,
    workload::block::disk,
};

crate::trials!(no_secret_in_any_record, a_name_is_metadata, a_path_is_recorded_by_leave_alone);

/// What was found in all records.
#[derive(Default)]
struct Found {
    /// Kinds of those whose bytes have the secret.
    with_secret: BTreeSet<Kind>,
    /// Kinds of those that the workload's own processes gave.
    kinds: BTreeSet<Kind>,
}

/// Records everything, with the paths below a directory, or of a file.
fn recorded(in_name: u64, allowed: &Path) -> Found {
    // What must be there is required.
    let recorder = every_family_with(allowed).ring_bytes(64 << 20).attach().unwrap();
    let mut recording = Recording::of(recorder, |_| false);
    let text = format!("secrets {in_name}");
    let mut workload = Workload::new(workload(&text).spawn().unwrap());
    let mut buf = BatchBuf::default();
    let (mut found, mut end) = (Found::default(), false);
    while !end {
        if workload.child.try_wait().unwrap().is_some_and(|status| status.success() || panic!("{status}")) {
            recording.recorder.stop();
        }
        end = recording.recorder.poll(&mut buf, Some(Duration::from_millis(20))).unwrap().end;
        let batch = buf.take();
        for record in batch.records().map(Result::unwrap) {
            // Interrupts and what they complete come to whoever runs.
            let is_anybodys = matches!(record.kind().family(), Some(Family::Block | Family::Irq));
            if is_anybodys || record.header().tgid == workload.tgid() {
                found.kinds.insert(record.kind());
            }
            // Few enough that four bytes are not there by chance.
            let is_of_futex = record.header().tgid == workload.tgid()
                && matches!(record.kind().family(), Some(Family::Lock | Family::Syscall));
            let has_value = is_of_futex && record.bytes().windows(4).any(|bytes| bytes == FUTEX_VALUE);
            if has_secret(record.bytes()) || has_value {
                found.with_secret.insert(record.kind());
            }
        }
        // Also between the records.
        assert!(!found.with_secret.is_empty() || !has_secret(batch.bytes()));
        recording.take(&batch);
    }
    recording.finish();
    found
}

fn has_secret(bytes: &[u8]) -> bool {
    bytes.windows(SECRET.len()).any(|bytes| bytes == SECRET.as_bytes())
}

fn no_secret_in_any_record() {
    // Paths are recorded of a file that has nothing to do with it.
    let Found { with_secret, kinds } = recorded(0, &own_path());
    assert_eq!(with_secret, BTreeSet::new());
    // Each of them had the chance.
    let families: BTreeSet<_> = kinds.iter().filter_map(|kind| kind.family()).collect();
    let has_all = host::kernel_release().unwrap().at_least(6, 1);
    let is_off = |family: &Family| {
        matches!(family, Family::Meta | Family::User)
            || !has_all && matches!(family, Family::Unix | Family::Wait | Family::Path)
    };
    let all = Family::ALL.iter().copied().filter(|family| !is_off(family));
    assert_eq!(all.filter(|family| !families.contains(family)).collect::<Vec<_>>(), [], "{kinds:?}");
}

/// The control: what is meant to be recorded is found in the same way.
fn a_name_is_metadata() {
    assert_eq!(recorded(1, &own_path()).with_secret, BTreeSet::from([Kind::PROCESS_RENAME]));
}

/// The names of files are, where they were asked for: in records of paths and nowhere else.
fn a_path_is_recorded_by_leave_alone() {
    let is_there = host::kernel_release().unwrap().at_least(6, 1);
    let expected: &[Kind] = if is_there { &[Kind::PATH_OPEN] } else { &[] };
    assert_eq!(recorded(0, &disk()).with_secret, expected.iter().copied().collect());
}
