//! Frames: how bytes lie in a file so that a torn write is told from damage.
//!
//! ```text
//! length u32 | head check u32 | body check u32 | body          (little-endian; checks are CRC-32)
//! ```
//! The head check covers the length, the frame's offset and the file's number, so a frame is only valid where it
//! was written. The last write before a crash may be cut or full of holes: its frame is invalid and *nothing
//! valid follows it*, because the next frame is written only after this one was synced. An invalid frame that is
//! followed by a valid one is therefore damage, and never silently dropped.

use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::error::{Result, StoreError};

/// Bytes before the body.
pub(crate) const HEAD_BYTES: usize = 12;
/// No body is longer. (The largest group is a full one plus one largest batch; see `Limits`.)
const MAX_BODY_BYTES: u32 = 1 << 30;

fn head_check(length: u32, offset: u64, file_number: u64) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&length.to_le_bytes());
    hasher.update(&offset.to_le_bytes());
    hasher.update(&file_number.to_le_bytes());
    hasher.finalize()
}

/// Leaves room for a head at the end of `buffer` and returns where; the body follows it, then call [`seal`] on the
/// bytes from there on.
pub(crate) fn begin(buffer: &mut Vec<u8>) -> usize {
    let start = buffer.len();
    buffer.resize(start + HEAD_BYTES, 0);
    start
}

/// Fills in the head of the one frame that `buffer` is, which is to be written at `offset`.
pub(crate) fn seal(buffer: &mut [u8], offset: u64, file_number: u64) -> Result<()> {
    let bytes = buffer.len() - HEAD_BYTES;
    let max_bytes = MAX_BODY_BYTES as usize;
    let length = u32::try_from(bytes).ok().filter(|length| *length <= MAX_BODY_BYTES);
    let length = length.ok_or(StoreError::TooLarge { bytes, max_bytes })?;
    let body_check = crc32fast::hash(&buffer[HEAD_BYTES..]);
    buffer[0..4].copy_from_slice(&length.to_le_bytes());
    buffer[4..8].copy_from_slice(&head_check(length, offset, file_number).to_le_bytes());
    buffer[8..12].copy_from_slice(&body_check.to_le_bytes());
    Ok(())
}

/// The length and body check of a valid head.
fn open_head(head: &[u8], offset: u64, file_number: u64) -> Option<(u32, u32)> {
    let word = |at: usize| head.get(at..at + 4)?.try_into().ok().map(u32::from_le_bytes);
    let length = word(0)?;
    let valid = length > 0 && length <= MAX_BODY_BYTES && word(4)? == head_check(length, offset, file_number);
    valid.then_some((length, word(8)?))
}

/// Reads a file frame by frame.
pub(crate) struct Frames<'a> {
    path: &'a Path,
    reader: BufReader<File>,
    file_number: u64,
    offset: u64,
    file_bytes: u64,
    body: Vec<u8>,
}

impl<'a> Frames<'a> {
    /// Opens the file at `path`, whose frames were sealed with `file_number`.
    pub(crate) fn open(path: &'a Path, file_number: u64) -> Result<Frames<'a>> {
        let file = File::open(path).map_err(StoreError::at("opening", path))?;
        let file_bytes = file.metadata().map_err(StoreError::at("reading", path))?.len();
        let reader = BufReader::with_capacity(256 << 10, file);
        Ok(Frames { path, reader, file_number, offset: 0, file_bytes, body: Vec::new() })
    }

    /// As [`Frames::open`], for the frames that begin at `range.start` and end at `range.end`.
    pub(crate) fn open_range(path: &'a Path, file_number: u64, range: Range<u64>) -> Result<Frames<'a>> {
        let mut file = File::open(path).map_err(StoreError::at("opening", path))?;
        let file_bytes = file.metadata().map_err(StoreError::at("reading", path))?.len().min(range.end);
        let offset = range.start.min(file_bytes);
        file.seek(SeekFrom::Start(offset)).map_err(StoreError::at("reading", path))?;
        let reader = BufReader::with_capacity((file_bytes - offset).clamp(1, 256 << 10) as usize, file);
        Ok(Frames { path, reader, file_number, offset, file_bytes, body: Vec::new() })
    }

    /// The end of the last valid frame.
    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    /// The length of the file.
    pub(crate) fn file_bytes(&self) -> u64 {
        self.file_bytes
    }

    /// The next frame's body and the offset of the body in the file; `None` at the first that is not valid, where
    /// [`Frames::offset`] then stays.
    pub(crate) fn next(&mut self) -> Result<Option<(&[u8], u64)>> {
        let left = self.file_bytes - self.offset;
        let mut head = [0; HEAD_BYTES];
        if left < HEAD_BYTES as u64 {
            return Ok(None);
        }
        self.reader.read_exact(&mut head).map_err(StoreError::at("reading", self.path))?;
        let Some((length, body_check)) = open_head(&head, self.offset, self.file_number) else {
            return Ok(None);
        };
        if left - (HEAD_BYTES as u64) < u64::from(length) {
            return Ok(None);
        }
        self.body.resize(length as usize, 0);
        self.reader.read_exact(&mut self.body).map_err(StoreError::at("reading", self.path))?;
        if crc32fast::hash(&self.body) != body_check {
            return Ok(None);
        }
        let body_offset = self.offset + HEAD_BYTES as u64;
        self.offset = body_offset + u64::from(length);
        Ok(Some((&self.body, body_offset)))
    }

    /// After `next` gave `None`: whether what is left is an interrupted last write (or nothing), not damage.
    pub(crate) fn ends_torn(&self) -> Result<bool> {
        let mut rest = vec![0; (self.file_bytes - self.offset) as usize];
        let file = self.reader.get_ref();
        file.read_exact_at(&mut rest, self.offset).map_err(StoreError::at("reading", self.path))?;
        let valid_at = |at: usize| {
            let (length, body_check) = open_head(&rest[at..], self.offset + at as u64, self.file_number)?;
            let body = rest.get(at + HEAD_BYTES..at + HEAD_BYTES + length as usize)?;
            (crc32fast::hash(body) == body_check).then_some(())
        };
        Ok((1..rest.len()).all(|at| valid_at(at).is_none()))
    }

    /// The error for damage at the current offset.
    pub(crate) fn damaged(&self, what: &str) -> StoreError {
        StoreError::Corrupt { what: format!("{} at byte {}: {what}", self.path.display(), self.offset) }
    }
}
