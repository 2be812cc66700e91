"""ECR and the registry, by skopeo, buildah, podman, the docker client, curl and boto3."""

import base64
import concurrent.futures
import hashlib
import json
import os
import shutil
import tempfile
import time
import urllib.parse
import urllib.request

import pytest

import images
from conftest import eventually, shell
from raw import send

PORT = 4566
REGISTRY = f"localhost:{PORT}"


@pytest.fixture(scope="module")
def ecr(roadstead):
    return roadstead.client("ecr")


@pytest.fixture(scope="module")
def credentials(ecr):
    """`AWS:password`, as GetAuthorizationToken gives it."""
    data = ecr.get_authorization_token()["authorizationData"][0]
    assert data["proxyEndpoint"] == f"http://{REGISTRY}"
    hours = (data["expiresAt"].timestamp() - time.time()) / 3600
    assert 11.9 < hours <= 12.01
    return base64.b64decode(data["authorizationToken"]).decode()


@pytest.fixture(scope="module", autouse=True)
def auth_file(tmp_path_factory, roadstead):
    """Clients keep what they log in with in a folder of this module's."""
    home = tmp_path_factory.mktemp("auth")
    os.environ["REGISTRY_AUTH_FILE"] = str(home / "auth.json")
    os.environ["DOCKER_CONFIG"] = str(home / "docker")
    yield home
    del os.environ["REGISTRY_AUTH_FILE"], os.environ["DOCKER_CONFIG"]


def skopeo(command, *arguments, check=True):
    return shell("skopeo", "--insecure-policy", command, *arguments, check=check)


def push(credentials, source, target, *options, check=True):
    return skopeo("copy", "--dest-tls-verify=false", "--dest-creds", credentials, *options,
                  f"oci:{source}", f"docker://{REGISTRY}/{target}", check=check)


def pull(credentials, source, into, *options, check=True):
    return skopeo("copy", "--src-tls-verify=false", "--src-creds", credentials, *options,
                  f"docker://{REGISTRY}/{source}", f"oci:{into}:x", check=check)


def small_image(path, text, layers=1):
    """A layout of an image with a text in it; its root and digest."""
    layout = images.Layout(path)
    contents = [images.tar_of({f"f{n}": f"{text} {n}".encode()}) for n in range(layers)]
    return layout.root, layout.publish(layout.image(contents))


def manifest_of(layout):
    return json.load(open(f"{layout}/index.json"))["manifests"][0]


def request(credentials, method, path, body=b"", headers=None):
    basic = {"Authorization": "Basic " + base64.b64encode(credentials.encode()).decode()}
    return send(PORT, method, path, body, {**basic, "Host": REGISTRY, **(headers or {})})


def error_code(answer):
    return answer.document()["errors"][0]["code"]


def repository(ecr, name, **options):
    return ecr.create_repository(repositoryName=name, **options)["repository"]


# === push and pull


def test_an_image_goes_in_and_comes_out_the_same(ecr, credentials, tmp_path, busybox):
    made = repository(ecr, "round/trip")
    assert made["repositoryUri"] == f"{REGISTRY}/round/trip"
    assert made["repositoryArn"] == "arn:aws:ecr:us-east-1:000000000000:repository/round/trip"
    push(credentials, busybox.root, "round/trip:v1")
    digest = manifest_of(busybox.root)["digest"]
    for reference in ("round/trip:v1", f"round/trip@{digest}"):
        into = tmp_path / reference.replace("/", "-").replace(":", "-")
        pull(credentials, reference, into)
        assert manifest_of(into)["digest"] == digest
        blobs = sorted(os.listdir(into / "blobs/sha256"))
        assert blobs == sorted(os.listdir(f"{busybox.root}/blobs/sha256"))
        for name in blobs:
            assert hashlib.sha256((into / "blobs/sha256" / name).read_bytes()).hexdigest() == name


