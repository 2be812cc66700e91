//! A body on its way from the buffer of one connection to another connection.

use super::io::Buffer;
use crate::decide::chunks::{self, Chunks, Malformed};
use crate::decide::head::Framing;

/// A body, some of which has passed.
pub(crate) struct Passage {
    left: Left,
    /// It goes out in chunks.
    chunked: bool,
    /// The `Trailer` field: what may follow the last chunk.
    declared: String,
}

enum Left {
    Length(u64),
    Chunks(Chunks),
    UntilClose,
    Nothing,
    /// Of a body that is badly chunked, nothing that follows can be told from the next message.
    Unknown,
}

impl Passage {
    /// One that comes by `framing` and goes out in chunks or not.
    pub fn new(framing: Framing, chunked: bool, declared: String) -> Self {
        let left = match framing {
            Framing::Empty => Left::Nothing,
            Framing::Length(length) => Left::Length(length),
            Framing::Chunked => Left::Chunks(Chunks::default()),
            Framing::Close => Left::UntilClose,
        };
        Self { left, chunked, declared }
    }

    /// Whether all of it has come.
    pub fn is_done(&self) -> bool {
        match &self.left {
            Left::Length(left) => *left == 0,
            Left::Chunks(chunks) => chunks.is_done(),
            Left::UntilClose | Left::Unknown => false,
            Left::Nothing => true,
        }
    }

    /// Takes what has come: appends to `out` what has to be written differently, and says how many of the buffer's
    /// first bytes are to be written after that as they are (and then consumed).
    ///
    /// # Errors
    /// When it is chunked, and badly.
    pub fn advance(&mut self, buffer: &mut Buffer, out: &mut Vec<u8>) -> Result<usize, Malformed> {
        self.pass(buffer, out).inspect_err(|_| self.left = Left::Unknown)
    }

    fn pass(&mut self, buffer: &mut Buffer, out: &mut Vec<u8>) -> Result<usize, Malformed> {
        match &mut self.left {
            Left::Nothing => Ok(0),
            Left::Unknown => Err(Malformed),
            Left::Length(left) => {
                let count = buffer.data().len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                *left -= count as u64;
                Ok(count)
            }
            Left::UntilClose if self.chunked => {
                chunks::write(out, buffer.data());
                buffer.clear();
                Ok(0)
            }
            Left::UntilClose => Ok(buffer.data().len()),
            Left::Chunks(chunks) => {
                while !chunks.is_done() && !buffer.is_empty() {
                    let (used, content) = chunks.next(buffer.data())?;
                    let content = &buffer.data()[content];
                    if self.chunked {
                        chunks::write(out, content);
                    } else {
                        out.extend_from_slice(content);
                    }
                    buffer.consume(used);
                }
                if chunks.is_done() && self.chunked {
                    chunks.finish(out, &self.declared)?;
                }
                Ok(0)
            }
        }
    }

    /// Takes the end of the connection it comes on: whether that ends the body as it should.
    pub fn close(&mut self, out: &mut Vec<u8>) -> bool {
        let ends = matches!(self.left, Left::UntilClose);
        if ends {
            self.left = Left::Nothing;
            if self.chunked {
                out.extend_from_slice(b"0\r\n\r\n");
            }
        }
        ends
    }
}
