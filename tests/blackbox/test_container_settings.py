"""What a container definition sets is what the container has: asked from inside."""

import os

import pytest

from conftest import eventually
from test_tasks import IDLE, awslogs, by_name, container, define, lines, run, shell_container, wait_for


def define_ec2(ecs, family, *containers, mode="bridge", **options):
    """Registers a task definition for container instances; its ARN."""
    defaults = dict(requiresCompatibilities=["EC2"], networkMode=mode)
    containers = [{"memory": 64, **each} for each in containers]
    answer = ecs.register_task_definition(family=family, containerDefinitions=containers, **{**defaults, **options})
    return answer["taskDefinition"]["taskDefinitionArn"]


def run_ec2(ecs, definition, **options):
    answer = ecs.run_task(taskDefinition=definition, launchType="EC2", **options)
    assert answer["failures"] == [], answer["failures"]
    return answer["tasks"][0]["taskArn"]


def said_by(roadstead, ecs, task):
    """What each container of a task said until it ended."""
    told = wait_for(ecs, task, "STOPPED")
    assert all("exitCode" in each for each in told["containers"]), told
    return {name: lines(roadstead, task, name) for name in by_name(told)}


def speaking(image, name, script, **options):
    """A container of several in a task: it says something and ends with 0, and the task ends after all have."""
    return shell_container(image, script, name=name, logConfiguration=awslogs(), essential=False, **options)


def last(image, *names, **options):
    """The essential container that ends after all others have."""
    return container(image, "/bin/true", name="last", logConfiguration=awslogs(),
                     dependsOn=[{"containerName": name, "condition": "COMPLETE"} for name in names], **options)


def together(image, *containers):
    return [*containers, last(image, *(each["name"] for each in containers))]


def mask(status, which):
    return int(next(line for line in status if line.startswith(which)).split()[1], 16)


# Docker's and containerd's default set.
DEFAULT = 0x00000000A80425FB
NET_BIND, NET_ADMIN, NET_RAW, SYS_PTRACE = 1 << 10, 1 << 12, 1 << 13, 1 << 19


def test_capabilities_of_fargate(roadstead, ecs, network, image):
    script = "grep Cap /proc/self/status; grep -E 'NoNewPrivs|Seccomp:' /proc/self/status"
    caps = lambda **changes: {"linuxParameters": {"capabilities": changes}}
    said = said_by(roadstead, ecs, run(ecs, network, define(ecs, "caps", *together(
        image,
        speaking(image, "default", script),
        speaking(image, "ptrace", script, **caps(add=["SYS_PTRACE"])),
        speaking(image, "less", script, **caps(drop=["NET_RAW"])),
        speaking(image, "nothing", script, **caps(drop=["ALL"])),
        speaking(image, "nobody", script, user="nobody"),
    ))))
    for name, wanted in {
        "default": DEFAULT, "ptrace": DEFAULT | SYS_PTRACE, "less": DEFAULT & ~NET_RAW, "nothing": 0,
    }.items():
        for which in ("CapPrm", "CapEff", "CapBnd"):
            assert mask(said[name], which) == wanted, (name, said[name])
    assert (mask(said["nobody"], "CapEff"), mask(said["nobody"], "CapBnd")) == (0, DEFAULT)
    assert any(line.split() == ["Seccomp:", "2"] for line in said["default"]), said["default"]


def test_capabilities_and_privileges_of_container_instances(roadstead, ecs, image):
    script = "grep Cap /proc/self/status; mkdir -p /m; mount -t tmpfs none /m 2>&1 && echo mounted; touch /proc/sys/x 2>&1"
    caps = lambda **changes: {"linuxParameters": {"capabilities": changes}}
    said = said_by(roadstead, ecs, run_ec2(ecs, define_ec2(ecs, "caps-ec2", *together(
        image,
        speaking(image, "plain", script),
        speaking(image, "admin", script, **caps(add=["NET_ADMIN"], drop=["NET_RAW"])),
        speaking(image, "only", script, **caps(add=["NET_BIND_SERVICE"], drop=["ALL"])),
        speaking(image, "privileged", script, privileged=True),
    ))))
    assert mask(said["plain"], "CapEff") == DEFAULT and "mounted" not in said["plain"]
    assert mask(said["admin"], "CapEff") == (DEFAULT | NET_ADMIN) & ~NET_RAW
    assert mask(said["only"], "CapEff") == NET_BIND
    own = mask(open("/proc/self/status").read().splitlines(), "CapBnd")
    assert mask(said["privileged"], "CapEff") == own and "mounted" in said["privileged"]


def test_no_signal_is_ignored_or_blocked(roadstead, ecs, network, image):
    # The server itself is started with some ignored.
    script = "exec grep -E '^Sig(Ign|Blk)' /proc/self/status"
    init = {"linuxParameters": {"initProcessEnabled": True}, "essential": False}
    after = {"dependsOn": [{"containerName": "init", "condition": "COMPLETE"}]}
    task = run(ecs, network, define(ecs, "signals", *(
        shell_container(image, script, name=name, logConfiguration=awslogs(), **options)
        for name, options in (("init", init), ("plain", after)))))
    wait_for(ecs, task, "STOPPED")
    for name in ("init", "plain"):
        assert lines(roadstead, task, name) == [f"Sig{kind}:\t{0:016x}" for kind in ("Blk", "Ign")], name


