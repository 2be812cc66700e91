//! Blobs: uploads that resume, digests that are checked, nothing outside the directory.

use std::fs;
use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};

use store::StoreError;
use store::blobs::{BlobError, Blobs, Digest, UploadId};

fn id(text: &str) -> UploadId {
    text.parse().expect("an upload id")
}

fn read(blobs: &Blobs, digest: &Digest) -> Vec<u8> {
    let (mut file, size_bytes) = blobs.open_blob(digest).expect("there");
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).expect("read");
    assert_eq!(bytes.len() as u64, size_bytes);
    bytes
}

#[test]
fn an_upload_in_parts_becomes_a_blob() {
    let folder = tempfile::tempdir().expect("tempdir");
    let blobs = Blobs::open(folder.path()).expect("open");
    let (upload, digest) = (id("u-1"), Digest::of(b"hello world"));
    blobs.start_upload(&upload).expect("start");
    assert_eq!(blobs.start_upload(&upload), Err(BlobError::UploadExists(upload.clone())));
    assert_eq!(blobs.upload_offset(&upload), Ok(0));
    assert_eq!(blobs.append(&upload, 0, b"hello "), Ok(6));
    assert_eq!(blobs.append(&upload, 0, b"hello "), Err(BlobError::WrongOffset { expected: 6, got: 0 }));
    assert_eq!(blobs.append(&upload, 7, b"orld"), Err(BlobError::WrongOffset { expected: 6, got: 7 }));
    assert_eq!(blobs.append(&upload, 6, b""), Ok(6));
    assert_eq!(blobs.contains(&digest), Ok(false));
    assert_eq!(blobs.append(&upload, 6, b"world"), Ok(11));
    assert_eq!(blobs.upload_offset(&upload), Ok(11));
    assert_eq!(blobs.finish(&upload, &digest), Ok(11));
    assert_eq!((read(&blobs, &digest), blobs.size_bytes(&digest)), (b"hello world".to_vec(), Ok(11)));
    assert_eq!(blobs.upload_offset(&upload), Err(BlobError::NoUpload(upload.clone())));
    assert_eq!(blobs.append(&upload, 11, b"!"), Err(BlobError::NoUpload(upload.clone())));
    assert_eq!(blobs.finish(&upload, &digest), Err(BlobError::NoUpload(upload)));
}

#[test]
fn a_wrong_digest_is_refused_and_the_upload_kept() {
    let folder = tempfile::tempdir().expect("tempdir");
    let blobs = Blobs::open(folder.path()).expect("open");
    let (upload, expected, actual) = (id("u"), Digest::of(b"ab"), Digest::of(b"a"));
    blobs.start_upload(&upload).expect("start");
    blobs.append(&upload, 0, b"a").expect("append");
    assert_eq!(blobs.finish(&upload, &expected), Err(BlobError::DigestMismatch { expected, actual }));
    assert_eq!(blobs.list(), Ok(vec![]));
    blobs.append(&upload, 1, b"b").expect("it goes on");
    assert_eq!(blobs.finish(&upload, &expected), Ok(2));
}

#[test]
fn uploads_go_on_after_a_restart() {
    let folder = tempfile::tempdir().expect("tempdir");
    let (upload, whole) = (id("u"), vec![7; 1_000_000]);
    let blobs = Blobs::open(folder.path()).expect("open");
    blobs.start_upload(&upload).expect("start");
    blobs.append(&upload, 0, &whole[..600_001]).expect("append");
    let second = Blobs::open(folder.path()).expect("open again");
    assert_eq!(second.upload_offset(&upload), Ok(600_001));
    assert_eq!(second.append(&upload, 600_001, &whole[600_001..800_000]), Ok(800_000));
    // The first one's hash is behind the file now, and it finds out.
    assert_eq!(blobs.append(&upload, 800_000, &whole[800_000..]), Ok(1_000_000));
    assert_eq!(second.finish(&upload, &Digest::of(&whole)), Ok(1_000_000));
}

#[test]
fn bytes_changed_on_disk_are_found_out_after_a_restart() {
    let folder = tempfile::tempdir().expect("tempdir");
    let upload = id("u");
    let blobs = Blobs::open(folder.path()).expect("open");
    blobs.start_upload(&upload).expect("start");
    blobs.append(&upload, 0, b"good").expect("append");
    drop(blobs);
    // As after a power loss: the length is there, the bytes are not.
    fs::write(folder.path().join("uploads/u"), b"g\0\0d").expect("write");
    let blobs = Blobs::open(folder.path()).expect("open");
    assert!(matches!(blobs.finish(&upload, &Digest::of(b"good")), Err(BlobError::DigestMismatch { .. })));
}

