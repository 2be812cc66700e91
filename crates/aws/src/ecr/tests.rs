//! Tests of the ECR operations through their table, each answer checked as a client would see it.

mod world;

use wire::shapes::ecr as shapes;
use wire::shapes::ecr::op;

use self::world::{LAYER, World, complete, create, id, image, part, put};
use super::push::digest_of;

#[test]
fn every_operation_of_the_model_is_in_the_table() {
    let text = include_str!("../../../../models/operations.txt");
    let section = text.split("\n\n").find(|s| s.lines().any(|l| l.starts_with("ecr "))).unwrap();
    let lines = section.lines().filter(|line| line.starts_with(' '));
    let named: Vec<&str> = lines.flat_map(str::split_whitespace).collect();
    assert!(named.len() > 20);
    for operation in named {
        assert!(crate::find("ecr", operation).is_some(), "{operation}");
    }
}

#[test]
fn repositories_are_created_described_and_deleted() {
    let mut world = World::new();
    let made = world.call::<op::CreateRepository>(create("team/app")).unwrap().repository.unwrap();
    assert_eq!(
        made.repository_arn.as_deref(),
        Some("arn:aws:ecr:us-east-1:123456789012:repository/team/app")
    );
    assert_eq!(made.repository_uri.as_deref(), Some("localhost:4566/team/app"));
    assert_eq!(made.image_tag_mutability.as_deref(), Some("MUTABLE"));
    assert_eq!(
        world.refused::<op::CreateRepository>(create("team/app")),
        "RepositoryAlreadyExistsException: The repository with name 'team/app' already exists in the registry with id \
         '123456789012'"
    );
    world.create("b0");
    world.create("b1");
    let mut seen = Vec::new();
    let mut next_token = None;
    loop {
        let request =
            shapes::DescribeRepositoriesRequest { next_token, max_results: Some(2), ..Default::default() };
        let page = world.call::<op::DescribeRepositories>(request).unwrap();
        seen.extend(page.repositories.unwrap().into_iter().map(|r| r.repository_name.unwrap()));
        next_token = page.next_token;
        if next_token.is_none() {
            break;
        }
    }
    assert_eq!(seen, ["b0", "b1", "team/app"]);
    let request = |names: &[&str]| shapes::DescribeRepositoriesRequest {
        repository_names: Some(names.iter().map(|n| n.to_string()).collect()),
        ..Default::default()
    };
    assert_eq!(
        world.refused::<op::DescribeRepositories>(request(&["b0", "nope"])),
        "RepositoryNotFoundException: The repository with name 'nope' does not exist in the registry with id \
         '123456789012'"
    );
    world.push("b0", b"c", Some("v1"));
    let delete = |force| shapes::DeleteRepositoryRequest {
        repository_name: Some("b0".into()),
        force,
        ..Default::default()
    };
    assert_eq!(
        world.refused::<op::DeleteRepository>(delete(None)),
        "RepositoryNotEmptyException: The repository with name 'b0' in registry with id '123456789012' cannot be deleted \
         because it still contains images"
    );
    world.call::<op::DeleteRepository>(delete(Some(true))).unwrap();
    assert!(world.state.images.is_empty() && world.state.layer_links.is_empty());
}

#[test]
fn what_is_not_kept_is_refused() {
    let mut world = World::new();
    let encrypted = shapes::EncryptionConfiguration { encryption_type: Some("KMS".into()), kms_key: None };
    let request =
        shapes::CreateRepositoryRequest { encryption_configuration: Some(encrypted), ..create("app") };
    assert!(world.refused::<op::CreateRepository>(request).contains("encryptionType KMS is not supported"));
    let request =
        shapes::CreateRepositoryRequest { registry_id: Some("999999999999".into()), ..create("app") };
    let refused = world.refused::<op::CreateRepository>(request);
    assert!(refused.starts_with("AccessDeniedException: User: arn:aws:iam::123456789012:root"), "{refused}");
    let request = shapes::CreateRepositoryRequest {
        image_tag_mutability: Some("IMMUTABLE_WITH_EXCLUSION".into()),
        ..create("app")
    };
    assert_eq!(
        world.refused::<op::CreateRepository>(request),
        "InvalidParameterException: Invalid parameter at 'imageTagMutabilityExclusionFilters' failed to satisfy \
         constraint: 'ImageTagMutabilityExclusionFilters can't be null when imageTagMutability is set as \
         IMMUTABLE_WITH_EXCLUSION'"
    );
}

