//! The OCI Distribution Specification, request by request.

mod common;

use common::{HOST, INDEX, OCI, World, basic, kind, manifest, noise};
use store::blobs::Digest;

#[tokio::test]
async fn who_is_not_logged_in_learns_nothing() {
    let world = World::new();
    world.create("app");
    let digest = world.blob("app", b"bytes").await;
    let challenge = format!("Basic realm=\"http://{HOST}/\",service=\"ecr.amazonaws.com\"");
    for path in
        ["/v2/", "/v2/app/tags/list", "/v2/nope/tags/list", "/v2/!", &format!("/v2/app/blobs/{digest}")]
    {
        for user in ["AWS:wrong", "root:secret", ""] {
            let headers =
                if user.is_empty() { vec![] } else { vec![format!("authorization: {}", basic(user))] };
            let headers: Vec<&str> = headers.iter().map(String::as_str).collect();
            let answer = world.ask_as_is(&format!("GET {path}"), &headers, "").await;
            assert_eq!(answer.error(), (401, "UNAUTHORIZED".into()), "{path} {user}");
            assert_eq!(answer.header("www-authenticate"), challenge);
        }
    }
    let bearer = ["authorization: Bearer secret"];
    assert_eq!(world.ask_as_is("GET /v2/", &bearer, "").await.status, 401);
    let answer = world.ask("GET /v2/", &[], "").await;
    assert_eq!(
        (answer.status.as_u16(), answer.header("docker-distribution-api-version")),
        (200, "registry/2.0")
    );
}

#[tokio::test]
async fn a_token_in_the_url_reads_blobs_and_nothing_else() {
    let world = World::new();
    world.create("app");
    let digest = world.blob("app", b"bytes").await;
    let answer = world.ask_as_is(&format!("GET /v2/app/blobs/{digest}?token=secret"), &[], "").await;
    assert_eq!((answer.status.as_u16(), &answer.bytes[..]), (200, &b"bytes"[..]));
    for request in [
        format!("GET /v2/app/blobs/{digest}?token=wrong"),
        format!("DELETE /v2/app/blobs/{digest}?token=secret"),
        "GET /v2/app/tags/list?token=secret".into(),
        "GET /v2/?token=secret".into(),
        "POST /v2/app/blobs/uploads/?token=secret".into(),
    ] {
        assert_eq!(world.ask_as_is(&request, &[], "").await.status, 401, "{request}");
    }
}

#[tokio::test]
async fn accounts_do_not_see_each_other() {
    let world = World::new();
    world.create("app");
    let digest = world.blob("app", b"bytes").await;
    let path = format!("GET /v2/app/blobs/{digest}");
    let other = format!("authorization: {}", basic("AWS:other"));
    let answer = world.ask_as_is(&path, &[&other], "").await;
    assert_eq!(answer.error(), (404, "NAME_UNKNOWN".into()));
    assert_eq!(
        answer.message(),
        "The repository with name 'app' does not exist in the registry with id '111111111111'"
    );
    let ecr_host = "host: 000000000000.dkr.ecr.us-east-1.localhost:4566";
    let answer = world.ask_as_is(&path, &[&other, ecr_host], "").await;
    assert_eq!(answer.error(), (403, "DENIED".into()));
    assert_eq!(world.ask(&path, &[ecr_host], "").await.status, 200);
    let elsewhere = "host: 000000000000.dkr.ecr.eu-west-1.amazonaws.com";
    assert_eq!(world.ask(&path, &[elsewhere], "").await.status, 404, "another region, another registry");
}

