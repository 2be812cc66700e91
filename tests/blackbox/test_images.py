"""Images: what a task gets of one, and what of one is refused."""

import base64
import gzip
import json
import os
import subprocess
import time

import pytest

import images
from conftest import eventually, shell
from test_container_settings import define_ec2, run_ec2
from test_tasks import IDLE, awslogs, container, define, lines, run, shell_container, wait_for

TAR, TAR_ZSTD = "application/vnd.oci.image.layer.v1.tar", "application/vnd.oci.image.layer.v1.tar+zstd"
CONFIG = {"Env": ["PATH=/bin"], "Cmd": ["/bin/sh"]}
DIGEST_LENGTH = len("sha256:") + 64


def pack(layout, layers, blobs, config=None, architecture=images.ARCHITECTURE):
    """Writes an image whose layers are packed as given (bytes, media type); its descriptor."""
    document = {
        "architecture": architecture, "os": "linux", "config": config or CONFIG,
        "rootfs": {"type": "layers", "diff_ids": [images.digest(layer) for layer in layers]},
    }
    manifest = {
        "schemaVersion": 2, "mediaType": images.MANIFEST,
        "config": layout.blob(json.dumps(document).encode(), images.CONFIG),
        "layers": [layout.blob(data, kind) for data, kind in blobs],
    }
    return layout.blob(json.dumps(manifest).encode(), images.MANIFEST)


def push_index(roadstead, layout, name):
    """Pushes all that a layout's index lists; the reference to run."""
    roadstead.client("ecr").create_repository(repositoryName=name)
    token = roadstead.client("ecr").get_authorization_token()["authorizationData"][0]["authorizationToken"]
    shell("skopeo", "--insecure-policy", "copy", "--all", "--dest-tls-verify=false", "--dest-creds",
          base64.b64decode(token).decode(), f"oci:{layout.root}", f"docker://{roadstead.registry}/{name}:latest")
    return f"{roadstead.registry}/{name}:latest"


def said(roadstead, ecs, network, image, script, family="image", **options):
    """What a script says in a container of the image."""
    task = run(ecs, network, define(ecs, family, shell_container(
        image, script, logConfiguration=awslogs(), **options)))
    told = wait_for(ecs, task, "STOPPED")
    assert "exitCode" in told["containers"][0], told["containers"][0]
    return lines(roadstead, task)


def refusal(ecs, network, image):
    """The reason why a task of the image did not start."""
    told = wait_for(ecs, run(ecs, network, define(ecs, "refused", container(image, "true"))), "STOPPED")
    assert told["stopCode"] == "TaskFailedToStart" and "exitCode" not in told["containers"][0], told
    assert told["stoppedReason"] == told["containers"][0]["reason"]
    assert told["stoppedReason"].startswith("CannotPullContainerError: "), told["stoppedReason"]
    return told["stoppedReason"]


def layered(roadstead, folder, name, *layers):
    """Pushes busybox with further layers on top."""
    return roadstead.push(images.busybox_layout(folder, extra=[images.tar_of(layer) for layer in layers]), name)


def test_whiteouts_and_opaque_folders_hide_what_is_below(roadstead, ecs, network, tmp_path):
    image = layered(
        roadstead, tmp_path, "whiteouts",
        {"d/": None, "d/a": b"1", "d/b": b"2", "e/": None, "e/a": b"1", "e/sub/": None, "e/sub/x": b"", "f": b"old",
         "g/": None, "g/x": b""},
        {"d/.wh.a": b"", "e/.wh..wh..opq": b"", "e/new": b"", "f": b"new", ".wh.g": b"", "d/c": b""},
        {"g": b"a file now"},
    )
    script = "echo $(ls /d); echo $(ls -A /e); cat /f; echo; cat /g; echo; ls -A / | grep wh || echo none"
    assert said(roadstead, ecs, network, image, script) == ["b c", "new", "new", "a file now", "none"]


def test_layers_packed_by_gzip_zstd_or_not_at_all(roadstead, ecs, network, tmp_path):
    layers = [images.busybox_layer(), images.tar_of({"one": b"1"}), images.tar_of({"two": b"2"})]
    zstd = subprocess.run(["zstd", "-c"], input=layers[1], capture_output=True, check=True).stdout
    layout = images.Layout(tmp_path)
    layout.publish(pack(layout, layers, [
        (gzip.compress(layers[0], 1), images.LAYER), (zstd, TAR_ZSTD), (layers[2], TAR)]))
    image = roadstead.push(layout, "packed")
    assert said(roadstead, ecs, network, image, "cat /one /two") == ["12"]