#[test]
fn a_token_logs_in_for_twelve_hours() {
    use base64::Engine as _;
    let mut world = World::new();
    let answer = world.call::<op::GetAuthorizationToken>(Default::default()).unwrap();
    let one = &answer.authorization_data.unwrap()[0];
    let token = one.authorization_token.as_deref().unwrap();
    let plain = base64::engine::general_purpose::STANDARD.decode(token).unwrap();
    assert_eq!(plain, b"AWS:123456789012/43201000+");
    assert_eq!(one.expires_at, Some(1_000 + 43_200_000));
    assert_eq!(one.proxy_endpoint.as_deref(), Some("http://localhost:4566"));
}

#[test]
fn images_are_pushed_listed_got_and_described() {
    let mut world = World::new();
    world.create("app");
    let first = world.push("app", b"one", Some("v1"));
    let second = world.push("app", b"two", None);
    assert_eq!(
        world.refused::<op::PutImage>(put("app", &image(b"one"), Some("v1"))),
        format!(
            "ImageAlreadyExistsException: Image with digest '{first}' and tag 'v1' already exists in the repository with \
             name 'app' in registry with id '123456789012'"
        )
    );
    world.call::<op::PutImage>(put("app", &image(b"one"), Some("v2"))).unwrap();
    let mut expect = vec![
        (first.clone(), Some("v1".to_owned())),
        (first.clone(), Some("v2".to_owned())),
        (second.clone(), None),
    ];
    expect.sort();
    assert_eq!(world.list("app"), expect);
    let filter = shapes::DescribeImagesFilter { tag_status: Some("TAGGED".into()), image_status: None };
    let request = shapes::DescribeImagesRequest {
        repository_name: Some("app".into()),
        filter: Some(filter),
        ..Default::default()
    };
    let details = world.call::<op::DescribeImages>(request).unwrap().image_details.unwrap();
    let [detail] = details.as_slice() else { panic!("{details:?}") };
    assert_eq!(detail.image_tags, Some(vec!["v1".into(), "v2".into()]));
    assert_eq!(detail.image_size_in_bytes, Some(LAYER.len() as i64));
    assert_eq!(detail.artifact_media_type.as_deref(), Some("application/vnd.docker.container.image.v1+json"));
    let request = shapes::DescribeImagesRequest {
        repository_name: Some("app".into()),
        image_ids: Some(vec![id(None, Some("gone"))]),
        ..Default::default()
    };
    assert_eq!(
        world.refused::<op::DescribeImages>(request),
        "ImageNotFoundException: The image with imageId {imageDigest:'null', imageTag:'gone'} does not exist within the \
         repository with name 'app' in the registry with id '123456789012'"
    );
    let request = shapes::BatchGetImageRequest {
        repository_name: Some("app".into()),
        image_ids: Some(vec![
            id(None, Some("v1")),
            id(Some(&second), None),
            id(Some(&second), Some("v1")),
            id(Some("x"), None),
            id(None, None),
            id(None, Some("gone")),
        ]),
        ..Default::default()
    };
    let got = world.call::<op::BatchGetImage>(request).unwrap();
    let manifests: Vec<_> = got.images.unwrap().into_iter().map(|i| i.image_manifest.unwrap()).collect();
    assert_eq!(manifests, [image(b"one"), image(b"two")]);
    let codes: Vec<_> = got.failures.unwrap().into_iter().map(|f| f.failure_code.unwrap()).collect();
    assert_eq!(
        codes,
        ["ImageTagDoesNotMatchDigest", "InvalidImageDigest", "MissingDigestAndTag", "ImageNotFound"]
    );
}

#[test]
fn accepted_media_types_are_kept_to() {
    let mut world = World::new();
    world.create("app");
    world.push("app", b"one", Some("v1"));
    let mut get = |accepted: &str| {
        let request = shapes::BatchGetImageRequest {
            repository_name: Some("app".into()),
            image_ids: Some(vec![id(None, Some("v1"))]),
            accepted_media_types: Some(vec![accepted.into()]),
            ..Default::default()
        };
        world.call::<op::BatchGetImage>(request).unwrap().images.unwrap().len()
    };
    assert_eq!(get("application/vnd.docker.distribution.manifest.v2+json"), 1);
    assert_eq!(get("application/vnd.oci.image.manifest.v1+json"), 0);
}

