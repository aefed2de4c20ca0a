use std::{
    fs::File,
    io::{self, Seek, SeekFrom, Write},
};

/// What a capture can be written to: something that grows at its end and can be cut. It keeps no buffer of its own: what
/// [`write_all`](Write::write_all) took counts as delivered.
pub trait Medium: Write {
    /// Cuts it to `len` bytes, so that the next write goes there. It never was shorter.
    ///
    /// # Errors
    /// It cannot be cut. The writer tries again before it writes anything else.
    fn cut(&mut self, len: u64) -> io::Result<()>;

    /// Brings everything to the storage behind it, so that it outlives a power cut.
    ///
    /// # Errors
    /// What the system says.
    fn sync(&mut self) -> io::Result<()>;
}

impl Medium for File {
    fn cut(&mut self, len: u64) -> io::Result<()> {
        self.set_len(len)?;
        self.seek(SeekFrom::Start(len)).map(drop)
    }

    fn sync(&mut self) -> io::Result<()> {
        match self.sync_all() {
            // A pipe or a terminal has no storage behind it.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(()),
            result => result,
        }
    }
}

impl Medium for Vec<u8> {
    fn cut(&mut self, len: u64) -> io::Result<()> {
        self.truncate(usize::try_from(len).unwrap_or(usize::MAX));
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<M: Medium + ?Sized> Medium for &mut M {
    fn cut(&mut self, len: u64) -> io::Result<()> {
        (**self).cut(len)
    }

    fn sync(&mut self) -> io::Result<()> {
        (**self).sync()
    }
}