def test_init_reaps_children_and_passes_signals_on(roadstead, ecs, network, image):
    # A child whose parent is gone becomes the first process's; sleep does not reap it, an init does.
    orphans = "(sleep 0.2 &); (sleep 0.7; grep -l 'State:.Z' /proc/[0-9]*/status | wc -l; echo $$) &"
    init = {"linuxParameters": {"initProcessEnabled": True}}
    task = run(ecs, network, define(
        ecs, "init",
        shell_container(image, f"{orphans} exec sleep 100", name="without", logConfiguration=awslogs(), stopTimeout=2),
        shell_container(image, f"{orphans} trap 'exit 9' TERM; while :; do sleep 0.1; done", name="with",
                        logConfiguration=awslogs(), **init),
    ))
    wait_for(ecs, task, "RUNNING")
    eventually(lambda: all(len(lines(roadstead, task, name)) == 2 for name in ("with", "without")))
    assert lines(roadstead, task, "without") == ["1", "1"]
    zombies, pid = lines(roadstead, task, "with")
    assert zombies == "0" and pid != "1"
    ecs.stop_task(task=task)
    told = by_name(wait_for(ecs, task, "STOPPED"))
    assert (told["with"]["exitCode"], told["without"]["exitCode"]) == (9, 137)


def test_shared_memory_tmpfs_and_kernel_parameters(roadstead, ecs, network, image):
    tmpfs = [{"containerPath": "/t", "size": 8, "mountOptions": ["noexec", "mode=1700"]}]
    script = (
        "df -k /dev/shm | tail -1 | awk '{print $2}'; grep ' /t ' /proc/mounts;"
        "dd if=/dev/zero of=/t/f bs=1M count=9 2>&1 | tail -1; stat -c %a /t; cat /proc/sys/net/core/somaxconn"
    )
    sysctl = [{"namespace": "net.core.somaxconn", "value": "1234"}]
    ec2 = run_ec2(ecs, define_ec2(ecs, "mounts", *together(
        image,
        speaking(image, "main", script, systemControls=sysctl,
                 linuxParameters={"tmpfs": tmpfs, "sharedMemorySize": 128}),
        speaking(image, "plain", script),
    )))
    fargate = run(ecs, network, define(ecs, "mounts-fargate", shell_container(
        image, script, systemControls=sysctl, linuxParameters={"tmpfs": tmpfs}, logConfiguration=awslogs())))
    said = said_by(roadstead, ecs, ec2)
    shm, mount, dd, mode, somaxconn = said["main"]
    assert shm == str(128 * 1024)
    assert "noexec" in mount and "size=8192k" in mount and mount.startswith("tmpfs")
    assert mode == "1700" and somaxconn == "1234"
    assert said["plain"][0] == str(64 * 1024) and said["plain"][-1] != "1234"
    said = said_by(roadstead, ecs, fargate)["main"]
    assert "size=8192k" in said[1] and said[-1] == "1234"
    assert open("/proc/sys/net/core/somaxconn").read().strip() != "1234"


def test_devices_and_terminals(roadstead, ecs, image):
    script = (
        "for each in fuse null; do test -c /dev/$each && echo has $each; done; test -t 1 && echo terminal;"
        "(: < /dev/fuse) 2>&1 && echo read; (: > /dev/fuse) 2>&1 && echo written;"
        "mknod /tmp/disk b 254 0; (: < /tmp/disk) 2>&1"
    )
    device = [{"hostPath": "/dev/fuse", "permissions": ["read"]}]
    said = said_by(roadstead, ecs, run_ec2(ecs, define_ec2(ecs, "devices", *together(
        image,
        speaking(image, "given", script, linuxParameters={"devices": device}),
        speaking(image, "plain", script),
        speaking(image, "terminal", script, pseudoTerminal=True),
    ))))
    said = {name: [line.strip() for line in each] for name, each in said.items()}
    assert {"has fuse", "has null", "read"} <= set(said["given"])
    assert "written" not in said["given"] and "terminal" not in said["given"], said["given"]
    assert "has null" in said["plain"] and "has fuse" not in said["plain"]
    assert "terminal" in said["terminal"]
    # The disk of the host is nobody's to read.
    assert all("not permitted" in each[-1] for name, each in said.items() if name != "last"), said


def test_names_hosts_and_name_servers(roadstead, ecs, image):
    script = "hostname; cat /etc/hosts; echo; cat /etc/resolv.conf"
    said = said_by(roadstead, ecs, run_ec2(ecs, define_ec2(ecs, "names", *together(
        image,
        speaking(image, "set", script, hostname="box", extraHosts=[{"hostname": "db", "ipAddress": "10.9.8.7"}],
                 dnsServers=["192.0.2.53"], dnsSearchDomains=["example.test"]),
        speaking(image, "plain", script),
    ))))
    assert said["set"][0] == "box"
    words = [line.split() for line in said["set"]]
    assert ["10.9.8.7", "db"] in words and ["nameserver", "192.0.2.53"] in words
    assert ["search", "example.test"] in words
    assert any("box" in line[1:] for line in words if line and line[0][0].isdigit()), said["set"]
    assert said["plain"][0] not in ("box", "") and not any("10.9.8.7" in line for line in said["plain"])


