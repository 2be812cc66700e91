//! What a container wrote, as frames in bounded segment files `log.<n>`: written by the supervisor, read by the agent.
//!
//! A frame is: length of the text (u32), stream (u8: 1 or 2), why frames before it are missing if they could not be
//! written (u8: the error's number), 2 zero bytes, time in ms (u64), number of the frame (u64), all little endian, then
//! the text as read from the pipe. When the segments reach their bound the oldest is removed, or else no more is to be
//! read from the container until the reader has removed one; on a full disk a frame is lost. The reader sees the gap in
//! the numbers.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

const HEADER_BYTES: usize = 24;
/// A segment is closed when it has grown to this, or to a quarter of a small bound.
const SEGMENT_BYTES_MAX: u64 = 1 << 20;
/// The smallest bound that is kept to: four reads of a pipe.
const BYTES_MIN: u64 = 64 << 10;
/// What one read of a pipe gives at most; a longer frame is damage.
const FRAME_BYTES_MAX: usize = 1 << 17;

/// A piece of output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// 1 = standard output, 2 = standard error.
    pub stream: u8,
    /// When it was read.
    pub at_ms: i64,
    /// Counts a container's frames over all its runs.
    pub number: u64,
    /// Frames just before it could not be written: the number of the error.
    pub unwritten: Option<i32>,
    /// The bytes.
    pub text: Vec<u8>,
}

fn segment_path(dir: &Path, segment: u64) -> PathBuf {
    dir.join(format!("log.{segment}"))
}

/// The numbers of the segments in a folder, ascending.
fn segments(dir: &Path) -> Vec<u64> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let mut found: Vec<u64> =
        entries.filter_map(|e| e.file_name().to_str()?.strip_prefix("log.")?.parse().ok()).collect();
    found.sort_unstable();
    found
}

/// Writes a container's frames.
pub struct Writer {
    dir: PathBuf,
    file: Option<File>,
    /// The segment being written; the file may not exist yet.
    segment: u64,
    segment_bytes: u64,
    segment_bytes_max: u64,
    segments_max: u64,
    blocking: bool,
    number: u64,
    unwritten: Option<i32>,
}

impl Writer {
    /// Goes on after what the folder holds. At `bytes_max` (of 64 KiB at least) the oldest goes.
    pub fn open(dir: &Path, bytes_max: u64) -> Writer {
        let last = segments(dir).last().copied().unwrap_or(0);
        let number =
            Reader::open(dir, Position { segment: last, offset: 0 }).last_number().map_or(0, |n| n + 1);
        let bytes_max = bytes_max.max(BYTES_MIN);
        let segment_bytes_max = (bytes_max / 4).min(SEGMENT_BYTES_MAX);
        Writer {
            dir: dir.to_owned(),
            file: None,
            segment: last + 1,
            segment_bytes: 0,
            segment_bytes_max,
            segments_max: bytes_max / segment_bytes_max,
            blocking: false,
            number,
            unwritten: None,
        }
    }

    /// As [`Writer::open`], but nothing goes at `bytes_max`: [`Writer::is_full`] is to be asked before more is read.
    pub fn blocking(dir: &Path, bytes_max: u64) -> Writer {
        Writer { blocking: true, ..Writer::open(dir, bytes_max) }
    }

    /// Whether what is read from the container now would have to be kept beyond the bound.
    pub fn is_full(&self) -> bool {
        self.blocking
            && self.segment_bytes >= self.segment_bytes_max
            && segments(&self.dir).len() as u64 >= self.segments_max
    }

    /// Writes a frame, or loses it when the disk is full.
    pub fn write(&mut self, stream: u8, at_ms: i64, text: &[u8]) {
        if self.segment_bytes >= self.segment_bytes_max {
            self.file = None;
            self.segment += 1;
            self.segment_bytes = 0;
        }
        let mut frame = Vec::with_capacity(HEADER_BYTES + text.len());
        frame.extend((text.len() as u32).to_le_bytes());
        frame.extend([stream, self.unwritten.and_then(|error| u8::try_from(error).ok()).unwrap_or(0), 0, 0]);
        frame.extend(at_ms.to_le_bytes());
        frame.extend(self.number.to_le_bytes());
        frame.extend(text);
        self.number += 1;
        if let Err(err) = self.append(&frame) {
            self.unwritten = Some(err.raw_os_error().unwrap_or(libc::EIO));
            // A partly written frame must not be followed by another: the reader could not tell where it begins.
            if let Some(file) = &self.file {
                let _ = file.set_len(self.segment_bytes);
            }
        } else {
            self.unwritten = None;
            self.segment_bytes += frame.len() as u64;
        }
    }