#[test]
fn deletion_by_tag_and_by_digest() {
    let mut world = World::new();
    world.create("app");
    let digest = world.push("app", b"one", Some("v1"));
    for tag in ["v2", "v3"] {
        world.call::<op::PutImage>(put("app", &image(b"one"), Some(tag))).unwrap();
    }
    let mut delete = |ids: Vec<shapes::ImageIdentifier>| {
        let request = shapes::BatchDeleteImageRequest {
            repository_name: Some("app".into()),
            image_ids: Some(ids),
            ..Default::default()
        };
        let answer = world.call::<op::BatchDeleteImage>(request).unwrap();
        (answer.image_ids.unwrap(), answer.failures.unwrap().len(), world.list("app").len())
    };
    let of = |tag: &str| id(Some(&digest), Some(tag));
    assert_eq!(delete(vec![id(None, Some("v1"))]), (vec![of("v1")], 0, 2));
    assert_eq!(delete(vec![id(None, Some("v1"))]), (vec![], 1, 2));
    assert_eq!(delete(vec![id(Some(&digest), None)]), (vec![of("v2"), of("v3")], 0, 0));
    world.call::<op::PutImage>(put("app", &image(b"one"), Some("last"))).unwrap();
    let request = shapes::BatchDeleteImageRequest {
        repository_name: Some("app".into()),
        image_ids: Some(vec![id(None, Some("last"))]),
        ..Default::default()
    };
    world.call::<op::BatchDeleteImage>(request).unwrap();
    assert!(world.list("app").is_empty(), "an image goes with its last tag");
}

#[test]
fn an_image_of_an_index_stays() {
    let mut world = World::new();
    world.create("app");
    let child = world.push("app", b"one", None);
    let index = format!(
        r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[{{"mediaType":"m","digest":"{child}","size":1}}]}}"#
    );
    world.call::<op::PutImage>(put("app", &index, Some("multi"))).unwrap();
    let request = shapes::BatchDeleteImageRequest {
        repository_name: Some("app".into()),
        image_ids: Some(vec![id(Some(&child), None)]),
        ..Default::default()
    };
    let failures = world.call::<op::BatchDeleteImage>(request).unwrap().failures.unwrap();
    assert_eq!(failures[0].failure_code.as_deref(), Some("ImageReferencedByManifestList"));
    let orphan = index.replace(&child, &digest_of(b"x"));
    assert!(world.refused::<op::PutImage>(put("app", &orphan, None)).starts_with("ReferencedImagesNotFound"));
    let request = shapes::DescribeImagesRequest {
        repository_name: Some("app".into()),
        image_ids: Some(vec![id(None, Some("multi"))]),
        ..Default::default()
    };
    let details = world.call::<op::DescribeImages>(request).unwrap().image_details.unwrap();
    assert_eq!(details[0].image_size_in_bytes, Some(LAYER.len() as i64));
}

#[test]
fn bad_pushes_are_refused() {
    let mut world = World::new();
    world.create("app");
    let missing = world.refused::<op::PutImage>(put("app", &image(b"one"), Some("v1")));
    assert!(missing.starts_with("LayersNotFoundException"), "{missing}");
    assert_eq!(
        world.refused::<op::PutImage>(put("app", "{", None)),
        "InvalidParameterException: Invalid parameter at 'ImageManifest' failed to satisfy constraint: 'Invalid JSON \
         syntax'"
    );
    let request = shapes::PutImageRequest {
        image_digest: Some(digest_of(b"other")),
        ..put("app", &image(b"one"), None)
    };
    assert!(world.refused::<op::PutImage>(request).starts_with("ImageDigestDoesNotMatchException"));
    world.push("app", b"one", Some("v1"));
    world.push("app", b"two", None);
    let request = shapes::PutImageTagMutabilityRequest {
        repository_name: Some("app".into()),
        image_tag_mutability: Some("IMMUTABLE".into()),
        ..Default::default()
    };
    world.call::<op::PutImageTagMutability>(request).unwrap();
    assert_eq!(
        world.refused::<op::PutImage>(put("app", &image(b"two"), Some("v1"))),
        "ImageTagAlreadyExistsException: The image tag 'v1' already exists in the 'app' repository and cannot be \
         overwritten because the tag is immutable."
    );
}

