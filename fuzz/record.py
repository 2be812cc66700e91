"""Records what real clients send, as seeds of the fuzz targets.

    python3 tests/blackbox/isolated.py PYTHON fuzz/record.py

PYTHON is that of the tests' virtual environment (`tests/run` makes it; boto3 and the aws CLI are in it). Builds of
`roadstead` (debug) and, on the machine, skopeo, buildah, curl, wget, tar, zstd and busybox are needed. A relay stands
between the clients and a running `roadstead up`; what passes is cut into messages and written to fuzz/seeds.
"""

import gzip
import hashlib
import http.client
import io
import json
import os
import pathlib
import re
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
SEEDS = ROOT / "fuzz" / "seeds"
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
PORT, BEHIND = 4566, 4567
ENVIRONMENT = {
    **os.environ,
    "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_ENDPOINT_URL": f"http://localhost:{PORT}", "AWS_EC2_METADATA_DISABLED": "true", "AWS_PAGER": "",
    "AWS_CLI_AUTO_PROMPT": "off", "TZ": "UTC",
}
# The longest message that is worth a seed.
BYTES_MAX = 6000


class Relay:
    """Passes connections on to another port, and keeps what was said on each."""

    def __init__(self, port, to):
        self.to, self.said = to, []
        self.socket = socket.create_server(("127.0.0.1", port))
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            client, _ = self.socket.accept()
            server = socket.create_connection(self.to)
            sent, received = bytearray(), bytearray()
            self.said.append((sent, received))
            for source, sink, kept in ((client, server, sent), (server, client, received)):
                threading.Thread(target=self.copy, args=(source, sink, kept), daemon=True).start()

    @staticmethod
    def copy(source, sink, kept):
        try:
            while piece := source.recv(65536):
                kept += piece
                sink.sendall(piece)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def requests(self):
        return [message for sent, _ in self.said for message in messages(bytes(sent))]

    def responses(self):
        return [message for _, received in self.said for message in messages(bytes(received))]


def messages(data):
    """The messages of one side of a connection: head and body, as they came."""
    found = []
    while b"\r\n\r\n" in data:
        head, rest = data.split(b"\r\n\r\n", 1)
        length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
        if re.search(rb"(?i)\r\ntransfer-encoding: *chunked", head):
            last = re.search(rb"(?:^|\r\n)0+(?:;[^\r]*)?\r\n(?:[^\r\n]+\r\n)*\r\n", rest)
            end = last.end() if last else len(rest)
        elif head.startswith(b"HTTP/") and not length:
            end = 0
        else:
            end = int(length[1]) if length else 0
        found.append(head + b"\r\n\r\n" + rest[:end])
        data = rest[end:]
    return found


def scrubbed(message):
    """Without what tells of the machine: versions of its kernel, its names."""
    message = re.sub(rb"os/linux#[^ \r]*", b"os/linux#6.1", message)
    message = re.sub(rb"(Linux/)[0-9][^ \r]*", rb"\g<1>6.1", message)
    return message.replace(socket.gethostname().encode(), b"host")


def keep(target, data, name=None):
    """Writes a seed, named by its bytes unless it has a name."""
    folder = SEEDS / target
    folder.mkdir(parents=True, exist_ok=True)
    (folder / (name or hashlib.sha256(data).hexdigest()[:12])).write_bytes(data)


def run(*command, check=True, **options):
    done = subprocess.run([str(word) for word in command], env=ENVIRONMENT, capture_output=True, timeout=120, **options)
    if check and done.returncode != 0:
        sys.exit(f"{command}: {done.stderr.decode()}")
    return done.stdout


def aws(*command):
    """The CLI; refusals are traffic too."""
    done = subprocess.run([pathlib.Path(sys.executable).parent / "aws", *command], env=ENVIRONMENT, capture_output=True, timeout=120)
    if done.returncode != 0:
        print(f"   refused: {done.stderr.decode().strip()}", file=sys.stderr)


