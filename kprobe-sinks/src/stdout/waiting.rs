use std::{
    fmt,
    fs::File,
    io::{self, Write},
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd},
        unix::fs::{FileTypeExt, OpenOptionsExt},
    },
    sync::Arc,
    time::{Duration, Instant},
};

use kprobe_core::capture::Medium;
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::OFlags,
    termios::isatty,
};

/// How long a reader that does not read is waited for when the program is to end.
const GRACE: Duration = Duration::from_secs(1);
/// How often a writer that waits asks whether the program is to end.
const ASK: Timespec = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };
/// A pipe or a socket with any room has room for this much, so that a write of it does not block.
const CERTAIN: usize = 4096;

/// A descriptor that may be non-blocking: writing waits until there is room, or until it is no use.
///
/// Standard output is non-blocking whenever another program that shares the terminal or the pipe has made it so. Writing
/// to it then fails with `EAGAIN`, which is no reason to lose a line.
pub struct Waiting<F> {
    inner: F,
    /// The program is to end.
    over: Option<Over>,
    /// Most bytes of one write: more could block where `over` is not asked.
    most: usize,
    gave_up: bool,
}

type Over = Arc<dyn Fn() -> bool + Send + Sync>;

impl<F: Write + AsFd> Waiting<F> {
    /// Writes to `inner`.
    pub const fn new(inner: F) -> Self {
        Self { inner, over: None, most: usize::MAX, gave_up: false }
    }

    /// Asks `over` while it waits. Once that is so, a reader that takes nothing for a second is waited for no longer:
    /// this and every later write fails with [`TimedOut`](io::ErrorKind::TimedOut). Without, it waits for ever.
    #[must_use]
    pub fn until(mut self, over: impl Fn() -> bool + Send + Sync + 'static) -> Self {
        self.over = Some(Arc::new(over));
        self
    }

    fn wait_for_room(&mut self) -> io::Result<()> {
        let mut over_since = None;
        loop {
            let patience = self.over.is_some().then_some(&ASK);
            // A hang-up ends the wait as well; the next write then says what it was.
            match poll(&mut [PollFd::new(&self.inner, PollFlags::OUT)], patience) {
                Ok(0) | Err(rustix::io::Errno::INTR) => {}
                Ok(_) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
            if self.over.as_ref().is_some_and(|over| over()) {
                self.gave_up = over_since.get_or_insert_with(Instant::now).elapsed() >= GRACE;
                self.patient()?;
            }
        }
    }

    fn patient(&self) -> io::Result<()> {
        if !self.gave_up {
            return Ok(());
        }
        let told = "nobody reads, and it was time to end: what was left is dropped";
        Err(io::Error::new(io::ErrorKind::TimedOut, told))
    }
}

impl Waiting<File> {
    /// Standard output, without the buffer that [`std::io::stdout`] has: a sink must know what was written.
    ///
    /// # Errors
    /// Standard output is closed, or there is no descriptor left.
    pub fn stdout() -> io::Result<Self> {
        Self::duplicate(io::stdout().as_fd())
    }

    /// Standard error.
    ///
    /// # Errors
    /// As [`stdout`](Self::stdout).
    pub fn stderr() -> io::Result<Self> {
        Self::duplicate(io::stderr().as_fd())
    }

    /// This file, pipe or device. No write to it blocks.
    ///
    /// # Errors
    /// The system does not say what it is.
    pub fn file(file: File) -> io::Result<Self> {
        let kind = file.metadata()?.file_type();
        if !(kind.is_fifo() || kind.is_socket() || isatty(&file)) {
            return Ok(Self::new(file));
        }
        // A description of its own can be made non-blocking without making it so for everybody else.
        let own = File::options()
            .write(true)
            .custom_flags((OFlags::NONBLOCK | OFlags::NOCTTY).bits().cast_signed())
            .open(format!("/proc/self/fd/{}", file.as_raw_fd()));
        Ok(match own {
            Ok(own) => Self::new(own),
            // A socket cannot be opened again, and what is somebody else's may not.
            Err(_) => Self { most: CERTAIN, ..Self::new(file) },
        })
    }

    fn duplicate(fd: BorrowedFd<'_>) -> io::Result<Self> {
        Self::file(File::from(fd.try_clone_to_owned()?))
    }
}

impl<F: Write + AsFd> Write for Waiting<F> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.patient()?;
        // What may block must have room before.
        let mut wait = self.most < usize::MAX && self.over.is_some();
        loop {
            if wait {
                self.wait_for_room()?;
            }
            match self.inner.write(&bytes[..bytes.len().min(self.most)]) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => wait = true,
                result => return result,
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

impl Medium for Waiting<File> {
    fn cut(&mut self, len: u64) -> io::Result<()> {
        self.patient()?;
        self.inner.cut(len)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.inner.sync()
    }
}

impl<F: AsFd> AsFd for Waiting<F> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inner.as_fd()
    }
}

impl<F: fmt::Debug> fmt::Debug for Waiting<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Waiting")
            .field("inner", &self.inner)
            .field("gave_up", &self.gave_up)
            .finish_non_exhaustive()
    }
}
