"""What is malformed, forged, cut short, too large or too slow gets a clear error, and the server goes on."""

import base64
import concurrent.futures
import json
import os
import shutil
import socket
import subprocess
import time

import botocore.auth
import botocore.awsrequest
import botocore.credentials
import pytest

import images
import raw
from conftest import PROGRAM, Roadstead, shell
from raw import action, exchange, now, send, target

PORT = 4566


@pytest.fixture(scope="module", autouse=True)
def server(roadstead):
    """Whatever a test sent, the next client is served."""
    yield roadstead
    assert roadstead.is_healthy()


# === requests that are not understood


@pytest.mark.parametrize(
    "body, message",
    [
        ("{", "The request body is not valid JSON: EOF while parsing an object at line 1 column 1"),
        ("\x00\xff", "The request body is not valid JSON: "),
        ("[" * 100_000, "The request body is not valid JSON: recursion limit exceeded"),
        ("[]", "Start of list found where not expected"),
        ('{"maxResults":"ten"}', "STRING_VALUE can not be converted to an Integer"),
        ('{"maxResults":{}}', "Start of structure or map found where not expected."),
        ('{"nextToken":1}', "NUMBER_VALUE can not be converted to a String"),
    ],
)
def test_malformed_json(body, message):
    answer = target(PORT, "ListClusters", body)
    assert (answer.status, answer.code) == (400, "SerializationException"), answer.text
    assert answer.message.startswith(message)
    assert answer.headers["content-type"] == raw.JSON and answer.headers["x-amzn-requestid"]


def test_what_the_model_does_not_allow_is_named():
    answer = target(PORT, "RunTask", "{}")
    assert answer.status == 400
    assert answer.message == (
        "1 validation error detected: Value null at 'taskDefinition' failed to satisfy constraint: "
        "Member must not be null"
    )
    answer = target(PORT, "CreateRepository", '{"repositoryName":"UPPER"}', prefix=raw.ECR, service="ecr")
    assert (answer.status, answer.code) == (400, "InvalidParameterException")
    assert "'repositoryName' failed to satisfy constraint: 'must satisfy regular expression" in answer.message
    answer = action(PORT, "elasticloadbalancing", "2015-12-01", "CreateTargetGroup")
    assert (answer.status, answer.code) == (400, "ValidationError")
    assert "at 'name' failed to satisfy constraint: Member must not be null" in answer.message


def test_an_unknown_operation_and_an_unknown_service():
    answer = target(PORT, "Frobnicate")
    assert (answer.status, answer.code) == (400, "UnknownOperationException")
    answer = target(PORT, "ListTables", prefix="DynamoDB_20120810", service="dynamodb")
    assert (answer.status, answer.code) == (400, "UnknownOperationException")
    assert "DynamoDB_20120810.ListTables" in answer.message
    answer = action(PORT, "ec2", "2016-11-15", "Frobnicate")
    assert (answer.status, answer.code) == (400, "InvalidAction")
    assert answer.message == "The action Frobnicate is not valid for this web service."
    answer = action(PORT, "iam", "2010-05-08", "Frobnicate")
    assert (answer.status, answer.code) == (400, "InvalidAction")
    assert answer.message == "Could not find operation Frobnicate for version 2010-05-08"
    answer = action(PORT, "sqs", "2012-11-05", "ListQueues")
    assert (answer.status, answer.code) == (404, "UnknownOperationException")
    assert answer.message == "The service sqs is not supported."


def test_clients_of_unknown_services_print_why(roadstead):
    # The last two have paths that begin as the registry's do.
    for command in (["lambda", "list-functions"], ["s3", "ls"], ["eks", "list-clusters"],
                    ["apigatewayv2", "get-apis"], ["sesv2", "list-email-identities"]):
        done = roadstead.cli(*command, check=False)
        assert done.returncode != 0
        assert "(UnknownOperationException)" in done.stderr, done.stderr
        assert "is not supported" in done.stderr and "<" not in done.stderr, done.stderr


def test_operations_of_a_service_that_are_not_there_say_so(roadstead):
    done = roadstead.cli("ecs", "put-account-setting", "--name", "guardDutyActivate", "--value", "on", check=False)
    assert done.returncode != 0 and "guardDutyActivate" in done.stderr + done.stdout, done.stderr


def test_a_wrong_content_type_is_not_guessed_at():
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data"):
        answer = target(PORT, "ListClusters", content_type=kind)
        assert (answer.status, answer.code) == (400, "UnknownOperationException"), kind
        assert kind in answer.message


