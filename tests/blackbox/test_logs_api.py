"""CloudWatch Logs, by boto3 and both aws CLIs."""

import os
import shutil
import subprocess
import time

import pytest

from conftest import CREDENTIALS, eventually

NOW = int(time.time() * 1000)


@pytest.fixture(scope="module")
def logs(roadstead):
    return roadstead.client("logs")


def stream(logs, group, name="s"):
    """A group with a stream."""
    try:
        logs.create_log_group(logGroupName=group)
    except logs.exceptions.ResourceAlreadyExistsException:
        pass
    logs.create_log_stream(logGroupName=group, logStreamName=name)


def put(logs, group, messages, name="s", at=NOW):
    events = [{"timestamp": at + number, "message": message} for number, message in enumerate(messages)]
    return logs.put_log_events(logGroupName=group, logStreamName=name, logEvents=events)


def messages(answer):
    return [event["message"] for event in answer["events"]]


def test_groups_and_streams_come_and_go(logs, roadstead):
    logs.create_log_group(logGroupName="/a/b", tags={"k": "v"})
    with pytest.raises(logs.exceptions.ResourceAlreadyExistsException, match="The specified log group already exists"):
        logs.create_log_group(logGroupName="/a/b")
    logs.create_log_stream(logGroupName="/a/b", logStreamName="s")
    with pytest.raises(logs.exceptions.ResourceAlreadyExistsException, match="The specified log stream already exists"):
        logs.create_log_stream(logGroupName="/a/b", logStreamName="s")
    with pytest.raises(logs.exceptions.ResourceNotFoundException, match="The specified log group does not exist"):
        logs.create_log_stream(logGroupName="/none", logStreamName="s")
    with pytest.raises(logs.exceptions.ResourceNotFoundException, match="The specified log stream does not exist"):
        logs.get_log_events(logGroupName="/a/b", logStreamName="none")
    group = roadstead.cli("logs", "describe-log-groups", "--log-group-name-prefix", "/a/")["logGroups"][0]
    assert group["logGroupName"] == "/a/b" and group["arn"] == "arn:aws:logs:us-east-1:000000000000:log-group:/a/b:*"
    assert logs.list_tags_for_resource(resourceArn=group["arn"].removesuffix(":*"))["tags"] == {"k": "v"}
    put(logs, "/a/b", ["first", "last"])
    found = logs.describe_log_streams(logGroupName="/a/b")["logStreams"][0]
    assert (found["firstEventTimestamp"], found["lastEventTimestamp"]) == (NOW, NOW + 1)
    assert found["lastIngestionTime"] >= NOW - 60_000
    logs.delete_log_stream(logGroupName="/a/b", logStreamName="s")
    assert logs.describe_log_streams(logGroupName="/a/b")["logStreams"] == []
    logs.create_log_stream(logGroupName="/a/b", logStreamName="s")
    assert messages(logs.get_log_events(logGroupName="/a/b", logStreamName="s")) == [], "the old events are gone"
    logs.delete_log_group(logGroupName="/a/b")
    with pytest.raises(logs.exceptions.ResourceNotFoundException):
        logs.delete_log_group(logGroupName="/a/b")


def test_lists_come_in_pages(logs):
    for number in range(7):
        stream(logs, f"/pages/{number}")
        if number:
            stream(logs, "/pages/0", f"s{number}")
    pages = list(logs.get_paginator("describe_log_groups").paginate(logGroupNamePrefix="/pages/", PaginationConfig={"PageSize": 3}))
    assert [len(page["logGroups"]) for page in pages] == [3, 3, 1]
    assert [group["logGroupName"] for page in pages for group in page["logGroups"]] == [f"/pages/{n}" for n in range(7)]
    pages = list(logs.get_paginator("describe_log_streams").paginate(logGroupName="/pages/0", PaginationConfig={"PageSize": 4}))
    assert sorted(s["logStreamName"] for page in pages for s in page["logStreams"]) == ["s", *(f"s{n}" for n in range(1, 7))]
    # Later than any stream was created: a stream without events counts from its creation.
    later = int(time.time() * 1000) + 60_000
    put(logs, "/pages/0", ["x"], "s5", later)
    put(logs, "/pages/0", ["x"], "s3", later + 30_000)
    newest = logs.describe_log_streams(logGroupName="/pages/0", orderBy="LastEventTime", descending=True, limit=2)
    assert [s["logStreamName"] for s in newest["logStreams"]] == ["s3", "s5"]