def test_an_index_gives_the_image_of_this_machines_platform(roadstead, ecs, network, tmp_path):
    layout = images.Layout(tmp_path)
    other = next(each for each in ("amd64", "arm64") if each != images.ARCHITECTURE)
    manifests = []
    for architecture in (other, images.ARCHITECTURE):
        layer = images.tar_of({"for": architecture.encode()})
        descriptor = layout.image([images.busybox_layer(), layer], CONFIG, architecture)
        manifests.append({**descriptor, "platform": {"os": "linux", "architecture": architecture}})
    index = {"schemaVersion": 2, "mediaType": images.INDEX, "manifests": manifests}
    digest = layout.publish(layout.blob(json.dumps(index).encode(), images.INDEX))
    image = push_index(roadstead, layout, "multi")
    task = run(ecs, network, define(ecs, "multi", container(image, "cat", "/for", logConfiguration=awslogs())))
    told = wait_for(ecs, task, "STOPPED")
    assert lines(roadstead, task) == [images.ARCHITECTURE]
    assert told["containers"][0]["imageDigest"] == digest
    # By the digest of one manifest as well.
    by_digest = f"{image.rsplit(':', 1)[0]}@{manifests[1]['digest']}"
    assert said(roadstead, ecs, network, by_digest, "cat /for") == [images.ARCHITECTURE]

    only = images.Layout(tmp_path / "only")
    descriptor = only.image([images.busybox_layer()], CONFIG, other)
    index["manifests"] = [{**descriptor, "platform": {"os": "linux", "architecture": other}}]
    only.publish(only.blob(json.dumps(index).encode(), images.INDEX))
    reason = refusal(ecs, network, push_index(roadstead, only, "other-platform"))
    assert f"image Manifest does not contain descriptor matching platform 'linux/{images.ARCHITECTURE}'" in reason


def test_images_by_digest_and_by_their_name_in_aws(roadstead, ecs, network, busybox, image):
    with open(f"{busybox.root}/index.json") as index:
        digest = json.load(index)["manifests"][0]["digest"]
    aws = "000000000000.dkr.ecr.us-east-1.amazonaws.com/busybox"
    for reference in (f"{roadstead.registry}/busybox@{digest}", f"{aws}:latest", f"{aws}@{digest}", aws):
        assert said(roadstead, ecs, network, reference, "echo ran") == ["ran"], reference
    absent = f"{roadstead.registry}/busybox@sha256:{'0' * 64}"
    assert "not found" in refusal(ecs, network, absent)
    # Another account's and another region's repositories are others.
    assert "does not exist in the registry" in refusal(ecs, network, aws.replace("us-east-1", "eu-west-1"))
    assert "the registry with id '111111111111' is closed" in refusal(ecs, network, aws.replace("0" * 12, "1" * 12))


def test_what_an_image_says_holds_where_the_definition_says_nothing(roadstead, ecs, network, tmp_path):
    script = ("#!/bin/sh\ntrap 'echo quit; exit 4' QUIT; trap 'echo term; exit 5' TERM; echo entry $@; pwd; id -u; echo $A $B;"
              "[ \"$1\" = stay ] || exit 3; while :; do sleep 0.1; done\n").encode()
    config = {"Env": ["PATH=/bin", "A=1", "B=2"], "Entrypoint": ["/entry", "from-image"], "Cmd": ["a", "b"],
              "WorkingDir": "/work", "User": "nobody", "StopSignal": "SIGQUIT"}
    layout = images.busybox_layout(tmp_path, config, [images.tar_of({"entry": script, "work/": None})])
    image = roadstead.push(layout, "says")

    def task_of(**options):
        return run(ecs, network, define(ecs, "says", {
            "name": "main", "image": image, "essential": True, "logConfiguration": awslogs(), **options}))

    plain = task_of()
    replaced = task_of(command=["c"], environment=[{"name": "B", "value": "3"}], user="0", workingDirectory="/tmp")
    # As in Docker, an entry point of the definition leaves nothing of the image's command.
    entry = task_of(entryPoint=["/bin/sh", "-c", "echo other $0"])
    stays = task_of(entryPoint=["/entry", "stay"])
    assert wait_for(ecs, plain, "STOPPED")["containers"][0]["exitCode"] == 3
    assert lines(roadstead, plain) == ["entry from-image a b", "/work", "65534", "1 2"]
    wait_for(ecs, replaced, "STOPPED")
    assert lines(roadstead, replaced) == ["entry from-image c", "/tmp", "0", "1 3"]
    wait_for(ecs, entry, "STOPPED")
    assert lines(roadstead, entry) == ["other /bin/sh"]
    wait_for(ecs, stays, "RUNNING")
    eventually(lambda: lines(roadstead, stays)[-1:] == ["1 2"])
    ecs.stop_task(task=stays)
    assert wait_for(ecs, stays, "STOPPED")["containers"][0]["exitCode"] == 4
    assert lines(roadstead, stays)[-1] == "quit"


