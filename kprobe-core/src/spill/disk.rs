use std::io;

/// A directory that a spill is kept in, with the few things that a spill does with files.
///
/// The spill names files as it likes; it gives names that [`list`](Self::list) gave or that it made up itself, never with a
/// slash in them.
pub trait Disk {
    /// What it is called in messages.
    fn name(&self) -> String;

    /// Every regular file in it with its length, in any order.
    ///
    /// # Errors
    /// What the system says; so for all of these.
    fn list(&mut self) -> io::Result<Vec<(String, u64)>>;

    /// Makes an empty file.
    ///
    /// # Errors
    /// [`AlreadyExists`](io::ErrorKind::AlreadyExists), or what the system says.
    fn create(&mut self, file: &str) -> io::Result<()>;

    /// Reads from `offset` on as much as there is, up to the length of `buf`.
    ///
    /// # Errors
    /// What the system says.
    fn read_at(&mut self, file: &str, offset: u64, buf: &mut [u8]) -> io::Result<usize>;

    /// Writes all of `bytes` at `offset`, which is within the file or at its end. What is written outlives this
    /// process at once. After an error any part of it may be there.
    ///
    /// # Errors
    /// What the system says.
    fn write_at(&mut self, file: &str, offset: u64, bytes: &[u8]) -> io::Result<()>;

    /// Cuts a file to `len` bytes. It never was shorter.
    ///
    /// # Errors
    /// What the system says.
    fn cut(&mut self, file: &str, len: u64) -> io::Result<()>;

    /// Deletes a file.
    ///
    /// # Errors
    /// What the system says.
    fn remove(&mut self, file: &str) -> io::Result<()>;

    /// Gives a file another name, which no file has.
    ///
    /// # Errors
    /// What the system says.
    fn rename(&mut self, from: &str, to: &str) -> io::Result<()>;

    /// Brings everything to the storage behind it, so that it outlives a power cut.
    ///
    /// # Errors
    /// What the system says.
    fn sync(&mut self) -> io::Result<()>;
}
