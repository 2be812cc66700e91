//! Log streams: pages give every event exactly once, bounds hold, crashes and full disks lose nothing else.

mod paging;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use store::StoreError;
use store::segments::{Direction, Event, Page, Query, SegmentLimits, Segments, StreamId};

fn event(timestamp_ms: i64, message: &str) -> Event {
    Event { timestamp_ms, ingestion_ms: timestamp_ms + 5, message: message.into() }
}

fn everything(direction: Direction) -> Query {
    let (range_ms, max) = (i64::MIN..i64::MAX, usize::MAX);
    Query { range_ms, direction, from: None, max_events: max, max_bytes: max }
}

fn messages(page: &Page) -> Vec<&str> {
    page.events.iter().map(|found| found.event.message.as_str()).collect()
}

fn all(segments: &Segments, id: StreamId) -> Vec<String> {
    let page = segments.read(id, &everything(Direction::Forward)).expect("read");
    assert!(page.at_end);
    messages(&page).into_iter().map(str::to_owned).collect()
}

/// The segment files of all streams, in order.
fn files(dir: &Path) -> Vec<PathBuf> {
    let list = |dir: &Path| -> Vec<PathBuf> {
        fs::read_dir(dir).expect("list").map(|entry| entry.expect("entry").path()).collect()
    };
    let mut files: Vec<PathBuf> = list(dir).iter().flat_map(|stream| list(stream)).collect();
    files.sort();
    files
}

fn small() -> SegmentLimits {
    SegmentLimits { segment_bytes: 300, chunk_bytes: 100, ..SegmentLimits::default() }
}

#[test]
fn events_come_back_in_order_of_time_and_arrival() {
    let folder = tempfile::tempdir().expect("tempdir");
    let segments = Segments::open(folder.path(), SegmentLimits::default()).expect("open");
    let id = StreamId::of("/ecs/shop", "web/1");
    assert_eq!(segments.stats(id), Ok(None));
    assert_eq!(segments.read(id, &everything(Direction::Forward)), Ok(Page { events: vec![], at_end: true }));
    segments.append(id, &[]).expect("nothing");
    assert_eq!(segments.streams(), vec![]);
    segments.append(id, &[event(10, "b"), event(10, "c"), event(30, "ü\n\0")]).expect("append");
    segments.append(id, &[event(-5, "a"), event(20, "d"), event(30, "")]).expect("append");
    assert_eq!(all(&segments, id), ["a", "b", "c", "d", "ü\n\0", ""]);
    let page =
        segments.read(id, &Query { range_ms: 10..30, ..everything(Direction::Backward) }).expect("read");
    assert_eq!(messages(&page), ["b", "c", "d"]);
    let last_two = Query { max_events: 2, ..everything(Direction::Backward) };
    let page = segments.read(id, &last_two).expect("read");
    assert_eq!((messages(&page), page.at_end), (vec!["ü\n\0", ""], false));
    let stats = segments.stats(id).expect("stats").expect("there");
    let times = (stats.first_event_ms, stats.last_event_ms, stats.last_ingestion_ms);
    assert_eq!(times, (Some(-5), Some(30), Some(35)));
    assert_eq!((stats.events, stats.message_bytes, stats.unreadable_bytes), (6, 8, 0));
    assert_eq!(stats.file_bytes, segments.total_bytes());
}

#[test]
fn tailing_sees_what_is_appended_later() {
    let folder = tempfile::tempdir().expect("tempdir");
    let segments = Segments::open(folder.path(), small()).expect("open");
    let id = StreamId::of("g", "s");
    let mut from = None;
    for n in 0..100 {
        segments.append(id, &[event(n, &n.to_string())]).expect("append");
        let page = segments.read(id, &Query { from, ..everything(Direction::Forward) }).expect("read");
        assert_eq!(messages(&page), [n.to_string()]);
        from = page.events.last().map(|found| found.position);
    }
}

#[test]
fn group_and_stream_names_do_not_run_together() {
    assert_ne!(StreamId::of("ab", "c"), StreamId::of("a", "bc"));
    assert_eq!(StreamId::of("a", "b"), StreamId::of("a", "b"));
}

