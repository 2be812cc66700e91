//! What a record is, how it is written down, and the table that holds a kind of record in memory.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::ops::Bound;
use std::sync::Arc;

use imbl::{OrdMap, OrdSet};
use serde::{Serialize, de::DeserializeOwned};

/// A kind of record: one table, a key, and a version to migrate from.
pub trait Record: Serialize + DeserializeOwned + Clone + PartialEq + Send + Sync + 'static {
    /// The table's number in the store. Never used again for another meaning.
    const TABLE: u8;
    /// The version written. A change that old bytes cannot be read as raises it and extends [`Record::migrate`].
    const VERSION: u32 = 1;

    /// The key within the table. Keys sort as their lists are shown; a prefix names a parent (`account/region/cluster/`).
    fn key(&self) -> String;

    /// Secondary keys: (index name, value). Looked up by [`Table::by_index`].
    fn indexes(&self) -> Vec<(&'static str, String)> {
        Vec::new()
    }

    /// The indexes of which only is asked how many records gave a value, not which. A record gives each at most once.
    const COUNTED: &'static [&'static str] = &[];

    /// Makes one of what this record says and another of the table says as well, to hold it in memory once.
    fn share(&mut self, _table: &Table<Self>) {}

    /// Reads a record written by an older version.
    fn migrate(version: u32, _value: serde_json::Value) -> Result<Self, RecordError> {
        Err(RecordError(format!("no migration of {} from version {version}", Self::TABLE)))
    }
}

/// A record that could not be read back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordError(pub String);

impl std::fmt::Display for RecordError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for RecordError {}

/// Writes a record: its version in four bytes, then JSON.
pub(crate) fn encode<T: Record>(value: &T) -> Vec<u8> {
    let mut bytes = T::VERSION.to_le_bytes().to_vec();
    serde_json::to_writer(&mut bytes, value).expect("records are plain data with string keys");
    bytes
}

/// Reads a record, migrating it if an older version wrote it.
pub(crate) fn decode<T: Record>(bytes: &[u8]) -> Result<T, RecordError> {
    let bad = |why: String| RecordError(format!("a record of table {} cannot be read: {why}", T::TABLE));
    let (head, body) = bytes.split_at_checked(4).ok_or_else(|| bad("shorter than its header".into()))?;
    let version = u32::from_le_bytes(head.try_into().expect("four bytes"));
    if version == T::VERSION {
        return serde_json::from_slice(body).map_err(|e| bad(e.to_string()));
    }
    if version > T::VERSION {
        return Err(bad(format!("version {version} is newer than this program's {}", T::VERSION)));
    }
    T::migrate(version, serde_json::from_slice(body).map_err(|e| bad(e.to_string()))?)
}

/// A record in a snapshot, with the revision that last wrote it.
#[derive(Debug)]
pub struct Row<T> {
    /// The store's revision of the last write.
    pub revision: u64,
    /// The record.
    pub value: Arc<T>,
}

impl<T> Clone for Row<T> {
    fn clone(&self) -> Self {
        Row { revision: self.revision, value: self.value.clone() }
    }
}

/// The keys of the records that gave one value in an index: one (an address), or as many as a node holds; or only how
/// many they are.
#[derive(Debug, Clone)]
enum Keys {
    One(Arc<str>),
    Many(OrdSet<Arc<str>>),
    Counted(usize),
}

impl Keys {
    fn len(&self) -> usize {
        match self {
            Keys::One(_) => 1,
            Keys::Many(keys) => keys.len(),
            Keys::Counted(count) => *count,
        }
    }

    fn iter(&self) -> impl Iterator<Item = &Arc<str>> {
        let (one, many) = match self {
            Keys::One(key) => (Some(key), None),
            Keys::Many(keys) => (None, Some(keys.iter())),
            Keys::Counted(_) => (None, None),
        };
        one.into_iter().chain(many.into_iter().flatten())
    }