def test_requests_to_nothing_in_particular():
    for method, path in (("GET", "/"), ("POST", "/"), ("GET", "/favicon.ico"), ("PUT", "/bucket/key")):
        answer = send(PORT, method, path)
        assert answer.status == 404, (method, path, answer.text)
        assert "The request names no service" in answer.message
    assert send(PORT, "GET", "/_roadstead/nope").status == 404
    assert send(PORT, "GET", "/_roadstead/reset").status == 405


# === requests that are not HTTP, or not all of one


@pytest.mark.parametrize("garbage", [b"GARBAGE\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc", b"GET / HTTP/9.9\r\n\r\n",
                                     b"GET / HTTP/1.1\r\nContent-Length: x\r\n\r\n", b"GET /\x00 HTTP/1.1\r\n\r\n"])
def test_what_is_not_http_is_answered_with_400(garbage):
    assert exchange(PORT, garbage).startswith(b"HTTP/1.1 400 "), garbage


def test_a_head_without_end_is_refused():
    # The refusal may be lost with what was still on its way.
    received = exchange(PORT, b"GET / HTTP/1.1\r\nX: " + b"a" * (64 << 20), 20)
    assert received == b"" or received.startswith(b"HTTP/1.1 431 "), received


def test_conflicting_lengths_are_refused():
    head = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\nabcde"
    assert exchange(PORT, head).startswith(b"HTTP/1.1 400 ")


def test_a_body_that_is_cut_short_does_nothing(roadstead):
    body = b'{"clusterName":"cut"}'
    lines = "".join(f"{name}: {value}\r\n" for name, value in raw.signed(PORT, "CreateCluster", body).items())
    head = f"POST / HTTP/1.1\r\n{lines}Content-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode()
    assert b"200 OK" not in exchange(PORT, head + body[:-1])
    found = roadstead.client("ecs").describe_clusters(clusters=["cut"])
    assert found["clusters"] == [] and found["failures"][0]["reason"] == "MISSING"
    assert b"200 OK" in exchange(PORT, head + body, shut=False), "the same in full is a good request"


def test_a_body_that_says_it_is_too_large_is_refused_unread():
    head = (
        f"POST / HTTP/1.1\r\nHost: localhost\r\nX-Amz-Target: {raw.ECS}.ListClusters\r\n"
        f"Content-Type: {raw.JSON}\r\nContent-Length: {1 << 40}\r\nExpect: 100-continue\r\n\r\n"
    ).encode()
    received = exchange(PORT, head, shut=False)
    assert received.startswith(b"HTTP/1.1 413 "), received
    assert b'"__type":"RequestEntityTooLarge"' in received and b"larger than 33554432 bytes" in received


def test_a_client_that_sends_a_too_large_body_all_the_same_sees_why():
    answer = send(PORT, "POST", "/", b" " * (40 << 20), {"X-Amz-Target": f"{raw.ECS}.ListClusters", "Content-Type": raw.JSON})
    assert (answer.status, answer.code) == (413, "RequestEntityTooLarge")


def test_a_body_that_turns_out_too_large_is_refused_before_its_end():
    head = (
        f"POST / HTTP/1.1\r\nHost: localhost\r\nX-Amz-Target: {raw.ECS}.ListClusters\r\n"
        f"Content-Type: {raw.JSON}\r\nTransfer-Encoding: chunked\r\n\r\n"
    ).encode()
    chunk = b"100000\r\n" + b" " * (1 << 20) + b"\r\n"
    with socket.create_connection(("127.0.0.1", PORT), timeout=20) as connection:
        connection.sendall(head)
        sent = 0
        connection.setblocking(False)
        received, until = b"", time.monotonic() + 20
        left = b""
        while not received and time.monotonic() < until:
            left = left or chunk
            try:
                done = connection.send(left)
                left, sent = left[done:], sent + done
            except BlockingIOError:
                time.sleep(0.001)
            except OSError:
                pass
            try:
                received = connection.recv(65536)
            except BlockingIOError:
                pass
            except ConnectionResetError:
                break
    assert received.startswith(b"HTTP/1.1 413 "), received
    assert sent < 64 << 20


