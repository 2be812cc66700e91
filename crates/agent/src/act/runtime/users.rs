//! Who a container runs as: `user[:group]` looked up in the image's own `/etc/passwd` and `/etc/group`.

use std::io::Read;
use std::path::Path;

use super::rootfs::open_in_root;

/// The numbers of a user.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct User {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// Further groups.
    pub additional_gids: Vec<u32>,
    /// The home folder that `/etc/passwd` names.
    pub home: Option<String>,
}

/// Looks a user up in the files of the root.
///
/// # Errors
/// Docker's words for a name that the image does not have.
pub fn lookup(rootfs: &Path, user: &str) -> Result<User, String> {
    resolve(user, &read(rootfs, "/etc/passwd"), &read(rootfs, "/etc/group"))
}

fn read(rootfs: &Path, path: &str) -> String {
    let Ok(fd) = open_in_root(rootfs, Path::new(path), libc::O_RDONLY | libc::O_NOCTTY | libc::O_NONBLOCK)
    else {
        return String::new();
    };
    let mut text = Vec::new();
    // A file of unreasonable size is the image's mistake; what fits is used.
    let _ = std::fs::File::from(fd).take(4 << 20).read_to_end(&mut text);
    String::from_utf8_lossy(&text).into_owned()
}

/// Resolves `user[:group]` with the text of the two files.
fn resolve(user: &str, passwd: &str, group: &str) -> Result<User, String> {
    let (name, group_name) = match user.split_once(':') {
        Some((name, group)) => (name, Some(group).filter(|g| !g.is_empty())),
        None => (user, None),
    };
    let name = if name.is_empty() { "0" } else { name };
    let number: Option<u32> = name.parse().ok();
    let line = passwd.lines().map(|l| l.split(':').collect::<Vec<_>>()).find(|fields| {
        fields.len() >= 4 && (fields[0] == name || number.is_some_and(|n| fields[2].parse() == Ok(n)))
    });
    let mut found = match (&line, number) {
        (Some(fields), _) => User {
            uid: fields[2]
                .parse()
                .map_err(|_| format!("unable to find user {name}: malformed passwd file"))?,
            gid: fields[3]
                .parse()
                .map_err(|_| format!("unable to find user {name}: malformed passwd file"))?,
            home: fields.get(5).filter(|h| !h.is_empty()).map(|h| (*h).to_owned()),
            additional_gids: Vec::new(),
        },
        (None, Some(uid)) => User { uid, ..User::default() },
        (None, None) => {
            return Err(format!("unable to find user {name}: no matching entries in passwd file"));
        }
    };
    match group_name {
        Some(group_name) => found.gid = resolve_group(group_name, group)?,
        None => {
            if let Some(fields) = &line {
                found.additional_gids = groups_of(fields[0], group, found.gid);
            }
        }
    }
    Ok(found)
}

fn resolve_group(name: &str, group: &str) -> Result<u32, String> {
    for fields in group.lines().map(|l| l.split(':').collect::<Vec<_>>()) {
        if fields.len() >= 3 && fields[0] == name {
            return fields[2]
                .parse()
                .map_err(|_| format!("unable to find group {name}: malformed group file"));
        }
    }
    name.parse().map_err(|_| format!("unable to find group {name}: no matching entries in group file"))
}

/// Groups that list the user as a member.
fn groups_of(user: &str, group: &str, own: u32) -> Vec<u32> {
    let mut found: Vec<u32> = group
        .lines()
        .map(|l| l.split(':').collect::<Vec<_>>())
        .filter(|fields| fields.len() >= 4 && fields[3].split(',').any(|member| member == user))
        .filter_map(|fields| fields[2].parse().ok())
        .filter(|gid| *gid != own)
        .collect();
    found.dedup();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nweb:x:101:102::/srv/web:/bin/false\n";
    const GROUP: &str = "root:x:0:\nweb:x:102:\nlogs:x:7:web,root\n";

    #[test]
    fn users_are_found_by_name_and_number() {
        let web = User { uid: 101, gid: 102, additional_gids: vec![7], home: Some("/srv/web".into()) };
        assert_eq!(resolve("web", PASSWD, GROUP), Ok(web.clone()));
        assert_eq!(resolve("101", PASSWD, GROUP), Ok(web.clone()));
        assert_eq!(resolve("web:logs", PASSWD, GROUP), Ok(User { gid: 7, additional_gids: vec![], ..web }));
        assert_eq!(resolve("4000", PASSWD, GROUP), Ok(User { uid: 4000, ..User::default() }));
        assert_eq!(resolve("4000:5000", "", ""), Ok(User { uid: 4000, gid: 5000, ..User::default() }));
        assert_eq!(resolve("", PASSWD, GROUP).map(|u| (u.uid, u.additional_gids)), Ok((0, vec![7])));
    }

    #[test]
    fn unknown_names_are_refused_in_dockers_words() {
        let err = resolve("ghost", PASSWD, GROUP).unwrap_err();
        assert_eq!(err, "unable to find user ghost: no matching entries in passwd file");
        let err = resolve("web:ghosts", PASSWD, GROUP).unwrap_err();
        assert_eq!(err, "unable to find group ghosts: no matching entries in group file");
    }
}
