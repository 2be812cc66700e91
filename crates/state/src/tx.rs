//! A decision in progress: a snapshot and the writes made on it.

use std::collections::BTreeMap;
use std::sync::Arc;

use store::{Guard, Write};

use crate::db::Changed;
use crate::record::{Record, Table, encode};
use crate::snapshot::{HasTable, Snapshot};

/// A snapshot plus the writes of one decision, which reads made through it see.
///
/// Every written key is guarded by the revision it had when the decision began, so a commit to a store
/// that others write to as well fails rather than overwrites, and the decision is run again.
#[derive(Debug)]
pub struct Tx {
    now: Snapshot,
    /// What writes down the record at each key that was written; `None` deletes. Only what is there in the end is written
    /// down, however often it was changed.
    writes: BTreeMap<(u8, String), Option<WriteDown>>,
    guards: BTreeMap<(u8, String), Option<u64>>,
}

/// Writes down the record at a key of a snapshot.
type WriteDown = fn(&Snapshot, &str) -> Option<Vec<u8>>;

fn write_down<T: Record>(snapshot: &Snapshot, key: &str) -> Option<Vec<u8>>
where
    Snapshot: HasTable<T>,
{
    HasTable::<T>::table(snapshot).get(key).map(|value| encode(&**value))
}

impl Tx {
    /// Begins a decision on a snapshot.
    pub fn new(snapshot: Snapshot) -> Tx {
        Tx { now: snapshot, writes: BTreeMap::new(), guards: BTreeMap::new() }
    }

    /// The state with this decision's own writes applied.
    pub fn snapshot(&self) -> &Snapshot {
        &self.now
    }

    /// The table of records of kind `T`, own writes applied.
    pub fn table<T: Record>(&self) -> &Table<T>
    where
        Snapshot: HasTable<T>,
    {
        self.now.table()
    }

    /// The record at a key.
    pub fn get<T: Record>(&self, key: &str) -> Option<Arc<T>>
    where
        Snapshot: HasTable<T>,
    {
        self.now.table().get(key).cloned()
    }

    /// Says that the decision depends on this record staying as it is.
    pub fn guard<T: Record>(&mut self, key: &str)
    where
        Snapshot: HasTable<T>,
    {
        let at = (T::TABLE, key.to_owned());
        if !self.guards.contains_key(&at) {
            let revision = HasTable::<T>::table(&self.now).row(key).map(|row| row.revision);
            self.guards.insert(at, revision);
        }
    }

    /// Writes a record. Writing what is already there is no write.
    pub fn put<T: Record>(&mut self, value: T)
    where
        Snapshot: HasTable<T>,
    {
        let key = value.key();
        let old = HasTable::<T>::table(&self.now).row(&key);
        if old.is_some_and(|old| *old.value == value) {
            return;
        }
        let expected = old.map(|row| row.revision);
        self.guards.entry((T::TABLE, key.clone())).or_insert(expected);
        let revision = self.now.revision + 1;
        HasTable::<T>::table_mut(&mut self.now).insert(&key, revision, value);
        self.now.written(T::TABLE, &key);
        self.writes.insert((T::TABLE, key), Some(write_down::<T>));
    }

    /// Changes the record at a key in place; false if there is none. The key must not change.
    pub fn update<T: Record>(&mut self, key: &str, change: impl FnOnce(&mut T)) -> bool
    where
        Snapshot: HasTable<T>,
    {
        let Some(mut value) = self.get::<T>(key).map(|old| T::clone(&old)) else { return false };
        change(&mut value);
        debug_assert_eq!(value.key(), key, "a record's key never changes");
        self.put(value);
        true
    }

    /// Deletes the record at a key; false if there was none.
    pub fn delete<T: Record>(&mut self, key: &str) -> bool
    where
        Snapshot: HasTable<T>,
    {
        if HasTable::<T>::table(&self.now).get(key).is_none() {
            return false;
        }
        self.guard::<T>(key);
        self.writes.insert((T::TABLE, key.to_owned()), None);
        HasTable::<T>::table_mut(&mut self.now).remove(key);
        self.now.written(T::TABLE, key);
        true
    }

    /// Whether anything was written.
    pub fn is_empty(&self) -> bool {
        self.writes.is_empty()
    }

    /// The state with the writes applied, and what was written: for who writes nothing down yet
    /// ([`Snapshot::written_down`]).
    pub fn into_snapshot(self) -> (Snapshot, Vec<Changed>) {
        (self.now, self.writes.into_keys().collect())
    }

    /// The state with the writes applied, the writes and their guards.
    pub fn finish(self) -> (Snapshot, Vec<Write>, Vec<Guard>) {
        let writes = self.writes.into_iter().map(|((table, key), write_down)| {
            let value = write_down.and_then(|write_down| write_down(&self.now, &key));
            Write { table, key, value }
        });
        let writes = writes.collect();
        let guards =
            self.guards.into_iter().map(|((table, key), expected)| Guard { table, key, expected }).collect();
        (self.now, writes, guards)
    }
}