#[test]
fn reopening_goes_on_where_it_was() {
    let folder = tempfile::tempdir().expect("tempdir");
    let id = StreamId::of("g", "s");
    let mut stats = None;
    for round in 0..20 {
        let segments = Segments::open(folder.path(), small()).expect("open");
        assert_eq!(segments.stats(id), Ok(stats));
        for n in 0..7 {
            segments.append(id, &[event(round * 7 + n, &format!("{:03}", round * 7 + n))]).expect("append");
        }
        stats = segments.stats(id).expect("stats");
        segments.sync().expect("sync");
    }
    let segments = Segments::open(folder.path(), small()).expect("open");
    assert_eq!(all(&segments, id), (0..140).map(|n| format!("{n:03}")).collect::<Vec<_>>());
    assert!(files(folder.path()).len() > 10, "there are many segments");
}

#[test]
fn a_torn_tail_is_cut_off_wherever_it_is_torn() {
    let folder = tempfile::tempdir().expect("tempdir");
    let id = StreamId::of("g", "s");
    let segments = Segments::open(folder.path(), SegmentLimits::default()).expect("open");
    segments.append(id, &[event(1, "kept")]).expect("append");
    let file = files(folder.path()).remove(0);
    let before = fs::metadata(&file).expect("file").len() as usize;
    segments.append(id, &[event(2, "torn")]).expect("append");
    drop(segments);
    let whole = fs::read(&file).expect("read");
    for cut in before..whole.len() {
        for holes in [false, true] {
            let mut bytes = whole[..cut].to_vec();
            if holes {
                bytes.resize(whole.len(), 0);
            }
            fs::write(&file, &bytes).expect("write");
            let segments = Segments::open(folder.path(), SegmentLimits::default()).expect("open");
            assert_eq!(all(&segments, id), ["kept"], "cut at {cut}");
            let stats = segments.stats(id).expect("stats").expect("there");
            assert_eq!(stats.unreadable_bytes as usize, bytes.len() - before);
            segments.append(id, &[event(3, "next")]).expect("append");
            drop(segments);
            let segments = Segments::open(folder.path(), SegmentLimits::default()).expect("open");
            assert_eq!(all(&segments, id), ["kept", "next"]);
        }
    }
}

#[test]
fn a_damaged_segment_costs_only_what_is_damaged() {
    let folder = tempfile::tempdir().expect("tempdir");
    let id = StreamId::of("g", "s");
    let segments = Segments::open(folder.path(), small()).expect("open");
    (0..40).for_each(|n| segments.append(id, &[event(n, &format!("{n:02}"))]).expect("append"));
    drop(segments);
    let first = files(folder.path()).remove(0);
    let mut bytes = fs::read(&first).expect("read");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&first, bytes).expect("write");
    let segments = Segments::open(folder.path(), small()).expect("open");
    let read = all(&segments, id);
    assert!(read.len() < 40 && read.len() > 30, "{read:?}");
    assert_eq!((read[0].as_str(), read[read.len() - 1].as_str()), ("00", "39"));
    assert!(segments.stats(id).expect("stats").expect("there").unreadable_bytes > 0);
}

#[test]
fn the_oldest_segments_go_first() {
    let folder = tempfile::tempdir().expect("tempdir");
    let limits = SegmentLimits { total_bytes: 3_000, ..small() };
    let ids: Vec<StreamId> = (0..4).map(|n| StreamId::of("g", &n.to_string())).collect();
    let segments = Segments::open(folder.path(), limits).expect("open");
    segments.append(ids[3], &[event(0, "an idle stream's only segment")]).expect("append");
    for n in 1..=300 {
        segments.append(ids[n as usize % 3], &[event(n, &format!("{n:03}"))]).expect("append");
        assert!(segments.total_bytes() <= 3_000, "{}", segments.total_bytes());
    }
    let on_disk: u64 = files(folder.path()).iter().map(|file| fs::metadata(file).expect("file").len()).sum();
    assert_eq!(on_disk, segments.total_bytes());
    let page = segments.scan(&ids, &everything(Direction::Forward)).expect("scan");
    let kept: Vec<i64> = page.events.iter().map(|found| found.event.timestamp_ms).collect();
    assert!(kept.len() > 30 && kept.ends_with(&[297, 298, 299, 300]), "{kept:?}");
    assert!(kept[0] > 200, "what is gone is the oldest: {kept:?}");
    // The same bound after a restart, and sequences go on even in the stream that was emptied.
    drop(segments);
    let segments = Segments::open(folder.path(), limits).expect("open");
    assert_eq!(segments.total_bytes(), on_disk);
    segments.append(ids[3], &[event(301, "again")]).expect("append");
    let page = segments.read(ids[3], &everything(Direction::Forward)).expect("read");
    assert!(page.events[0].position.to_string().ends_with("01"), "the second event: {:?}", page.events[0]);
}

