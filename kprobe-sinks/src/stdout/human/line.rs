use std::{fmt, io::Write};

use anstyle::{AnsiColor, Style};
use kprobe_core::event::{Comm, Tgid, Tid};

use super::text::Visible;

pub(super) const TIME: Style = Style::new().dimmed();
pub(super) const WHO: Style = AnsiColor::Cyan.on_default();
pub(super) const CALL: Style = Style::new().bold();
pub(super) const WORD: Style = AnsiColor::Blue.on_default().bold();
pub(super) const FAILED: Style = AnsiColor::Red.on_default();
pub(super) const SPAN: Style = AnsiColor::Green.on_default();
pub(super) const ALARM: Style = AnsiColor::Red.on_default().bold().invert();

/// A line being made. With colour, styles are written; without, the same text is.
#[derive(Debug)]
pub(super) struct Line<'a> {
    buf: &'a mut Vec<u8>,
    colour: bool,
    /// Bytes in the buffer that take no place on the screen, before those of `from`.
    from: usize,
    unseen: usize,
}

/// A thread as people see it: `comm:tgid`, with the thread's own number where it differs.
pub(super) struct Thread {
    pub(super) comm: Comm,
    pub(super) tgid: Tgid,
    pub(super) tid: Tid,
    /// CPU whose idle task it is if its number is 0.
    pub(super) cpu: Option<u16>,
}

impl fmt::Display for Thread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let (Tid(0), Some(cpu)) = (self.tid, self.cpu) {
            return write!(f, "swapper/{cpu}");
        }
        if !self.comm.is_empty() {
            write!(f, "{}:", Visible(self.comm.as_bytes()))?;
        }
        write!(f, "{}", self.tgid)?;
        if self.tid.0 != self.tgid.0 {
            write!(f, "/{}", self.tid)?;
        }
        Ok(())
    }
}

impl<'a> Line<'a> {
    pub(super) fn new(buf: &'a mut Vec<u8>, colour: bool) -> Self {
        let from = buf.len();
        Self { buf, colour, from, unseen: 0 }
    }

    /// Appends text.
    pub(super) fn put(&mut self, text: fmt::Arguments<'_>) {
        // A Vec takes everything.
        let _ = self.buf.write_fmt(text);
    }

    /// Appends text in a style.
    pub(super) fn styled(&mut self, style: Style, text: fmt::Arguments<'_>) {
        if self.colour {
            self.invisible(format_args!("{style}"));
            self.put(text);
            self.invisible(format_args!("{style:#}"));
        } else {
            self.put(text);
        }
    }

    fn invisible(&mut self, text: fmt::Arguments<'_>) {
        let before = self.buf.len();
        self.put(text);
        self.unseen += self.buf.len() - before;
    }

    /// Characters of the line so far.
    pub(super) fn width(&self) -> usize {
        let chars = self.buf[self.from..].iter().filter(|&&byte| byte & 0xc0 != 0x80).count();
        chars - self.unseen
    }

    /// Appends blanks up to that column, but at least one.
    pub(super) fn pad_to(&mut self, column: usize) {
        let blanks = column.saturating_sub(self.width()).max(1);
        self.buf.resize(self.buf.len() + blanks, b' ');
    }
}