def start_roadstead(folder):
    program = subprocess.Popen(
        [TARGET / "debug" / "roadstead", "up", "--data-dir", folder / "data", "--listen", f"127.0.0.1:{BEHIND}"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    for _ in range(600):
        try:
            connection = http.client.HTTPConnection("127.0.0.1", BEHIND, timeout=1)
            connection.request("GET", "/_roadstead/health")
            if connection.getresponse().status == 200:
                return program
        except OSError:
            time.sleep(0.1)
    sys.exit("roadstead does not start")


# === what is said ===

def call_apis():
    """Each protocol, by the CLI and by boto3. Ids in capitals are known to the world of the target `api`."""
    import boto3
    import botocore.config

    containers = json.dumps([{
        "name": "web", "image": f"localhost:{PORT}/web:1", "cpu": 64, "memory": 128, "essential": True,
        "portMappings": [{"containerPort": 80, "hostPort": 0, "protocol": "tcp"}],
        "environment": [{"name": "MODE", "value": "a=b&c"}], "command": ["sh", "-c", "sleep 1"],
        "healthCheck": {"command": ["CMD-SHELL", "true"], "interval": 5},
        "logConfiguration": {"logDriver": "awslogs", "options": {"awslogs-group": "/ecs/web", "awslogs-region": "us-east-1",
                                                                    "awslogs-stream-prefix": "a"}},
    }])
    aws("ecs", "create-cluster", "--cluster-name", "shop", "--tags", "key=team,value=a b")
    aws("ecs", "register-task-definition", "--family", "web", "--container-definitions", containers)
    aws("ecs", "register-task-definition", "--family", "job", "--placement-constraints",
        "type=memberOf,expression=attribute:ecs.os-type == linux", "--container-definitions", containers)
    aws("ecs", "create-service", "--cluster", "shop", "--service-name", "front", "--task-definition", "web",
        "--desired-count", "2", "--placement-strategy", "type=spread,field=instanceId")
    aws("ecs", "describe-services", "--cluster", "shop", "--services", "front")
    aws("ecs", "list-tasks", "--cluster", "arn:aws:ecs:us-east-1:000000000000:cluster/shop")
    aws("ecr", "create-repository", "--repository-name", "team/web", "--image-scanning-configuration", "scanOnPush=true")
    aws("ecr", "get-login-password")
    aws("ecr", "batch-get-image", "--repository-name", "team/web", "--image-ids", "imageTag=1")
    aws("logs", "create-log-group", "--log-group-name", "/ecs/web")
    aws("logs", "create-log-stream", "--log-group-name", "/ecs/web", "--log-stream-name", "a")
    aws("logs", "put-log-events", "--log-group-name", "/ecs/web", "--log-stream-name", "a", "--log-events",
        "timestamp=1700000000000,message=ERROR one")
    aws("logs", "filter-log-events", "--log-group-name", "/ecs/web", "--filter-pattern", '?ERROR ?"not found" -DEBUG')
    aws("elbv2", "create-target-group", "--name", "web", "--protocol", "HTTP", "--port", "80", "--target-type", "ip",
        "--vpc-id", "VPCID", "--matcher", "HttpCode=200-299")
    aws("elbv2", "create-rule", "--listener-arn", "LISTENERARN", "--priority", "1", "--conditions",
        "Field=path-pattern,Values=/a*", "--actions", "Type=forward,TargetGroupArn=GROUPARN")
    aws("elbv2", "create-load-balancer", "--name", "front", "--subnets", "SUBNETID")
    aws("elbv2", "create-listener", "--load-balancer-arn", "BALANCERARN", "--protocol", "HTTP", "--port", "80", "--default-actions",
        "Type=fixed-response,FixedResponseConfig={StatusCode=200}")
    aws("elbv2", "describe-load-balancers")
    aws("ec2", "describe-vpcs", "--filters", "Name=is-default,Values=true")
    aws("ec2", "create-security-group", "--group-name", "web", "--description", "a web")
    aws("ec2", "authorize-security-group-ingress", "--group-name", "web", "--protocol", "tcp", "--port", "80-90",
        "--cidr", "10.0.0.0/8")
    aws("ec2", "create-subnet", "--vpc-id", "VPCID", "--cidr-block", "172.31.96.0/20")
    aws("iam", "create-role", "--role-name", "task", "--assume-role-policy-document",
        '{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"Service":"ecs-tasks.amazonaws.com"},'
        '"Action":"sts:AssumeRole"}]}')
    aws("sts", "get-caller-identity")
    aws("servicediscovery", "create-http-namespace", "--name", "shop")
    aws("servicediscovery", "discover-instances", "--namespace-name", "shop", "--service-name", "web")
    session = boto3.Session("test", "test", region_name="us-east-1")
    client = lambda name: session.client(name, endpoint_url=f"http://localhost:{PORT}", config=botocore.config.Config(
        retries={"max_attempts": 1}, inject_host_prefix=False))
    attempts = [
        lambda: client("ecs").run_task(cluster="shop", taskDefinition="web", overrides={
            "containerOverrides": [{"name": "web", "environment": [{"name": "A", "value": "é\n"}]}]}),
        lambda: client("ecs").describe_tasks(cluster="shop", tasks=["x"], include=["TAGS"]),
        lambda: client("ecs").tag_resource(resourceArn="arn:aws:ecs:us-east-1:000000000000:cluster/shop",
                                           tags=[{"key": "a", "value": ""}]),
        lambda: client("logs").get_log_events(logGroupName="/ecs/web", logStreamName="a", startTime=1),
        lambda: client("elbv2").register_targets(TargetGroupArn="GROUPARN", Targets=[{"Id": "10.0.0.1", "Port": 80}]),
        lambda: client("sts").assume_role(RoleArn="arn:aws:iam::000000000000:role/task", RoleSessionName="session"),
        lambda: client("ec2").describe_instances(Filters=[{"Name": "tag:a", "Values": ["b*"]}], MaxResults=5),
    ]
    for attempt in attempts:
        try:
            attempt()
        except Exception as refused:  # A refusal is traffic too.
            print(f"   refused: {refused}", file=sys.stderr)
    url = client("sts").generate_presigned_url("get_caller_identity", ExpiresIn=60)
    run("curl", "-s", url)
    run("curl", "-s", "--aws-sigv4", "aws:amz:us-east-1:sts", "--user", "test:test",
        f"http://localhost:{PORT}/?Action=GetCallerIdentity&Version=2011-06-15")
    run("curl", "-s", "-H", "Origin: http://example.com", "-d", "a=b", f"http://localhost:{PORT}/")


def push_images(folder):
    """An image by buildah, with each packing, pushed and pulled by skopeo."""
    context = folder / "context"
    (context / "etc").mkdir(parents=True)
    (context / "etc" / "name").write_text("hello\n")
    (context / "Containerfile").write_text(
        'FROM scratch\nCOPY etc /etc\nENV A=1 B="two words"\nUSER 1:2\nWORKDIR /etc\nSTOPSIGNAL SIGQUIT\n'
        'HEALTHCHECK CMD ["/x"]\nENTRYPOINT ["/x"]\nCMD ["y"]\nLABEL z=1\n')
    store = ["--root", folder / "images", "--runroot", folder / "run", "--storage-driver", "vfs"]
    password = run(pathlib.Path(sys.executable).parent / "aws", "ecr", "get-login-password").decode().strip()
    for kind in ("oci", "docker"):
        run("buildah", *store, "bud", "--isolation", "chroot", "--timestamp", "0", "--format", kind, "-t", f"web:{kind}", context)
        run("buildah", *store, "push", "--tls-verify=false", "--creds", f"AWS:{password}", f"web:{kind}",
            f"docker://localhost:{PORT}/team/web:{kind}")
    run("skopeo", "list-tags", "--tls-verify=false", "--creds", f"AWS:{password}",
        f"docker://localhost:{PORT}/team/web", check=False)
    for tag in ("oci", "docker"):
        copy = folder / tag
        run("skopeo", "copy", "--src-tls-verify=false", "--src-creds", f"AWS:{password}",
            f"docker://localhost:{PORT}/team/web:{tag}", f"dir:{copy}")
        manifest = json.loads((copy / "manifest.json").read_text())
        keep("manifest", (copy / "manifest.json").read_bytes(), f"{tag}.json")
        keep("image_config", (copy / manifest["config"]["digest"][7:]).read_bytes(), f"{tag}.json")
        for layer in manifest["layers"]:
            keep("layer", (copy / layer["digest"][7:]).read_bytes(), f"buildah-{tag}")
    index = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [
        {"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": "sha256:" + "a" * 64, "size": 9,
         "platform": {"architecture": "arm64", "os": "linux", "variant": "v8"}}]}
    keep("manifest", json.dumps(index).encode(), "index.json")


def pack_layers(folder):
    """Tars by GNU tar in each format, with all that a tar can have, and by busybox."""
    tree = folder / "tree"
    (tree / "a" / "deep").mkdir(parents=True)
    (tree / "a" / "file").write_text("content\n")
    (tree / "a" / ("long" * 40)).write_text("long\n")
    os.link(tree / "a" / "file", tree / "a" / "hard")
    os.symlink("../a/file", tree / "a" / "link")
    os.symlink("/etc/passwd", tree / "a" / "out")
    os.mkfifo(tree / "a" / "pipe")
    (tree / "a" / ".wh.gone").write_text("")
    (tree / "a" / "deep" / ".wh..wh..opq").write_text("")
    with open(tree / "a" / "sparse", "wb") as sparse:
        sparse.truncate(1 << 20)
        sparse.seek(1 << 19)
        sparse.write(b"island")
    os.setxattr(tree / "a" / "file", "user.note", b"value")
    os.chown(tree / "a" / "deep", 1000, 1000)
    os.chmod(tree / "a" / "hard", 0o4755)
    common = ["--sort=name", "--mtime=@0", "--owner=root", "--group=root", "-C", tree, "-c", "."]
    small = ["--exclude=./a/sparse"]
    for kind in ("gnu", "pax", "ustar", "v7"):
        plain = run("tar", f"--format={kind}", *small, *([] if kind in ("gnu", "pax") else ["--exclude=long*", "--exclude=pipe"]), *common)
        keep("layer", gzip.compress(plain, 9, mtime=0) if kind == "pax" else plain, f"tar-{kind}")
    keep("layer", run("tar", "--format=pax", "--xattrs", "--xattrs-include=*", *small, *common), "tar-xattrs")
    for kind in ("gnu", "pax"):
        keep("layer", run("tar", f"--format={kind}", "--sparse", *common), f"tar-sparse-{kind}")
    packed = run("tar", "--format=pax", *small, *common)
    keep("layer", subprocess.run(["zstd", "-19", "-c"], input=packed, capture_output=True, check=True).stdout, "tar-zstd")
    keep("layer", run("busybox", "tar", "-C", tree, "-c", "a/file", "a/link", "a/hard"), "tar-busybox")


def browse(folder):
    """Web clients to a web server, and its answers."""
    (folder / "www").mkdir()
    (folder / "www" / "index.html").write_text("<p>hello\n")
    server = subprocess.Popen(["busybox", "httpd", "-f", "-p", "127.0.0.1:4581", "-h", folder / "www"])
    threaded = threading.Thread(target=answer_in_chunks, daemon=True)
    threaded.start()
    time.sleep(0.5)
    static, chunked = Relay(4571, ("127.0.0.1", 4581)), Relay(4572, ("127.0.0.1", 4582))
    for relay_port in (4571, 4572):
        url = f"http://localhost:{relay_port}"
        run("curl", "-s", f"{url}/?a=b&c=%20d", check=False)
        run("curl", "-s", "-I", "-b", "AWSALB=abc; sid=1", "-e", "http://example.com/", f"{url}/index.html", check=False)
        run("curl", "-s", "-T", "-", "-H", "TE: trailers", f"{url}/upload", input=b"x" * 300, check=False)
        run("curl", "-s", "-F", "file=@-", "-H", "Expect: 100-continue", "--expect100-timeout", "0.1", f"{url}/form", input=b"data", check=False)
        run("curl", "-s", "-0", f"{url}/old", check=False)
        run("curl", "-s", "--http2", "-H", "Connection: Upgrade, HTTP2-Settings", f"{url}/h2c", check=False)
        run("curl", "-s", "-H", "Upgrade: websocket", "-H", "Connection: keep-alive, Upgrade", "-H",
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "-H", "Sec-WebSocket-Version: 13", "-m", "1", f"{url}/ws", check=False)
        run("wget", "-q", "-O", "-", "--tries=1", f"{url}/wget", check=False)
        run("busybox", "wget", "-q", "-O", "-", f"{url}/busybox", check=False)
        connection = http.client.HTTPConnection("localhost", relay_port, timeout=2)
        try:
            connection.request("POST", "/chunks", body=iter([b"one", b"two" * 50]), encode_chunked=True,
                               headers={"Transfer-Encoding": "chunked", "X-Forwarded-For": "203.0.113.9"})
            connection.getresponse().read()
        except OSError:
            pass
    time.sleep(0.5)
    server.kill()
    for relay in (static, chunked):
        for message in relay.requests():
            keep("http_request", scrubbed(message))
            head, body = message.split(b"\r\n\r\n", 1)
            keep("rules", b"path /a* /upload\nhost *host\n\n" + head + b"\r\n\r\n")
            if b"chunked" in head:
                keep("chunked", b"\x07" + body)
        for message in relay.responses():
            head, body = message.split(b"\r\n\r\n", 1)
            head = re.sub(rb"Date: [^\r]*", b"Date: Tue, 14 Nov 2023 22:13:20 GMT", head)
            keep("http_response", b"\0" + head + b"\r\n\r\n")
            if b"chunked" in head:
                keep("chunked", b"\x03" + body)


def answer_in_chunks():
    """Answers in chunks, with a trailer."""
    with socket.create_server(("127.0.0.1", 4582)) as server:
        while True:
            client, _ = server.accept()
            with client:
                client.settimeout(0.3)
                try:
                    try:
                        while client.recv(65536):
                            pass
                    except TimeoutError:
                        pass
                    client.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n"
                                   b"Trailer: X-Sum\r\nSet-Cookie: sid=1; Path=/\r\n\r\n5;a=b\r\nhello\r\n00A\r\n0123456789\r\n"
                                   b"0\r\nX-Sum: 1\r\n\r\n")
                except OSError:
                    pass


