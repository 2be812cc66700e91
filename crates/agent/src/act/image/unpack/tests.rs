//! Tars that are as they should be, and tars that want out.

use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};

use super::*;

/// A tar of entries: path, kind, content or link target, mode.
fn tar(entries: &[(&str, EntryType, &str, u32)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (path, kind, content, mode) in entries {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(*kind);
        header.set_mode(*mode);
        header.set_mtime(1_000_000);
        header.set_uid(0);
        header.set_gid(0);
        let data = if *kind == EntryType::Regular { content.as_bytes() } else { b"" };
        header.set_size(data.len() as u64);
        // Written by hand: the crate refuses to write what these tests are about.
        header.as_mut_bytes()[..path.len()].copy_from_slice(path.as_bytes());
        if matches!(kind, EntryType::Link | EntryType::Symlink) {
            header.as_mut_bytes()[157..157 + content.len()].copy_from_slice(content.as_bytes());
        }
        header.set_cksum();
        builder.append(&header, data).unwrap();
    }
    builder.into_inner().unwrap()
}

fn unpacked(entries: &[(&str, EntryType, &str, u32)]) -> (tempfile::TempDir, io::Result<()>) {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("root")).unwrap();
    let result = unpack(&tar(entries)[..], &dir.path().join("root"));
    (dir, result)
}

fn is_root() -> bool {
    // SAFETY: plain system call.
    let root = unsafe { libc::geteuid() } == 0;
    if !root {
        eprintln!("skipped: needs root");
    }
    root
}

#[test]
fn files_folders_and_links_are_as_packed() {
    if !is_root() {
        return;
    }
    let (dir, result) = unpacked(&[
        ("./etc/", EntryType::Directory, "", 0o751),
        ("etc/passwd", EntryType::Regular, "root", 0o640),
        ("usr/bin/tool", EntryType::Regular, "x", 0o4755),
        ("bin", EntryType::Symlink, "usr/bin", 0o777),
        ("bin/other", EntryType::Regular, "y", 0o755),
        ("usr/bin/alias", EntryType::Link, "/usr/bin/tool", 0o4755),
        ("mtab", EntryType::Symlink, "/proc/mounts", 0o777),
        ("pipe", EntryType::Fifo, "", 0o600),
        ("etc/passwd", EntryType::Regular, "again", 0o644),
    ]);
    result.unwrap();
    let root = dir.path().join("root");
    let mode = |path: &str| std::fs::metadata(root.join(path)).unwrap().permissions().mode() & 0o7777;
    assert_eq!((mode("etc"), mode("etc/passwd"), mode("usr/bin/tool")), (0o751, 0o644, 0o4755));
    assert_eq!(std::fs::read_to_string(root.join("etc/passwd")).unwrap(), "again");
    assert_eq!(std::fs::read_to_string(root.join("usr/bin/other")).unwrap(), "y");
    let inode = |path: &str| std::fs::metadata(root.join(path)).unwrap().ino();
    assert_eq!(inode("usr/bin/tool"), inode("usr/bin/alias"));
    assert!(std::fs::symlink_metadata(root.join("pipe")).unwrap().file_type().is_fifo());
    assert_eq!(std::fs::metadata(root.join("etc")).unwrap().mtime(), 1_000_000);
}

#[test]
fn whiteouts_become_overlay_marks() {
    if !is_root() {
        return;
    }
    let (dir, result) = unpacked(&[
        ("etc/.wh.shadow", EntryType::Regular, "", 0),
        ("var/.wh..wh..opq", EntryType::Regular, "", 0),
        ("var/kept", EntryType::Regular, "", 0o644),
    ]);
    result.unwrap();
    let root = dir.path().join("root");
    let shadow = std::fs::symlink_metadata(root.join("etc/shadow")).unwrap();
    assert!(shadow.file_type().is_char_device() && shadow.rdev() == 0);
    let mut value = [0_u8; 8];
    let path = CString::new(root.join("var").as_os_str().as_bytes()).unwrap();
    // SAFETY: path and buffer live through the call.
    let length = unsafe {
        libc::getxattr(
            path.as_ptr(),
            c"trusted.overlay.opaque".as_ptr(),
            value.as_mut_ptr().cast(),
            value.len(),
        )
    };
    assert_eq!((length, value[0]), (1, b'y'));
    assert!(root.join("var/kept").exists() && !root.join("var/.wh..wh..opq").exists());
}

#[test]
fn nothing_leaves_the_layer() {
    if !is_root() {
        return;
    }
    let (dir, result) = unpacked(&[("../evil", EntryType::Regular, "x", 0o644)]);
    assert!(result.unwrap_err().to_string().contains("leads out of the layer"));
    assert!(!dir.path().join("evil").exists());
    let (_dir, result) = unpacked(&[("alias", EntryType::Link, "../../etc/passwd", 0o644)]);
    assert!(result.unwrap_err().to_string().contains("leads out of the layer"));
    let (_dir, result) = unpacked(&[("alias", EntryType::Link, "/etc/passwd", 0o644)]);
    assert!(result.is_err(), "a hard link to what the layer does not have");
    // A link to the host's folder leads to the layer's own.
    let (dir, result) = unpacked(&[
        ("out", EntryType::Symlink, "/tmp", 0o777),
        ("tmp/", EntryType::Directory, "", 0o755),
        ("out/inside-the-layer", EntryType::Regular, "x", 0o644),
        ("up", EntryType::Symlink, "../../..", 0o777),
        ("up/here", EntryType::Regular, "x", 0o644),
    ]);
    result.unwrap();
    assert!(dir.path().join("root/tmp/inside-the-layer").exists());
    assert!(!Path::new("/tmp/inside-the-layer").exists());
    assert!(dir.path().join("root/here").exists());
    let (_dir, result) = unpacked(&[("x/.wh...", EntryType::Regular, "", 0o644)]);
    assert!(result.is_err());
}

