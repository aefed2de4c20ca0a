//! I8: nothing that a process writes, reads, names or is called with is in any record.

use std::{collections::BTreeSet, time::Duration};

use kprobe_core::{
    abi::{Family, Kind},
    pipeline::{BatchBuf, Source},
};

use kprobe_ebpf::host;

use super::{secrets::SECRET, system::every_family};
use crate::support::{
    child::{Workload, workload},
    recording::Recording,
};

crate::trials!(no_secret_in_any_record, a_name_is_metadata);

/// Whether the bytes of any record have the secret, and the kinds of records that the workload's own processes gave.
fn recorded(in_name: u64) -> (bool, BTreeSet<Kind>) {
    // What must be there is required.
    let recorder = every_family().ring_bytes(64 << 20).attach().unwrap();
    let mut recording = Recording::of(recorder, |_| false);
    let text = format!("secrets {in_name}");
    let mut workload = Workload::new(workload(&text).spawn().unwrap());
    let mut buf = BatchBuf::default();
    let (mut found, mut kinds, mut end) = (false, BTreeSet::new(), false);
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
                kinds.insert(record.kind());
            }
        }
        found |= batch.bytes().windows(SECRET.len()).any(|bytes| bytes == SECRET.as_bytes());
        recording.take(&batch);
    }
    recording.finish();
    (found, kinds)
}

fn no_secret_in_any_record() {
    let (found, kinds) = recorded(0);
    assert!(!found);
    // Each of them had the chance.
    let families: BTreeSet<_> = kinds.iter().filter_map(|kind| kind.family()).collect();
    let has_unix = host::kernel_release().unwrap().at_least(6, 1);
    let is_off = |family: &Family| {
        matches!(family, Family::Meta | Family::User) || *family == Family::Unix && !has_unix
    };
    let all = Family::ALL.iter().copied().filter(|family| !is_off(family));
    assert_eq!(all.filter(|family| !families.contains(family)).collect::<Vec<_>>(), [], "{kinds:?}");
}

/// The control: what is meant to be recorded is found in the same way.
fn a_name_is_metadata() {
    assert!(recorded(1).0);
}