def test_a_pushed_image_is_described(roadstead, ecr, credentials, tmp_path):
    repository(ecr, "described")
    root, digest = small_image(tmp_path / "image", "described", layers=3)
    before = time.time()
    push(credentials, root, "described:a")
    push(credentials, root, "described:b")
    image = roadstead.cli("ecr", "describe-images", "--repository-name", "described")["imageDetails"]
    assert len(image) == 1 and image[0]["imageDigest"] == digest
    assert image[0]["imageTags"] == ["a", "b"]
    manifest = json.load(open(f"{root}/blobs/sha256/{digest[7:]}"))
    assert image[0]["imageSizeInBytes"] == sum(layer["size"] for layer in manifest["layers"])
    assert image[0]["imageManifestMediaType"] == images.MANIFEST
    assert before - 1 <= image[0]["imagePushedAt"] <= time.time() + 1
    listed = ecr.list_images(repositoryName="described")["imageIds"]
    assert sorted(each["imageTag"] for each in listed) == ["a", "b"]
    got = ecr.batch_get_image(repositoryName="described", imageIds=[{"imageTag": "b"}, {"imageTag": "none"}])
    assert json.loads(got["images"][0]["imageManifest"]) == manifest
    assert got["failures"][0]["failureCode"] == "ImageNotFound"


def test_an_index_of_several_architectures(ecr, credentials, tmp_path):
    repository(ecr, "multi")
    layout = images.Layout(tmp_path / "image")
    descriptors = []
    for architecture in ("amd64", "arm64"):
        layer = images.tar_of({"architecture": architecture.encode()})
        descriptor = layout.image([layer], architecture=architecture)
        descriptors.append({**descriptor, "platform": {"architecture": architecture, "os": "linux"}})
    index = json.dumps({"schemaVersion": 2, "mediaType": images.INDEX, "manifests": descriptors}).encode()
    digest = layout.publish(layout.blob(index, images.INDEX))
    push(credentials, layout.root, "multi:1", "--all")
    assert len(ecr.describe_images(repositoryName="multi")["imageDetails"]) == 3
    tagged = ecr.describe_images(repositoryName="multi", filter={"tagStatus": "TAGGED"})["imageDetails"]
    assert [each["imageDigest"] for each in tagged] == [digest]
    for descriptor in descriptors:
        into = tmp_path / descriptor["platform"]["architecture"]
        pull(credentials, "multi:1", into, "--override-arch", descriptor["platform"]["architecture"])
        assert manifest_of(into)["digest"] == descriptor["digest"]
    got = ecr.batch_get_image(repositoryName="multi", imageIds=[{"imageTag": "1"}])["images"][0]
    assert got["imageManifestMediaType"] == images.INDEX and got["imageManifest"] == index.decode()
    # What an index lists cannot be deleted from under it.
    done = ecr.batch_delete_image(repositoryName="multi", imageIds=[{"imageDigest": descriptors[0]["digest"]}])
    assert done["failures"][0]["failureCode"] == "ImageReferencedByManifestList"


@pytest.fixture
def storage():
    """Where buildah and podman keep their images: podman takes no long path."""
    with tempfile.TemporaryDirectory() as root:
        yield ["--root", f"{root}/root", "--runroot", f"{root}/run", "--storage-driver", "vfs"]


@pytest.mark.parametrize("client", ["buildah", "podman"])
def test_other_clients(client, ecr, credentials, busybox, storage, auth_file):
    if not shutil.which(client):
        pytest.skip(f"{client} is not installed")
    name = f"by-{client}"
    repository(ecr, name)
    user, password = credentials.split(":", 1)
    shell(client, "login", "--tls-verify=false", "-u", user, "-p", password, REGISTRY)
    push(credentials, busybox.root, f"{name}:1")
    shell(client, *storage, "pull", "--tls-verify=false", f"{REGISTRY}/{name}:1")
    shell(client, *storage, "tag", f"{REGISTRY}/{name}:1", f"{REGISTRY}/{name}:2")
    shell(client, *storage, "push", "--tls-verify=false", f"{REGISTRY}/{name}:2")
    shell(client, *storage, "rmi", "--all", "--force")
    shell(client, *storage, "pull", "--tls-verify=false", f"{REGISTRY}/{name}:2")
    tags = {each["imageTag"] for each in ecr.list_images(repositoryName=name)["imageIds"]}
    assert tags == {"1", "2"}
    done = shell(client, *storage, "push", "--tls-verify=false", f"{REGISTRY}/{name}:2", f"{REGISTRY}/none:1", check=False)
    assert done.returncode != 0
    assert "The repository with name 'none' does not exist in the registry with id '000000000000'" in done.stderr