def test_events_are_read_forwards_and_backwards(logs):
    stream(logs, "/both")
    every = [f"line {number}" for number in range(25)]
    put(logs, "/both", every)
    ask = {"logGroupName": "/both", "logStreamName": "s", "limit": 10}

    def walk(direction, **first):
        pages, token = [], None
        while True:
            answer = logs.get_log_events(**ask, **(dict(nextToken=token) if token else first))
            if answer[direction] == token:
                assert answer["events"] == []
                return pages, answer
            pages.append(messages(answer))
            token = answer[direction]

    forwards, end = walk("nextForwardToken", startFromHead=True)
    assert forwards[:3] == [every[:10], every[10:20], every[20:]]
    backwards, _ = walk("nextBackwardToken")
    assert backwards[:3] == [every[15:], every[5:15], every[:5]]
    # The end's token goes on when more is written, and leads back.
    put(logs, "/both", ["later"], at=NOW + 1000)
    assert messages(logs.get_log_events(**ask, nextToken=end["nextForwardToken"])) == ["later"]
    second = logs.get_log_events(**ask, startFromHead=True)
    third = logs.get_log_events(**ask, nextToken=second["nextForwardToken"])
    assert messages(logs.get_log_events(**ask, nextToken=third["nextBackwardToken"])) == every[:10]
    inside = logs.get_log_events(logGroupName="/both", logStreamName="s", startTime=NOW + 3, endTime=NOW + 6)
    assert messages(inside) == every[3:6]
    with pytest.raises(logs.exceptions.InvalidParameterException, match="nextToken"):
        logs.get_log_events(**ask, nextToken="bogus")


def test_a_page_holds_no_more_than_a_megabyte(logs):
    stream(logs, "/big")
    for number in range(4):
        put(logs, "/big", ["x" * 250_000] * 4, at=NOW + number)
    answer = logs.get_log_events(logGroupName="/big", logStreamName="s", startFromHead=True)
    assert 0 < sum(len(message) for message in messages(answer)) <= 1 << 20
    count, token = 0, None
    while answer["nextForwardToken"] != token:
        count += len(answer["events"])
        token = answer["nextForwardToken"]
        answer = logs.get_log_events(logGroupName="/big", logStreamName="s", nextToken=token)
    assert count == 16


def test_events_of_several_streams_are_searched(logs):
    for name in ("web/1", "web/2", "db/1"):
        stream(logs, "/search", name)
    put(logs, "/search", ["GET /ok 200", 'ERROR "not found"', "WARN slow"], "web/1")
    put(logs, "/search", ["ERROR timeout", "GET /ok 200"], "web/2", NOW + 10)
    put(logs, "/search", ["ERROR disk"], "db/1", NOW + 20)

    def find(pattern="", **options):
        pages = logs.get_paginator("filter_log_events").paginate(logGroupName="/search", filterPattern=pattern, **options)
        return [event["message"] for page in pages for event in page["events"]]

    assert len(find()) == 6
    assert find("ERROR") == ['ERROR "not found"', "ERROR timeout", "ERROR disk"]
    assert find('"not found"') == ['ERROR "not found"']
    assert find("ERROR -timeout") == ['ERROR "not found"', "ERROR disk"]
    assert find("?WARN ?disk") == ["WARN slow", "ERROR disk"]
    assert find("error") == []
    assert find("ERROR", logStreamNamePrefix="web/") == ['ERROR "not found"', "ERROR timeout"]
    assert find("ERROR", logStreamNames=["db/1"]) == ["ERROR disk"]
    assert find("ERROR", startTime=NOW + 5, endTime=NOW + 20) == ["ERROR timeout"]
    assert find("ERROR", PaginationConfig={"PageSize": 1}) == ['ERROR "not found"', "ERROR timeout", "ERROR disk"]
    event = logs.filter_log_events(logGroupName="/search", filterPattern="disk")["events"][0]
    assert (event["logStreamName"], event["timestamp"]) == ("db/1", NOW + 20) and event["eventId"]
    with pytest.raises(logs.exceptions.InvalidParameterException):
        find("{ $.unclosed")