def test_ulimits_users_and_working_directories(roadstead, ecs, network, image):
    script = "id -u; id -g; pwd; ulimit -Sn; ulimit -Hn; ulimit -c; ulimit -l"
    limits = [
        {"name": "nofile", "softLimit": 100, "hardLimit": 200}, {"name": "core", "softLimit": 0, "hardLimit": 0},
        {"name": "memlock", "softLimit": 65536, "hardLimit": 65536},
    ]
    said = said_by(roadstead, ecs, run(ecs, network, define(ecs, "ulimits", *together(
        image,
        speaking(image, "set", script, ulimits=limits, user="1234:5678", workingDirectory="/made/for/it"),
        speaking(image, "named", script, user="nobody:nogroup"),
        speaking(image, "plain", script),
    ))))
    assert said["set"] == ["1234", "5678", "/made/for/it", "100", "200", "0", "64"]
    assert said["named"][:3] == ["65534", "65534", "/"]
    # Fargate's own default, which many programs count on.
    assert said["plain"][:3] == ["0", "0", "/"] and int(said["plain"][4]) >= 4096


def test_volumes_of_the_host_of_the_node_and_of_other_containers(roadstead, ecs, image, tmp_path):
    (tmp_path / "given").write_text("of the host")
    absent = tmp_path / "absent"
    name = f"shared-{os.getpid()}"
    volumes = [
        {"name": "given", "host": {"sourcePath": str(tmp_path)}},
        {"name": "absent", "host": {"sourcePath": str(absent)}},
        {"name": name, "dockerVolumeConfiguration": {"scope": "shared", "autoprovision": True, "driver": "local"}},
        {"name": "task", "dockerVolumeConfiguration": {"scope": "task", "driver": "local"}},
    ]
    mounts = [{"sourceVolume": each["name"], "containerPath": f"/{at}"} for at, each in zip("gast", volumes)]
    mounts[0]["readOnly"] = True

    def once(family):
        return said_by(roadstead, ecs, run_ec2(ecs, define_ec2(ecs, family, *together(
            image,
            speaking(image, "first", "cat /g/given; echo; touch /g/x 2>&1; echo made > /a/f; echo $(ls /s /t); "
                     "echo one > /s/file; echo two > /t/file", mountPoints=mounts),
            speaking(image, "second", "cat /s/file /t/file; touch /t/y 2>&1", volumesFrom=[
                {"sourceContainer": "first", "readOnly": True}],
                dependsOn=[{"containerName": "first", "condition": "SUCCESS"}]),
        ), volumes=volumes)))

    said = once("host-volumes")
    assert said["first"][0] == "of the host" and "Read-only" in said["first"][1]
    assert said["first"][2].split() == ["/s:", "/t:"], said["first"]
    assert said["second"][:2] == ["one", "two"] and "Read-only" in said["second"][2]
    assert (absent / "f").read_text() == "made\n"
    # What is shared outlives the task, what is the task's own does not.
    assert once("host-volumes")["first"][2].split() == ["/s:", "file", "/t:"]


def test_processes_of_one_task_see_each_other_if_asked(roadstead, ecs, network, image):
    both = [
        shell_container(image, f": visible-one; {IDLE}", name="first"),
        shell_container(image, "sleep 1; ps | grep -v grep | grep -c visible-one", logConfiguration=awslogs()),
    ]
    shared = run(ecs, network, define(ecs, "pid-task", *both, pidMode="task"))
    apart = run(ecs, network, define(ecs, "pid-own", *both))
    for task, count in ((shared, "1"), (apart, "0")):
        wait_for(ecs, task, "STOPPED")
        assert lines(roadstead, task) == [count]


@pytest.mark.parametrize("setting", [
    {"privileged": True},
    {"linuxParameters": {"sharedMemorySize": 64}},
    {"linuxParameters": {"capabilities": {"add": ["NET_ADMIN"]}}},
    {"linuxParameters": {"devices": [{"hostPath": "/dev/null"}]}},
    {"hostname": "box"},
    {"extraHosts": [{"hostname": "db", "ipAddress": "10.9.8.7"}]},
    {"links": ["other"]},
], ids=str)
def test_what_fargate_does_not_have_is_refused(ecs, image, setting):
    with pytest.raises(ecs.exceptions.ClientException) as refused:
        define(ecs, "refused", shell_container(image, "true", **setting))
    said = str(refused.value).lower()
    word = next(iter(setting["linuxParameters"])) if "linuxParameters" in setting else next(iter(setting))
    assert {"extraHosts": "extra hosts", "capabilities": "net_admin"}.get(word, word.lower()) in said