def test_the_docker_client_logs_in_and_reads(ecr, credentials, busybox, roadstead):
    if not shutil.which("docker"):
        pytest.skip("docker is not installed")
    repository(ecr, "by-docker")
    push(credentials, busybox.root, "by-docker:1")
    password = roadstead.cli("ecr", "get-login-password", check=False).stdout.strip()
    done = shell("docker", "login", "-u", "AWS", "--password-stdin", REGISTRY, input=password)
    assert "Login Succeeded" in done.stdout
    done = shell("docker", "manifest", "inspect", "--insecure", f"{REGISTRY}/by-docker:1")
    assert json.loads(done.stdout)["layers"]
    done = shell("docker", "login", "-u", "AWS", "--password-stdin", REGISTRY, input="wrong", check=False)
    assert done.returncode != 0 and "401 Unauthorized" in done.stderr, done.stderr


def test_login_by_the_printed_password(ecr, credentials, roadstead, busybox):
    repository(ecr, "logged-in")
    for program in {shutil.which("aws"), "/usr/bin/aws"}:
        if not program or not os.path.exists(program):
            continue
        command = [program, "--endpoint-url", roadstead.endpoint, "ecr", "get-login-password"]
        keys = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1"}
        password = shell(*command, env={**os.environ, **keys}).stdout.strip()
        skopeo("login", "--tls-verify=false", "-u", "AWS", "--password-stdin", REGISTRY, check=False)
        done = shell("skopeo", "login", "--tls-verify=false", "-u", "AWS", "-p", password, REGISTRY)
        assert "Login Succeeded" in done.stdout
        skopeo("copy", "--dest-tls-verify=false", f"oci:{busybox.root}", f"docker://{REGISTRY}/logged-in:1")
        skopeo("logout", REGISTRY)


# === who may


def test_without_or_with_wrong_credentials(ecr, credentials, busybox):
    repository(ecr, "closed")
    wanted = f'Basic realm="http://{REGISTRY}/",service="ecr.amazonaws.com"'
    for path in ("/v2/", "/v2/_catalog", "/v2/closed/tags/list", "/v2/none/tags/list"):
        for headers in ({}, {"Authorization": "Basic " + base64.b64encode(b"AWS:wrong").decode()},
                        {"Authorization": "Basic !"}, {"Authorization": "Bearer x"}):
            answer = send(PORT, "GET", path, headers={**headers, "Host": REGISTRY})
            assert (answer.status, error_code(answer)) == (401, "UNAUTHORIZED")
            assert answer.headers["www-authenticate"] == wanted
            assert answer.headers["docker-distribution-api-version"] == "registry/2.0"
    other_user = "NOTAWS:" + credentials.split(":", 1)[1]
    assert request(other_user, "GET", "/v2/").status == 401
    changed = credentials[:-1] + ("A" if credentials[-1] != "A" else "B")
    for wrong in ("AWS:wrong", changed):
        done = push(wrong, busybox.root, "closed:1", check=False)
        assert done.returncode != 0 and ("unauthorized" in done.stderr or "authentication required" in done.stderr), done.stderr
    assert ecr.list_images(repositoryName="closed")["imageIds"] == []


