//! What must be so of any bytes that are decoded; the fuzz target `decode` asserts it too.

use kprobe_core::{
    abi::{Header, Kind, MAX_RECORD},
    decode::{DecodeError, Record},
    event::{Arch, Event, Field, Origin, Registry, Type},
};

pub(crate) const HEADER: usize = size_of::<Header>();

/// The size of each kind that has a layout: written here once more, so that a change of either is noticed.
pub(crate) const SIZES: &[(Kind, usize)] = &[
    (Kind::META_LOST, 32),
    (Kind::META_MARKER, 8),
    (Kind::META_SAMPLING, 16),
    (Kind::META_THREAD, 32),
    (Kind::META_CGROUP, 72),
    (Kind::META_HISTOGRAM, 224),
    (Kind::META_CLOCK, 32),
    (Kind::META_PATH, 264),
    (Kind::SCHED_SWITCH, 24),
    (Kind::SCHED_WAKING, 16),
    (Kind::SCHED_MIGRATE, 16),
    (Kind::PROCESS_FORK, 24),
    (Kind::PROCESS_EXEC, 48),
    (Kind::PROCESS_EXIT, 24),
    (Kind::PROCESS_RENAME, 24),
    (Kind::SYSCALL, 32),
    (Kind::TCP_SEND, 72),
    (Kind::TCP_RECV, 72),
    (Kind::TCP_RETRANSMIT, 88),
    (Kind::TCP_STATE, 72),
    (Kind::TCP_CONNECT, 80),
    (Kind::TCP_ACCEPT, 64),
    (Kind::BLOCK_REQUEST, 72),
    (Kind::BLOCK_MERGE, 64),
    (Kind::MEMORY_FAULT_MAJOR, 32),
    (Kind::MEMORY_FAULT_MINOR, 24),
    (Kind::MEMORY_RECLAIM, 40),
    (Kind::MEMORY_OOM_KILL, 72),
    (Kind::MEMORY_COMPACTION, 24),
    (Kind::LOCK_CONTENTION, 32),
    (Kind::LOCK_FUTEX, 80),
    (Kind::LOCK_FUTEX_WAKE, 72),
    (Kind::IRQ_HARD, 16),
    (Kind::IRQ_SOFT, 24),
    (Kind::SECURITY_CAPABILITY, 16),
    (Kind::UDP_SEND, 72),
    (Kind::UDP_RECV, 64),
    (Kind::UNIX_SEND, 48),
    (Kind::UNIX_RECV, 48),
    (Kind::PIPE_WRITE, 32),
    (Kind::PIPE_READ, 32),
    (Kind::WAIT_BLOCKED, 88),
    (Kind::WAIT_EPOLL, 40),
    (Kind::WAIT_THROTTLE, 24),
    (Kind::PATH_EXEC, 280),
    (Kind::PATH_OPEN, 280),
];

/// Decodes in every way there is; none may panic, and all must agree.
pub(crate) fn decode_all(registry: &Registry, bytes: &[u8]) {
    let record = match Record::new(bytes) {
        Ok(record) => record,
        Err(error) => {
            assert!(!(HEADER..=MAX_RECORD).contains(&bytes.len()), "{error}");
            assert_eq!(error, DecodeError::Length { found: bytes.len() });
            return;
        }
    };
    assert_eq!(record.bytes(), bytes);
    let decoded = Event::decode(record);
    let Some(entry) = registry.get(record.kind()) else {
        assert_eq!(decoded, Ok(None));
        return;
    };
    let body = bytes.len() - HEADER;
    let expected = SIZES.iter().find(|(kind, _)| *kind == record.kind()).expect("it has a layout").1;
    for arch in [Arch::X86_64, Arch::Aarch64, Arch::Other] {
        let mut given = Vec::new();
        let described = entry.fields_of(record, arch, &mut |name, value| given.push((name, value.ty())));
        match (&decoded, described) {
            (Ok(Some(event)), Ok(())) => {
                assert_eq!(body, expected);
                assert_eq!(event.kind(), record.kind());
                assert_eq!(event.origin(), &Origin::of(&record));
                check_fields(entry.fields, &given);
            }
            (Err(error), Err(again)) => {
                assert_eq!(error, &again);
                assert_eq!(given, [], "no field of a record that is not decoded");
                check_error(error, record.kind(), HEADER + expected, bytes.len());
            }
            (event, fields) => panic!("{event:?} but {fields:?}"),
        }
    }
}

/// In the declared order, with the declared types, and only what is optional may be absent.
fn check_fields(declared: &[Field], given: &[(&'static str, Type)]) {
    let mut given = given.iter().peekable();
    for field in declared {
        match given.next_if(|(name, _)| *name == field.name) {
            Some((_, ty)) => assert_eq!(*ty, field.ty, "{}", field.name),
            None => assert!(field.optional, "{} is absent or out of order", field.name),
        }
    }
    assert_eq!(given.next(), None, "declared: {declared:?}");
}

fn check_error(error: &DecodeError, record: Kind, size: usize, len: usize) {
    match *error {
        DecodeError::Size { kind, expected, found } => {
            assert_eq!((kind, expected, found), (record, size, len));
            assert_ne!(expected, found);
        }
        DecodeError::Value { kind, offset, .. } => {
            assert_eq!((kind, len), (record, size));
            assert!((HEADER..size).contains(&offset));
        }
        ref other => panic!("{other}"),
    }
}