#[test]
fn the_same_blob_twice_is_kept_once() {
    let folder = tempfile::tempdir().expect("tempdir");
    let blobs = Blobs::open(folder.path()).expect("open");
    // Left over from a killed process that had this one's number.
    fs::write(folder.path().join(format!("uploads/put-{}-0", std::process::id())), b"mani").expect("write");
    let digest = blobs.put(b"manifest").expect("put");
    assert_eq!(blobs.collect_uploads(i64::MAX), Ok(1));
    assert_eq!(blobs.put(b"manifest"), Ok(digest));
    let upload = id("u");
    blobs.start_upload(&upload).expect("start");
    blobs.append(&upload, 0, b"manifest").expect("append");
    blobs.finish(&upload, &digest).expect("finish");
    let empty = blobs.put(b"").expect("put");
    let mut expected = vec![(digest, 8), (empty, 0)];
    expected.sort();
    let list: Vec<_> =
        blobs.list().expect("list").iter().map(|blob| (blob.digest, blob.size_bytes)).collect();
    assert_eq!(list, expected);
    assert_eq!(fs::read_dir(folder.path().join("uploads")).expect("list").count(), 0);
    assert_eq!(blobs.read(&digest, 8), Ok(b"manifest".to_vec()));
    assert_eq!(blobs.read(&digest, 7), Err(StoreError::TooLarge { bytes: 8, max_bytes: 7 }.into()));
}

#[test]
fn deleting_and_listing() {
    let folder = tempfile::tempdir().expect("tempdir");
    let blobs = Blobs::open(folder.path()).expect("open");
    let digest = blobs.put(b"layer").expect("put");
    assert!(blobs.list().expect("list")[0].stored_ms > 1_600_000_000_000);
    let (mut reader, _) = blobs.open_blob(&digest).expect("open");
    assert_eq!(blobs.delete(&digest), Ok(()));
    assert_eq!(blobs.delete(&digest), Err(BlobError::NoBlob(digest)));
    assert_eq!(blobs.size_bytes(&digest), Err(BlobError::NoBlob(digest)));
    assert_eq!(blobs.open_blob(&digest).err(), Some(BlobError::NoBlob(digest)));
    assert_eq!(blobs.list(), Ok(vec![]));
    let mut bytes = Vec::new();
    reader.read_to_end(&mut bytes).expect("who reads it reads on");
    assert_eq!(bytes, b"layer");
}

#[test]
fn abandoned_uploads_are_collected_by_age() {
    let folder = tempfile::tempdir().expect("tempdir");
    let blobs = Blobs::open(folder.path()).expect("open");
    blobs.start_upload(&id("a")).expect("start");
    blobs.start_upload(&id("b")).expect("start");
    assert_eq!(blobs.collect_uploads(1_600_000_000_000), Ok(0));
    assert_eq!(blobs.append(&id("a"), 0, b"still there"), Ok(11));
    assert_eq!(blobs.cancel(&id("b")), Ok(()));
    assert_eq!(blobs.cancel(&id("b")), Err(BlobError::NoUpload(id("b"))));
    assert_eq!(blobs.collect_uploads(i64::MAX), Ok(1));
    assert_eq!(blobs.append(&id("a"), 11, b"gone"), Err(BlobError::NoUpload(id("a"))));
}

#[test]
fn digests_and_ids_are_never_paths() {
    let hex = "0123456789abcdef".repeat(4);
    let digest: Digest = format!("sha256:{hex}").parse().expect("a digest");
    assert_eq!((digest.to_string(), digest.hex()), (format!("sha256:{hex}"), hex.clone()));
    let bad = [
        "",
        "sha256:",
        "sha256",
        &hex,
        &format!("sha512:{hex}"),
        &format!("sha256:{}", hex.to_uppercase()),
        &format!("sha256:{hex}0"),
        &format!("sha256:{}", &hex[1..]),
        &format!("sha256:../{}", &hex[3..]),
        &format!("sha256:{}é", &hex[2..]),
        &format!(" sha256:{hex}"),
    ];
    for text in bad {
        assert!(text.parse::<Digest>().is_err(), "{text:?}");
    }
    for text in ["", ".", "..", "../x", "a/b", "a\0", "ü", &"x".repeat(65)] {
        assert!(text.parse::<UploadId>().is_err(), "{text:?}");
    }
}

const CHILD_DIR: &str = "STORE_BLOB_CHILD_DIR";