def test_accounts_do_not_see_each_other(ecr, credentials, roadstead, busybox):
    repository(ecr, "mine")
    push(credentials, busybox.root, "mine:1")
    other = roadstead.client("ecr", key="222222222222")
    token = other.get_authorization_token()["authorizationData"][0]["authorizationToken"]
    theirs = base64.b64decode(token).decode()
    assert request(theirs, "GET", "/v2/_catalog").document() == {"repositories": []}
    assert error_code(request(theirs, "GET", "/v2/mine/tags/list")) == "NAME_UNKNOWN"
    # Also not by the other registry's name.
    host = {"Host": f"000000000000.dkr.ecr.us-east-1.localhost:{PORT}"}
    answer = request(theirs, "GET", "/v2/mine/tags/list", headers=host)
    assert (answer.status, error_code(answer)) == (403, "DENIED")
    assert request(credentials, "GET", "/v2/mine/tags/list", headers=host).document()["tags"] == ["1"]
    with pytest.raises(other.exceptions.RepositoryNotFoundException):
        other.describe_images(repositoryName="mine")


# === what is refused


def test_tags_that_are_immutable(ecr, credentials, tmp_path):
    repository(ecr, "fixed", imageTagMutability="IMMUTABLE")
    one, digest = small_image(tmp_path / "one", "one")
    two, _ = small_image(tmp_path / "two", "two")
    push(credentials, one, "fixed:1")
    push(credentials, one, "fixed:1")
    done = push(credentials, two, "fixed:1", check=False)
    assert done.returncode != 0
    assert "already exists in the 'fixed' repository and cannot be overwritten because" in done.stderr, done.stderr
    push(credentials, two, "fixed:2")
    assert ecr.describe_images(repositoryName="fixed", imageIds=[{"imageTag": "1"}])["imageDetails"][0]["imageDigest"] == digest
    manifest = ecr.batch_get_image(repositoryName="fixed", imageIds=[{"imageTag": "2"}])["images"][0]["imageManifest"]
    with pytest.raises(ecr.exceptions.ImageTagAlreadyExistsException):
        ecr.put_image(repositoryName="fixed", imageManifest=manifest, imageTag="1")
    ecr.put_image_tag_mutability(repositoryName="fixed", imageTagMutability="MUTABLE")
    push(credentials, two, "fixed:1")


def begin(credentials, name):
    answer = request(credentials, "POST", f"/v2/{name}/blobs/uploads/")
    assert answer.status == 202
    return answer.headers["location"]


def test_bytes_that_are_not_their_digest(ecr, credentials):
    repository(ecr, "digests")
    right = "sha256:" + hashlib.sha256(b"right").hexdigest()
    for digest in (right, "sha256:xyz", "md5:900150983cd24fb0d6963f7d28e17f72"):
        location = begin(credentials, "digests")
        mark = "&" if "?" in location else "?"
        answer = request(credentials, "PUT", f"{location}{mark}digest={digest}", b"wrong")
        assert (answer.status, error_code(answer)) == (400, "DIGEST_INVALID"), answer.text
    assert request(credentials, "HEAD", f"/v2/digests/blobs/{right}").status == 404
    answer = request(credentials, "PUT", f"/v2/digests/manifests/{right}", b"{}", {"Content-Type": images.MANIFEST})
    assert answer.status == 400 and error_code(answer) in ("DIGEST_INVALID", "MANIFEST_INVALID")


def test_manifests_of_what_is_not_there(ecr, credentials):
    repository(ecr, "manifests")
    missing = {"mediaType": images.LAYER, "digest": "sha256:" + "1" * 64, "size": 3}
    manifest = {"schemaVersion": 2, "mediaType": images.MANIFEST, "config": {**missing, "mediaType": images.CONFIG}, "layers": [missing]}
    answer = request(credentials, "PUT", "/v2/manifests/manifests/1", json.dumps(manifest).encode(), {"Content-Type": images.MANIFEST})
    assert error_code(answer) == "MANIFEST_BLOB_UNKNOWN" and missing["digest"] in answer.text
    with pytest.raises(ecr.exceptions.LayersNotFoundException, match="1" * 64):
        ecr.put_image(repositoryName="manifests", imageManifest=json.dumps(manifest), imageTag="1")
    for garbage in (b"", b"{", b"[]", b'{"schemaVersion":2}', b'{"schemaVersion":1}', b"x" * (8 << 20)):
        answer = request(credentials, "PUT", "/v2/manifests/manifests/1", garbage, {"Content-Type": images.MANIFEST})
        assert answer.status in (400, 413), (answer.status, garbage[:20])
        assert error_code(answer) in ("MANIFEST_INVALID", "SIZE_INVALID"), answer.text
    assert error_code(request(credentials, "GET", "/v2/manifests/manifests/1")) == "MANIFEST_UNKNOWN"


