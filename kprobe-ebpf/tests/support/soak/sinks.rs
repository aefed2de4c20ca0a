//! One sink that is well, and one whose destination dies.

use std::{
    collections::BTreeMap,
    io::{self, Read, Write},
    os::unix::net::UnixStream,
    path::PathBuf,
    sync::{Arc, Mutex},
};

use kprobe_core::{
    abi::CPU_NONE,
    pipeline::{Batch, BatchId, Sink, SinkError},
};

use super::{
    server::Head,
    store::{Entry, Store},
};

/// The record numbers of one CPU.
#[derive(Clone, Copy, Debug)]
pub struct Numbers {
    pub least: u32,
    pub greatest: u32,
    pub count: u64,
}

impl Numbers {
    /// Each of them once, as far as one can tell without keeping them.
    pub fn are_whole(self) -> bool {
        u64::from(self.greatest) + 1 == u64::from(self.least) + self.count
    }
}

/// By CPU.
pub type AllNumbers = Arc<Mutex<BTreeMap<u16, Numbers>>>;

/// Keeps what came, and the numbers of its records.
pub struct Healthy {
    pub store: Store,
    pub numbers: AllNumbers,
}

fn id(batch: &Batch) -> Result<BatchId, SinkError> {
    batch.id().ok_or_else(|| SinkError::fatal("a batch without an id"))
}

impl Sink for Healthy {
    fn name(&self) -> &str {
        "healthy"
    }

    fn write(&mut self, batch: &Batch) -> Result<(), SinkError> {
        self.store.add(Entry::of(id(batch)?, batch.bytes()));
        let mut numbers = self.numbers.lock().unwrap();
        for record in batch.records() {
            let record = record.map_err(SinkError::fatal)?;
            let header = record.header();
            // What user space adds has no number.
            if header.cpu == CPU_NONE {
                continue;
            }
            let of_cpu =
                numbers.entry(header.cpu).or_insert(Numbers { least: header.seq, greatest: 0, count: 0 });
            of_cpu.least = of_cpu.least.min(header.seq);
            of_cpu.greatest = of_cpu.greatest.max(header.seq);
            of_cpu.count += 1;
        }
        Ok(())
    }
}

/// Brings batches to a server, one after the other, and waits until it has acknowledged each.
pub struct Remote {
    name: &'static str,
    socket: PathBuf,
    connection: Option<UnixStream>,
}

impl Remote {
    pub fn new(name: &'static str, socket: PathBuf) -> Self {
        Self { name, socket, connection: None }
    }

    fn deliver(&mut self, id: BatchId, frames: &[u8]) -> io::Result<()> {
        let server = match &mut self.connection {
            Some(server) => server,
            none => none.insert(UnixStream::connect(&self.socket)?),
        };
        Head { id, bytes: frames.len() as u64 }.write(server)?;
        server.write_all(frames)?;
        let mut acknowledged = [0; 8];
        server.read_exact(&mut acknowledged)?;
        if u64::from_le_bytes(acknowledged) == id.seq {
            Ok(())
        } else {
            Err(io::ErrorKind::InvalidData.into())
        }
    }
}

impl Sink for Remote {
    fn name(&self) -> &str {
        self.name
    }

    fn write(&mut self, batch: &Batch) -> Result<(), SinkError> {
        let delivered = self.deliver(id(batch)?, batch.bytes());
        delivered.map_err(|error| {
            self.connection = None;
            match error.kind() {
                io::ErrorKind::InvalidData => SinkError::fatal(error),
                _ => SinkError::retry(error),
            }
        })
    }
}