#[test]
fn layers_are_uploaded_in_parts() {
    let mut world = World::new();
    world.create("app");
    let begin =
        || shapes::InitiateLayerUploadRequest { repository_name: Some("app".into()), ..Default::default() };
    let id = world.call::<op::InitiateLayerUpload>(begin()).unwrap().upload_id.unwrap();
    let empty = world.refused::<op::CompleteLayerUpload>(complete("app", &id, &digest_of(b"")));
    assert!(empty.starts_with("EmptyUploadException"), "{empty}");
    let big = vec![7u8; 5 << 20];
    world.call::<op::UploadLayerPart>(part("app", &id, 0, &big)).unwrap();
    let gap = world.call::<op::UploadLayerPart>(part("app", &id, 1, b"x")).unwrap_err();
    assert_eq!(gap.code, "InvalidLayerPartException");
    assert!(gap.members.iter().any(|(name, value)| {
        name == "lastValidByteReceived" && value.as_int() == Some(big.len() as i64 - 1)
    }));
    let tail = world.call::<op::UploadLayerPart>(part("app", &id, big.len() as i64, b"x")).unwrap();
    assert_eq!(tail.last_byte_received, Some(big.len() as i64));
    let digest = digest_of(&[&big[..], b"x"].concat());
    assert!(
        world
            .refused::<op::CompleteLayerUpload>(complete("app", &id, &digest_of(b"y")))
            .starts_with("InvalidLayerException")
    );
    world.call::<op::CompleteLayerUpload>(complete("app", &id, &digest)).unwrap();
    let gone = world.refused::<op::UploadLayerPart>(part("app", &id, 0, b"x"));
    assert!(gone.starts_with("UploadNotFoundException"), "{gone}");
    let id = world.call::<op::InitiateLayerUpload>(begin()).unwrap().upload_id.unwrap();
    world.call::<op::UploadLayerPart>(part("app", &id, 0, b"x")).unwrap();
    world.call::<op::UploadLayerPart>(part("app", &id, 1, b"y")).unwrap();
    let small = world.refused::<op::CompleteLayerUpload>(complete("app", &id, &digest));
    assert!(small.starts_with("LayerPartTooSmallException"), "{small}");
    let id = world.call::<op::InitiateLayerUpload>(begin()).unwrap().upload_id.unwrap();
    world.call::<op::UploadLayerPart>(part("app", &id, 0, b"x")).unwrap();
    let again = world.refused::<op::CompleteLayerUpload>(complete("app", &id, &digest));
    assert!(again.starts_with("LayerAlreadyExistsException"), "{again}");
}

#[test]
fn a_layer_is_seen_and_got_in_its_own_repository_only() {
    let mut world = World::new();
    world.create("app");
    world.create("other");
    let digest = world.layer("app", b"bytes");
    let url = |name: &str| shapes::GetDownloadUrlForLayerRequest {
        repository_name: Some(name.into()),
        layer_digest: Some(digest.clone()),
        ..Default::default()
    };
    let answer = world.call::<op::GetDownloadUrlForLayer>(url("app")).unwrap();
    assert_eq!(
        answer.download_url.unwrap(),
        format!("http://localhost:4566/v2/app/blobs/{digest}?token=123456789012%2F3601000%2B")
    );
    assert_eq!(
        world.refused::<op::GetDownloadUrlForLayer>(url("other")),
        format!(
            "LayersNotFoundException: The layer with digest '{digest}' does not exist within the repository with name \
             'other' in the registry with id '123456789012'"
        )
    );
}

#[test]
fn policies_are_kept_shown_and_checked() {
    let mut world = World::new();
    world.create("app");
    let name = || Some("app".to_owned());
    let get = || shapes::GetRepositoryPolicyRequest { repository_name: name(), ..Default::default() };
    assert_eq!(
        world.refused::<op::GetRepositoryPolicy>(get()),
        "RepositoryPolicyNotFoundException: Repository policy does not exist for the repository with name 'app' in the \
         registry with id '123456789012'"
    );
    let set = |text: &str| shapes::SetRepositoryPolicyRequest {
        repository_name: name(),
        policy_text: Some(text.into()),
        ..Default::default()
    };
    assert!(
        world.refused::<op::SetRepositoryPolicy>(set("{}")).contains("Invalid repository policy provided")
    );
    let policy = r#"{"Statement":[{"Effect":"Allow","Principal":"*","Action":"ecr:*"}]}"#;
    world.call::<op::SetRepositoryPolicy>(set(policy)).unwrap();
    assert_eq!(world.call::<op::GetRepositoryPolicy>(get()).unwrap().policy_text.as_deref(), Some(policy));
    let delete = shapes::DeleteRepositoryPolicyRequest { repository_name: name(), ..Default::default() };
    world.call::<op::DeleteRepositoryPolicy>(delete).unwrap();
    world.refused::<op::GetRepositoryPolicy>(get());
}

