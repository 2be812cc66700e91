"""Requests as no official client would send them: signed by botocore, then spoiled."""

import datetime
import hashlib
import http.client
import json
import re
import socket

import botocore.auth
import botocore.awsrequest
import botocore.credentials

ECS = "AmazonEC2ContainerServiceV20141113"
ECR = "AmazonEC2ContainerRegistry_V20150921"
JSON = "application/x-amz-json-1.1"


class Answer:
    """Status, headers and body; `code` and `message` of a JSON or XML error."""

    def __init__(self, response):
        self.status, self.headers, self.body = response.status, dict(response.getheaders()), response.read()
        self.text = self.body.decode(errors="replace")
        self.headers = {name.lower(): value for name, value in self.headers.items()}

    def document(self):
        return json.loads(self.body)

    @property
    def code(self):
        if self.text.startswith("{"):
            return self.document().get("__type") or self.headers.get("x-amzn-errortype")
        found = re.search("<Code>(.*?)</Code>", self.text)
        return found and found[1]

    @property
    def message(self):
        if self.text.startswith("{"):
            document = self.document()
            return document.get("message", document.get("Message"))
        found = re.search("<Message>(.*?)</Message>", self.text)
        return found and found[1]


def send(port, method="POST", path="/", body=b"", headers=None, host="127.0.0.1"):
    """One request on a connection of its own."""
    connection = http.client.HTTPConnection(host, port, timeout=60)
    try:
        connection.request(method, path, body, headers or {})
        return Answer(connection.getresponse())
    finally:
        connection.close()


def sign(request, service, key="test", secret="test", token=None, region="us-east-1", at=None):
    """Signs in the header, now or at another time."""
    credentials = botocore.credentials.Credentials(key, secret, token)
    signer = botocore.auth.SigV4Auth(credentials, service, region)
    with clock(at):
        signer.add_auth(request)
    return request


class clock:
    """Makes botocore's signers believe that it is another time."""

    def __init__(self, at):
        self.at = at

    def __enter__(self):
        self.old = botocore.auth.get_current_datetime
        if self.at is not None:
            botocore.auth.get_current_datetime = lambda remove_tzinfo=True: self.at.replace(tzinfo=None)

    def __exit__(self, *_):
        botocore.auth.get_current_datetime = self.old


def now(**offset):
    return datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(**offset)


def signed(port, operation, body, prefix=ECS, service="ecs", content_type=JSON, **signing):
    """The headers of a signed JSON request."""
    headers = {"X-Amz-Target": f"{prefix}.{operation}", "Content-Type": content_type, "Host": f"localhost:{port}"}
    request = botocore.awsrequest.AWSRequest("POST", f"http://localhost:{port}/", headers, body)
    return dict(sign(request, service, **signing).headers)


def target(port, operation, body="{}", spoil=None, **how):
    """Sends a signed JSON request; `spoil` may change its headers and body after they are signed."""
    body = body if isinstance(body, bytes) else body.encode()
    headers = signed(port, operation, body, **how)
    if spoil:
        body = spoil(headers, body) or body
    return send(port, "POST", "/", body, headers)


def action(port, service, version, name, parameters="", **signing):
    """A signed form request."""
    body = f"Action={name}&Version={version}{parameters}".encode()
    headers = {"Content-Type": "application/x-www-form-urlencoded", "Host": f"localhost:{port}"}
    request = botocore.awsrequest.AWSRequest("POST", f"http://localhost:{port}/", headers, body)
    sign(request, service, **signing)
    return send(port, "POST", "/", body, dict(request.headers))


def exchange(port, data, seconds=5, shut=True):
    """Writes bytes and reads all that comes back until the server closes."""
    received = b""
    with socket.create_connection(("127.0.0.1", port), timeout=seconds) as connection:
        try:
            connection.sendall(data)
            if shut:
                connection.shutdown(socket.SHUT_WR)
            while chunk := connection.recv(65536):
                received += chunk
        except OSError as error:
            # A server that refuses closes before it has read everything.
            if isinstance(error, TimeoutError):
                raise
    return received


def sha256(data):
    return hashlib.sha256(data).hexdigest()
