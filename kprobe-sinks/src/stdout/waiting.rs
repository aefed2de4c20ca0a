use std::{
    fs::File,
    io::{self, Write},
    os::fd::{AsFd, BorrowedFd},
};

use rustix::event::{PollFd, PollFlags, poll};

/// A descriptor that may be non-blocking: writing waits until there is room.
///
/// Standard output is non-blocking whenever another program that shares the terminal or the pipe has made it so. Writing
/// to it then fails with `EAGAIN`, which is no reason to lose a line.
#[derive(Debug)]
pub struct Waiting<F> {
    inner: F,
}

impl<F: Write + AsFd> Waiting<F> {
    /// Writes to `inner`.
    pub const fn new(inner: F) -> Self {
        Self { inner }
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

    fn duplicate(fd: BorrowedFd<'_>) -> io::Result<Self> {
        Ok(Self::new(File::from(fd.try_clone_to_owned()?)))
    }
}

impl<F: Write + AsFd> Write for Waiting<F> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            match self.inner.write(bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    // A hang-up ends the wait as well; the next write then says what it was.
                    match poll(&mut [PollFd::new(&self.inner, PollFlags::OUT)], None) {
                        Ok(_) | Err(rustix::io::Errno::INTR) => {}
                        Err(error) => return Err(error.into()),
                    }
                }
                result => return result,
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

impl<F: AsFd> AsFd for Waiting<F> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inner.as_fd()
    }
}
