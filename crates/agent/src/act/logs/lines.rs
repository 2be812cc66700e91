//! From pieces of output to log events: joins lines, keeps the streams apart, bounds events. Pure.

use regex::Regex;
use serde::{Deserialize, Serialize};
use state::TimeMs;

use super::super::supervisor::frames::{Frame, Position};

/// The most that an event may have: 256 KiB less the 26 bytes that each event counts in addition ("PutLogEvents").
pub const EVENT_BYTES_MAX: usize = 262_144 - 26;
/// A line is cut here: so that the end of a character that lies across still fits.
const LINE_BYTES_MAX: usize = EVENT_BYTES_MAX - 4;
/// A block of lines that belong together is over when nothing has been added for this long.
pub const BLOCK_QUIET_MS: i64 = 1000;

/// A place in a container's output: a byte of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
pub struct Mark {
    /// Where the frame begins.
    pub frame: Position,
    /// Bytes of its text before.
    pub offset: usize,
}

/// Text that is not yet an event.
#[derive(Debug)]
struct Pending {
    begin: Mark,
    /// The number of the frame in which it begins.
    number: u64,
    at_ms: TimeMs,
    /// When something was last added.
    last_ms: TimeMs,
    text: Vec<u8>,
}

/// One of a container's two output streams.
#[derive(Debug, Default)]
struct Stream {
    /// Text before this is delivered and not to be taken again.
    delivered: Mark,
    /// A line without an end.
    line: Option<Pending>,
    /// Whole lines, to which more may belong.
    block: Option<Pending>,
}

/// Joins the frames of a container to events.
#[derive(Debug, Default)]
pub struct Lines {
    multiline: Option<Regex>,
    streams: [Stream; 2],
}

/// An event: when its first byte was read, and its text.
pub type Event = (TimeMs, String);

impl Lines {
    /// `delivered`: what is before these marks, for standard output and error, is passed over.
    pub fn new(multiline: Option<Regex>, delivered: [Mark; 2]) -> Lines {
        let streams = delivered.map(|delivered| Stream { delivered, ..Stream::default() });
        Lines { multiline, streams }
    }

    /// Takes the next frame, which begins at `position`, and adds the events that it completes.
    pub fn push(&mut self, position: Position, frame: &Frame, events: &mut Vec<Event>) {
        let stream = &mut self.streams[usize::from(frame.stream == 2)];
        let mut offset = match position.cmp(&stream.delivered.frame) {
            std::cmp::Ordering::Less => return,
            std::cmp::Ordering::Equal => stream.delivered.offset.min(frame.text.len()),
            std::cmp::Ordering::Greater => 0,
        };
        while offset < frame.text.len() {
            let rest = &frame.text[offset..];
            let begin = Mark { frame: position, offset };
            let line = stream.line.get_or_insert_with(|| Pending {
                begin,
                number: frame.number,
                at_ms: frame.at_ms,
                last_ms: frame.at_ms,
                text: Vec::new(),
            });
            line.last_ms = frame.at_ms;
            let end = rest.iter().position(|byte| *byte == b'\n');
            let length = end.unwrap_or(rest.len());
            let taken = room(rest, length, LINE_BYTES_MAX.saturating_sub(line.text.len()));
            line.text.extend(&rest[..taken]);
            offset += taken;
            if taken < length {
                // Too long: this much of it is an event of its own.
                stream.end_line(self.multiline.as_ref(), events);
            } else if end.is_some() {
                offset += 1;
                stream.end_line(self.multiline.as_ref(), events);
            }
        }
    }

    /// Ends blocks to which nothing has been added for a while.
    pub fn end_quiet_blocks(&mut self, now_ms: TimeMs, events: &mut Vec<Event>) {
        for stream in &mut self.streams {
            if stream.block.as_ref().is_some_and(|block| now_ms - block.last_ms >= BLOCK_QUIET_MS) {
                stream.end_block(events);
            }
        }
    }

    /// Ends everything: nothing more follows, or what follows is lost.
    pub fn end_all(&mut self, events: &mut Vec<Event>) {
        for stream in &mut self.streams {
            stream.end_line(self.multiline.as_ref(), events);
            stream.end_block(events);
        }
    }

    /// Whether a block waits for more lines.
    pub fn has_block(&self) -> bool {
        self.streams.iter().any(|stream| stream.block.is_some())
    }

