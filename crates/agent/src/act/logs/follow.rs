//! One container's output: read in batches, given up and read again when a batch is not taken.

use std::fs;
use std::path::PathBuf;

use regex::Regex;
use serde::{Deserialize, Serialize};
use state::TimeMs;

use super::super::supervisor::frames::{Position, Reader};
use super::lines::{Event, Lines, Mark};
use super::{LogStreamName, beside};

/// A batch is closed when it has this much ("PutLogEvents": at most 10,000 events and 1,048,576 bytes).
const BATCH_EVENTS_MAX: usize = 5_000;
const BATCH_BYTES_MAX: usize = 512 * 1024;

/// Whose output, from where to where.
pub struct Source {
    /// The group's record key.
    pub key: String,
    /// The container's index.
    pub container: usize,
    /// Where it goes.
    pub destination: LogStreamName,
    /// Where the supervisor writes it.
    pub frames_dir: PathBuf,
    /// Where it is noted how much was delivered.
    pub resume_file: PathBuf,
    /// What the first line of an event looks like.
    pub multiline: Option<Regex>,
}

/// How much was delivered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Resume {
    /// Read from here.
    from: Position,
    /// The number that the frame there has if none is missing.
    number: u64,
    /// Standard output and error before these is delivered.
    delivered: [Mark; 2],
}

/// Reads one container's output.
pub struct Follower {
    /// Whose.
    pub source: Source,
    resume: Resume,
    reader: Reader,
    lines: Lines,
    /// The number expected next.
    number: u64,
}

/// Events to be delivered together.
#[derive(Debug, Default)]
pub struct Batch {
    /// Oldest first.
    pub events: Vec<Event>,
    /// All that there is was read.
    pub complete: bool,
}

impl Follower {
    /// Goes on where delivery was noted to be.
    pub fn new(source: Source) -> Follower {
        let noted = fs::read(&source.resume_file).ok();
        let resume: Resume = noted.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
        let reader = Reader::open(&source.frames_dir, resume.from);
        let lines = Lines::new(source.multiline.clone(), resume.delivered);
        Follower { source, resume, reader, lines, number: resume.number }
    }

    /// The next events. `end`: nothing more will follow what is there, so a line without an end is a line.
    pub fn batch(&mut self, end: bool, now_ms: TimeMs) -> Batch {
        let mut batch = Batch::default();
        let (mut bytes, mut seen) = (0, 0);
        while batch.events.len() < BATCH_EVENTS_MAX && bytes < BATCH_BYTES_MAX {
            let before = self.reader.position();
            let Some(frame) = self.reader.next_frame() else {
                batch.complete = true;
                break;
            };
            // Reading may have gone on to the next segment, whose first frame this is.
            let after = self.reader.position();
            let position = if after.segment == before.segment {
                before
            } else {
                Position { segment: after.segment, offset: 0 }
            };
            if frame.number > self.number {
                self.lines.end_all(&mut batch.events);
                batch.events.push((frame.at_ms, lost(frame.number - self.number, frame.unwritten)));
            }
            self.number = frame.number + 1;
            self.lines.push(position, &frame, &mut batch.events);
            if self.lines.oldest_pending().is_some_and(|(begin, _)| begin.segment + 1 < position.segment) {
                // A line that does not end must not keep the files of all the rest.
                self.lines.end_all(&mut batch.events);
            }
            bytes += batch.events[seen..].iter().map(|(_, text)| text.len()).sum::<usize>();
            seen = batch.events.len();
        }
        if batch.complete && end {
            self.lines.end_all(&mut batch.events);
        } else {
            self.lines.end_quiet_blocks(now_ms, &mut batch.events);
        }
        // Lines of two streams may end in another order than they began.
        batch.events.sort_by_key(|(at_ms, _)| *at_ms);
        batch
    }

    /// Whether there will be an event by the mere passing of time.
    pub fn waits_for_quiet(&self) -> bool {
        self.lines.has_block()
    }

    /// The events of the last batch are delivered (or discarded): notes it and lets their files go.
    pub fn delivered(&mut self) {
        let read = self.reader.position();
        let (from, number) = self.lines.oldest_pending().unwrap_or((read, self.number));
        let resume = Resume { from, number, delivered: self.lines.delivered(read) };
        if resume == self.resume {
            return;
        }
        self.resume = resume;
        let new = beside(&self.source.resume_file);
        let text = serde_json::to_vec(&resume).unwrap_or_default();
        // If it cannot be noted (a full disk), a restarted agent delivers this batch again.
        if fs::write(&new, text).and_then(|()| fs::rename(&new, &self.source.resume_file)).is_ok() {
            Reader::forget_before(&self.source.frames_dir, from);
        }
    }

