//! What the network has made, noted in files before it is made: whatever a crash leaves is found by its note.

use std::io;
use std::net::Ipv4Addr;
use std::path::Path;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use state::assignment::NetworkAssignment;
use state::ec2::Cidr;
use state::group::{NetworkBinding, NetworkMode};

/// What one group has.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GroupRecord {
    /// The group's record key.
    pub key: String,
    /// The task's id.
    pub id: String,
    /// How it is connected.
    pub mode: NetworkMode,
    /// Its region, for names.
    pub region: String,
    /// Its interface (`awsvpc`).
    pub interface: Option<NetworkAssignment>,
    /// One per container, in the spec's order.
    pub containers: Vec<ContainerRecord>,
}

/// What one container of a group has.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ContainerRecord {
    /// Its name.
    pub name: String,
    /// Its own address (`bridge`).
    pub address: Option<Ipv4Addr>,
    /// Its host ports.
    pub bindings: Vec<NetworkBinding>,
}

impl GroupRecord {
    /// Names of the namespaces it has: files below the `netns` folder.
    pub fn namespaces(&self) -> Vec<String> {
        match self.mode {
            NetworkMode::Awsvpc | NetworkMode::None => vec![self.id.clone()],
            NetworkMode::Bridge => (0..self.containers.len()).map(|n| format!("{}-{n}", self.id)).collect(),
            NetworkMode::Host => Vec::new(),
        }
    }
}

/// A bridge: a subnet's, or that of `bridge` mode.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BridgeRecord {
    /// The interface's name.
    pub name: String,
    /// The subnet; `None` = the bridge of `bridge` mode.
    pub subnet_id: Option<String>,
    /// Its network.
    pub cidr: Cidr,
    /// The network of the VPC around it.
    pub vpc_cidr: Cidr,
    /// The host's address on it.
    pub gateway: Ipv4Addr,
}

/// Reads a note; `None` if there is none.
pub fn read<T: DeserializeOwned>(path: &Path) -> io::Result<Option<T>> {
    match std::fs::read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(io::Error::other),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

/// Reads all notes of a folder. One that a crash of the machine left unreadable is removed: its world went with it.
pub fn read_all<T: DeserializeOwned>(folder: &Path) -> io::Result<Vec<T>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        match read(&path) {
            Ok(note) if path.extension().is_some_and(|e| e == "json") => found.extend(note),
            _ => remove(&path)?,
        }
    }
    Ok(found)
}

/// Writes a note whole or not at all.
pub fn write<T: Serialize>(path: &Path, note: &T) -> io::Result<()> {
    let partial = path.with_extension("partial");
    std::fs::write(&partial, serde_json::to_vec(note).map_err(io::Error::other)?)?;
    std::fs::rename(&partial, path)
}

/// Removes a note, if there is one.
pub fn remove(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}