#[tokio::test]
async fn a_blob_in_chunks_with_a_wrong_one_between() {
    let world = World::new();
    world.create("app");
    let bytes = noise(1, 1_500_000);
    let digest = Digest::of(&bytes).to_string();
    let begun = world.ask("POST /v2/app/blobs/uploads/", &[], "").await;
    assert_eq!(begun.status, 202);
    let location = begun.header("location").to_owned();
    let (first, rest) = bytes.split_at(1_000_000);
    let range = |from: usize, to: usize| format!("content-range: {from}-{}", to - 1);
    let answer = world.ask(&format!("PATCH {location}"), &[&range(0, 1_000_000)], first.to_vec()).await;
    assert_eq!((answer.status.as_u16(), answer.header("range")), (202, "0-999999"));
    let answer = world.ask(&format!("PATCH {location}"), &[&range(0, 1_000_000)], first.to_vec()).await;
    assert_eq!(answer.error(), (416, "BLOB_UPLOAD_INVALID".into()));
    assert_eq!(answer.header("range"), "0-999999");
    let answer = world.ask(&format!("PATCH {location}"), &[&range(1_200_000, 1_500_000)], "x").await;
    assert_eq!(answer.status, 416);
    let answer = world.ask(&format!("PATCH {location}"), &["content-range: nonsense"], "x").await;
    assert_eq!(answer.status, 400);
    let too_long = [range(1_000_000, 1_000_005), "content-length: 1".to_owned()];
    let answer = world.ask(&format!("PATCH {location}"), &[&too_long[0], &too_long[1]], "x").await;
    assert_eq!(answer.error(), (400, "SIZE_INVALID".into()));
    let status = world.ask(&format!("GET {location}"), &[], "").await;
    assert_eq!((status.status.as_u16(), status.header("range")), (204, "0-999999"));
    let wrong = format!("PUT {location}?digest={}", Digest::of(b"other"));
    assert_eq!(world.ask(&wrong, &[], "").await.error(), (400, "DIGEST_INVALID".into()));
    let end = format!("PUT {location}?digest={digest}");
    let answer = world.ask(&end, &[&range(1_000_000, 1_500_000)], rest.to_vec()).await;
    assert_eq!((answer.status.as_u16(), answer.header("docker-content-digest")), (201, digest.as_str()));
    let got = world.ask(&format!("GET {}", answer.header("location")), &[], "").await;
    assert_eq!(got.bytes, bytes);
    assert_eq!(
        world.ask(&format!("GET {location}"), &[], "").await.error(),
        (404, "BLOB_UPLOAD_UNKNOWN".into())
    );
}

#[tokio::test]
async fn an_upload_survives_a_restart() {
    let world = World::new();
    world.create("app");
    let bytes = noise(2, 700_000);
    let location = world.ask("POST /v2/app/blobs/uploads/", &[], "").await.header("location").to_owned();
    world.ask(&format!("PATCH {location}"), &[], bytes[..600_000].to_vec()).await;
    let world = world.restarted();
    let status = world.ask(&format!("GET {location}"), &[], "").await;
    assert_eq!(status.header("range"), "0-599999");
    let end = format!("PUT {location}?digest={}", Digest::of(&bytes));
    assert_eq!(world.ask(&end, &[], bytes[600_000..].to_vec()).await.status, 201);
}

#[tokio::test]
async fn uploads_are_cancelled_and_belong_to_one_repository() {
    let world = World::new();
    world.create("app");
    world.create("two");
    let location = world.ask("POST /v2/app/blobs/uploads/", &[], "").await.header("location").to_owned();
    let foreign = location.replace("/app/", "/two/");
    assert_eq!(world.ask(&format!("PATCH {foreign}"), &[], "x").await.status, 404);
    assert_eq!(world.ask(&format!("DELETE {location}"), &[], "").await.status, 204);
    assert_eq!(world.ask(&format!("PATCH {location}"), &[], "x").await.status, 404);
    assert_eq!(world.ask("PATCH /v2/app/blobs/uploads/..%2Fx", &[], "x").await.status, 404);
    let missing = world.ask("POST /v2/nope/blobs/uploads/", &[], "").await;
    assert_eq!(missing.error(), (404, "NAME_UNKNOWN".into()));
    assert_eq!(
        missing.message(),
        "The repository with name 'nope' does not exist in the registry with id '000000000000'"
    );
}