#[test]
fn trimming_removes_what_has_expired() {
    let folder = tempfile::tempdir().expect("tempdir");
    let id = StreamId::of("g", "s");
    let segments = Segments::open(folder.path(), small()).expect("open");
    (0..100).for_each(|n| segments.append(id, &[event(n, &format!("{n:02}"))]).expect("append"));
    segments.trim(id, 50).expect("trim");
    let left = all(&segments, id);
    assert!(left.len() >= 50 && left.len() < 60, "{left:?}");
    let on_disk: u64 = files(folder.path()).iter().map(|file| fs::metadata(file).expect("file").len()).sum();
    assert_eq!(on_disk, segments.total_bytes());
    segments.trim(id, 1_000).expect("trim");
    assert_eq!((all(&segments, id), segments.total_bytes()), (vec![], 0));
    segments.trim(id, 1_000).expect("trimming nothing");
    segments.trim(StreamId::of("g", "absent"), 1_000).expect("trimming no stream");
    drop(segments);
    let segments = Segments::open(folder.path(), small()).expect("open");
    segments.append(id, &[event(200, "new")]).expect("append");
    let page = segments.read(id, &everything(Direction::Forward)).expect("read");
    assert!(page.events[0].position.to_string().ends_with("64"), "sequence 100: {:?}", page.events[0]);
}

#[test]
fn deleting_removes_a_stream_and_no_other() {
    let folder = tempfile::tempdir().expect("tempdir");
    let (one, two) = (StreamId::of("g", "1"), StreamId::of("g", "2"));
    let segments = Segments::open(folder.path(), small()).expect("open");
    (0..50).for_each(|n| segments.append(one, &[event(n, "one")]).expect("append"));
    segments.append(two, &[event(0, "two")]).expect("append");
    segments.delete(one).expect("delete");
    segments.delete(one).expect("again");
    assert_eq!((segments.streams(), segments.stats(one)), (vec![two], Ok(None)));
    assert_eq!(files(folder.path()).len(), 1);
    assert_eq!(segments.total_bytes(), segments.stats(two).expect("stats").expect("there").file_bytes);
    segments.append(one, &[event(9, "anew")]).expect("append");
    assert_eq!(all(&segments, one), ["anew"]);
    // A deletion that was interrupted after its renaming is completed at the next opening.
    drop(segments);
    let away = folder.path().join("00000000000000000000000000000001.deleted");
    fs::create_dir(&away).expect("create");
    fs::write(away.join("0000000000000000.log"), b"x").expect("write");
    assert_eq!(Segments::open(folder.path(), small()).expect("open").streams().len(), 2);
    assert!(!away.exists());
}

#[test]
fn appending_reading_and_deleting_at_once() {
    let folder = tempfile::tempdir().expect("tempdir");
    let segments =
        Segments::open(folder.path(), SegmentLimits { total_bytes: 20_000, ..small() }).expect("open");
    let ids: Vec<StreamId> = (0..5).map(|n| StreamId::of("g", &n.to_string())).collect();
    std::thread::scope(|scope| {
        for id in &ids {
            scope.spawn(|| {
                for n in 0..400 {
                    segments.append(*id, &[event(n, "0123456789")]).expect("append");
                }
            });
        }
        scope.spawn(|| {
            for _ in 0..50 {
                let page = segments.scan(&ids, &everything(Direction::Backward)).expect("scan");
                assert!(page.events.is_sorted_by(|a, b| a.position < b.position));
                segments.sync().expect("sync");
            }
        });
        scope.spawn(|| (0..50).for_each(|_| segments.delete(ids[0]).expect("delete")));
        scope.spawn(|| (0..50).for_each(|n| segments.trim(ids[1], n * 8).expect("trim")));
    });
    assert!(segments.total_bytes() <= 20_000);
    let on_disk: u64 = files(folder.path()).iter().map(|file| fs::metadata(file).expect("file").len()).sum();
    assert_eq!(on_disk, segments.total_bytes());
}