@pytest.fixture(scope="module", autouse=True)
def slow():
    """Clients that never finish what they send, from the first test on: half a head, half a body."""

    def wait(data):
        begin = time.monotonic()
        received = exchange(PORT, data, 60, shut=False)
        return received, time.monotonic() - begin

    body = f"POST / HTTP/1.1\r\nHost: localhost\r\nX-Amz-Target: {raw.ECS}.ListClusters\r\nContent-Length: 9\r\n\r\n{{"
    with concurrent.futures.ThreadPoolExecutor(100) as pool:
        heads = [pool.submit(wait, b"POST / HTTP/1.1\r\nHost: loc") for _ in range(90)]
        yield {"heads": heads, "body": pool.submit(wait, body.encode())}


# === signatures

WRONG_SIGNATURE = (
    "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key "
    "and signing method. Consult the service documentation for details."
)


def check_refused(answer, code, message, status=400):
    assert (answer.status, answer.code) == (status, code), answer.text
    assert message in answer.message, answer.message


def test_unsigned_requests():
    answer = send(PORT, headers={"X-Amz-Target": f"{raw.ECS}.ListClusters", "Content-Type": raw.JSON}, body=b"{}")
    check_refused(answer, "MissingAuthenticationTokenException", "Missing Authentication Token")
    answer = send(PORT, body=b"Action=GetCallerIdentity&Version=2011-06-15",
                  headers={"Content-Type": "application/x-www-form-urlencoded"})
    check_refused(answer, "MissingAuthenticationToken", "Request is missing Authentication Token", 403)


def test_wrong_secrets_and_unknown_keys():
    check_refused(target(PORT, "ListClusters", secret="wrong"), "InvalidSignatureException", WRONG_SIGNATURE)
    message = "The security token included in the request is invalid."
    check_refused(target(PORT, "ListClusters", key="AKIAIOSFODNN7EXAMPLE"), "UnrecognizedClientException", message)
    check_refused(target(PORT, "ListClusters", token="forged"), "UnrecognizedClientException", message)
    sts = ("sts", "2011-06-15", "GetCallerIdentity")
    check_refused(action(PORT, *sts, secret="wrong"), "SignatureDoesNotMatch", WRONG_SIGNATURE, 403)
    check_refused(action(PORT, *sts, key="AKIAIOSFODNN7EXAMPLE"), "InvalidClientTokenId", message, 403)
    ec2 = ("ec2", "2016-11-15", "DescribeVpcs")
    message = "AWS was not able to validate the provided access credentials"
    check_refused(action(PORT, *ec2, secret="wrong"), "AuthFailure", message, 401)
    check_refused(action(PORT, *ec2, key="AKIAIOSFODNN7EXAMPLE"), "AuthFailure", message, 401)


def spoiled(change):
    return target(PORT, "ListClusters", '{"maxResults":1}', spoil=change)


def test_changed_requests():
    def other_body(headers, body):
        return b'{"maxResults":2}'

    def other_header(headers, body):
        headers["X-Amz-Target"] = f"{raw.ECS}.ListServices"

    def other_hash(headers, body):
        headers["X-Amz-Content-SHA256"] = raw.sha256(body)
        return b'{"maxResults":2}'

    for change in (other_body, other_header, other_hash):
        check_refused(spoiled(change), "InvalidSignatureException", WRONG_SIGNATURE)


def test_incomplete_signatures():
    def without(field):
        def change(headers, body):
            fields = headers["Authorization"].split(" ", 1)[1].split(", ")
            kept = [each for each in fields if not each.startswith(field)]
            headers["Authorization"] = "AWS4-HMAC-SHA256 " + ", ".join(kept)

        return change

    for field in ("Credential", "SignedHeaders", "Signature"):
        message = f"Authorization header requires '{field}' parameter."
        check_refused(spoiled(without(field)), "IncompleteSignatureException", message)

    def no_date(headers, body):
        del headers["X-Amz-Date"]

    check_refused(spoiled(no_date), "IncompleteSignatureException",
                  "Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header.")

    def bad_algorithm(headers, body):
        headers["Authorization"] = headers["Authorization"].replace("SHA256", "MD5")

    check_refused(spoiled(bad_algorithm), "IncompleteSignatureException", "Unsupported AWS 'algorithm'")

    def short_credential(headers, body):
        headers["Authorization"] = headers["Authorization"].replace("/aws4_request", "")

    check_refused(spoiled(short_credential), "IncompleteSignatureException",
                  "Credential must have exactly 5 slash-delimited elements")