    /// The events of the last batch were not taken: they will be read again.
    pub fn give_up_batch(&mut self) {
        self.reader = Reader::open(&self.source.frames_dir, self.resume.from);
        self.lines = Lines::new(self.source.multiline.clone(), self.resume.delivered);
        self.number = self.resume.number;
    }
}

/// What is said in place of what the supervisor had to drop.
fn lost(pieces: u64, unwritten: Option<i32>) -> String {
    let why = match unwritten {
        Some(error) => format!("they could not be stored: {}", std::io::Error::from_raw_os_error(error)),
        None => "it is written faster than it is delivered".into(),
    };
    format!("[roadstead] {pieces} pieces of this container's output were dropped: {why}")
}

#[cfg(test)]
mod tests {
    use super::super::super::supervisor::frames::Writer;
    use super::*;
    use std::path::Path;

    fn follower(dir: &Path) -> Follower {
        let name = |text: &str| text.to_owned();
        let destination = LogStreamName {
            account: name("1"),
            region: name("r"),
            group: name("g"),
            stream: name("s"),
            create_group: false,
        };
        fs::create_dir_all(dir.join("c0")).unwrap();
        Follower::new(Source {
            key: name("k"),
            container: 0,
            destination,
            frames_dir: dir.join("c0"),
            resume_file: dir.join("c0.delivered"),
            multiline: None,
        })
    }

    fn texts(batch: &Batch) -> Vec<&str> {
        batch.events.iter().map(|(_, text)| text.as_str()).collect()
    }

    #[test]
    fn what_was_not_taken_is_read_again_and_what_was_noted_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let mut follower_ = follower(dir.path());
        let mut writer = Writer::open(&dir.path().join("c0"), 4 << 20);
        writer.write(1, 1, b"one\ntwo\nthr");
        assert_eq!(texts(&follower_.batch(false, 1)), ["one", "two"]);
        follower_.give_up_batch();
        assert_eq!(texts(&follower_.batch(false, 1)), ["one", "two"]);
        follower_.delivered();
        writer.write(2, 2, b"err\n");
        writer.write(1, 3, b"ee\nfour");
        // The agent is killed before anything more is noted.
        let mut again = follower(dir.path());
        let batch = again.batch(true, 3);
        assert_eq!((texts(&batch), batch.complete), (vec!["three", "err", "four"], true));
        again.delivered();
        assert_eq!(texts(&follower(dir.path()).batch(true, 3)), Vec::<&str>::new());
    }

    #[test]
    fn dropped_output_is_counted_once() {
        let dir = tempfile::tempdir().unwrap();
        let mut follower = follower(dir.path());
        let mut writer = Writer::open(&dir.path().join("c0"), 2 << 20);
        let line = [b"x".repeat(59_999), b"\n".to_vec()].concat();
        for _ in 0..100 {
            writer.write(1, 1, &line);
        }
        let (mut notices, mut lines) = (Vec::new(), 0);
        loop {
            let batch = follower.batch(true, 1);
            for (_, text) in &batch.events {
                if text.starts_with("[roadstead]") { notices.push(text.clone()) } else { lines += 1 }
            }
            follower.delivered();
            if batch.complete {
                break;
            }
        }
        assert_eq!(notices, vec![lost(100 - lines, None)]);
        assert!(lines > 15, "{lines}");
        // What was delivered is not kept: only the segment that is still written.
        assert_eq!(fs::read_dir(dir.path().join("c0")).unwrap().count(), 1);
    }

    #[test]
    fn what_could_not_be_stored_is_told_as_such() {
        let notice = lost(3, Some(libc::ENOSPC));
        assert!(
            notice.ends_with(
                "3 pieces of this container's output were dropped: they could not be stored: \
                                  No space left on device (os error 28)"
            ),
            "{notice}"
        );
    }

    #[test]
    fn a_line_without_end_keeps_no_more_than_two_segments() {
        let dir = tempfile::tempdir().unwrap();
        let mut follower = follower(dir.path());
        let mut writer = Writer::open(&dir.path().join("c0"), 64 << 20);
        writer.write(2, 1, b"prompt> ");
        let line = [b"x".repeat(59_999), b"\n".to_vec()].concat();
        let mut prompts = 0;
        for _ in 0..80 {
            writer.write(1, 2, &line);
            let batch = follower.batch(false, 2);
            prompts += texts(&batch).iter().filter(|text| **text == "prompt> ").count();
            follower.delivered();
        }
        assert_eq!(prompts, 1);
        assert!(fs::read_dir(dir.path().join("c0")).unwrap().count() <= 3);
    }
}