/// Not a test by itself: appends to an upload until it is killed.
#[test]
fn upload_child() {
    let Some(dir) = std::env::var_os(CHILD_DIR) else { return };
    let blobs = Blobs::open(Path::new(&dir)).expect("open");
    let mut offset = blobs.upload_offset(&id("u")).expect("started");
    loop {
        let bytes: Vec<u8> = (offset..offset + 10_000).map(byte_at).collect();
        offset = blobs.append(&id("u"), offset, &bytes).expect("append");
        println!("offset {offset}");
    }
}

fn byte_at(offset: u64) -> u8 {
    (offset % 251) as u8
}

#[test]
fn kill_9_keeps_the_offset() {
    let folder = tempfile::tempdir().expect("tempdir");
    Blobs::open(folder.path()).expect("open").start_upload(&id("u")).expect("start");
    let mut offset = 0;
    for round in 1..=4u64 {
        let mut child = Command::new(std::env::current_exe().expect("this binary"))
            .args(["--exact", "upload_child", "--nocapture"])
            .env(CHILD_DIR, folder.path())
            .stdout(Stdio::piped())
            .spawn()
            .expect("spawn");
        let output = std::io::BufReader::new(child.stdout.take().expect("piped"));
        let mut offsets = std::io::BufRead::lines(output)
            .filter_map(|line| line.ok()?.strip_prefix("offset ")?.parse::<u64>().ok());
        let acknowledged = offsets.nth(3 * round as usize).expect("some appends");
        child.kill().expect("kill");
        let acknowledged = offsets.last().unwrap_or(acknowledged);
        child.wait().expect("wait");
        offset = Blobs::open(folder.path()).expect("open").upload_offset(&id("u")).expect("there");
        assert!(offset >= acknowledged, "{offset} < {acknowledged}");
    }
    let whole: Vec<u8> = (0..offset).map(byte_at).collect();
    let blobs = Blobs::open(folder.path()).expect("open");
    assert_eq!(blobs.finish(&id("u"), &Digest::of(&whole)), Ok(offset));
}

const FULL_DISK_DIR: &str = "STORE_BLOB_FULL_DISK_DIR";

/// Not a test by itself: on a disk of 256 kB.
#[test]
fn full_disk_child() {
    let Some(dir) = std::env::var_os(FULL_DISK_DIR) else { return };
    let dir = Path::new(&dir);
    let blobs = Blobs::open(&dir.join("blobs")).expect("open");
    fs::write(dir.join("ballast"), vec![0; 100_000]).expect("ballast");
    let whole: Vec<u8> = (0..150_000).map(byte_at).collect();
    blobs.start_upload(&id("u")).expect("start");
    assert_eq!(blobs.append(&id("u"), 0, &whole[..90_000]), Ok(90_000));
    let full = |error: BlobError| matches!(error, BlobError::Store(StoreError::Full { .. }));
    assert!(blobs.append(&id("u"), 90_000, &vec![0; 200_000]).is_err_and(full));
    assert!(blobs.put(&vec![0; 200_000]).is_err_and(full));
    assert_eq!(blobs.upload_offset(&id("u")), Ok(90_000), "what did not fit is gone");
    fs::remove_file(dir.join("ballast")).expect("make space");
    assert_eq!(blobs.append(&id("u"), 90_000, &whole[90_000..]), Ok(150_000));
    assert_eq!(blobs.finish(&id("u"), &Digest::of(&whole)), Ok(150_000));
    assert_eq!(fs::read_dir(dir.join("blobs/uploads")).expect("list").count(), 0);
    println!("full disk child done");
}

#[test]
fn a_full_disk_keeps_the_upload_as_it_was() {
    let folder = tempfile::tempdir().expect("tempdir");
    let script = "mount -t tmpfs -o size=256k tmpfs \"$STORE_BLOB_FULL_DISK_DIR\" || exit 77; exec \"$@\"";
    let started = Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount", "sh", "-c", script, "sh"])
        .arg(std::env::current_exe().expect("this binary"))
        .args(["--exact", "full_disk_child", "--nocapture"])
        .env(FULL_DISK_DIR, folder.path())
        .output();
    match started {
        Ok(output) if output.status.success() => {
            assert!(String::from_utf8_lossy(&output.stdout).contains("full disk child done"), "{output:?}");
        }
        Ok(output) if output.status.code() == Some(77) => {
            eprintln!("skipped: no tmpfs in a user namespace here")
        }
        Ok(output) => panic!("{output:?}"),
        Err(error) => eprintln!("skipped: unshare: {error}"),
    }
}
