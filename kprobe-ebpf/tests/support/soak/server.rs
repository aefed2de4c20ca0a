//! A destination in a process of its own, which is killed and started again.

use std::{
    io::{self, Read, Write},
    os::unix::{net::UnixListener, process::ExitStatusExt},
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
};

use kprobe_core::pipeline::BatchId;

use super::{
    super::child::{Workload, workload},
    store::{Entry, Store},
};

/// In the folder of a server.
pub const SOCKET: &str = "socket";
pub const STORE: &str = "store";

/// What a sink says before the frames of a batch.
pub struct Head {
    pub id: BatchId,
    pub bytes: u64,
}

impl Head {
    pub fn write(&self, to: &mut impl Write) -> io::Result<()> {
        let mut head = [0; 32];
        head[..16].copy_from_slice(&self.id.run.to_le_bytes());
        head[16..24].copy_from_slice(&self.id.seq.to_le_bytes());
        head[24..].copy_from_slice(&self.bytes.to_le_bytes());
        to.write_all(&head)
    }

    fn read(from: &mut impl Read) -> io::Result<Self> {
        let mut run = [0; 16];
        from.read_exact(&mut run)?;
        let [mut seq, mut bytes] = [[0; 8]; 2];
        from.read_exact(&mut seq)?;
        from.read_exact(&mut bytes)?;
        let id = BatchId { run: u128::from_le_bytes(run), seq: u64::from_le_bytes(seq) };
        Ok(Self { id, bytes: u64::from_le_bytes(bytes) })
    }
}

/// It is to die before it acknowledges what it keeps next.
static CONDEMNED: AtomicBool = AtomicBool::new(false);

extern "C" fn condemn(_: i32) {
    CONDEMNED.store(true, Ordering::Relaxed);
}

/// The workload `soak-server`, in its folder: keeps what comes, then acknowledges it with its place in the stream. One that
/// is killed between the two gets the batch again.
#[expect(clippy::print_stdout, reason = "it says when it can be reached")]
pub fn serve() {
    // SAFETY: takes numbers only.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
    // SAFETY: the handler only stores to an atomic.
    unsafe { libc::signal(libc::SIGUSR1, condemn as *const () as usize) };
    // That of the one that was killed.
    if let Err(error) = std::fs::remove_file(SOCKET) {
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
    let listener = UnixListener::bind(SOCKET).unwrap();
    let mut store = Store::open(Path::new(STORE));
    println!("ready");
    let mut frames = Vec::new();
    loop {
        let (mut sink, _) = listener.accept().unwrap();
        // Until the sink goes.
        while let Ok(head) = Head::read(&mut sink) {
            frames.resize(head.bytes as usize, 0);
            if sink.read_exact(&mut frames).is_err() {
                break;
            }
            store.add(Entry::of(head.id, &frames));
            if CONDEMNED.load(Ordering::Relaxed) {
                // SAFETY: takes a number only.
                unsafe { libc::raise(libc::SIGKILL) };
            }
            if sink.write_all(&head.id.seq.to_le_bytes()).is_err() {
                break;
            }
        }
    }
}

/// One that can be killed.
pub struct Server {
    folder: PathBuf,
    process: Option<Workload>,
}

impl Server {
    pub fn start(folder: PathBuf) -> Self {
        std::fs::create_dir(&folder).unwrap();
        let mut server = Self { folder, process: None };
        server.revive();
        server
    }

    pub fn socket(&self) -> PathBuf {
        self.folder.join(SOCKET)
    }

    pub fn store(&self) -> PathBuf {
        self.folder.join(STORE)
    }

    /// Starts it again, whether it is dead or about to be.
    pub fn revive(&mut self) {
        self.process = None;
        let mut process = Workload::new(workload("soak-server").current_dir(&self.folder).spawn().unwrap());
        assert_eq!(process.line(), "ready");
        self.process = Some(process);
    }

    /// At any point of its work, or just after it has kept a batch, which it does not acknowledge any more.
    pub fn kill(&mut self, after_a_batch: bool) {
        let signal = if after_a_batch { libc::SIGUSR1 } else { libc::SIGKILL };
        let tgid = self.process.as_ref().unwrap().tgid();
        // SAFETY: takes numbers only, and a child that was not waited for keeps its own.
        assert_eq!(unsafe { libc::kill(tgid as i32, signal) }, 0);
    }

    pub fn is_dead(&mut self) -> bool {
        let Some(process) = &mut self.process else { return true };
        let Some(status) = process.child.try_wait().unwrap() else { return false };
        assert_eq!(status.signal(), Some(libc::SIGKILL), "a server died by itself: {status}");
        self.process = None;
        true
    }
}