    /// Where reading must begin again to find all that is not an event yet: the frame's place and number.
    pub fn oldest_pending(&self) -> Option<(Position, u64)> {
        let begins = self.streams.iter().filter_map(|stream| stream.block.as_ref().or(stream.line.as_ref()));
        begins.map(|pending| (pending.begin.frame, pending.number)).min()
    }

    /// For each stream, before what all has become events. `read`: how far frames were read.
    pub fn delivered(&self, read: Position) -> [Mark; 2] {
        let done = Mark { frame: read, offset: 0 };
        [0, 1].map(|n| {
            let stream = &self.streams[n];
            stream.block.as_ref().or(stream.line.as_ref()).map_or(done, |pending| pending.begin)
        })
    }
}

/// How much of the first `length` bytes to take so that at most `most` (or the rest of a character more) are taken.
fn room(text: &[u8], length: usize, most: usize) -> usize {
    if length <= most {
        return length;
    }
    let inside = |at: usize| at < length && text[at] & 0b1100_0000 == 0b1000_0000;
    let before = (0..4).map(|back| most.saturating_sub(back)).find(|at| *at > 0 && !inside(*at));
    before.unwrap_or_else(|| (most..most + 4).find(|at| !inside(*at)).unwrap_or(most).min(length))
}

impl Stream {
    fn end_line(&mut self, multiline: Option<&Regex>, events: &mut Vec<Event>) {
        let Some(mut line) = self.line.take() else { return };
        let Some(multiline) = multiline else {
            return emit(line, events);
        };
        let begins = multiline.is_match(&String::from_utf8_lossy(&line.text));
        // As Docker's awslogs driver does it, each line of a block keeps its end.
        line.text.push(b'\n');
        match &mut self.block {
            Some(block) if !begins && block.text.len() + line.text.len() <= EVENT_BYTES_MAX => {
                block.text.append(&mut line.text);
                block.last_ms = line.last_ms;
            }
            _ => {
                self.end_block(events);
                self.block = Some(line);
            }
        }
    }

    fn end_block(&mut self, events: &mut Vec<Event>) {
        if let Some(block) = self.block.take() {
            emit(block, events);
        }
    }
}