#[tokio::test]
async fn blobs_whole_by_range_and_by_head() {
    let world = World::new();
    world.create("app");
    let bytes = noise(3, 1_300_001);
    let digest = world.blob("app", &bytes).await;
    let path = format!("/v2/app/blobs/{digest}");
    let head = world.ask(&format!("HEAD {path}"), &[], "").await;
    assert_eq!((head.status.as_u16(), head.header("content-length"), head.bytes.len()), (200, "1300001", 0));
    assert_eq!(world.ask(&format!("GET {path}"), &[], "").await.bytes, bytes);
    let part = world.ask(&format!("GET {path}"), &["range: bytes=524280-1048600"], "").await;
    assert_eq!(part.status, 206);
    assert_eq!(part.header("content-range"), "bytes 524280-1048600/1300001");
    assert_eq!(part.bytes, bytes[524_280..=1_048_600]);
    let outside = world.ask(&format!("GET {path}"), &["range: bytes=1300001-"], "").await;
    assert_eq!((outside.status.as_u16(), outside.header("content-range")), (416, "bytes */1300001"));
    let absent = format!("HEAD /v2/app/blobs/{}", Digest::of(b"absent"));
    let absent = world.ask(&absent, &[], "").await;
    assert_eq!((absent.status.as_u16(), absent.bytes.len()), (404, 0));
    let empty = world.blob("app", b"").await;
    assert_eq!(world.ask(&format!("GET /v2/app/blobs/{empty}"), &[], "").await.bytes.len(), 0);
}

#[tokio::test]
async fn layers_are_shared_between_repositories_by_mount() {
    let world = World::new();
    world.create("app");
    world.create("two");
    let digest = world.blob("app", b"shared").await;
    assert_eq!(world.ask(&format!("HEAD /v2/two/blobs/{digest}"), &[], "").await.status, 404);
    let mount = format!("POST /v2/two/blobs/uploads/?mount={digest}&from=app");
    let answer = world.ask(&mount, &[], "").await;
    assert_eq!(
        (answer.status.as_u16(), answer.header("location")),
        (201, &*format!("/v2/two/blobs/{digest}"))
    );
    assert_eq!(world.ask(&format!("GET /v2/two/blobs/{digest}"), &[], "").await.bytes, "shared");
    assert_eq!(world.blobs.list().unwrap().len(), 1);
    let absent = format!("POST /v2/two/blobs/uploads/?mount={}&from=app", Digest::of(b"absent"));
    assert_eq!(world.ask(&absent, &[], "").await.status, 202);
}

