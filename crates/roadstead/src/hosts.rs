//! Names in `/etc/hosts`: a block between two marks, so that load balancers resolve for every program of the machine.

use std::io::Read;
use std::net::Ipv4Addr;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use wire::origin::DATA_PLANE_NAME;

/// The hosts file, with the block of one Roadstead: each of a machine has one of its own.
pub struct HostsFile {
    path: PathBuf,
    begin: String,
    end: String,
}

impl HostsFile {
    /// `suffix`: the data directory's own part of the block's marks.
    pub fn new(path: PathBuf, suffix: &str) -> HostsFile {
        let begin = format!("# roadstead{suffix} begin: load balancers, removed by `roadstead down`");
        HostsFile { path, begin, end: format!("# roadstead{suffix} end") }
    }

    /// Writes the block with these load balancers.
    ///
    /// # Errors
    /// Those of the file.
    pub fn publish(&self, load_balancers: &[(String, Ipv4Addr)]) -> std::io::Result<()> {
        let own = (DATA_PLANE_NAME.to_owned(), Ipv4Addr::LOCALHOST);
        let names: Vec<_> = std::iter::once(own).chain(load_balancers.iter().cloned()).collect();
        self.replace(&names)
    }

    /// Removes the block.
    ///
    /// # Errors
    /// Those of the file.
    pub fn remove(&self) -> std::io::Result<()> {
        self.replace(&[])
    }

    /// What of the file's text is not this block.
    fn without_block(&self, text: &str) -> String {
        let mut out = String::new();
        let mut inside = false;
        for line in text.lines() {
            match line {
                begin if begin == self.begin => inside = true,
                end if inside && end == self.end => inside = false,
                other if !inside => out.extend([other, "\n"]),
                _ => {}
            }
        }
        out
    }

    /// The file's text with the block at its end, and no shorter than `bytes_min`: blanks fill the block up.
    fn with_block(&self, text: &str, names: &[(String, Ipv4Addr)], bytes_min: usize) -> String {
        let mut out = self.without_block(text);
        out.extend([&self.begin, "\n"]);
        for (name, address) in names {
            out.push_str(&format!("{address} {name}\n"));
        }
        let missing = bytes_min.saturating_sub(out.len() + self.end.len() + 1);
        if missing > 0 {
            out.push_str(&" ".repeat(missing - 1));
            out.push('\n');
        }
        out.extend([&self.end, "\n"]);
        out
    }

    /// The file is changed in place, for it may be a mount that cannot be renamed over, and only from where it differs:
    /// whoever reads it meanwhile must find `localhost`. It never gets shorter but by the whole block, which is its end:
    /// if this is cut short after the writing, nothing of the old text stands outside the block. Roadsteads take turns.
    fn replace(&self, names: &[(String, Ipv4Addr)]) -> std::io::Result<()> {
        let mut options = std::fs::OpenOptions::new();
        let mut file = match options.read(true).write(true).create(!names.is_empty()).open(&self.path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && names.is_empty() => return Ok(()),
            other => other?,
        };
        file.lock()?;
        let mut old = String::new();
        file.read_to_string(&mut old)?;
        if names.is_empty() && !old.lines().any(|line| line == self.begin) {
            return Ok(());
        }
        let new = self.with_block(&old, names, old.len());
        if new != old {
            let same = old.bytes().zip(new.bytes()).take_while(|(old, new)| old == new).count();
            file.write_all_at(&new.as_bytes()[same..], same as u64)?;
        }
        cut::cut!("server.names-written");
        if names.is_empty() {
            file.set_len(self.without_block(&old).len() as u64)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADDRESS: Ipv4Addr = Ipv4Addr::new(172, 31, 0, 4);

    #[test]
    fn the_block_comes_and_goes_and_nothing_else_changes() {
        let old = "127.0.0.1 localhost\n\n# mine\n10.0.0.1 x\n";
        let names = [("a.elb.localhost".to_owned(), ADDRESS)];
        let hosts = HostsFile::new(PathBuf::new(), "");
        let with = hosts.with_block(old, &names, 0);
        assert!(with.starts_with(old) && with.contains("172.31.0.4 a.elb.localhost\n"));
        assert_eq!(hosts.with_block(&with, &names, with.len()), with);
        assert_eq!(hosts.without_block(&with), old);
    }

    #[test]
    fn each_roadstead_has_a_block_of_its_own() {
        let [one, two] = ["", "-0badcafe"].map(|suffix| HostsFile::new(PathBuf::new(), suffix));
        let names = |name: &str| vec![(name.to_owned(), ADDRESS)];
        let first = one.with_block("127.0.0.1 localhost\n", &names("one"), 0);
        let both = two.with_block(&first, &names("two"), 0);
        assert!(both.starts_with(&first) && both.contains("172.31.0.4 two\n"), "{both}");
        assert_eq!(two.without_block(&both), first);
        let second = one.without_block(&both);
        assert!(!second.contains(" one\n") && second.contains(" two\n"), "{second}");
    }

    #[test]
    fn fewer_names_leave_nothing_of_the_old_ones_behind_the_block() {
        let hosts = HostsFile::new(PathBuf::new(), "");
        let names = ["a", "b", "c"].map(|name| (format!("{name}.elb.localhost"), ADDRESS));
        for (own, after) in [("127.0.0.1 localhost\n", ""), ("", ""), ("10.0.0.1 x\n", "10.0.0.2 y\n")] {
            let mut text = hosts.with_block(own, &names, 0) + after;
            for left in (0..3).rev() {
                let shorter = hosts.with_block(&text, &names[..left], text.len());
                // What is written over the old text is all of it: no end of that is left.
                assert_eq!(shorter.len(), text.len());
                assert_eq!(hosts.without_block(&shorter), format!("{own}{after}"));
                text = shorter;
            }
        }
    }

    #[test]
    fn a_published_file_has_the_data_plane_and_a_removed_block_leaves_the_file_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("hosts");
        std::fs::write(&path, "127.0.0.1 localhost\n").unwrap();
        let hosts = HostsFile::new(path.clone(), "");
        hosts.publish(&[("a.elb.localhost".to_owned(), ADDRESS)]).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains("127.0.0.1 data-localhost\n172.31.0.4 a.elb.localhost\n"), "{text}");
        hosts.remove().unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "127.0.0.1 localhost\n");
        std::fs::remove_file(&path).unwrap();
        hosts.remove().unwrap();
        assert!(!path.exists());
    }
}