def test_what_cannot_be_put_is_refused_or_told(logs):
    stream(logs, "/limits")
    day = 86_400_000
    with pytest.raises(logs.exceptions.InvalidParameterException, match="chronological order"):
        logs.put_log_events(logGroupName="/limits", logStreamName="s", logEvents=[
            {"timestamp": NOW, "message": "b"}, {"timestamp": NOW - 1, "message": "a"}])
    with pytest.raises(logs.exceptions.InvalidParameterException, match="24 hours"):
        logs.put_log_events(logGroupName="/limits", logStreamName="s", logEvents=[
            {"timestamp": NOW - day - 10, "message": "a"}, {"timestamp": NOW, "message": "b"}])
    old = put(logs, "/limits", ["old"], at=NOW - 15 * day)["rejectedLogEventsInfo"]
    assert old["tooOldLogEventEndIndex"] == 1
    new = put(logs, "/limits", ["new"], at=NOW + 3 * 3_600_000)["rejectedLogEventsInfo"]
    assert new["tooNewLogEventStartIndex"] == 0
    with pytest.raises(logs.exceptions.ResourceNotFoundException):
        put(logs, "/none", ["x"])
    assert messages(logs.get_log_events(logGroupName="/limits", logStreamName="s")) == []


def test_retention(logs, roadstead):
    stream(logs, "/kept")
    group = lambda: logs.describe_log_groups(logGroupNamePrefix="/kept")["logGroups"][0]
    assert "retentionInDays" not in group()
    logs.put_retention_policy(logGroupName="/kept", retentionInDays=7)
    assert group()["retentionInDays"] == 7
    expired = put(logs, "/kept", ["expired"], at=NOW - 8 * 86_400_000)["rejectedLogEventsInfo"]
    assert expired["expiredLogEventEndIndex"] == 1
    done = roadstead.cli("logs", "put-retention-policy", "--log-group-name", "/kept", "--retention-in-days", "4", check=False)
    assert done.returncode != 0 and "Value '4' at 'retentionInDays' failed to satisfy constraint" in done.stderr
    logs.delete_retention_policy(logGroupName="/kept")
    assert "retentionInDays" not in group()


def test_events_survive_kill_9(logs, roadstead):
    stream(logs, "/durable")
    put(logs, "/durable", [f"line {n}" for n in range(100)])
    roadstead.kill()
    roadstead.start()
    assert messages(logs.get_log_events(logGroupName="/durable", logStreamName="s")) == [f"line {n}" for n in range(100)]
    put(logs, "/durable", ["after"], at=NOW + 1000)
    assert messages(logs.filter_log_events(logGroupName="/durable", filterPattern="after")) == ["after"]


def version_2():
    """The aws CLI of version 2, which has `logs tail`."""
    for program in ("/usr/bin/aws", "/usr/local/bin/aws", shutil.which("aws")):
        if program and os.path.exists(program):
            if "aws-cli/2" in subprocess.run([program, "--version"], capture_output=True, text=True).stdout:
                return program
    pytest.skip("no aws CLI of version 2 is installed")


def test_tail_follows(logs, roadstead, tmp_path):
    stream(logs, "/tail", "task/one")
    put(logs, "/tail", ["before"], "task/one", int(time.time() * 1000) - 1000)
    command = [version_2(), "--endpoint-url", roadstead.endpoint, "logs", "tail", "/tail", "--follow", "--since", "1h"]
    with open(tmp_path / "out", "w") as out:
        tail = subprocess.Popen(command, stdout=out, stderr=out, env={**os.environ, **CREDENTIALS, "PYTHONUNBUFFERED": "1"})
    try:
        said = lambda: (tmp_path / "out").read_text()
        eventually(lambda: "task/one before" in said(), 20)
        put(logs, "/tail", ["while it looks"], "task/one", int(time.time() * 1000))
        stream(logs, "/tail", "task/two")
        put(logs, "/tail", ["of a new stream"], "task/two", int(time.time() * 1000))
        eventually(lambda: "task/one while it looks" in said() and "task/two of a new stream" in said(), 20)
        assert said().count("before") == 1
    finally:
        tail.terminate()
        tail.wait()
