//! Which networks of this machine are taken: by its routes, and by other Roadsteads that run on it.
//!
//! A Roadstead makes a bridge only when something is on it, so each one notes all networks it may make bridges of in
//! its folder in `/run`, where the others look.

use std::io;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use agent::act::network::{NetworkConfig, current_namespace};
use serde::{Deserialize, Serialize};
use state::ec2::Cidr;

/// What a Roadstead notes of itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Note {
    /// Its network namespace ([`current_namespace`]): in another, the same network is not in the way.
    namespace: String,
    /// Without its data directory it never comes back.
    data_dir: PathBuf,
    /// The network of `bridge` mode.
    bridge: Cidr,
    /// The networks of its VPCs.
    vpcs: Vec<Cidr>,
}

/// The networks of this machine, as one Roadstead sees them.
#[derive(Debug, Clone)]
pub struct Networks {
    data_dir: PathBuf,
    run_dir: PathBuf,
    bridge: Cidr,
}

impl Networks {
    /// For the Roadstead whose data directory and folder in `/run` these are, and whose VPCs have these networks. The
    /// network of `bridge` mode is chosen here and kept for as long as the folder is there: containers outlive the server.
    ///
    /// # Errors
    /// Those of reading the routing table and the folders.
    pub fn open(data_dir: &Path, run_dir: &Path, vpcs: &[Cidr]) -> io::Result<Networks> {
        let usual = NetworkConfig::default().bridge_cidr;
        let mut networks =
            Networks { data_dir: data_dir.to_owned(), run_dir: run_dir.to_owned(), bridge: usual };
        if let Some(own) = note_in(run_dir) {
            networks.bridge = own.bridge;
            return Ok(networks);
        }
        let taken = [networks.others()?, vpcs.to_vec()].concat();
        let others = (16..=28).rev().map(|b| Cidr { base: Ipv4Addr::new(172, b, 0, 0), prefix: 16 });
        let mut free =
            std::iter::once(usual).chain(others).filter(|cidr| !taken.iter().any(|t| t.overlaps(*cidr)));
        // On a machine that has them all, tasks in `bridge` mode are told which interface is in the way.
        networks.bridge = free.next().unwrap_or(usual);
        Ok(networks)
    }

    /// The data directory.
    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// The folder in `/run`.
    pub fn run_dir(&self) -> &Path {
        &self.run_dir
    }

    /// The network of `bridge` mode.
    pub fn bridge(&self) -> Cidr {
        self.bridge
    }

    /// What no VPC of this Roadstead may overlap.
    ///
    /// # Errors
    /// Those of reading the routing table and the folders.
    pub fn taken(&self) -> io::Result<Vec<Cidr>> {
        let mut taken = self.others()?;
        taken.push(self.bridge);
        Ok(taken)
    }

    /// Notes the networks of this Roadstead's VPCs for the others.
    ///
    /// # Errors
    /// Those of writing the note.
    pub fn note(&self, vpcs: Vec<Cidr>) -> io::Result<()> {
        let path = self.run_dir.join(NOTE);
        let new = path.with_extension("new");
        let (data_dir, bridge) = (self.data_dir.clone(), self.bridge);
        let note = Note { namespace: current_namespace()?, data_dir, bridge, vpcs };
        std::fs::write(&new, serde_json::to_vec(&note)?)?;
        std::fs::rename(new, path)
    }

    /// The networks of routes that are not of our own bridges, and what other Roadsteads note.
    fn others(&self) -> io::Result<Vec<Cidr>> {
        let config = NetworkConfig { run_dir: self.run_dir.clone(), ..NetworkConfig::default() };
        let own = config.bridges()?;
        let mut found = parse_routes(&std::fs::read_to_string("/proc/net/route")?, &own);
        let here = current_namespace()?;
        let is_here = |note: &Note| note.namespace == here && note.data_dir.exists();
        let run = self.run_dir.parent().unwrap_or(Path::new("/run"));
        for entry in run.read_dir()? {
            let path = entry?.path();
            let is_other = path != self.run_dir
                && path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"roadstead"));
            if let Some(note) = note_in(&path).filter(|note| is_other && is_here(note)) {
                found.extend(note.vpcs);
                found.push(note.bridge);
            }
        }
        Ok(found)
    }
}