    fn append(&mut self, frame: &[u8]) -> io::Result<()> {
        let file = match &mut self.file {
            Some(file) => file,
            None => {
                let kept = if self.blocking { u64::MAX } else { self.segments_max - 1 };
                let oldest = self.segment.saturating_sub(kept);
                for old in segments(&self.dir).into_iter().filter(|n| *n < oldest) {
                    // If it cannot be removed the bound is passed by one segment; the next turn tries again.
                    let _ = fs::remove_file(segment_path(&self.dir, old));
                }
                let path = segment_path(&self.dir, self.segment);
                self.file.insert(File::options().append(true).create(true).open(path)?)
            }
        };
        file.write_all(frame)
    }

    /// Forces what was written to disk.
    pub fn sync(&mut self) {
        if let Some(file) = &self.file {
            // Output is best effort on a failing disk.
            let _ = file.sync_data();
        }
    }
}

/// A place in a container's output.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, serde::Serialize, serde::Deserialize,
)]
pub struct Position {
    /// The segment.
    pub segment: u64,
    /// Bytes in it.
    pub offset: u64,
}

/// Reads a container's frames.
pub struct Reader {
    dir: PathBuf,
    at: Position,
    file: Option<(u64, File)>,
}

impl Reader {
    /// Reads from a position on.
    pub fn open(dir: &Path, at: Position) -> Reader {
        Reader { dir: dir.to_owned(), at, file: None }
    }

    /// After the last frame read.
    pub fn position(&self) -> Position {
        self.at
    }

    /// The next frame that is whole, if there is one yet.
    pub fn next_frame(&mut self) -> Option<Frame> {
        loop {
            if let Some(frame) = self.read_here() {
                return Some(frame);
            }
            // A later segment exists only once this one is complete. Read again first: it may have grown in between.
            let later = segments(&self.dir).into_iter().find(|n| *n > self.at.segment)?;
            if let Some(frame) = self.read_here() {
                return Some(frame);
            }
            self.at = Position { segment: later, offset: 0 };
            self.file = None;
        }
    }

    fn read_here(&mut self) -> Option<Frame> {
        if self.file.as_ref().is_none_or(|(segment, _)| *segment != self.at.segment) {
            let file = File::open(segment_path(&self.dir, self.at.segment)).ok()?;
            self.file = Some((self.at.segment, file));
        }
        let (_, file) = self.file.as_mut()?;
        let mut header = [0; HEADER_BYTES];
        file.seek(SeekFrom::Start(self.at.offset)).ok()?;
        file.read_exact(&mut header).ok()?;
        let word = |at: usize| u64::from_le_bytes(header[at..at + 8].try_into().unwrap_or_default());
        let length = (word(0) & u64::from(u32::MAX)) as usize;
        if length > FRAME_BYTES_MAX {
            return None;
        }
        let mut text = vec![0; length];
        file.read_exact(&mut text).ok()?;
        self.at.offset += (HEADER_BYTES + length) as u64;
        let unwritten = Some(i32::from(header[5])).filter(|error| *error != 0);
        Some(Frame { stream: header[4], at_ms: word(8) as i64, number: word(16), unwritten, text })
    }

    fn last_number(mut self) -> Option<u64> {
        std::iter::from_fn(|| self.next_frame()).last().map(|frame| frame.number)
    }