/// Adds an event. An empty line is none: an event has at least one character.
fn emit(pending: Pending, events: &mut Vec<Event>) {
    let text = match String::from_utf8(pending.text) {
        Ok(text) => text,
        Err(err) => String::from_utf8_lossy(err.as_bytes()).into_owned(),
    };
    // Replacing bytes that are no UTF-8 may have made it longer.
    let mut rest = text.as_str();
    while rest.len() > EVENT_BYTES_MAX {
        let at = rest.floor_char_boundary(EVENT_BYTES_MAX);
        events.push((pending.at_ms, rest[..at].to_owned()));
        rest = &rest[at..];
    }
    if rest.len() == text.len() {
        if !text.is_empty() {
            events.push((pending.at_ms, text));
        }
    } else if !rest.is_empty() {
        events.push((pending.at_ms, rest.to_owned()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(number: u64, stream: u8, at_ms: i64, text: &[u8]) -> (Position, Frame) {
        let position = Position { segment: 1, offset: number * 100 };
        (position, Frame { stream, at_ms, number, unwritten: None, text: text.to_vec() })
    }

    fn joined(lines: &mut Lines, frames: &[(Position, Frame)]) -> Vec<Event> {
        let mut events = Vec::new();
        frames.iter().for_each(|(position, frame)| lines.push(*position, frame, &mut events));
        events
    }

    fn event(at_ms: i64, text: &str) -> Event {
        (at_ms, text.to_owned())
    }

    #[test]
    fn lines_are_joined_per_stream_and_dated_by_their_beginning() {
        let mut lines = Lines::default();
        let frames = [
            frame(0, 1, 10, b"one\ntw"),
            frame(1, 2, 11, b"err"),
            frame(2, 1, 12, b"o\n\nthree"),
            frame(3, 2, 13, b"or\n"),
        ];
        let events = joined(&mut lines, &frames);
        assert_eq!(events, vec![event(10, "one"), event(10, "two"), event(11, "error")]);
        assert_eq!(lines.oldest_pending(), Some((frames[2].0, 2)));
        let delivered = lines.delivered(Position { segment: 1, offset: 400 });
        assert_eq!(delivered[0], Mark { frame: frames[2].0, offset: 3 });
        assert_eq!(delivered[1], Mark { frame: Position { segment: 1, offset: 400 }, offset: 0 });
        // Read again from the oldest pending on, exactly the rest comes.
        let mut again = Lines::new(None, delivered);
        let mut events = joined(&mut again, &frames[2..]);
        again.end_all(&mut events);
        assert_eq!(events, vec![event(12, "three")]);
    }

    #[test]
    fn carriage_returns_stay_and_bad_utf8_is_replaced() {
        let events = joined(&mut Lines::default(), &[frame(0, 1, 1, b"a\r\n\xff\n")]);
        assert_eq!(events, vec![event(1, "a\r"), event(1, "\u{fffd}")]);
    }

    #[test]
    fn a_character_across_two_frames_is_whole() {
        let events = joined(&mut Lines::default(), &[frame(0, 1, 1, b"\xe2\x82"), frame(1, 1, 2, b"\xac\n")]);
        assert_eq!(events, vec![event(1, "€")]);
    }

    #[test]
    fn long_lines_are_cut_between_characters() {
        for shift in 0..4 {
            let text = format!("{}{}\n", "x".repeat(shift), "€".repeat(100_000));
            let frames: Vec<_> =
                text.as_bytes().chunks(16_384).enumerate().map(|(n, t)| frame(n as u64, 1, 1, t)).collect();
            let events = joined(&mut Lines::default(), &frames);
            assert_eq!(events.len(), 2);
            assert!(
                events.iter().all(|(_, text)| text.len() <= EVENT_BYTES_MAX && !text.contains('\u{fffd}'))
            );
            assert_eq!(events.iter().map(|(_, text)| text.as_str()).collect::<String>() + "\n", text);
        }
    }

    #[test]
    fn replaced_bytes_keep_the_bound() {
        let mut bytes = vec![0xff; 200_000];
        bytes.push(b'\n');
        let events = joined(&mut Lines::default(), &[frame(0, 1, 1, &bytes)]);
        assert_eq!(events.len(), 3);
        assert!(events.iter().all(|(_, text)| text.len() <= EVENT_BYTES_MAX));
        assert_eq!(events.iter().map(|(_, text)| text.chars().count()).sum::<usize>(), 200_000);
    }

    #[test]
    fn blocks_begin_with_the_pattern_and_end_when_quiet() {
        let mut lines = Lines::new(Some(Regex::new("^ERROR").unwrap()), Default::default());
        let mut events = joined(
            &mut lines,
            &[frame(0, 1, 10, b"start\nERROR a\n  at b\n"), frame(1, 1, 20, b"  at c\nERROR d\n")],
        );
        assert_eq!(events, vec![event(10, "start\n"), event(10, "ERROR a\n  at b\n  at c\n")]);
        lines.end_quiet_blocks(20 + BLOCK_QUIET_MS - 1, &mut events);
        assert_eq!(events.len(), 2);
        lines.end_quiet_blocks(20 + BLOCK_QUIET_MS, &mut events);
        assert_eq!(events[2], event(20, "ERROR d\n"));
        assert!(!lines.has_block());
    }

    proptest::proptest! {
        /// However output is cut into frames, and wherever delivery is broken off, no byte is lost or told twice.
        #[test]
        fn nothing_is_lost_or_doubled(
            texts in proptest::collection::vec((1u8..=2, "[ab\n]{0,12}"), 0..12),
            stop in 0usize..12,
        ) {
            let frames: Vec<_> =
                texts.iter().enumerate().map(|(n, (s, t))| frame(n as u64, *s, n as i64, t.as_bytes())).collect();
            let end = Position { segment: 1, offset: frames.len() as u64 * 100 };
            let mut whole = Lines::default();
            let mut expected = joined(&mut whole, &frames);
            whole.end_all(&mut expected);
            let stop = stop.min(frames.len());
            let mut first = Lines::default();
            let mut events = joined(&mut first, &frames[..stop]);
            let read = frames.get(stop).map_or(end, |(position, _)| *position);
            let from = first.oldest_pending().map_or(read, |(position, _)| position);
            let mut second = Lines::new(None, first.delivered(read));
            let rest: Vec<_> = frames.iter().filter(|(position, _)| *position >= from).cloned().collect();
            events.extend(joined(&mut second, &rest));
            second.end_all(&mut events);
            events.sort();
            expected.sort();
            proptest::prop_assert_eq!(events, expected);
        }
    }
}
