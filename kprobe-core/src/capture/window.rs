use std::io::{self, Read};

/// The part of a stream that is being looked at. It goes forward only, so a pipe will do.
#[derive(Debug)]
pub(super) struct Window<R> {
    reader: R,
    buf: Vec<u8>,
    /// The bytes of `buf` that are there.
    start: usize,
    end: usize,
    /// Where `start` is in the stream.
    offset: u64,
    eof: bool,
}

/// Bytes asked for in one read. Memory grows with what arrives, not with what a header promises.
const STEP: usize = 64 << 10;

impl<R: Read> Window<R> {
    pub(super) const fn new(reader: R) -> Self {
        Self { reader, buf: Vec::new(), start: 0, end: 0, offset: 0, eof: false }
    }

    pub(super) const fn offset(&self) -> u64 {
        self.offset
    }

    /// At least `n` bytes from here on, or all there are up to the end of the stream.
    pub(super) fn fill(&mut self, n: usize) -> io::Result<&[u8]> {
        while self.end - self.start < n && !self.eof {
            if self.start > 0 {
                self.buf.copy_within(self.start..self.end, 0);
                self.end -= self.start;
                self.start = 0;
            }
            if self.buf.len() < self.end + STEP {
                self.buf.resize(self.end + STEP, 0);
            }
            match self.reader.read(&mut self.buf[self.end..]) {
                Ok(0) => self.eof = true,
                Ok(read) => self.end += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => (),
                Err(error) => return Err(error),
            }
        }
        Ok(self.bytes())
    }

    /// The bytes that are there.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.buf[self.start..self.end]
    }

    /// Goes on by `n` bytes of those that are there.
    pub(super) fn skip(&mut self, n: usize) {
        debug_assert!(n <= self.end - self.start);
        self.start += n;
        self.offset += n as u64;
    }

    /// Goes on by at least `least` bytes of those that are there, to the next `pattern` or the end of the stream.
    pub(super) fn seek_to(&mut self, pattern: &[u8], least: usize) -> io::Result<()> {
        self.skip(least);
        loop {
            let bytes = self.fill(pattern.len())?;
            if bytes.len() < pattern.len() {
                let rest = bytes.len();
                self.skip(rest);
                return Ok(());
            }
            match bytes.windows(pattern.len()).position(|window| window == pattern) {
                Some(at) => {
                    self.skip(at);
                    return Ok(());
                }
                None => {
                    let seen = bytes.len() - pattern.len() + 1;
                    self.skip(seen);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_a_pattern_across_reads() {
        for distance in [0, 1, 7, STEP - 9, STEP - 8, STEP - 3, STEP, 3 * STEP + 1] {
            let mut stream = vec![b'p'; 1 + distance];
            stream.extend_from_slice(b"pattern!end");
            let mut window = Window::new(stream.as_slice());
            window.fill(1).expect("readable");
            window.seek_to(b"pattern!", 1).expect("readable");
            assert_eq!(window.offset(), 1 + distance as u64);
            assert_eq!(window.fill(100).expect("readable"), b"pattern!end");
            window.seek_to(b"pattern!", 1).expect("readable");
            assert_eq!(window.offset(), stream.len() as u64);
            assert_eq!(window.fill(1).expect("readable"), b"");
        }
    }
}