def test_an_image_of_one_program_and_nothing_else(roadstead, ecs, network, tmp_path):
    with open("/bin/busybox", "rb") as program:
        layer = images.tar_of({"busybox": program.read()})
    layout = images.Layout(tmp_path)
    layout.publish(layout.image([layer], {"Entrypoint": ["/busybox"], "Cmd": ["cat", "/proc/1/comm"]}))
    image = roadstead.push(layout, "scratch")
    base = {"name": "main", "image": image, "essential": True, "logConfiguration": awslogs()}
    volume = {"mountPoints": [{"sourceVolume": "v", "containerPath": "/not/there"}]}
    cases = {
        "plain": (base, ["busybox"]),
        "read-only": ({**base, **volume, "readonlyRootFilesystem": True, "user": "1000:1000", "command": [
            "sh", "-c", "/busybox cat /etc/resolv.conf | /busybox grep -c nameserver; /busybox ls -d /not/there /dev/null;"
            "echo x 2>/dev/null > /x || echo read-only"]}, ["1", "/dev/null", "/not/there", "read-only"]),
    }
    tasks = {
        name: run(ecs, network, define(ecs, f"scratch-{name}", definition, volumes=[{"name": "v"}]))
        for name, (definition, _) in cases.items()
    }
    for name, task in tasks.items():
        told = wait_for(ecs, task, "STOPPED")
        assert told["containers"][0].get("exitCode") == 0, told["containers"]
        assert sorted(lines(roadstead, task)) == sorted(cases[name][1])


def test_an_image_with_nothing_to_run_is_told(roadstead, ecs, network, tmp_path):
    image = roadstead.push(images.busybox_layout(tmp_path, {"Env": ["PATH=/bin"]}), "nothing")
    task = run(ecs, network, define(ecs, "nothing", {"name": "main", "image": image, "essential": True}))
    told = wait_for(ecs, task, "STOPPED")
    reason = told["containers"][0]["reason"]
    assert reason.startswith("CannotCreateContainerError: ") and "no command specified" in reason.lower(), reason


@pytest.mark.parametrize("entries", [
    {"../../escaped": b"x"},
    {"a/../../../escaped": b"x"},
    {"hard": ("hard", "../../../../../../etc/passwd")},
    {"hard": ("hard", "/etc/absent-below")},
], ids=["dots", "dots-within", "hard-link-dots", "hard-link-to-nothing"])
def test_layers_that_lead_out_are_refused(roadstead, ecs, network, tmp_path, entries):
    name = "bad-" + images.digest(repr(entries).encode())[7:15]
    reason = refusal(ecs, network, layered(roadstead, tmp_path, name, entries))
    assert "failed to extract layer sha256:" in reason, reason
    assert shell("find", roadstead.data_dir, "-name", "escaped").stdout == ""
    # Nothing of it is left to be taken for a layer, and no link to the host's file was made.
    assert os.stat("/etc/passwd").st_nlink == 1


def test_links_lead_nowhere_but_within_the_image(roadstead, ecs, network, tmp_path):
    target = tmp_path / "host"
    target.mkdir()
    (target / "secret").write_text("of the host")
    image = layered(
        roadstead, tmp_path / "layout", "links",
        {"absolute": ("link", str(target)), "up": ("link", "../../../../../.." + str(target))},
        {"usr2/": None, "lib2": ("link", "/usr2"), "lib2/new": b"within", "hard": ("hard", "lib2/new")},
    )
    script = "cat /absolute/secret /up/secret 2>&1; cat /usr2/new; echo; cat /hard"
    answer = said(roadstead, ecs, network, image, script)
    assert "of the host" not in "".join(answer) and answer[-2:] == ["within", "within"]
    # To write through one that leads nowhere is no way out either.
    for name, way in (("through-absolute", str(target)), ("through-up", "../../../../../.." + str(target))):
        image = layered(roadstead, tmp_path / name, name, {"here": ("link", way), "here/written": b"1"})
        assert "failed to extract layer sha256:" in (reason := refusal(ecs, network, image)), reason
    assert sorted(os.listdir(target)) == ["secret"]


