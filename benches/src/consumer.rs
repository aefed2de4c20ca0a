//! Our side of a measurement, in a process of its own, as the peer is: commands come on standard input, one answer line
//! each goes to standard output. `peer/peer.c` is the other implementation and must do the same work per record.

use std::{
    hint::black_box,
    io::{BufRead as _, stdin},
    os::fd::{AsFd as _, BorrowedFd, OwnedFd, RawFd},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use bytes::BytesMut;
use kprobe_core::{
    abi::{CPU_NONE, Header, Kind, SYSCALL_HAS_FD, SYSCALL_HAS_REQUESTED, SYSCALL_HAS_RET},
    decode::{Frames, Record},
    event::{Syscall, TypedEvent as _},
};
use kprobe_ebpf::ring::{Next, Pacing, Reader, ReaderStates, Ring, Woken, precise_naps};

use crate::{
    bpf::{KIND_END, Program},
    child::say,
    machine::{now_ns, pin, process_cpu_ns, thread_cpu_ns},
    outcome::{Outcome, Work},
};

/// Bytes that are copied out of the ring at once: what a recorder takes from a ring of this size.
const BATCH: usize = 256 << 10;
/// Delays of so many microseconds and more share a bucket.
const BUCKETS: usize = 20_001;

/// The flags of a record that has everything: those that all producers make.
const ALL_PRESENT: u64 = (SYSCALL_HAS_FD | SYSCALL_HAS_REQUESTED | SYSCALL_HAS_RET) as u64;

/// What the checks found, as in `struct seen` of the peer.
#[derive(Default)]
struct Seen {
    records: u64,
    errors: u64,
    next: u32,
    ended: bool,
    /// Delivery delays in microseconds, if asked for.
    delays: Option<Vec<u32>>,
}

impl Seen {
    #[inline(always)]
    fn on_record(&mut self, record: Record<'_>) {
        let Ok(call) = Syscall::decode(record) else {
            self.ended |= record.kind() == KIND_END;
            self.errors += u64::from(record.kind() != KIND_END);
            return;
        };
        let Syscall {
            origin,
            nr: Some(nr),
            enter_ns,
            fd: Some(fd),
            requested: Some(requested),
            ret: Some(ret),
            ..
        } = call
        else {
            self.errors += 1;
            return;
        };
        let cpu = u64::from(origin.cpu.unwrap_or(CPU_NONE));
        let sum = origin.ktime_ns
            ^ origin.cgroup_id
            ^ (u64::from(origin.tgid.0) | u64::from(origin.tid.0) << 32)
            ^ (u64::from(Kind::SYSCALL.0) | cpu << 16 | u64::from(origin.seq) << 32)
            ^ enter_ns
            ^ ret.cast_unsigned()
            ^ requested
            ^ (u64::from(fd.cast_unsigned()) | u64::from(nr.nr) << 32 | ALL_PRESENT << 48);
        self.errors += u64::from(sum != 0 || origin.seq != self.next);
        self.next = origin.seq.wrapping_add(1);
        self.records += 1;
        if let Some(delays) = &mut self.delays {
            let us = now_ns().saturating_sub(origin.ktime_ns) / 1000;
            let bucket = usize::try_from(us).unwrap_or(BUCKETS).min(BUCKETS - 1);
            delays[bucket] += 1;
        }
    }

    /// Looks at the header alone, as whoever filters by process and passes records on does.
    #[inline(always)]
    fn on_header(&mut self, header: Header) {
        let Header { ktime_ns, cgroup_id, tgid, tid, kind, cpu, seq } = header;
        let number = u64::from(seq);
        let wrong = (ktime_ns ^ number)
            | (cgroup_id ^ (number * 0x0101_0101))
            | ((u64::from(tgid) | u64::from(tid) << 32) ^ (number * 0x0001_0001))
            | u64::from(kind ^ Kind::SYSCALL.0 | cpu)
            | u64::from(seq ^ self.next);
        self.errors += u64::from(wrong != 0);
        self.next = seq.wrapping_add(1);
        self.records += 1;
    }

    fn percentile_us(&self, per_mille: u64) -> u64 {
        let Some(delays) = &self.delays else { return 0 };
        let mut left = (self.records * per_mille).div_ceil(1000);
        for (us, &count) in (0..).zip(delays) {
            if u64::from(count) >= left {
                return us;
            }
            left -= u64::from(count);
        }
        BUCKETS as u64
    }

    fn outcome(&self, ns: u64, cpu_ns: u64) -> Outcome {
        let (records, errors) = (self.records, self.errors);
        Outcome {
            records,
            errors,
            ns,
            cpu_ns,
            p50_us: self.percentile_us(500),
            p99_us: self.percentile_us(990),
        }
    }
}

/// Serves commands until standard input ends. The descriptors were left open for this process.
pub(crate) fn serve(core: usize, ring: RawFd, readers: RawFd, program: RawFd) -> Result<()> {
    pin(core)?;
    precise_naps()?;
    let program = Program(inherited(program)?);
    // SAFETY: this process is told to read the ring, and its parent does not.
    let map = |ring| Ok::<_, anyhow::Error>(unsafe { Ring::map(inherited(ring)?) }?);
    let mut work = Work::default();
    for line in stdin().lock().lines() {
        let line = line?;
        let words: Vec<&str> = line.split_whitespace().collect();
        let outcome = match words[..] {
            ["resident", cycles, per_cycle] => {
                resident(map(ring)?, &program, cycles.parse()?, per_cycle.parse()?)?
            }
            ["routed", cycles, per_cycle, producer] => {
                let cores = [producer.parse()?, core];
                routed(map(ring)?, &program, cycles.parse()?, per_cycle.parse()?, cores)?
            }
            ["sustained", mode] => {
                let states = ReaderStates::map(inherited(readers)?.as_fd())?;
                let reader = Reader::new(vec![map(ring)?], states, Pacing::default())?;
                let outcome;
                (outcome, work) = sustained(reader, mode)?;
                outcome
            }
            ["work"] => {
                say(work)?;
                continue;
            }
            _ => bail!("unknown command {line:?}"),
        };
        say(outcome)?;
    }
    Ok(())
}

pub(crate) fn inherited(fd: RawFd) -> Result<OwnedFd> {
    // SAFETY: the parent opened it for this process and names it on the command line; nothing here closes it.
    let fd = unsafe { BorrowedFd::borrow_raw(fd) };
    fd.try_clone_to_owned().with_context(|| format!("inherited descriptor {fd:?}"))
}

/// Not inlined, as below, so that the loop has the registers for itself.
#[inline(never)]
fn resident(mut ring: Ring, program: &Program, cycles: u32, per_cycle: u32) -> Result<Outcome> {
    let mut seen = Seen::default();
    let (mut ns, mut cpu_ns) = (0, 0);
    for _ in 0..cycles {
        program.run(per_cycle)?;
        let (cpu_from, from) = (thread_cpu_ns(), now_ns());
        ring.consume(usize::MAX, |record| match Record::new(record) {
            Ok(record) => seen.on_record(record),
            Err(_) => seen.errors += 1,
        });
        ns += now_ns() - from;
        cpu_ns += thread_cpu_ns() - cpu_from;
    }
    Ok(seen.outcome(ns, cpu_ns))
}

/// The ring is filled on the first of two cores, by this very thread, and drained on the second.
#[inline(never)]
fn routed(
    mut ring: Ring,
    program: &Program,
    cycles: u32,
    per_cycle: u32,
    [producer, consumer]: [usize; 2],
) -> Result<Outcome> {
    let mut seen = Seen::default();
    let (mut ns, mut cpu_ns) = (0, 0);
    for _ in 0..cycles {
        pin(producer)?;
        program.run(per_cycle)?;
        pin(consumer)?;
        let (cpu_from, from) = (thread_cpu_ns(), now_ns());
        ring.consume(usize::MAX, |record| match Record::new(record) {
            Ok(record) => seen.on_header(record.header()),
            Err(_) => seen.errors += 1,
        });
        ns += now_ns() - from;
        cpu_ns += thread_cpu_ns() - cpu_from;
    }
    Ok(seen.outcome(ns, cpu_ns))
}

/// `mode` 0, as recorders do it; 1, with delays; 2, without the copy.
#[inline(never)]
fn sustained(mut reader: Reader, mode: &str) -> Result<(Outcome, Work)> {
    let (with_delays, in_place) = (mode == "1", mode == "2");
    let mut seen = Seen { delays: with_delays.then(|| vec![0; BUCKETS]), ..Seen::default() };
    let mut work = Work::default();
    let mut batch = BytesMut::with_capacity(BATCH);
    say("ready")?;
    let (cpu_from, from) = (process_cpu_ns(), now_ns());
    while !seen.ended {
        let began = now_ns();
        batch.clear();
        if in_place {
            for ring in reader.rings_mut() {
                ring.consume(usize::MAX, |record| match Record::new(record) {
                    Ok(record) => seen.on_record(record),
                    Err(_) => seen.errors += 1,
                });
            }
        } else {
            reader.copy_into(&mut batch, BATCH);
        }
        let copied = now_ns();
        for record in Frames::new(&batch) {
            match record {
                Ok(record) => seen.on_record(record),
                Err(_) => seen.errors += 1,
            }
        }
        work.copy_ns += copied - began;
        work.decode_ns += now_ns() - copied;
        let next = reader.pace()?;
        work.sleeps += u64::from(next != Next::Again(Duration::ZERO));
        if !seen.ended && reader.wait(next)? == Woken::ByWaker {
            bail!("nobody has the waker");
        }
    }
    let (ns, cpu_ns) = (now_ns() - from, process_cpu_ns() - cpu_from);
    Ok((black_box(seen.outcome(ns, cpu_ns)), work))
}