#[test]
fn lifecycle_policies_are_kept_shown_and_checked() {
    let mut world = World::new();
    world.create("app");
    let set = |text: &str| shapes::PutLifecyclePolicyRequest {
        repository_name: Some("app".into()),
        lifecycle_policy_text: Some(text.into()),
        ..Default::default()
    };
    let rule = r#"{"rules":[{"rulePriority":1,"selection":{"tagStatus":"untagged","countType":"sinceImagePushed","countUnit":"days","countNumber":14},"action":{"type":"expire"}}]}"#;
    for (from, to, expect) in [
        (rule, "[]", "Could not map policyString into LifecyclePolicy."),
        (rule, "{}", r#"object has missing required properties (["rules"])"#),
        (r#""rulePriority":1,"#, "", r#"missing required properties (["rulePriority"])"#),
        (r#""type":"expire""#, r#""type":"keep""#, r#"instance value ("keep") not found in enum"#),
        (r#""countUnit":"days","#, "", r#"missing required properties (["countUnit"])"#),
        (r#""countNumber":14"#, r#""countNumber":0"#, "'countNumber' must be"),
        ("untagged", "tagged", "need 'tagPrefixList'"),
        (r#""rulePriority":1"#, r#""rulePriority":1,"x":1"#, r#"not allowed by the schema: (["x"])"#),
    ] {
        let refused = world.refused::<op::PutLifecyclePolicy>(set(&rule.replace(from, to)));
        assert!(refused.contains(expect), "{refused}");
        assert!(refused.starts_with("InvalidParameterException: Invalid parameter at 'LifecyclePolicyText'"));
    }
    world.call::<op::PutLifecyclePolicy>(set(rule)).unwrap();
    let get = shapes::GetLifecyclePolicyRequest { repository_name: Some("app".into()), ..Default::default() };
    let got = world.call::<op::GetLifecyclePolicy>(get.clone()).unwrap();
    assert_eq!(got.lifecycle_policy_text.as_deref(), Some(rule));
    let delete =
        shapes::DeleteLifecyclePolicyRequest { repository_name: Some("app".into()), ..Default::default() };
    world.call::<op::DeleteLifecyclePolicy>(delete).unwrap();
    assert!(
        world.refused::<op::GetLifecyclePolicy>(get).starts_with(
            "LifecyclePolicyNotFoundException: Lifecycle policy does not exist for the repository"
        )
    );
}

#[test]
fn tags_of_repositories() {
    let mut world = World::new();
    world.create("app");
    let arn = || Some("arn:aws:ecr:us-east-1:123456789012:repository/app".to_owned());
    let tag = |key: &str, value: &str| shapes::Tag { key: Some(key.into()), value: Some(value.into()) };
    let add = |tags| shapes::TagResourceRequest { resource_arn: arn(), tags: Some(tags) };
    world.call::<op::TagResource>(add(vec![tag("a", "1"), tag("b", "2")])).unwrap();
    world.call::<op::TagResource>(add(vec![tag("a", "3")])).unwrap();
    let remove = shapes::UntagResourceRequest { resource_arn: arn(), tag_keys: Some(vec!["b".into()]) };
    world.call::<op::UntagResource>(remove).unwrap();
    let list = |resource_arn| shapes::ListTagsForResourceRequest { resource_arn };
    assert_eq!(world.call::<op::ListTagsForResource>(list(arn())).unwrap().tags, Some(vec![tag("a", "3")]));
    let reserved = world.refused::<op::TagResource>(add(vec![tag("aws:x", "1")]));
    assert!(reserved.starts_with("InvalidTagParameterException"), "{reserved}");
    let many = (0..51).map(|n| tag(&n.to_string(), "")).collect();
    assert!(world.refused::<op::TagResource>(add(many)).starts_with("TooManyTagsException"));
    let foreign = world.refused::<op::ListTagsForResource>(list(Some("arn:aws:ecs:a:b:c".into())));
    assert!(foreign.contains("Invalid ARN"), "{foreign}");
}

#[test]
fn who_asks_for_scans_is_told_that_there_are_none() {
    let mut world = World::new();
    world.create("app");
    let request = shapes::PutImageScanningConfigurationRequest {
        repository_name: Some("app".into()),
        image_scanning_configuration: Some(shapes::ImageScanningConfiguration { scan_on_push: Some(true) }),
        ..Default::default()
    };
    world.call::<op::PutImageScanningConfiguration>(request).unwrap();
    world.push("app", b"one", Some("v1"));
    let request = shapes::DescribeImagesRequest { repository_name: Some("app".into()), ..Default::default() };
    let details = world.call::<op::DescribeImages>(request).unwrap().image_details.unwrap();
    let status = details[0].image_scan_status.clone().unwrap();
    assert_eq!(status.status.as_deref(), Some("FAILED"));
}
