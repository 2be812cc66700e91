//! Garbage: what nothing names goes, what a push relies on stays.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use common::{World, noise};
use registry::garbage::{Collected, GRACE_MS, collect};
use store::blobs::Digest;

fn now_ms() -> i64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() as i64
}

/// Collects as if `later_ms` had gone by.
async fn later(world: &World, later_ms: i64) -> Collected {
    let (db, blobs) = (world.db.clone(), world.blobs.clone());
    let done = tokio::task::spawn_blocking(move || collect(&db, &blobs, now_ms() + later_ms, GRACE_MS));
    done.await.unwrap().unwrap()
}

#[tokio::test]
async fn only_what_nothing_names_goes_and_only_after_the_grace_period() {
    let world = World::new();
    world.create("app");
    world.create("two");
    world.image("app", b"config", b"layer", "v1").await;
    let orphan = world.blob("app", b"orphan").await;
    let location = world.ask("POST /v2/app/blobs/uploads/", &[], "").await.header("location").to_owned();
    world.ask(&format!("PATCH {location}"), &[], "half a").await;
    assert_eq!(later(&world, 0).await, Collected::default());
    assert_eq!(later(&world, GRACE_MS / 2).await, Collected::default());
    let first = later(&world, GRACE_MS + 60_000).await;
    assert_eq!(first, Collected { uploads: 1, links: 1, blobs: 1 });
    assert_eq!(world.ask(&format!("GET {location}"), &[], "").await.status, 404);
    assert_eq!(world.ask(&format!("HEAD /v2/app/blobs/{orphan}"), &[], "").await.status, 404);
    assert!(world.db.snapshot().layer_uploads.is_empty());
    assert_eq!(later(&world, 10 * GRACE_MS).await, Collected::default(), "the image is whole for good");
    assert_eq!(world.blobs.list().unwrap().len(), 2);
}

#[tokio::test]
async fn bytes_stay_while_one_repository_has_them() {
    let world = World::new();
    world.create("app");
    world.create("two");
    let one = world.image("app", b"config", b"layer", "v1").await;
    world.image("two", b"config", b"layer", "v1").await;
    world.ask(&format!("DELETE /v2/app/manifests/{one}"), &[], "").await;
    assert_eq!(later(&world, GRACE_MS + 60_000).await, Collected { uploads: 0, links: 2, blobs: 0 });
    world.ask(&format!("DELETE /v2/two/manifests/{one}"), &[], "").await;
    assert_eq!(later(&world, GRACE_MS + 60_000).await, Collected { uploads: 0, links: 2, blobs: 2 });
    assert!(world.blobs.list().unwrap().is_empty());
}

#[tokio::test]
async fn bytes_that_a_crash_left_without_a_link_go() {
    let world = World::new();
    world.create("app");
    world.blobs.put(&noise(1, 100)).unwrap();
    assert_eq!(later(&world, 0).await.blobs, 0);
    assert_eq!(later(&world, GRACE_MS + 60_000).await.blobs, 1);
}

/// Pushes and deletions beside a collector without any grace: a push may be refused, but what was accepted is whole.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn pushes_beside_a_merciless_collector_are_refused_or_whole() {
    let world = Arc::new(World::new());
    world.create("app");
    let stop = Arc::new(AtomicBool::new(false));
    let collector = {
        let (db, blobs, stop) = (world.db.clone(), world.blobs.clone(), stop.clone());
        std::thread::spawn(move || {
            let mut blobs_deleted = 0;
            while !stop.load(Ordering::Relaxed) {
                // Everything is old: uploads under way are collected too.
                blobs_deleted += collect(&db, &blobs, now_ms() + 60_000, 0).unwrap().blobs;
            }
            blobs_deleted
        })
    };
    let mut pushers = Vec::new();
    for pusher in 0..4u64 {
        let world = world.clone();
        pushers.push(tokio::spawn(async move {
            let mut accepted = 0;
            for _ in 0..100 {
                accepted += push(&world, pusher).await;
            }
            accepted
        }));
    }
    let mut accepted = 0;
    for pusher in pushers {
        accepted += pusher.await.unwrap();
    }
    stop.store(true, Ordering::Relaxed);
    let deleted = tokio::task::spawn_blocking(move || collector.join().unwrap()).await.unwrap();
    println!("{accepted} of 400 pushes accepted beside {deleted} deletions");
    assert!(accepted > 0 && deleted > 0);
}

/// Pushes an image of its own configuration and a layer that all share, as a client does it. If it is accepted, 1: then
/// all of it must be there, and it is deleted to be garbage again.
async fn push(world: &World, pusher: u64) -> usize {
    let (config, layer) = (noise(pusher, 50), noise(10, 3000));
    for bytes in [&config, &layer] {
        let digest = Digest::of(bytes);
        let head = world.ask(&format!("HEAD /v2/app/blobs/{digest}"), &[], "").await;
        if head.status != 200 {
            let request = format!("POST /v2/app/blobs/uploads/?digest={digest}");
            world.ask(&request, &[], bytes.clone()).await;
        }
    }
    let manifest = common::manifest(&config, &layer);
    let image = format!("/v2/app/manifests/{}", Digest::of(manifest.as_bytes()));
    let answer = world.ask(&format!("PUT {image}"), &[&common::kind(common::OCI)], manifest).await;
    if answer.status != 201 {
        assert_eq!(answer.error(), (400, "MANIFEST_BLOB_UNKNOWN".into()));
        return 0;
    }
    for bytes in [&config, &layer] {
        let got = world.ask(&format!("GET /v2/app/blobs/{}", Digest::of(bytes)), &[], "").await;
        assert_eq!((got.status.as_u16(), &got.bytes), (200, &bytes.clone().into()));
    }
    assert_eq!(world.ask(&format!("DELETE {image}"), &[], "").await.status, 202);
    1
}