const NOTE: &str = "networks.json";

/// One that cannot be read is of a Roadstead that is just being removed.
fn note_in(run_dir: &Path) -> Option<Note> {
    serde_json::from_slice(&std::fs::read(run_dir.join(NOTE)).ok()?).ok()
}

/// Reads the kernel's routing table as `/proc/net/route` shows it (proc(5)): networks other than the default route and
/// those of our `own` interfaces.
fn parse_routes(table: &str, own: &[String]) -> Vec<Cidr> {
    let mut found = Vec::new();
    for line in table.lines().skip(1) {
        let columns: Vec<&str> = line.split_whitespace().collect();
        let [interface, destination, _, _, _, _, _, mask, ..] = columns[..] else { continue };
        let number = |hex| u32::from_str_radix(hex, 16).ok().map(u32::swap_bytes);
        let (Some(base), Some(mask)) = (number(destination), number(mask)) else { continue };
        if mask != 0 && !own.iter().any(|name| name == interface) {
            found.push(Cidr { base: Ipv4Addr::from(base & mask), prefix: mask.count_ones() as u8 });
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cidr(text: &str) -> Cidr {
        Cidr::parse(text).unwrap()
    }

    #[test]
    fn routes_are_read_and_only_own_bridges_left_out() {
        let table = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n\
            eth0\t00000000\t0100000A\t0003\t0\t0\t0\t00000000\t0\t0\t0\n\
            eth0\t00001FAC\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0\n\
            rs-1\t0000000A\t00000000\t0001\t0\t0\t0\t000000FF\t0\t0\t0\n\
            rs-2\t0000010A\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0\n";
        assert_eq!(parse_routes(table, &["rs-1".into()]), [cidr("172.31.0.0/16"), cidr("10.1.0.0/16")]);
    }

    #[test]
    fn two_roadsteads_leave_each_other_their_networks_before_there_are_bridges() {
        let run = tempfile::tempdir().unwrap();
        let [one, two] = ["roadstead", "roadstead-1"].map(|name| run.path().join(name));
        [&one, &two].iter().for_each(|dir| std::fs::create_dir(dir).unwrap());
        let first = Networks::open(run.path(), &one, &[]).unwrap();
        assert_eq!(first.bridge(), cidr("172.29.0.0/16"));
        let vpc = cidr("203.0.113.0/24");
        first.note(vec![vpc]).unwrap();
        assert!(!first.taken().unwrap().contains(&vpc), "its own VPC is not in its way");
        let second = Networks::open(&two, &two, &[cidr("172.28.0.0/16")]).unwrap();
        assert!(second.taken().unwrap().contains(&vpc));
        assert!(![cidr("172.29.0.0/16"), cidr("172.28.0.0/16")].contains(&second.bridge()));
        second.note(Vec::new()).unwrap();
        // Once chosen it stays, whoever comes and goes.
        std::fs::remove_dir_all(&one).unwrap();
        assert!(!second.taken().unwrap().contains(&vpc));
        assert_eq!(Networks::open(&two, &two, &[]).unwrap().bridge(), second.bridge());
    }

    #[test]
    fn notes_of_other_namespaces_and_of_what_is_gone_are_in_nobodys_way() {
        let run = tempfile::tempdir().unwrap();
        let [one, two, data_dir] = ["roadstead", "roadstead-1", "data"].map(|name| run.path().join(name));
        [&one, &two, &data_dir].iter().for_each(|dir| std::fs::create_dir(dir).unwrap());
        let vpc = cidr("203.0.113.0/24");
        Networks::open(&data_dir, &one, &[]).unwrap().note(vec![vpc]).unwrap();
        let second = Networks::open(&two, &two, &[]).unwrap();
        let is_taken = || second.taken().unwrap().contains(&vpc);
        assert!(is_taken());
        let note = note_in(&one).unwrap();
        let elsewhere = Note { namespace: "another".into(), ..note };
        std::fs::write(one.join(NOTE), serde_json::to_vec(&elsewhere).unwrap()).unwrap();
        assert!(!is_taken());
        Networks::open(&data_dir, &one, &[]).unwrap().note(vec![vpc]).unwrap();
        std::fs::remove_dir(&data_dir).unwrap();
        assert!(!is_taken());
    }
}