def test_signatures_for_somewhere_else():
    # Made for another service: the secret is right, the scope is not.
    answer = target(PORT, "ListClusters", service="ecr")
    check_refused(answer, "InvalidSignatureException", "Credential should be scoped to correct service: 'ecs'.")
    answer = target(PORT, "ListClusters", region="")
    check_refused(answer, "InvalidSignatureException", "Credential should be scoped to a valid region")
    for region in ("..", "a b", "US-EAST-1", "x" * 300):
        answer = target(PORT, "ListClusters", region=region)
        check_refused(answer, "InvalidSignatureException", f"Credential should be scoped to a valid region, not '{region}'.")


def test_clock_skew():
    check_refused(target(PORT, "ListClusters", at=now(minutes=-20)), "InvalidSignatureException", "Signature expired: ")
    check_refused(target(PORT, "ListClusters", at=now(minutes=20)), "InvalidSignatureException",
                  "Signature not yet current: ")
    for minutes in (-14, 14):
        assert target(PORT, "ListClusters", at=now(minutes=minutes)).status == 200
    answer = action(PORT, "sts", "2011-06-15", "GetCallerIdentity", at=now(hours=-1))
    check_refused(answer, "SignatureDoesNotMatch", "Signature expired: ", 403)
    answer = action(PORT, "ec2", "2016-11-15", "DescribeVpcs", at=now(hours=-1))
    check_refused(answer, "RequestExpired", "Request has expired.")


def presigned(expires_s, at=None, secret="test", service="sts", action="GetCallerIdentity&Version=2011-06-15",
              host="localhost"):
    url = f"http://{host}:{PORT}/?Action={action}"
    request = botocore.awsrequest.AWSRequest("GET", url)
    credentials = botocore.credentials.Credentials("test", secret)
    with raw.clock(at):
        botocore.auth.SigV4QueryAuth(credentials, service, "us-east-1", expires_s).add_auth(request)
    return request.url.removeprefix(f"http://{host}:{PORT}")


def test_web_pages_change_nothing(roadstead):
    """Whoever knows the default keys can make a link that creates a VPC: no page may have a browser follow it."""
    create = {"service": "ec2", "action": "CreateVpc&Version=2016-11-15&CidrBlock=10.9.0.0/16"}
    host = {"Host": f"localhost:{PORT}"}
    for headers in ({**host, "Origin": "http://evil.example"}, {**host, "Referer": "http://evil.example/"}):
        check_refused_page(send(PORT, "GET", presigned(60, **create), headers=headers))
    rebound = send(PORT, "GET", presigned(60, **create, host="evil.example"), headers={"Host": f"evil.example:{PORT}"})
    check_refused_page(rebound)
    blocks = [vpc["CidrBlock"] for vpc in roadstead.client("ec2").describe_vpcs()["Vpcs"]]
    assert "10.9.0.0/16" not in blocks
    assert send(PORT, "GET", presigned(60, **create), headers=host).status == 200


def check_refused_page(answer):
    assert answer.status == 403 and "requests of web pages are refused" in answer.text, answer.text


def test_presigned_urls():
    def get(path):
        return send(PORT, "GET", path, headers={"Host": f"localhost:{PORT}"})

    answer = get(presigned(60))
    assert answer.status == 200 and "<Account>000000000000</Account>" in answer.text
    assert get(presigned(3600, now(minutes=-50))).status == 200
    check_refused(get(presigned(60, now(minutes=-2))), "SignatureDoesNotMatch", "Signature expired: ", 403)
    check_refused(get(presigned(60, secret="wrong")), "SignatureDoesNotMatch", WRONG_SIGNATURE, 403)
    changed = presigned(60).replace("X-Amz-Expires=60", "X-Amz-Expires=6000")
    check_refused(get(changed), "SignatureDoesNotMatch", WRONG_SIGNATURE, 403)
    check_refused(get(presigned(604801)), "IncompleteSignature", "at most 604800 seconds")


# === task definitions that mean nothing


def register(**container):
    document = {"family": "bad", "containerDefinitions": [{"name": "a", "image": "x", "memory": 64, **container}]}
    return target(PORT, "RegisterTaskDefinition", json.dumps(document))


def test_a_key_that_no_task_definition_has_is_named():
    for container, name in (({"comand": ["x"]}, "comand"), ({"healthCheck": {"command": ["x"], "intervall": 5}}, "intervall")):
        answer = register(**container)
        assert (answer.status, answer.code) == (400, "ClientException"), answer.text
        assert answer.message.startswith("Unknown parameter in input: ") and name in answer.message