#[test]
fn thousands_of_streams_keep_no_file_open() {
    let folder = tempfile::tempdir().expect("tempdir");
    let segments = Segments::open(folder.path(), SegmentLimits::default()).expect("open");
    let ids: Vec<StreamId> = (0..3_000).map(|n| StreamId::of("g", &n.to_string())).collect();
    for id in &ids {
        segments.append(*id, &[event(1, "x")]).expect("append");
    }
    let open_here = |path: PathBuf| fs::read_link(path).is_ok_and(|target| target.starts_with(folder.path()));
    let fds = fs::read_dir("/proc/self/fd").expect("fds");
    assert_eq!(fds.filter(|fd| fd.as_ref().is_ok_and(|fd| open_here(fd.path()))).count(), 0);
    let page =
        segments.scan(&ids, &Query { max_events: 2_999, ..everything(Direction::Forward) }).expect("scan");
    assert_eq!((page.events.len(), page.at_end), (2_999, false));
}

#[test]
fn too_large_an_append_is_refused() {
    let folder = tempfile::tempdir().expect("tempdir");
    let limits = SegmentLimits { append_bytes: 10, ..SegmentLimits::default() };
    let segments = Segments::open(folder.path(), limits).expect("open");
    let id = StreamId::of("g", "s");
    let error = segments.append(id, &[event(1, "123456"), event(1, "12345")]);
    assert_eq!(error, Err(StoreError::TooLarge { bytes: 11, max_bytes: 10 }));
    assert_eq!(segments.stats(id), Ok(None));
}

const CHILD_DIR: &str = "STORE_SEGMENTS_CHILD_DIR";

/// Not a test by itself: on a disk of 256 kB.
#[test]
fn full_disk_child() {
    let Some(dir) = std::env::var_os(CHILD_DIR) else { return };
    let dir = Path::new(&dir);
    let limits = SegmentLimits { segment_bytes: 30_000, ..SegmentLimits::default() };
    let segments = Segments::open(&dir.join("logs"), limits).expect("open");
    let id = StreamId::of("g", "s");
    let mut kept = Vec::new();
    for n in 0..500 {
        let message = format!("{n:04}").repeat(1_000);
        match segments.append(id, &[event(n, &message), event(n, &message)]) {
            Ok(()) => kept.extend([n, n]),
            Err(error) => assert!(matches!(error, StoreError::Full { .. }), "{error:?}"),
        }
        if n == 300 {
            // There is space again.
            segments.trim(id, 10).expect("trim");
        }
    }
    let read = |segments: &Segments| -> Vec<i64> {
        let page = segments.read(id, &everything(Direction::Forward)).expect("read");
        page.events.iter().map(|found| found.event.timestamp_ms).filter(|ms| *ms >= 10).collect()
    };
    kept.retain(|n| *n >= 10);
    assert_eq!(read(&segments), kept);
    assert!(kept.contains(&301), "{kept:?}");
    drop(segments);
    assert_eq!(read(&Segments::open(&dir.join("logs"), limits).expect("open")), kept);
    println!("full disk child done");
}

#[test]
fn a_full_disk_is_an_error_and_no_more() {
    let folder = tempfile::tempdir().expect("tempdir");
    let script = "mount -t tmpfs -o size=256k tmpfs \"$STORE_SEGMENTS_CHILD_DIR\" || exit 77; exec \"$@\"";
    let started = Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount", "sh", "-c", script, "sh"])
        .arg(std::env::current_exe().expect("this binary"))
        .args(["--exact", "full_disk_child", "--nocapture"])
        .env(CHILD_DIR, folder.path())
        .stdin(Stdio::null())
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