def test_repositories_and_their_errors(ecr, credentials, busybox):
    repository(ecr, "twice")
    with pytest.raises(ecr.exceptions.RepositoryAlreadyExistsException, match="The repository with name 'twice' already exists"):
        repository(ecr, "twice")
    push(credentials, busybox.root, "twice:1")
    with pytest.raises(ecr.exceptions.RepositoryNotEmptyException):
        ecr.delete_repository(repositoryName="twice")
    ecr.delete_repository(repositoryName="twice", force=True)
    with pytest.raises(ecr.exceptions.RepositoryNotFoundException):
        ecr.describe_images(repositoryName="twice")
    with pytest.raises(ecr.exceptions.InvalidParameterException):
        repository(ecr, "UPPER")


# === delete, share, list


def test_images_are_deleted(ecr, credentials, tmp_path):
    repository(ecr, "deleted")
    root, digest = small_image(tmp_path / "image", "deleted")
    for tag in ("a", "b"):
        push(credentials, root, f"deleted:{tag}")
    done = ecr.batch_delete_image(repositoryName="deleted", imageIds=[{"imageTag": "a"}, {"imageTag": "none"}])
    assert done["imageIds"] == [{"imageTag": "a", "imageDigest": digest}]
    assert done["failures"][0]["failureCode"] == "ImageNotFound"
    # A tag less; the image is there by the other.
    assert pull(credentials, "deleted:a", tmp_path / "no", check=False).returncode != 0
    pull(credentials, "deleted:b", tmp_path / "yes")
    done = ecr.batch_delete_image(repositoryName="deleted", imageIds=[{"imageDigest": digest}])
    assert done["imageIds"] == [{"imageTag": "b", "imageDigest": digest}]
    failed = pull(credentials, f"deleted@{digest}", tmp_path / "gone", check=False)
    assert failed.returncode != 0 and "manifest unknown" in failed.stderr, failed.stderr
    assert ecr.describe_images(repositoryName="deleted")["imageDetails"] == []
    with pytest.raises(ecr.exceptions.ImageNotFoundException):
        ecr.describe_images(repositoryName="deleted", imageIds=[{"imageTag": "b"}])
    push(credentials, root, "deleted:a")


def disk_bytes(roadstead):
    return int(shell("du", "-sb", roadstead.data_dir / "blobs").stdout.split()[0])


def test_layers_are_kept_once(ecr, credentials, roadstead, tmp_path):
    layout = images.Layout(tmp_path / "image")
    size = 4 << 20
    layout.publish(layout.image([images.tar_of({"big": os.urandom(size)})]))
    before = disk_bytes(roadstead)
    for name in ("shared/a", "shared/b", "shared/c"):
        repository(ecr, name)
        push(credentials, layout.root, f"{name}:1")
    assert size <= disk_bytes(roadstead) - before < size * 1.2
    # Deleted in one, it is there in the others.
    ecr.delete_repository(repositoryName="shared/a", force=True)
    pull(credentials, "shared/b:1", tmp_path / "pulled")


def test_a_blob_is_mounted_and_read_in_ranges(ecr, credentials):
    for name in ("from", "to"):
        repository(ecr, name)
    digest = "sha256:" + hashlib.sha256(b"0123456789").hexdigest()
    location = begin(credentials, "from")
    mark = "&" if "?" in location else "?"
    assert request(credentials, "PUT", f"{location}{mark}digest={digest}", b"0123456789").status == 201
    answer = request(credentials, "POST", f"/v2/to/blobs/uploads/?mount={digest}&from=from")
    assert (answer.status, answer.headers["docker-content-digest"]) == (201, digest)
    answer = request(credentials, "GET", f"/v2/to/blobs/{digest}", headers={"Range": "bytes=2-4"})
    assert (answer.status, answer.body, answer.headers["content-range"]) == (206, b"234", "bytes 2-4/10")
    assert request(credentials, "GET", f"/v2/to/blobs/{digest}", headers={"Range": "bytes=20-"}).status == 416