def test_containers_that_wait_for_each_other_are_refused():
    def container(name, after):
        return {"name": name, "image": "x", "memory": 64, "dependsOn": [{"containerName": after, "condition": "START"}]}

    document = {"family": "cycle", "containerDefinitions": [container("a", "b"), container("b", "c"), container("c", "a")]}
    answer = target(PORT, "RegisterTaskDefinition", json.dumps(document))
    assert (answer.status, answer.code) == (400, "ClientException"), answer.text
    assert "cycl" in answer.message.lower(), answer.message
    document["containerDefinitions"] = [container("a", "nobody")]
    answer = target(PORT, "RegisterTaskDefinition", json.dumps(document))
    assert (answer.status, answer.code) == (400, "ClientException") and "nobody" in answer.message, answer.text
    assert target(PORT, "ListTaskDefinitions", '{"familyPrefix":"cycle"}').document()["taskDefinitionArns"] == []


# === two of one thing, and no room


def up(*options, **how):
    return shell(PROGRAM, "up", *options, check=False, **how)


def test_a_second_up_on_one_data_directory_names_the_first(roadstead):
    pid = roadstead.process.pid
    for port in (PORT, 4599):
        done = up("--data-dir", roadstead.data_dir, "--listen", f"127.0.0.1:{port}")
        assert done.returncode == 1
        assert f"in use by process {pid}: stop that process (`roadstead down" in done.stderr, done.stderr
        assert "choose another --data-dir" in done.stderr
    assert roadstead.is_healthy() and roadstead.client("ecs").list_clusters()["clusterArns"]


def test_a_port_in_use_is_named_and_nothing_is_made(tmp_path):
    done = up("--data-dir", tmp_path / "data")
    assert done.returncode == 1
    assert "cannot listen on 127.0.0.1:4566" in done.stderr and "Choose another with --listen" in done.stderr
    assert not (tmp_path / "data").exists()


def test_without_root_it_says_so(tmp_path):
    if not shutil.which("setpriv"):
        pytest.fail("setpriv of util-linux is needed")
    program = tmp_path / "roadstead"
    shutil.copy(PROGRAM, program)
    tmp_path.chmod(0o777)
    for parent in tmp_path.parents:
        if parent.stat().st_uid == os.geteuid() and not parent.stat().st_mode & 0o001:
            parent.chmod(parent.stat().st_mode | 0o011)
    for command in (["up", "--listen", "127.0.0.1:4599"], ["down"]):
        nobody = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"]
        done = shell(*nobody, program, *command, "--data-dir", tmp_path / "data", check=False)
        assert done.returncode == 1 and "need root: run it with sudo" in done.stderr, done.stderr
    assert not (tmp_path / "data").exists()


def test_a_data_directory_of_a_newer_release_is_not_touched(tmp_path):
    server = Roadstead(tmp_path / "data", 4599).start()
    server.interrupt()
    format_file = server.data_dir / "store" / "format"
    kept = format_file.read_text()
    format_file.write_text("roadstead-store 99\n")
    done = up("--data-dir", server.data_dir, "--listen", "127.0.0.1:4599")
    assert done.returncode == 1
    assert "has format 99, this release reads formats up to 1" in done.stderr, done.stderr
    assert format_file.read_text() == "roadstead-store 99\n"
    format_file.write_text(kept)
    server.start()
    server.down("--delete-data")


def test_a_damaged_secret_is_named(tmp_path):
    server = Roadstead(tmp_path / "data", 4599).start()
    server.interrupt()
    secret = server.data_dir / "secret.key"
    kept = secret.read_bytes()
    secret.write_bytes(b"short")
    done = up("--data-dir", server.data_dir, "--listen", "127.0.0.1:4599")
    assert done.returncode == 1 and "secret.key is damaged" in done.stderr, done.stderr
    secret.write_bytes(kept)
    server.down("--delete-data")


def test_bad_options_are_explained():
    for options, words in (
        (["--listen", "4566"], "invalid socket address"),
        (["--account", "12"], "an account is twelve digits"),
        (["--region", "US EAST"], "a region is lower-case words"),
        (["--cpu-overcommit", "0"], "is not in 1..=64"),
    ):
        done = up(*options)
        assert done.returncode == 2 and words in done.stderr, done.stderr