#[tokio::test]
async fn manifests_by_tag_and_digest() {
    let world = World::new();
    world.create("app");
    let digest = world.image("app", b"config", b"layer", "v1").await;
    let text = manifest(b"config", b"layer");
    for reference in ["v1", &digest] {
        let got = world.ask(&format!("GET /v2/app/manifests/{reference}"), &[], "").await;
        assert_eq!((got.status.as_u16(), &got.bytes[..]), (200, text.as_bytes()));
        assert_eq!((got.header("content-type"), got.header("docker-content-digest")), (OCI, digest.as_str()));
        let head = world.ask(&format!("HEAD /v2/app/manifests/{reference}"), &[], "").await;
        assert_eq!((head.header("content-length"), head.bytes.len()), (&*text.len().to_string(), 0));
    }
    let gone = world.ask("GET /v2/app/manifests/v2", &[], "").await;
    assert_eq!(
        (gone.error(), gone.message().as_str()),
        ((404, "MANIFEST_UNKNOWN".into()), "Requested image not found")
    );
    let put = |reference: &str| format!("PUT /v2/app/manifests/{reference}");
    let wrong = world.ask(&put(&Digest::of(b"x").to_string()), &[&kind(OCI)], text.clone()).await;
    assert_eq!(wrong.error(), (400, "DIGEST_INVALID".into()));
    let by_digest = world.ask(&put(&digest), &[&kind(OCI)], text.clone()).await;
    assert_eq!(by_digest.status, 201);
    let unknown = world.ask(&put("v2"), &[&kind(OCI)], manifest(b"config", b"absent")).await;
    assert_eq!(unknown.error(), (400, "MANIFEST_BLOB_UNKNOWN".into()));
    for (text, media_type) in
        [("{", OCI), ("{}", OCI), (&text, INDEX), (&text, "text/html"), ("\u{feff}{}", OCI)]
    {
        let bad = world.ask(&put("v2"), &[&kind(media_type)], text.to_owned()).await;
        assert_eq!(bad.error(), (400, "MANIFEST_INVALID".into()), "{text}");
    }
    let bad = world.ask(&put("v2"), &[&kind(OCI)], vec![0xff, 0xfe]).await;
    assert_eq!(bad.error(), (400, "MANIFEST_INVALID".into()));
    let huge = world.ask(&put("v2"), &[&kind(OCI)], vec![b' '; (4 << 20) + 1]).await;
    assert_eq!(huge.error(), (413, "MANIFEST_INVALID".into()));
    assert_eq!(world.ask("DELETE /v2/app/manifests/v1", &[], "").await.status, 202);
    assert_eq!(world.ask("GET /v2/app/manifests/v1", &[], "").await.status, 404);
    assert_eq!(world.ask(&format!("DELETE /v2/app/manifests/{digest}"), &[], "").await.status, 202);
    assert_eq!(world.ask(&format!("GET /v2/app/manifests/{digest}"), &[], "").await.status, 404);
}

#[tokio::test]
async fn a_pull_is_recorded() {
    let world = World::new();
    world.create("app");
    let digest = world.image("app", b"config", b"layer", "v1").await;
    let pulled = || {
        let found = state::ecr::images::find(&world.db.snapshot(), &world.scope, "app", &digest);
        found.unwrap().pulled_at_ms.is_some()
    };
    world.ask("HEAD /v2/app/manifests/v1", &[], "").await;
    assert!(!pulled());
    world.ask("GET /v2/app/manifests/v1", &[], "").await;
    assert!(pulled());
}

#[tokio::test]
async fn an_immutable_tag_is_not_moved() {
    let world = World::new();
    world.create_with("app", "IMMUTABLE");
    world.image("app", b"one", b"layer", "v1").await;
    world.image("app", b"one", b"layer", "v1").await;
    world.blob("app", b"two").await;
    let answer = world.ask("PUT /v2/app/manifests/v1", &[&kind(OCI)], manifest(b"two", b"layer")).await;
    assert_eq!(answer.error(), (400, "TAG_INVALID".into()));
    assert_eq!(
        answer.message(),
        "The image tag 'v1' already exists in the 'app' repository and cannot be overwritten because the tag is immutable."
    );
    let still = world.ask("GET /v2/app/manifests/v1", &[], "").await;
    assert_eq!(still.bytes, manifest(b"one", b"layer"));
}

#[tokio::test]
async fn an_index_needs_its_images() {
    let world = World::new();
    world.create("app");
    let index = |digest: &str| {
        format!(
            r#"{{"schemaVersion":2,"mediaType":"{INDEX}","manifests":[{{"mediaType":"{OCI}","digest":"{digest}","size":1,"platform":{{"architecture":"arm64","os":"linux"}}}}]}}"#
        )
    };
    let absent = index(&Digest::of(b"x").to_string());
    let answer = world.ask("PUT /v2/app/manifests/multi", &[&kind(INDEX)], absent).await;
    assert_eq!(answer.error(), (400, "MANIFEST_BLOB_UNKNOWN".into()));
    let child = world.image("app", b"config", b"layer", "arm").await;
    let answer = world.ask("PUT /v2/app/manifests/multi", &[&kind(INDEX)], index(&child)).await;
    assert_eq!(answer.status, 201);
    let answer = world.ask(&format!("DELETE /v2/app/manifests/{child}"), &[], "").await;
    assert_eq!(answer.error(), (409, "DENIED".into()));
    let got = world.ask("GET /v2/app/manifests/multi", &[], "").await;
    assert_eq!((got.header("content-type"), &got.bytes[..]), (INDEX, index(&child).as_bytes()));
}

