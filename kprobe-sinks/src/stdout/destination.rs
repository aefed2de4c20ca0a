use std::{
    fmt, fs,
    fs::File,
    io::{self, IsTerminal},
    path::PathBuf,
};

use super::Waiting;

/// Where lines go, or a capture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
    /// A file, which is created or emptied.
    File(PathBuf),
}

impl Destination {
    /// Opens it and leaves it as it is, so that what fails later, or is refused, costs nothing that was there.
    ///
    /// # Errors
    /// The file cannot be opened or created, or the stream is closed.
    pub fn open(&self) -> io::Result<Opened> {
        let as_it_is = |out, terminal| Opened { out, terminal, created: Created(None), empty: None };
        Ok(match self {
            Self::Stdout => as_it_is(Waiting::stdout()?, io::stdout().is_terminal()),
            Self::Stderr => as_it_is(Waiting::stderr()?, io::stderr().is_terminal()),
            Self::File(path) => {
                let (file, created) = match File::create_new(path) {
                    Ok(file) => (file, Created(Some(path.clone()))),
                    Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                        let mut options = File::options();
                        (options.write(true).create(true).truncate(false).open(path)?, Created(None))
                    }
                    Err(error) => return Err(error),
                };
                // A pipe or a device has nothing in it.
                let empty = file.metadata()?.is_file().then(|| file.try_clone()).transpose()?;
                Opened { out: Waiting::file(file)?, terminal: false, created, empty }
            }
        })
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stdout => f.write_str("standard output"),
            Self::Stderr => f.write_str("standard error"),
            Self::File(path) => path.display().fmt(f),
        }
    }
}

/// A destination that is open and still as it was. If it comes to nothing, a file that was not there is removed.
#[derive(Debug)]
#[must_use]
pub struct Opened {
    out: Waiting<File>,
    terminal: bool,
    created: Created,
    /// The file to be emptied.
    empty: Option<File>,
}

impl Opened {
    /// See [`Waiting::until`].
    pub fn until(mut self, over: impl Fn() -> bool + Send + Sync + 'static) -> Self {
        self.out = self.out.until(over);
        self
    }

    /// It is a terminal.
    #[must_use]
    pub const fn is_terminal(&self) -> bool {
        self.terminal
    }

    /// Empties it: from here on it is written.
    ///
    /// # Errors
    /// What the system says.
    pub fn begin(mut self) -> io::Result<Waiting<File>> {
        self.empty.map_or(Ok(()), |file| file.set_len(0))?;
        self.created.0 = None;
        Ok(self.out)
    }
}

/// A file that nothing was written to.
#[derive(Debug)]
struct Created(Option<PathBuf>);

impl Drop for Created {
    fn drop(&mut self) {
        if let Some(path) = &self.0 {
            // If it cannot be removed an empty file stays, which is no loss.
            let _stays = fs::remove_file(path);
        }
    }
}