def test_a_full_disk_refuses_and_loses_nothing(tmp_path):
    (tmp_path / "data").mkdir()
    shell("mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", tmp_path / "data")
    server = Roadstead(tmp_path / "data", 4599)
    try:
        server.start()
        acknowledged, refused = fill(server)
        assert "no space left" in refused.message.lower(), refused.text
        assert refused.status == 500
        # What is there is served, and a further change is refused the same way.
        assert server.is_healthy()
        check_families(server, acknowledged)
        shell("mount", "-o", "remount,size=16m", tmp_path / "data")
        answer = target(4599, "RegisterTaskDefinition", definition("after"))
        assert answer.status == 200, answer.text
        server.kill()
        server.start()
        check_families(server, [*acknowledged, "after"])
    finally:
        if server.process and server.process.poll() is None:
            server.down()
        subprocess.run(["umount", "-l", tmp_path / "data"], check=True)


def test_a_disk_that_is_full_of_images_and_logs(tmp_path):
    (tmp_path / "data").mkdir()
    shell("mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", tmp_path / "data")
    server = Roadstead(tmp_path / "data", 4599)
    try:
        server.start()
        layout = images.Layout(tmp_path / "image")
        layout.publish(layout.image([images.tar_of({"big": os.urandom(8 << 20)})]))
        server.client("ecr").create_repository(repositoryName="big")
        token = server.client("ecr").get_authorization_token()["authorizationData"][0]["authorizationToken"]
        push = ["skopeo", "--insecure-policy", "copy", "--dest-tls-verify=false", "--retry-times=0", "--dest-creds",
                base64.b64decode(token).decode(), f"oci:{layout.root}", "docker://localhost:4599/big:1"]
        done = shell(*push, check=False)
        # skopeo tells only the status; the server's own log says why.
        assert done.returncode != 0 and "500 Internal Server Error" in done.stderr, done.stderr
        assert "no space left" in server.said(), server.said()
        logs = server.client("logs")
        logs.create_log_group(logGroupName="g")
        logs.create_log_stream(logGroupName="g", logStreamName="s")
        put, refused = 0, None
        while refused is None and put < 100:
            event = {"timestamp": int(time.time() * 1000), "message": f"{put} " + "x" * 200_000}
            try:
                logs.put_log_events(logGroupName="g", logStreamName="s", logEvents=[event])
                put += 1
            except logs.exceptions.ServiceUnavailableException as error:
                refused = error
        assert "no space left" in str(refused).lower(), refused
        shell("mount", "-o", "remount,size=64m", tmp_path / "data")
        shell(*push)
        logs.put_log_events(logGroupName="g", logStreamName="s", logEvents=[event])
        server.kill()
        server.start()
        found, token = [], None
        while True:
            more = {"nextToken": token} if token else {"startFromHead": True}
            page = logs.get_log_events(logGroupName="g", logStreamName="s", **more)
            if page["nextForwardToken"] == token:
                break
            found += [int(each["message"].split(" ")[0]) for each in page["events"]]
            token = page["nextForwardToken"]
        assert found == [*range(put), put], "each that was acknowledged, once, and none that was refused"
        assert server.client("ecr").list_images(repositoryName="big")["imageIds"]
    finally:
        if server.process and server.process.poll() is None:
            server.down()
        subprocess.run(["umount", "-l", tmp_path / "data"], check=True)


def definition(family):
    value = os.urandom(8_000).hex()
    container = {"name": "a", "image": "x", "memory": 64, "environment": [{"name": "A", "value": value}]}
    return json.dumps({"family": family, "containerDefinitions": [container]})


def fill(server):
    """Registers until there is no room; the families acknowledged, and the refusal."""
    acknowledged = []
    for number in range(1000):
        answer = target(server.port, "RegisterTaskDefinition", definition(f"f{number}"))
        if answer.status != 200:
            return acknowledged, answer
        acknowledged.append(f"f{number}")
    pytest.fail("the disk never got full")


def check_families(server, wanted):
    pages = server.client("ecs").get_paginator("list_task_definition_families").paginate()
    assert sorted(family for page in pages for family in page["families"]) == sorted(wanted)


# === last, when the slow ones have had their time


def test_slow_clients_are_cut_off(slow):
    for received, seconds in [head.result() for head in slow["heads"]]:
        assert received == b"" or received.startswith(b"HTTP/1.1 408 ")
        assert 25 < seconds < 45
    received, seconds = slow["body"].result()
    assert b"RequestTimeout" in received and 25 < seconds < 45, received