def test_lists_come_in_pages(ecr, credentials, tmp_path):
    root, _ = small_image(tmp_path / "image", "pages")
    repository(ecr, "pages")
    push(credentials, root, "pages:t0")
    manifest = ecr.batch_get_image(repositoryName="pages", imageIds=[{"imageTag": "t0"}])["images"][0]["imageManifest"]
    for number in range(1, 7):
        ecr.put_image(repositoryName="pages", imageManifest=manifest, imageTag=f"t{number}")
    wanted = [f"t{number}" for number in range(7)]
    found, path = [], "/v2/pages/tags/list?n=3"
    while path:
        answer = request(credentials, "GET", path)
        found += answer.document()["tags"]
        path = answer.headers["link"].split(">")[0][1:] if "link" in answer.headers else None
    assert found == wanted
    assert json.loads(skopeo("list-tags", "--tls-verify=false", "--creds", credentials, f"docker://{REGISTRY}/pages").stdout)["Tags"] == wanted
    pages = list(ecr.get_paginator("list_images").paginate(repositoryName="pages", PaginationConfig={"PageSize": 2}))
    assert len(pages) == 4
    assert sorted(each["imageTag"] for page in pages for each in page["imageIds"]) == wanted
    names = [each["repositoryName"] for page in ecr.get_paginator("describe_repositories").paginate(
        PaginationConfig={"PageSize": 3}) for each in page["repositories"]]
    catalog, path = [], "/v2/_catalog?n=4"
    while path:
        answer = request(credentials, "GET", path)
        catalog += answer.document()["repositories"]
        path = answer.headers["link"].split(">")[0][1:] if "link" in answer.headers else None
    assert catalog == sorted(names) and "pages" in catalog


# === layers by the API


def test_a_layer_goes_in_by_the_api(ecr, credentials, tmp_path):
    repository(ecr, "by-api")
    part = ecr.initiate_layer_upload(repositoryName="by-api")["partSize"]
    layer = os.urandom(part + 1000)
    digest = "sha256:" + hashlib.sha256(layer).hexdigest()

    def upload(data, digest):
        id = ecr.initiate_layer_upload(repositoryName="by-api")["uploadId"]
        for at in range(0, len(data), part):
            piece = data[at : at + part]
            done = ecr.upload_layer_part(repositoryName="by-api", uploadId=id, partFirstByte=at,
                                         partLastByte=at + len(piece) - 1, layerPartBlob=piece)
            assert done["lastByteReceived"] == at + len(piece) - 1
        return ecr.complete_layer_upload(repositoryName="by-api", uploadId=id, layerDigests=[digest])

    check = {"repositoryName": "by-api", "layerDigests": [digest]}
    assert ecr.batch_check_layer_availability(**check)["layers"][0]["layerAvailability"] == "UNAVAILABLE"
    with pytest.raises(ecr.exceptions.InvalidLayerException):
        upload(b"other bytes", digest)
    assert upload(layer, digest)["layerDigest"] == digest
    assert ecr.batch_check_layer_availability(**check)["layers"][0]["layerSize"] == len(layer)
    with pytest.raises(ecr.exceptions.LayerAlreadyExistsException):
        upload(layer, digest)
    config = b'{"architecture":"amd64","os":"linux","config":{},"rootfs":{"type":"layers","diff_ids":[]}}'
    config_digest = "sha256:" + hashlib.sha256(config).hexdigest()
    upload(config, config_digest)
    manifest = json.dumps({
        "schemaVersion": 2, "mediaType": images.MANIFEST,
        "config": {"mediaType": images.CONFIG, "digest": config_digest, "size": len(config)},
        "layers": [{"mediaType": images.LAYER, "digest": digest, "size": len(layer)}],
    })
    image = ecr.put_image(repositoryName="by-api", imageManifest=manifest, imageTag="1")["image"]
    assert image["imageId"] == {"imageTag": "1", "imageDigest": "sha256:" + hashlib.sha256(manifest.encode()).hexdigest()}
    with pytest.raises(ecr.exceptions.ImageAlreadyExistsException):
        ecr.put_image(repositoryName="by-api", imageManifest=manifest, imageTag="1")
    pull(credentials, "by-api:1", tmp_path / "pulled", "--override-arch", "amd64")
    # The URL needs no credentials, and is for this layer's bytes alone.
    url = ecr.get_download_url_for_layer(repositoryName="by-api", layerDigest=digest)["downloadUrl"]
    with urllib.request.urlopen(url, timeout=20) as answer:
        assert answer.read() == layer
    path = urllib.parse.urlsplit(url)
    assert send(PORT, "GET", f"/v2/_catalog?{path.query}").status == 401