def resolve():
    """What resolvers ask: the C library's, busybox's, dig's if there is one."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    listener.bind(("127.0.0.1", 53))
    listener.settimeout(0.5)
    asked = set()

    def listen():
        while True:
            try:
                query, client = listener.recvfrom(4096)
            except TimeoutError:
                continue
            except OSError:
                return
            asked.add(b"\x12\x34" + query[2:])
            # Refused, so that nobody waits.
            listener.sendto(query[:2] + b"\x81\x85" + query[4:], client)

    threading.Thread(target=listen, daemon=True).start()
    with tempfile.NamedTemporaryFile("w") as resolv:
        resolv.write("nameserver 127.0.0.1\noptions timeout:1 attempts:1 edns0\n")
        resolv.flush()
        run("mount", "--bind", resolv.name, "/etc/resolv.conf")
        for name in ("web.shop.local", "alias.shop.local", "many.shop.local", "loop.shop.local", "ip-172-31-0-9.ec2.internal",
                     "web-1.us-east-1.elb.localhost", "example.com"):
            for database in ("ahostsv4", "ahosts"):
                run("getent", database, name, check=False)
            run("busybox", "nslookup", name, "127.0.0.1", check=False)
        run("getent", "hosts", "172.31.0.9", check=False)
        if shutil.which("dig"):
            for kind in ("SRV", "TXT", "ANY"):
                run("dig", "+tries=1", "+time=1", "@127.0.0.1", "_web._tcp.shop.local", kind, check=False)
            run("dig", "+tries=1", "+time=1", "@127.0.0.1", "-x", "172.31.0.9", check=False)
        run("umount", "/etc/resolv.conf")
    listener.close()
    for query in asked:
        keep("dns", b"\0" + query)


# === what is kept ===

def sort_requests(requests):
    """Requests to the one endpoint, to the targets that read them."""
    spoken = {}
    for message in map(scrubbed, requests):
        head, body = message.split(b"\r\n\r\n", 1)
        method, target = head.split(b" ")[:2]
        if target.startswith(b"/v2"):
            keep("registry_route", method + b" " + target.split(b"?")[0])
            message = re.sub(rb"(?i)(authorization: basic )[^\r]*", rb"\g<1>QVdTOnRlc3Q=", message)
            if len(message) < BYTES_MAX:
                keep("registry", message)
            continue
        if len(message) > BYTES_MAX:
            continue
        keep("origin", head + b"\r\n\r\n")
        action = re.search(rb"(?i)\r\nx-amz-target: [A-Za-z_0-9]+\.(\w+)", head) or re.search(rb"(?:^|[?&])Action=(\w+)", body)
        name = action[1].decode() if action else "none"
        # One of each operation is enough for the whole request, whichever client sent it.
        if name not in spoken:
            keep("api", message, name)
        if spoken.setdefault(name, 0) < 1 or not action:
            keep("sigv4", message)
        spoken[name] += 1
        scope = re.search(rb"Credential=[^/]+/\d+/[^/]+/([^/]+)/", head)
        service = {b"elasticloadbalancing": b"elbv2"}.get(scope[1], scope[1]) if scope else None
        if service and action:
            line = service + b"." + action[1] + b"\n"
            protocol = "json" if b"x-amz-json" in head.lower() else "ec2" if service == b"ec2" else "query"
            keep(protocol, line + body, name)
            if protocol == "json":
                keep("cbor", line + cbor(json.loads(body or b"{}")), name)


def cbor(value):
    """The same in CBOR (RFC 8949), as clients of RPC v2 write it."""
    def head(major, number):
        for code, bytes_ in ((24, 1), (25, 2), (26, 4), (27, 8)):
            if number < 24:
                return bytes([major << 5 | number])
            if number < 1 << 8 * bytes_:
                return bytes([major << 5 | code]) + number.to_bytes(bytes_, "big")
    if isinstance(value, bool) or value is None:
        return {True: b"\xf5", False: b"\xf4", None: b"\xf6"}[value]
    if isinstance(value, float):
        return b"\xfb" + struct.pack(">d", value)
    if isinstance(value, int):
        return head(0, value) if value >= 0 else head(1, -1 - value)
    if isinstance(value, str):
        return head(3, len(value.encode())) + value.encode()
    if isinstance(value, list):
        return head(4, len(value)) + b"".join(map(cbor, value))
    return head(5, len(value)) + b"".join(cbor(key) + cbor(inner) for key, inner in value.items())


# What no client at hand sends, but documents describe: a target and its seeds, named by their order.
WRITTEN = {
    "rest_json": [
        "GET /things/a%20b/7/parts/c/d%2Fe HTTP/1.1\r\nHost: h\r\n\r\n",
        "GET /queries?fixed=1&text=a+b&truth=true&moment=2023-11-14T22%3A13%3A20Z&n=1&n=2 HTTP/1.1\r\nHost: h\r\n\r\n",
        "POST /headers HTTP/1.1\r\nHost: h\r\nX-Text: a\r\nX-Number: -7\r\nX-Float: 1e3\r\nX-Moment: Tue, 14 Nov 2023 22:13:20 GMT\r\n"
        "X-Moments: Tue, 14 Nov 2023 22:13:20 GMT, Wed, 15 Nov 2023 22:13:20 GMT\r\nX-Texts: a, \"b,\\\"c\"\r\n"
        "X-Json: eyJhIjoxfQ==\r\nX-Meta-A: b\r\n\r\n",
        'POST /body HTTP/1.1\r\nHost: h\r\n\r\n{"text":"a","number":1.5,"float":"NaN","truth":true,"bytes":"YQ==","moment":1700000000.25,'
        '"texts":["a",null],"map":{"k":"v"},"inner":{"inner":{}},"more":1}',
        'PUT /payload/n HTTP/1.1\r\nHost: h\r\n\r\n{"text":"a"}',
        "PUT /blob HTTP/1.1\r\nHost: h\r\n\r\nbytes",
    ],
    "pattern": ["/img/*\n/img/a.png", "/img/*/pics\n/img/x/y/pics", "*.Example.com\ntest.example.COM", "a?c*\\**\nabc*d",
                "*a*a*a*a*b\naaaaaaaaaaaaaaaaaaaaaaaaaa", "\n", "exact\nexact"],
    "rules": ["path /a* /b?\nmethod GET PUT\nrule\nhost *.example.com\nheader User-Agent *curl*\nrule\nquery v=1? word *x*\nsource "
              "192.0.2.0/24 2001:db8::/32\n\nGET /b1?v=12&word&=y HTTP/1.1\r\nHost: A.Example.COM:80\r\nuser-agent: curl/8\r\n\r\n"],
    "chunked": ["\x005;name=\"v\"\r\nhello\r\n0A \r\n0123456789\r\n000\r\nX-Sum: 1\r\nHost: h\r\n\r\nnext"],
    "registry_route": ["GET /v2/", "GET /v2/_catalog", "GET /v2/a/b/tags/list", "DELETE /v2/a1/manifests/v1",
                       "GET /v2/a1/referrers/sha256%3A" + "a" * 64, "PATCH /v2/a1/blobs/uploads/x", "DELETE /v2/a1/blobs/sha256:" + "b" * 64],
    "forms": [
        "t2023-11-14T22:13:20.250Z", "t2019-12-17T00:48:18+01:00", "tTue, 14 Nov 2023 22:13:20.250 GMT", "t1700000000.5", "t-1e3",
        "t20231114T221320Z", "aarn:aws:ecs:us-east-1:000000000000:task/default/0123456789abcdef", "aarn:aws-cn:iam::000000000000:root",
        "c10.0.0.0/8", "c0.0.0.0/0", "c2001:db8::/32", "c::ffff:192.0.2.0/120", "m200-299,404", "m200",
        "eattribute:ecs.os-type == linux and not (attribute:n >= 7 or task:group in [service:a, 'b c'])",
        "eattribute:x exists && !(attribute:y !exists) || agentVersion < 2", "eattribute:ecs.instance-type not_in [t2.small]",
        "rnginx", "rlocalhost:4566/team/app:v1@sha256:" + "a" * 64, "r123456789012.dkr.ecr.eu-west-1.amazonaws.com/app:1",
        'wBearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:library/nginx:pull"',
        'w{"token":"t","access_token":"a","expires_in":300}', "nteam/web-1.2__x", "nsha256:" + "0" * 64, "nput-1-2", "n" + "0f" * 24, "nv1.0_x-y",
        "?1.5", "?a/b",
    ],
    "log_tail": ["", "\0\x40\x01", "\x01\x80\0", "\x02\xc8\0", "\x80\x10\0", "\0\x50\0\x02\x20\0"],
}


def log_frames():
    """Bodies of frames of the log of records: a commit with a write and a deletion, two commits, an end of a snapshot."""
    commit = lambda revision, *writes: revision.to_bytes(8, "little") + len(writes).to_bytes(4, "little") + b"".join(writes)
    text = lambda value: len(value).to_bytes(4, "little") + value
    put = b"\x01\x01" + text(b"key") + text(b"value")
    delete = b"\x01\0" + text(b"key")
    return [commit(1, put, delete), commit(1, put) + commit(2, delete), commit(0), commit(1)]


def push():
    """An image that is pushed by the API, into the state of fuzz/src/world.rs: its uploads have numbers, and `{}` is there."""
    upload, layer = "00000000-0000-4000-8000-000000000001", b"[]"
    digest, empty = (f"sha256:{hashlib.sha256(content).hexdigest()}" for content in (layer, b"{}"))
    blob = lambda kind, digest: {"mediaType": f"application/vnd.oci.image.{kind}", "digest": digest, "size": 2}
    manifest = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
                "config": blob("config.v1+json", empty), "layers": [blob("layer.v1.tar+gzip", digest)]}
    requests = {
        "InitiateLayerUpload": {},
        "UploadLayerPart": {"uploadId": upload, "partFirstByte": 0, "partLastByte": 1, "layerPartBlob": "W10="},
        "CompleteLayerUpload": {"uploadId": upload, "layerDigests": [digest]},
        "BatchCheckLayerAvailability": {"layerDigests": [digest, empty]},
        "GetDownloadUrlForLayer": {"layerDigest": digest},
        "PutImage": {"imageManifest": json.dumps(manifest), "imageTag": "2"},
        "BatchGetImage": {"imageIds": [{"imageTag": "2"}, {"imageTag": "1"}]},
        "BatchDeleteImage": {"imageIds": [{"imageTag": "1"}]},
    }
    head = "POST / HTTP/1.1\r\nHost: h\r\nX-Amz-Target: AmazonEC2ContainerRegistry_V20150921.{}\r\nContent-Type: application/x-amz-json-1.1\r\n\r\n"
    bodies = {name: json.dumps({"repositoryName": "web", **body}) for name, body in requests.items()}
    return "\x1e".join(head.format(name) + body for name, body in bodies.items()).encode()


def write_down():
    for target, seeds in WRITTEN.items():
        for number, seed in enumerate(seeds):
            # Latin-1: a character is a byte.
            keep(target, seed.encode("latin-1"), f"written-{number:02}")
    for number, seed in enumerate(log_frames()):
        keep("log_frame", seed, f"written-{number:02}")
    keep("api", push(), "written-00")


def main():
    if os.environ.get("ROADSTEAD_ISOLATED") != "1":
        sys.exit("run this by tests/blackbox/isolated.py: it makes networks")
    shutil.rmtree(SEEDS, ignore_errors=True)
    write_down()
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        roadstead = start_roadstead(folder)
        try:
            relay = Relay(PORT, ("127.0.0.1", BEHIND))
            call_apis()
            push_images(folder)
            time.sleep(0.5)
            sort_requests(relay.requests())
        finally:
            run(TARGET / "debug" / "roadstead", "down", "--data-dir", folder / "data", check=False)
            roadstead.wait(30)
        pack_layers(folder)
        browse(folder)
        resolve()
    size = sum(path.stat().st_size for path in SEEDS.rglob("*") if path.is_file())
    print(f"{size >> 10} KiB of seeds")


if __name__ == "__main__":
    main()