    fn from<'a>(&'a self, from: &str) -> impl Iterator<Item = &'a Arc<str>> + use<'a> {
        let (one, many) = match self {
            Keys::One(key) => (Some(key).filter(|key| &***key >= from), None),
            Keys::Many(keys) => (None, Some(keys.range::<_, str>((Bound::Included(from), Bound::Unbounded)))),
            Keys::Counted(_) => (None, None),
        };
        one.into_iter().chain(many.into_iter().flatten())
    }

    fn add(&mut self, key: Arc<str>) {
        match self {
            Keys::One(only) => *self = Keys::Many(OrdSet::from_iter([only.clone(), key])),
            Keys::Many(keys) => drop(keys.insert(key)),
            Keys::Counted(count) => *count += 1,
        }
    }

    /// Whether any is left.
    fn take_out(&mut self, key: &str) -> bool {
        match self {
            Keys::One(_) => false,
            Keys::Many(keys) => {
                keys.remove(key);
                !keys.is_empty()
            }
            Keys::Counted(count) => {
                *count -= 1;
                *count > 0
            }
        }
    }
}

type Index = OrdMap<Arc<str>, Keys>;

/// All records of one kind, ordered by key, with their secondary indexes. Cloning is a pointer copy. A key is held once,
/// however many indexes name it.
#[derive(Debug)]
pub struct Table<T> {
    rows: OrdMap<Arc<str>, Row<T>>,
    indexes: OrdMap<&'static str, Index>,
}

impl<T> Clone for Table<T> {
    fn clone(&self) -> Self {
        Table { rows: self.rows.clone(), indexes: self.indexes.clone() }
    }
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Table { rows: OrdMap::new(), indexes: OrdMap::new() }
    }
}

impl<T: Record> Table<T> {
    /// The record at a key.
    pub fn get(&self, key: &str) -> Option<&Arc<T>> {
        self.rows.get(key).map(|row| &row.value)
    }

    /// The record at a key, with its revision.
    pub fn row(&self, key: &str) -> Option<&Row<T>> {
        self.rows.get(key)
    }

