//! redb, fjall and SQLite as engines, for the comparison alone.

use std::path::Path;
use std::sync::{Mutex, PoisonError};

use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};
use redb::{ReadableDatabase, ReadableTable, TableDefinition};
use rusqlite::{Connection, OptionalExtension, params};
use store::{Batch, Committed, Engine, Entry, Grouped, Job, Limits, Loaded, Result, StoreError, Table};

fn failed(error: impl std::fmt::Display) -> StoreError {
    StoreError::Corrupt { what: error.to_string() }
}

/// What an engine that is compared does itself.
trait Peer: Send + 'static {
    fn load(&self) -> Result<Vec<Entry>>;
    fn revision_of(&self, table: Table, key: &str) -> Result<Option<u64>>;
    /// Writes commits and syncs them, the last of this revision.
    fn write(&mut self, group: &[Committed], revision: u64) -> Result<()>;
}

/// A peer as an engine. It copies and compacts nothing; asked to, it says so.
struct Compared<P> {
    peer: P,
    revision: u64,
}

fn start(peer: impl Peer, revision: u64) -> Result<Grouped> {
    Grouped::start(Compared { peer, revision }, Limits::default())
}

fn not_compared() -> Result<Job> {
    Err(failed("copies and compaction are no part of the comparison"))
}

impl<P: Peer> Engine for Compared<P> {
    fn revision(&self) -> u64 {
        self.revision
    }

    fn load(&mut self) -> Result<Loaded> {
        Ok(Loaded { revision: self.revision, entries: self.peer.load()? })
    }

    fn revision_of(&self, table: Table, key: &str) -> Result<Option<u64>> {
        self.peer.revision_of(table, key)
    }

    fn write(&mut self, group: &[Committed]) -> Result<()> {
        let revision = group.last().map_or(self.revision, |commit| commit.revision);
        self.peer.write(group, revision)?;
        self.revision = revision;
        Ok(())
    }

    fn snapshot(&mut self, _: &Path) -> Result<Job> {
        not_compared()
    }

    fn compact(&mut self) -> Result<Job> {
        not_compared()
    }
}

const RECORDS: TableDefinition<(u8, &str), (u64, &[u8])> = TableDefinition::new("records");
const META: TableDefinition<&str, u64> = TableDefinition::new("meta");

struct Redb {
    database: redb::Database,
}

/// A backend over redb.
pub fn redb(dir: &Path) -> Result<Grouped> {
    std::fs::create_dir_all(dir).map_err(failed)?;
    let database = redb::Database::create(dir.join("records.redb")).map_err(failed)?;
    let write = database.begin_write().map_err(failed)?;
    write.open_table(RECORDS).map_err(failed)?;
    let meta = write.open_table(META).map_err(failed)?;
    let revision = meta.get("revision").map_err(failed)?.map_or(0, |value| value.value());
    drop(meta);
    write.commit().map_err(failed)?;
    start(Redb { database }, revision)
}

impl Peer for Redb {
    fn load(&self) -> Result<Vec<Entry>> {
        let read = self.database.begin_read().map_err(failed)?;
        let table = read.open_table(RECORDS).map_err(failed)?;
        let mut entries = Vec::new();
        for item in table.iter().map_err(failed)? {
            let (id, record) = item.map_err(failed)?;
            let ((table, key), (revision, value)) = (id.value(), record.value());
            entries.push(Entry { table, key: key.to_owned(), value: value.to_vec(), revision });
        }
        Ok(entries)
    }

    fn revision_of(&self, table: Table, key: &str) -> Result<Option<u64>> {
        let read = self.database.begin_read().map_err(failed)?;
        let records = read.open_table(RECORDS).map_err(failed)?;
        Ok(records.get((table, key)).map_err(failed)?.map(|record| record.value().0))
    }

    fn write(&mut self, group: &[Committed], revision: u64) -> Result<()> {
        let transaction = self.database.begin_write().map_err(failed)?;
        {
            let mut records = transaction.open_table(RECORDS).map_err(failed)?;
            for commit in group {
                for write in commit.writes.iter() {
                    let id = (write.table, write.key.as_str());
                    match &write.value {
                        Some(value) => {
                            drop(records.insert(id, (commit.revision, value.as_slice())).map_err(failed)?)
                        }
                        None => drop(records.remove(id).map_err(failed)?),
                    }
                }
            }
            transaction.open_table(META).map_err(failed)?.insert("revision", revision).map_err(failed)?;
        }
        transaction.commit().map_err(failed)
    }
}

struct Fjall {
    database: Database,
    records: Keyspace,
}

/// The key under which fjall keeps the revision; the comparison has no such record.
const REVISION_KEY: &[u8] = b"\xff";

/// A backend over fjall.
pub fn fjall(dir: &Path) -> Result<Grouped> {
    let database = Database::builder(dir).open().map_err(failed)?;
    let records = database.keyspace("records", KeyspaceCreateOptions::default).map_err(failed)?;
    let revision = records.get(REVISION_KEY).map_err(failed)?.map_or(Ok(0), |value| number(&value))?;
    start(Fjall { database, records }, revision)
}

