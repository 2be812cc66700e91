//! The body of a frame: commits one after another.
//!
//! ```text
//! commit: revision u64 | writes u32 | write…
//! write:  table u8 | kind u8 (0 delete, 1 put) | key length u32 | key | if put: value length u32 | value
//! ```
//! A snapshot file is made of the same: one commit per record, with the record's own revision, and at the end
//! one commit without writes that carries the snapshot's revision and shows that it is whole.

use crate::backend::Table;

/// One write as it lies in a body.
pub(crate) struct Record<'a> {
    pub(crate) revision: u64,
    pub(crate) table: Table,
    pub(crate) key: &'a str,
    /// The value and where it begins in the body.
    pub(crate) value: Option<(&'a [u8], usize)>,
}

/// Appends the head of a commit.
pub(crate) fn put_commit(body: &mut Vec<u8>, revision: u64, writes: usize) {
    body.extend_from_slice(&revision.to_le_bytes());
    put_length(body, writes);
}

/// Appends one write of a commit.
pub(crate) fn put_write(body: &mut Vec<u8>, table: Table, key: &str, value: Option<&[u8]>) {
    body.push(table);
    body.push(u8::from(value.is_some()));
    put_length(body, key.len());
    body.extend_from_slice(key.as_bytes());
    if let Some(value) = value {
        put_length(body, value.len());
        body.extend_from_slice(value);
    }
}

/// Lengths fit: a batch is bounded far below 4 GiB, and a frame refuses more than 1 GiB.
fn put_length(body: &mut Vec<u8>, length: usize) {
    body.extend_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes());
}

/// Reads the commits of a body in order: `on_commit` gets each revision and its number of writes, then `on_write`
/// each write. `None` when the body is not well formed or `on_commit` says no.
pub(crate) fn read(
    body: &[u8],
    mut on_commit: impl FnMut(u64, usize) -> bool,
    mut on_write: impl FnMut(Record<'_>),
) -> Option<()> {
    let mut cursor = Cursor { body, at: 0 };
    while cursor.at < body.len() {
        let revision = u64::from_le_bytes(cursor.take(8)?.try_into().ok()?);
        let writes = cursor.length()?;
        if !on_commit(revision, writes) {
            return None;
        }
        for _ in 0..writes {
            let (table, kind) = (cursor.take(1)?[0], cursor.take(1)?[0]);
            let key_bytes = cursor.length()?;
            let key = std::str::from_utf8(cursor.take(key_bytes)?).ok()?;
            let value = match kind {
                0 => None,
                1 => {
                    let value_bytes = cursor.length()?;
                    let at = cursor.at;
                    Some((cursor.take(value_bytes)?, at))
                }
                _ => return None,
            };
            on_write(Record { revision, table, key, value });
        }
    }
    Some(())
}

struct Cursor<'a> {
    body: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    fn take(&mut self, bytes: usize) -> Option<&'a [u8]> {
        let taken = self.body.get(self.at..self.at.checked_add(bytes)?)?;
        self.at += bytes;
        Some(taken)
    }

    fn length(&mut self) -> Option<usize> {
        Some(u32::from_le_bytes(self.take(4)?.try_into().ok()?) as usize)
    }
}