def test_a_blob_that_is_not_what_its_digest_says_is_refused(roadstead, ecs, network, tmp_path):
    layout = images.busybox_layout(tmp_path, extra=[images.tar_of({"payload": os.urandom(5000)})])
    image = roadstead.push(layout, "corrupted")
    with open(f"{layout.root}/index.json") as index:
        manifest = json.load(index)["manifests"][0]["digest"]
    with open(f"{layout.root}/blobs/sha256/{manifest[7:]}") as text:
        layer = json.load(text)["layers"][-1]["digest"]
    found = shell("find", roadstead.data_dir, "-type", "f", "-name", f"*{layer[7:]}*").stdout.split()
    assert len(found) == 1, found
    os.chmod(found[0], 0o644)
    with open(found[0], "r+b") as blob:
        blob.seek(2000)
        byte = blob.read(1)
        blob.seek(2000)
        blob.write(bytes([byte[0] ^ 0xFF]))
    reason = refusal(ecs, network, image)
    assert "failed to extract layer" in reason or "digest" in reason, reason


def test_layers_are_unpacked_once(roadstead, ecs, network, tmp_path):
    def unpacked():
        return sorted(each for each in os.listdir(roadstead.data_dir / "node/layers") if os.path.isdir(roadstead.data_dir / "node/layers" / each))

    layer = images.tar_of({"shared": os.urandom(1000)})
    both = [layered_with(roadstead, tmp_path / name, name, layer, images.tar_of({name: b"x"})) for name in ("one", "two")]
    said(roadstead, ecs, network, both[0], "cat /one")
    before = unpacked()
    assert said(roadstead, ecs, network, both[1], "cat /two /shared | wc -c") == ["1001"]
    # busybox and the shared layer were there.
    assert len(unpacked()) == len(before) + 1
    said(roadstead, ecs, network, both[0], "cat /one")
    assert len(unpacked()) == len(before) + 1


def layered_with(roadstead, folder, name, *layers):
    return roadstead.push(images.busybox_layout(folder, extra=layers), name)


def test_ten_tasks_of_a_new_image_start_together(roadstead, ecs, network, tmp_path):
    layers = [images.tar_of({f"file-{n}": os.urandom(300_000)}) for n in range(5)]
    image = layered_with(roadstead, tmp_path, "fresh", *layers)
    definition = define(ecs, "fresh", shell_container(
        image, f"cat /file-* | wc -c; {IDLE}", logConfiguration=awslogs()))
    answer = ecs.run_task(taskDefinition=definition, launchType="FARGATE", networkConfiguration=network, count=10)
    tasks = [task["taskArn"] for task in answer["tasks"]]
    for task in tasks:
        wait_for(ecs, task, "RUNNING")
        eventually(lambda: lines(roadstead, task) == ["1500000"])
    # What one writes no other sees, nor does the next.
    for task in tasks:
        ecs.stop_task(task=task)
    for task in tasks:
        assert wait_for(ecs, task, "STOPPED")["containers"][0]["exitCode"] == 0


def test_what_a_container_writes_is_its_own(roadstead, ecs, network, image):
    script = "cat /written 2>/dev/null; echo again > /written; rm /bin/awk; ls /bin/awk 2>&1 | grep -c 'No such'"
    for _ in range(2):
        assert said(roadstead, ecs, network, image, script) == ["1"]


def test_a_pulled_image_runs_though_its_repository_is_gone_until_it_is_pulled_again(roadstead, ecs, network, tmp_path):
    image = layered(roadstead, tmp_path, "deleted", {"x": b"1"})
    task = run(ecs, network, define(ecs, "deleted", shell_container(image, f"{IDLE}")))
    wait_for(ecs, task, "RUNNING")
    roadstead.client("ecr").delete_repository(repositoryName="deleted", force=True)
    assert "does not exist in the registry" in refusal(ecs, network, image)
    told = ecs.describe_tasks(tasks=[task])["tasks"][0]
    assert told["lastStatus"] == "RUNNING"
    ecs.stop_task(task=task)


def test_the_ec2_launch_type_tells_of_a_pull_with_the_container(roadstead, ecs, image):
    task = run_ec2(ecs, define_ec2(ecs, "absent-ec2", container(f"{roadstead.registry}/absent:1", "true")))
    told = wait_for(ecs, task, "STOPPED")
    assert told["stoppedReason"] == "Task failed to start"
    assert told["containers"][0]["reason"].startswith("CannotPullContainerError: ")