#[test]
fn numbers_left_empty_are_zero() {
    if !is_root() {
        return;
    }
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(EntryType::Directory);
    header.set_mode(0o755);
    header.set_size(0);
    header.set_cksum();
    let mut archive = tar::Builder::new(Vec::new());
    archive.append_data(&mut header, "etc/", &b""[..]).unwrap();
    let dir = tempfile::tempdir().unwrap();
    unpack(&archive.into_inner().unwrap()[..], dir.path()).unwrap();
    let made = std::fs::metadata(dir.path().join("etc")).unwrap();
    assert_eq!((made.uid(), made.gid(), made.mtime()), (0, 0, 0));
}

#[test]
fn what_lies_too_deep_is_refused() {
    if !is_root() {
        return;
    }
    // By its own path, as the long names of a GNU tar.
    let long = |folders: usize| {
        let mut builder = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(0);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        builder.append_data(&mut header, format!("{}file", "a/".repeat(folders)), &b""[..]).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let result = unpack(&builder.into_inner().unwrap()[..], dir.path());
        (dir, result)
    };
    long(DEPTH_MAX).1.unwrap();
    let refused = long(DEPTH_MAX + 1).1.unwrap_err().to_string();
    assert_eq!(refused, "a/a/a/a/… lies deeper than 512 folders");
    // Step by step, through links that each lead to where the last step ended.
    let step = "b/".repeat(40);
    let mut entries = vec![(step.trim_end_matches('/').to_owned(), EntryType::Directory, String::new())];
    for link in 0..20 {
        let end = if link == 0 { step.clone() } else { format!("l{}/{step}", link - 1) };
        entries.push((format!("l{link}"), EntryType::Symlink, end));
        entries.push((format!("l{link}/{}x", step), EntryType::Regular, String::new()));
    }
    let entries: Vec<_> =
        entries.iter().map(|(path, kind, to)| (path.as_str(), *kind, to.as_str(), 0o755)).collect();
    let refused = unpacked(&entries).1.unwrap_err().to_string();
    assert!(refused.ends_with("b/b/b/… lies deeper than 512 folders"), "{refused}");
}

/// A tar of one sparse file that is all hole.
fn hole(bytes: u64) -> Vec<u8> {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(EntryType::GNUSparse);
    header.set_path("hole").unwrap();
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(0);
    // The base-256 form of numbers: eight bytes at the end, and a mark.
    let mut number = [0; 12];
    number[0] = 0x80;
    number[4..].copy_from_slice(&bytes.to_be_bytes());
    let gnu = header.as_gnu_mut().unwrap();
    gnu.realsize = number;
    gnu.sparse[0].offset = number;
    gnu.sparse[0].numbytes[..2].copy_from_slice(b"0\0");
    header.set_cksum();
    let mut builder = tar::Builder::new(Vec::new());
    builder.append(&header, &b""[..]).unwrap();
    builder.into_inner().unwrap()
}

#[test]
fn holes_take_no_room_and_are_no_larger_than_there_is() {
    if !is_root() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    unpack(&hole(64 << 20)[..], dir.path()).unwrap();
    let file = std::fs::metadata(dir.path().join("hole")).unwrap();
    assert_eq!((file.len(), file.blocks()), (64 << 20, 0));
    let refused = unpack(&hole(1 << 60)[..], dir.path()).unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::StorageFull, "{refused}");
}

#[test]
fn a_map_of_holes_is_not_taken_for_content() {
    let mut builder = tar::Builder::new(Vec::new());
    let map = [("GNU.sparse.major", &b"1"[..]), ("GNU.sparse.name", b"file")];
    builder.append_pax_extensions(map).unwrap();
    let mut header = tar::Header::new_ustar();
    header.set_size(0);
    builder.append_data(&mut header, "GNUSparseFile.0/file", &b""[..]).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let refused = unpack(&builder.into_inner().unwrap()[..], dir.path()).unwrap_err();
    assert!(refused.to_string().contains("sparse"), "{refused}");
}

#[test]
fn a_name_of_gigabytes_is_not_held_in_memory() {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(EntryType::GNULongName);
    header.set_size(64 << 20);
    header.set_cksum();
    let mut rest = io::repeat(b'a').take(64 << 20);
    let dir = tempfile::tempdir().unwrap();
    let refused = unpack((&header.as_bytes()[..]).chain(&mut rest), dir.path()).unwrap_err();
    assert!(refused.to_string().contains("4 MiB"), "{refused}");
    assert!(rest.limit() > 56 << 20, "{} bytes are left", rest.limit());
}