#[tokio::test]
async fn lists_of_tags_and_repositories_have_pages() {
    let world = World::new();
    for name in ["app", "team/one", "team/two"] {
        world.create(name);
    }
    for tag in ["b", "a", "c"] {
        world.image("app", b"config", b"layer", tag).await;
    }
    let all = world.ask("GET /v2/app/tags/list", &[], "").await;
    assert_eq!(all.json(), serde_json::json!({ "name": "app", "tags": ["a", "b", "c"] }));
    let page = world.ask("GET /v2/app/tags/list?n=2", &[], "").await;
    assert_eq!(page.json()["tags"], serde_json::json!(["a", "b"]));
    assert_eq!(page.header("link"), "</v2/app/tags/list?n=2&last=b>; rel=\"next\"");
    let rest = world.ask("GET /v2/app/tags/list?n=2&last=b", &[], "").await;
    assert_eq!((&rest.json()["tags"], rest.header("link")), (&serde_json::json!(["c"]), ""));
    assert_eq!(world.ask("GET /v2/app/tags/list?n=x", &[], "").await.status, 400);
    let catalog = world.ask("GET /v2/_catalog?n=2", &[], "").await;
    assert_eq!(catalog.json()["repositories"], serde_json::json!(["app", "team/one"]));
    assert_eq!(catalog.header("link"), "</v2/_catalog?n=2&last=team/one>; rel=\"next\"");
    assert_eq!(world.ask("GET /v2/nope/tags/list", &[], "").await.error(), (404, "NAME_UNKNOWN".into()));
}

#[tokio::test]
async fn referrers_name_their_subject() {
    let world = World::new();
    world.create("app");
    let subject = world.image("app", b"config", b"layer", "v1").await;
    world.blob("app", b"{}").await;
    let signature = format!(
        r#"{{"schemaVersion":2,"mediaType":"{OCI}","artifactType":"x/sig","config":{{"mediaType":"application/vnd.oci.empty.v1+json","digest":"{}","size":2}},"layers":[],"subject":{{"mediaType":"{OCI}","digest":"{subject}","size":1}},"annotations":{{"by":"me"}}}}"#,
        Digest::of(b"{}")
    );
    let digest = Digest::of(signature.as_bytes()).to_string();
    let put = world.ask(&format!("PUT /v2/app/manifests/{digest}"), &[&kind(OCI)], signature).await;
    assert_eq!((put.status.as_u16(), put.header("oci-subject")), (201, subject.as_str()));
    let list = world.ask(&format!("GET /v2/app/referrers/{subject}?artifactType=x%2Fsig"), &[], "").await;
    assert_eq!((list.header("content-type"), list.header("oci-filters-applied")), (INDEX, "artifactType"));
    let manifests = &list.json()["manifests"];
    assert_eq!(
        (manifests[0]["digest"].as_str(), manifests[0]["annotations"]["by"].as_str()),
        (Some(&*digest), Some("me"))
    );
    let none = world.ask(&format!("GET /v2/app/referrers/{}", Digest::of(b"none")), &[], "").await;
    assert_eq!((none.status.as_u16(), &none.json()["manifests"]), (200, &serde_json::json!([])));
    assert_eq!(
        world.ask("GET /v2/app/referrers/sha256:x", &[], "").await.error(),
        (400, "DIGEST_INVALID".into())
    );
}