    /// All records in key order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Arc<T>)> {
        self.rows.iter().map(|(key, row)| (&**key, &row.value))
    }

    /// All rows in key order.
    pub(crate) fn rows(&self) -> impl Iterator<Item = (&str, &Row<T>)> {
        self.rows.iter().map(|(key, row)| (&**key, row))
    }

    /// Records whose key starts with `prefix`, in key order.
    pub fn scan<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = (&'a str, &'a Arc<T>)> {
        self.scan_from(prefix, prefix)
    }

    /// Records whose key starts with `prefix` and is not before `from`: a page of a list.
    pub fn scan_from<'a>(
        &'a self,
        prefix: &'a str,
        from: &str,
    ) -> impl Iterator<Item = (&'a str, &'a Arc<T>)> {
        self.rows
            .range::<_, str>((Bound::Included(from), Bound::Unbounded))
            .take_while(move |(key, _)| key.starts_with(prefix))
            .map(|(key, row)| (&**key, &row.value))
    }

    /// Records that gave (`index`, `value`) in [`Record::indexes`], in key order.
    pub fn by_index<'a>(
        &'a self,
        index: &'static str,
        value: &str,
    ) -> impl Iterator<Item = &'a Arc<T>> + use<'a, T> {
        debug_assert!(!T::COUNTED.contains(&index), "the keys of {index} are not kept");
        let keys = self.indexes.get(index).and_then(|index| index.get(value));
        keys.into_iter().flat_map(Keys::iter).filter_map(|key| self.get(key))
    }

    /// Records that gave any of `values` in an index that each gives one value in, in key order, none before `from`: a
    /// page of a list.
    pub fn by_values_from<'a>(
        &'a self,
        index: &'static str,
        values: &[&str],
        from: &str,
    ) -> impl Iterator<Item = &'a Arc<T>> + use<'a, T> {
        debug_assert!(!T::COUNTED.contains(&index), "the keys of {index} are not kept");
        let index = self.indexes.get(index);
        let found = values.iter().filter_map(|value| index?.get(*value));
        let mut keys: Vec<_> = found.map(|keys| keys.from(from)).collect();
        // The next key of each, the lowest on top.
        let next = |at: usize, keys: &mut Vec<_>| Some(Reverse((Iterator::next(&mut keys[at])?, at)));
        let mut heads: BinaryHeap<_> = (0..keys.len()).filter_map(|at| next(at, &mut keys)).collect();
        std::iter::from_fn(move || {
            let Reverse((key, at)) = heads.pop()?;
            heads.extend(next(at, &mut keys));
            Some(key)
        })
        .filter_map(|key: &Arc<str>| self.get(key))
    }

    /// How many records gave (`index`, `value`), without looking at them.
    pub fn count_by_index(&self, index: &'static str, value: &str) -> usize {
        self.indexes.get(index).and_then(|index| index.get(value)).map_or(0, Keys::len)
    }

    /// The values of an index that start with `prefix`, in order, and how many records gave each.
    pub fn index_values<'a, 'p>(
        &'a self,
        index: &'static str,
        prefix: &'p str,
    ) -> impl Iterator<Item = (&'a str, usize)> + use<'a, 'p, T> {
        let index = self.indexes.get(index).into_iter();
        index
            .flat_map(move |values| values.range::<_, str>((Bound::Included(prefix), Bound::Unbounded)))
            .map(|(value, keys)| (&**value, keys.len()))
            .take_while(move |(value, _)| value.starts_with(prefix))
    }

    /// How many records there are.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Whether nothing was written to either since one was cloned from the other: a pointer is compared, so `false` may
    /// be said of tables that are equal.
    pub fn same(&self, other: &Table<T>) -> bool {
        self.rows.ptr_eq(&other.rows)
    }

    /// As [`Table::same`], of one index.
    pub fn same_index(&self, index: &'static str, other: &Table<T>) -> bool {
        match (self.indexes.get(index), other.indexes.get(index)) {
            (Some(one), Some(other)) => one.ptr_eq(other),
            (one, other) => one.is_none() && other.is_none(),
        }
    }

    pub(crate) fn insert(&mut self, key: &str, revision: u64, mut value: T) {
        value.share(self);
        let value = Arc::new(value);
        let (key, before) = match self.rows.get_key_value(key) {
            Some((key, old)) => (key.clone(), old.value.indexes()),
            None => (Arc::from(key), Vec::new()),
        };
        let after = value.indexes();
        // Most writes change nothing that is looked up.
        if before != after {
            self.unindex(&key, before);
            for (name, at) in after {
                let index = self.indexes.entry(name).or_default();
                match index.get_mut(&*at) {
                    Some(keys) => keys.add(key.clone()),
                    None if T::COUNTED.contains(&name) => drop(index.insert(at.into(), Keys::Counted(1))),
                    None => drop(index.insert(at.into(), Keys::One(key.clone()))),
                }
            }
        }
        self.rows.insert(key, Row { revision, value });
    }

    pub(crate) fn remove(&mut self, key: &str) {
        if let Some(old) = self.rows.remove(key) {
            self.unindex(key, old.value.indexes());
        }
    }

    fn unindex(&mut self, key: &str, values: Vec<(&'static str, String)>) {
        for (name, at) in values {
            let Some(index) = self.indexes.get_mut(name) else { continue };
            if index.get_mut(&*at).is_some_and(|keys| !keys.take_out(key)) {
                index.remove(&*at);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Clone, PartialEq, Serialize, serde::Deserialize)]
    struct Ship {
        name: String,
        harbours: Vec<String>,
    }

    impl Record for Ship {
        const TABLE: u8 = 255;
        fn key(&self) -> String {
            self.name.clone()
        }
        fn indexes(&self) -> Vec<(&'static str, String)> {
            let home = self.harbours.first().map(|harbour| ("home", harbour.clone()));
            self.harbours.iter().map(|harbour| ("harbour", harbour.clone())).chain(home).collect()
        }
        const COUNTED: &'static [&'static str] = &["home"];
    }

    fn put(table: &mut Table<Ship>, name: &str, harbours: &[&str]) {
        let harbours = harbours.iter().map(|harbour| (*harbour).to_owned()).collect();
        table.insert(name, 1, Ship { name: name.into(), harbours });
    }

    fn at(table: &Table<Ship>, harbour: &str) -> Vec<String> {
        let found: Vec<_> = table.by_index("harbour", harbour).map(|ship| ship.name.clone()).collect();
        assert_eq!(table.count_by_index("harbour", harbour), found.len());
        found
    }

    #[test]
    fn an_index_follows_what_is_written_and_deleted() {
        let mut table = Table::default();
        put(&mut table, "c", &["oban"]);
        put(&mut table, "a", &["oban", "obertal"]);
        put(&mut table, "b", &["oban"]);
        let before = table.clone();
        assert_eq!(at(&table, "oban"), ["a", "b", "c"]);
        put(&mut table, "b", &["oban"]);
        assert!(!table.same(&before) && table.same_index("harbour", &before));
        put(&mut table, "b", &["leith"]);
        assert!(!table.same_index("harbour", &before) && before.same(&before.clone()));
        table.remove("a");
        assert_eq!(at(&table, "oban"), ["c"]);
        assert_eq!(at(&table, "obertal"), [""; 0]);
        table.remove("c");
        assert_eq!(at(&table, "oban"), [""; 0]);
        assert_eq!(table.index_values("harbour", "").collect::<Vec<_>>(), [("leith", 1)]);
        assert_eq!(before.index_values("harbour", "ob").collect::<Vec<_>>(), [("oban", 3), ("obertal", 1)]);
    }

    #[test]
    fn an_index_that_only_counts_follows_too() {
        let mut table = Table::default();
        let counts = |table: &Table<Ship>| {
            let values = table.index_values("home", "");
            values.map(|(value, count)| format!("{value} {count}")).collect::<Vec<_>>()
        };
        for (name, harbours) in
            [("a", &["oban", "leith"][..]), ("b", &["oban"]), ("c", &["leith"]), ("d", &[])]
        {
            put(&mut table, name, harbours);
        }
        let before = table.clone();
        assert_eq!(counts(&table), ["leith 1", "oban 2"]);
        put(&mut table, "a", &["leith", "oban"]);
        assert_eq!(counts(&table), ["leith 2", "oban 1"]);
        table.remove("b");
        assert_eq!(counts(&table), ["leith 2"]);
        assert_eq!((table.count_by_index("home", "leith"), table.count_by_index("home", "oban")), (2, 0));
        assert_eq!(counts(&before), ["leith 1", "oban 2"]);
    }

    #[test]
    fn several_values_are_read_as_one_list() {
        let mut table = Table::default();
        for (name, harbour) in [("d", "oban"), ("a", "leith"), ("c", "oban"), ("b", "wick"), ("e", "leith")] {
            put(&mut table, name, &[harbour]);
        }
        let read = |values: &[&str], from: &str| -> String {
            table.by_values_from("harbour", values, from).map(|ship| &*ship.name).collect()
        };
        assert_eq!(read(&["oban", "leith", "wick"], ""), "abcde");
        assert_eq!(read(&["leith", "oban"], "b"), "cde");
        assert_eq!(read(&["wick", "oban"], "c"), "cd");
        assert_eq!(read(&["wick", "obertal"], "c"), "");
        assert_eq!(read(&[], ""), "");
    }

    #[test]
    fn a_value_that_a_record_gives_twice_counts_once() {
        let mut table = Table::default();
        put(&mut table, "a", &["oban", "oban"]);
        assert_eq!(at(&table, "oban"), ["a"]);
        put(&mut table, "a", &[]);
        assert_eq!(at(&table, "oban"), [""; 0]);
    }
}
