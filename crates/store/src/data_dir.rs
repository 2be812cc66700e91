//! A directory of records that one process holds at a time, and whose format is known.
//!
//! `lock` is held by flock for as long as the directory is open, so that it ends with the process however it
//! ends; it contains the process id for the error message alone. `format` holds the format's number.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::error::{Result, StoreError};
use crate::files;

/// The format this release writes. Raise it when files change in a way that an older release misreads, and
/// teach `open` to bring the older format up.
pub const FORMAT: u32 = 1;

/// Together a fifth of a second, before "in use" is believed.
const LOCK_RETRIES: u32 = 20;
const LOCK_RETRY_PAUSE: Duration = Duration::from_millis(10);

const LOCK: &str = "lock";
const FORMAT_FILE: &str = "format";
const FORMAT_PREFIX: &str = "roadstead-store ";

/// An opened directory; the lock is released when it is dropped.
pub(crate) struct DataDir {
    path: PathBuf,
    lock: File,
}

impl Drop for DataDir {
    fn drop(&mut self) {
        // Not left to the closing of the file: a child that is being started just now shares it until its exec.
        let _ = self.lock.unlock();
    }
}

impl DataDir {
    /// Opens `path`, creating it if need be. Fails with `Locked`, `NewerFormat`, or `Corrupt` when it holds
    /// files and no format.
    pub(crate) fn open(path: &Path) -> Result<DataDir> {
        files::create_dir(path)?;
        let lock = lock(path)?;
        let format_file = path.join(FORMAT_FILE);
        match fs::read_to_string(&format_file) {
            Ok(text) => check_format(path, &text)?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                refuse_foreign(path)?;
                write_format(path)?;
            }
            Err(error) => return Err(StoreError::at("reading", &format_file)(error)),
        }
        Ok(DataDir { path: path.to_path_buf(), lock })
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

/// Marks `path` as a directory of the format this release writes.
pub(crate) fn write_format(path: &Path) -> Result<()> {
    files::replace(&path.join(FORMAT_FILE), format!("{FORMAT_PREFIX}{FORMAT}\n").as_bytes())
}

fn lock(path: &Path) -> Result<File> {
    let lock_file = path.join(LOCK);
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&lock_file)
        .map_err(StoreError::at("opening", &lock_file))?;
    // An owner that was killed while it started a child leaves the lock to that child until its exec.
    let mut attempt = file.try_lock();
    for _ in 0..LOCK_RETRIES {
        if !matches!(attempt, Err(TryLockError::WouldBlock)) {
            break;
        }
        std::thread::sleep(LOCK_RETRY_PAUSE);
        attempt = file.try_lock();
    }
    match attempt {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut text = String::new();
            let pid = file.read_to_string(&mut text).ok().and_then(|_| text.trim().parse().ok());
            return Err(StoreError::Locked { path: path.to_path_buf(), pid });
        }
        Err(TryLockError::Error(error)) => return Err(StoreError::at("locking", &lock_file)(error)),
    }
    // The process id only serves a message: on a full disk the lock holds all the same.
    let _ = file.set_len(0).and_then(|()| file.write_all(format!("{}\n", std::process::id()).as_bytes()));
    Ok(file)
}

fn check_format(path: &Path, text: &str) -> Result<()> {
    let found = text.strip_prefix(FORMAT_PREFIX).and_then(|number| number.trim().parse::<u32>().ok());
    match found {
        Some(FORMAT) => Ok(()),
        Some(found) if found > FORMAT => {
            Err(StoreError::NewerFormat { path: path.to_path_buf(), found, supported: FORMAT })
        }
        _ => Err(StoreError::Corrupt { what: format!("{}/{FORMAT_FILE} holds {text:?}", path.display()) }),
    }
}

/// A directory without a format must be new: nothing in it but what an interrupted creation leaves.
fn refuse_foreign(path: &Path) -> Result<()> {
    let leftover = format!("{FORMAT_FILE}.part");
    match files::names(path)?.into_iter().find(|name| *name != LOCK && *name != leftover) {
        None => Ok(()),
        Some(name) => Err(StoreError::Corrupt {
            what: format!(
                "{} holds {name:?} but no {FORMAT_FILE} file: not a directory of records, or an incomplete copy",
                path.display()
            ),
        }),
    }
}
