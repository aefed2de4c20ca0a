//! From bytes to typed values. Total: any bytes give a value or a [`DecodeError`], and nothing here is `unsafe`.

#![forbid(unsafe_code)]

mod frames;
mod record;

pub use frames::{FRAME_HEADER, FrameError, Frames, put_frame};
pub use record::{DecodeError, Record};
