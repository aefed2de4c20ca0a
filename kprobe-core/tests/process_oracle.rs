//! The process table against a little operating system that knows the truth.

use kprobe_core::{
    decode::Record,
    event::Event,
    pipeline::{BatchBuf, Context, Stage},
    process::ProcessTable,
};
use process_support::{Act, BOOT, Os};
use proptest::prelude::*;

mod process_support;

/// Contexts that the table gives when the records come in batches of these sizes.
fn contexts(log: &[(Vec<u8>, Context)], sizes: &mut dyn Iterator<Item = usize>) -> Vec<Context> {
    let mut table = ProcessTable::new(BOOT);
    let mut rest = log;
    let mut out = Vec::new();
    while !rest.is_empty() {
        let size = sizes.next().unwrap_or(usize::MAX).clamp(1, rest.len());
        let mut buf = BatchBuf::default();
        for (record, _) in &rest[..size] {
            buf.push(Record::new(record).expect("a record"));
        }
        out.extend(table.apply(buf.take()).enriched().map(|one| one.expect("a record").context.clone()));
        rest = &rest[size..];
    }
    let row = table.row();
    assert_eq!((row.received, row.delivered, row.undecodable), (log.len() as u64, log.len() as u64, 0));
    assert!(row.counts.is_empty());
    out
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let who = 0_usize..1000;
    prop::collection::vec((0_u8..13, who.clone(), who, any::<u8>(), 0_u64..30_000_000), 0..250)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn every_context_is_the_truth(acts in acts(), sizes in prop::collection::vec(1_usize..50, 0..60)) {
        let mut os = Os::new();
        acts.into_iter().for_each(|act| os.act(act));

        let told = contexts(&os.log, &mut std::iter::empty());
        for ((record, truth), told) in os.log.iter().zip(&told) {
            let event = Event::decode(Record::new(record).expect("a record"));
            prop_assert_eq!(told, truth, "{:?}", event);
        }
        prop_assert_eq!(told.len(), os.log.len());
        prop_assert_eq!(contexts(&os.log, &mut sizes.into_iter()), told, "batches make no difference");
    }
}