    /// Removes the segments before a position: they are read and delivered.
    pub fn forget_before(dir: &Path, position: Position) {
        for old in segments(dir).into_iter().filter(|n| *n < position.segment) {
            // Tried again at the next segment.
            let _ = fs::remove_file(segment_path(dir, old));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_across_segments_and_writers() {
        let dir = tempfile::tempdir().unwrap();
        let mut reader = Reader::open(dir.path(), Position::default());
        assert_eq!(reader.next_frame(), None);
        let mut seen = Vec::new();
        for _ in 0..2 {
            let mut writer = Writer::open(dir.path(), 64 << 20);
            for _ in 0..40 {
                writer.write(1, 7, &vec![b'x'; 60_000]);
                seen.extend(reader.next_frame());
            }
        }
        assert_eq!(seen.len(), 80);
        assert!(
            seen.iter().enumerate().all(|(n, frame)| frame.number == n as u64 && frame.text.len() == 60_000)
        );
        assert_eq!(reader.next_frame(), None);
        Reader::forget_before(dir.path(), reader.position());
        assert_eq!(segments(dir.path()).len(), 1);
    }

    #[test]
    fn the_oldest_is_dropped_at_the_bound_and_the_gap_shows() {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = Writer::open(dir.path(), 4 << 20);
        for _ in 0..200 {
            writer.write(2, 7, &vec![b'x'; 60_000]);
        }
        let bytes: u64 = segments(dir.path())
            .iter()
            .map(|n| fs::metadata(segment_path(dir.path(), *n)).unwrap().len())
            .sum();
        assert!(bytes <= (4 << 20) + 60_024, "{bytes}");
        let mut reader = Reader::open(dir.path(), Position::default());
        let first = reader.next_frame().unwrap();
        assert!(first.number > 100);
        assert_eq!(reader.last_number(), Some(199));
    }

    #[test]
    fn a_small_bound_is_kept_to() {
        for bytes_max in [1, 100 << 10, 1 << 20] {
            let dir = tempfile::tempdir().unwrap();
            let mut writer = Writer::open(dir.path(), bytes_max);
            for _ in 0..200 {
                writer.write(1, 7, &[b'x'; 16_000]);
            }
            let sizes = segments(dir.path());
            let sizes = sizes.iter().map(|n| fs::metadata(segment_path(dir.path(), *n)).unwrap().len());
            let (bytes, bound) = (sizes.sum::<u64>(), bytes_max.max(BYTES_MIN));
            assert!(bytes > bound / 2 && bytes <= bound + 4 * 16_024, "{bytes} for {bound}");
        }
    }

    #[test]
    fn what_blocks_keeps_everything_until_it_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = Writer::blocking(dir.path(), 4 << 20);
        let mut reader = Reader::open(dir.path(), Position::default());
        let (mut written, mut read) = (0, 0);
        while written < 400 {
            if writer.is_full() {
                assert!(written - read > 40, "{written} written, {read} read");
                for _ in 0..30 {
                    assert_eq!(reader.next_frame().map(|frame| frame.number), Some(read));
                    read += 1;
                }
                Reader::forget_before(dir.path(), reader.position());
                continue;
            }
            writer.write(1, 7, &vec![b'x'; 60_000]);
            written += 1;
        }
        let rest = std::iter::from_fn(|| reader.next_frame()).count();
        assert_eq!(read + rest as u64, 400);
    }

    #[test]
    fn what_could_not_be_written_is_told_by_the_next() {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = Writer::open(dir.path(), 1 << 20);
        writer.write(1, 7, b"one");
        // As good as a full disk: the segment that comes next cannot be made.
        writer.segment_bytes = writer.segment_bytes_max;
        fs::create_dir(segment_path(dir.path(), 2)).unwrap();
        writer.write(1, 7, b"two");
        fs::remove_dir(segment_path(dir.path(), 2)).unwrap();
        writer.write(1, 7, b"three");
        writer.write(1, 7, b"four");
        let mut reader = Reader::open(dir.path(), Position::default());
        let read = std::iter::from_fn(|| reader.next_frame()).map(|f| (f.number, f.unwritten));
        assert_eq!(read.collect::<Vec<_>>(), [(0, None), (2, Some(libc::EISDIR)), (3, None)]);
    }

    #[test]
    fn half_a_frame_is_not_read() {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = Writer::open(dir.path(), 1 << 20);
        writer.write(1, 7, b"hello\n");
        let path = segment_path(dir.path(), 1);
        let whole = fs::read(&path).unwrap();
        fs::write(&path, &whole[..whole.len() - 1]).unwrap();
        let mut reader = Reader::open(dir.path(), Position::default());
        assert_eq!(reader.next_frame(), None);
        fs::write(&path, &whole).unwrap();
        assert_eq!(reader.next_frame().unwrap().text, b"hello\n");
    }
}