fn number(bytes: &[u8]) -> Result<u64> {
    let head = bytes.first_chunk().ok_or_else(|| failed("a record without a revision"))?;
    Ok(u64::from_le_bytes(*head))
}

fn record_key(table: Table, key: &str) -> Vec<u8> {
    [&[table], key.as_bytes()].concat()
}

impl Peer for Fjall {
    fn load(&self) -> Result<Vec<Entry>> {
        let mut entries = Vec::new();
        for item in self.records.iter() {
            let (key, value) = item.into_inner().map_err(failed)?;
            let Some((table, key)) = key.split_first().filter(|_| *key != *REVISION_KEY) else { continue };
            let key = String::from_utf8(key.to_vec()).map_err(failed)?;
            entries.push(Entry { table: *table, key, value: value[8..].to_vec(), revision: number(&value)? });
        }
        Ok(entries)
    }

    fn revision_of(&self, table: Table, key: &str) -> Result<Option<u64>> {
        let value = self.records.get(record_key(table, key)).map_err(failed)?;
        value.map(|value| number(&value)).transpose()
    }

    fn write(&mut self, group: &[Committed], revision: u64) -> Result<()> {
        let mut batch = self.database.batch().durability(Some(PersistMode::SyncData));
        for commit in group {
            for write in commit.writes.iter() {
                let key = record_key(write.table, &write.key);
                match &write.value {
                    Some(value) => {
                        let value = [&commit.revision.to_le_bytes(), value.as_slice()].concat();
                        batch.insert(&self.records, key, value);
                    }
                    None => batch.remove(&self.records, key),
                }
            }
        }
        batch.insert(&self.records, REVISION_KEY, revision.to_le_bytes());
        batch.commit().map_err(failed)
    }
}

struct Sqlite {
    connection: Connection,
}

/// Every commit is on the device when it returns: a write-ahead log that is synced each time.
fn sqlite_connection(dir: &Path) -> Result<Connection> {
    std::fs::create_dir_all(dir).map_err(failed)?;
    let connection = Connection::open(dir.join("records.sqlite")).map_err(failed)?;
    let tables = "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;
        CREATE TABLE IF NOT EXISTS records (
            tab INTEGER, key TEXT, revision INTEGER, value BLOB, PRIMARY KEY (tab, key)) WITHOUT ROWID;";
    connection.execute_batch(tables).map_err(failed)?;
    Ok(connection)
}

/// A backend over SQLite.
pub fn sqlite(dir: &Path) -> Result<Grouped> {
    let connection = sqlite_connection(dir)?;
    let last = connection.query_row("SELECT coalesce(max(revision), 0) FROM records", [], |row| row.get(0));
    let revision = last.map_err(failed).map(i64::cast_unsigned)?;
    start(Sqlite { connection }, revision)
}

/// SQLite as programs use it: writers take turns at one connection, and each write is a transaction of its own.
pub fn sqlite_alone(dir: &Path) -> Result<impl Fn(Batch) -> Result<()> + Sync + use<>> {
    let connection = Mutex::new(sqlite_connection(dir)?);
    Ok(move |batch: Batch| {
        let connection = connection.lock().unwrap_or_else(PoisonError::into_inner);
        write_one(&connection, batch.revision, &batch.writes)
    })
}

fn write_one(connection: &Connection, revision: u64, writes: &[store::Write]) -> Result<()> {
    for write in writes {
        match &write.value {
            Some(value) => {
                connection.prepare_cached("INSERT OR REPLACE INTO records VALUES (?, ?, ?, ?)").and_then(
                    |mut put| put.execute(params![write.table, write.key, revision.cast_signed(), value]),
                )
            }
            None => connection
                .prepare_cached("DELETE FROM records WHERE tab = ? AND key = ?")
                .and_then(|mut delete| delete.execute(params![write.table, write.key])),
        }
        .map_err(failed)?;
    }
    Ok(())
}

impl Peer for Sqlite {
    fn load(&self) -> Result<Vec<Entry>> {
        let all = self.connection.prepare("SELECT tab, key, revision, value FROM records");
        let mut all = all.map_err(failed)?;
        let entry = |row: &rusqlite::Row<'_>| {
            let revision = row.get::<_, i64>(2)?.cast_unsigned();
            Ok(Entry { table: row.get(0)?, key: row.get(1)?, revision, value: row.get(3)? })
        };
        all.query_map([], entry).and_then(Iterator::collect).map_err(failed)
    }

    fn revision_of(&self, table: Table, key: &str) -> Result<Option<u64>> {
        let find = "SELECT revision FROM records WHERE tab = ? AND key = ?";
        let found = self.connection.query_row(find, params![table, key], |row| row.get(0));
        Ok(found.optional().map_err(failed)?.map(i64::cast_unsigned))
    }

    fn write(&mut self, group: &[Committed], _revision: u64) -> Result<()> {
        let transaction = self.connection.transaction().map_err(failed)?;
        for commit in group {
            write_one(&transaction, commit.revision, &commit.writes)?;
        }
        transaction.commit().map_err(failed)
    }
}