def test_a_gap_in_an_upload_is_refused(ecr):
    repository(ecr, "gaps")
    id = ecr.initiate_layer_upload(repositoryName="gaps")["uploadId"]
    send_part = lambda first, data: ecr.upload_layer_part(
        repositoryName="gaps", uploadId=id, partFirstByte=first, partLastByte=first + len(data) - 1, layerPartBlob=data)
    send_part(0, b"abc")
    with pytest.raises(ecr.exceptions.InvalidLayerPartException) as refused:
        send_part(5, b"def")
    assert refused.value.response["lastValidByteReceived"] == 2
    send_part(3, b"def")
    with pytest.raises(ecr.exceptions.UploadNotFoundException):
        ecr.upload_layer_part(repositoryName="gaps", uploadId="00000000-0000-0000-0000-000000000000", partFirstByte=0, partLastByte=0, layerPartBlob=b"x")


# === last: what survives


def test_a_push_that_is_cut_off_by_kill_9_succeeds_the_next_time(ecr, credentials, roadstead, tmp_path):
    repository(ecr, "killed")
    layout = images.Layout(tmp_path / "image")
    layers = [images.tar_of({f"f{n}": os.urandom(24 << 20)}) for n in range(3)]
    digest = layout.publish(layout.image(layers))
    # A chunk that was acknowledged, of an upload that goes on after the kill.
    location = begin(credentials, "killed")
    answer = request(credentials, "PATCH", location, b"01234")
    assert answer.status == 202 and answer.headers["range"] == "0-4"
    uploads = roadstead.data_dir / "blobs"
    before = disk_bytes(roadstead)
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        pushing = pool.submit(push, credentials, layout.root, "killed:1", "--retry-times=0", check=False)
        eventually(lambda: disk_bytes(roadstead) > before + (4 << 20), 60, 0.005)
        roadstead.kill()
        assert pushing.result().returncode != 0, f"it was over before it was cut off: {uploads}"
    roadstead.start()
    assert ecr.list_images(repositoryName="killed")["imageIds"] == []
    push(credentials, layout.root, "killed:1")
    pull(credentials, "killed:1", tmp_path / "pulled")
    assert manifest_of(tmp_path / "pulled")["digest"] == digest
    # The upload that was begun before goes on where it was acknowledged.
    wanted = "sha256:" + hashlib.sha256(b"0123456789").hexdigest()
    location = answer.headers["location"]
    mark = "&" if "?" in location else "?"
    answer = request(credentials, "PUT", f"{location}{mark}digest={wanted}", b"56789")
    assert answer.status == 201, answer.text
    assert request(credentials, "GET", f"/v2/killed/blobs/{wanted}").body == b"0123456789"


def test_images_survive_a_restart(ecr, credentials, roadstead, busybox, tmp_path):
    repository(ecr, "survivor")
    push(credentials, busybox.root, "survivor:1")
    roadstead.kill()
    roadstead.start()
    pull(credentials, "survivor:1", tmp_path / "pulled")
    assert manifest_of(tmp_path / "pulled")["digest"] == manifest_of(busybox.root)["digest"]
