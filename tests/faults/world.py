"""What is on the machine of a data directory, and whether it is what the records say."""

import hashlib
import json
import os
import pathlib
import re

from conftest import shell, suffix

CGROUPS = pathlib.Path("/sys/fs/cgroup")


def digest(count, *parts):
    """As the program derives names of interfaces."""
    hashed = hashlib.sha256()
    for part in parts:
        hashed.update(len(part.encode()).to_bytes(8, "big") + part.encode())
    return hashed.digest()[:count].hex()


class World:
    """Looks at the machine; what is looked at is named by the data directory alone."""

    def __init__(self, data_dir):
        self.data_dir = pathlib.Path(data_dir)
        self.own = suffix(data_dir)
        self.run_dir = pathlib.Path("/run") / self.own
        self.instance = f"roadstead-{digest(4, str(self.run_dir))}"

    def cgroups(self, below=""):
        """Names of the control groups below ours, over all trees."""
        found = CGROUPS.glob(f"*/{self.own}/{below}*/") if not self.is_v2() else CGROUPS.glob(f"{self.own}/{below}*/")
        return {path.name for path in found if path.is_dir()}

    def is_v2(self):
        return (CGROUPS / "cgroup.controllers").exists()

    def processes(self, cgroup):
        """Processes of a control group below ours: id and command name."""
        folder = CGROUPS / ("" if self.is_v2() else "memory") / self.own / cgroup
        found = {}
        try:
            for pid in (folder / "cgroup.procs").read_text().split():
                found[int(pid)] = pathlib.Path(f"/proc/{pid}/comm").read_text().strip()
        except (FileNotFoundError, ProcessLookupError, OSError):
            pass
        return found

    def in_container_mounts(self):
        """Processes that see a container's root: containers, and whatever was left of their start."""
        seen, found, rootfs = {}, set(), f"{self.data_dir}/node/groups/"
        for process in pathlib.Path("/proc").glob("[0-9]*"):
            try:
                namespace = os.readlink(process / "ns/mnt")
                if namespace not in seen:
                    mounts = (process / "mountinfo").read_text()
                    seen[namespace] = any(f" - overlay overlay " in line and rootfs in line for line in mounts.splitlines())
                if seen[namespace]:
                    found.add(int(process.name))
            except (FileNotFoundError, ProcessLookupError, PermissionError, OSError):
                pass
        return found

    def namespaces(self):
        """Kept network namespaces, by file and by mount."""
        folder = self.run_dir / "netns"
        files = set(os.listdir(folder)) if folder.exists() else set()
        mounts = [line.split()[1] for line in pathlib.Path("/proc/self/mounts").read_text().splitlines()]
        return files, {os.path.basename(mount) for mount in mounts if mount.startswith(f"{folder}/")}

    def links(self, start):
        return {each["ifname"] for each in json.loads(shell("ip", "-j", "link").stdout) if each["ifname"].startswith(start)}

    def addresses(self):
        """Of our bridges: {(interface, address, prefix length)}."""
        return {
            (link["ifname"], address["local"], address["prefixlen"])
            for link in json.loads(shell("ip", "-j", "-4", "addr").stdout) if link["ifname"].startswith("rs-")
            for address in link["addr_info"]
        }

    def bridge_records(self):
        folder = self.run_dir / "network/bridges"
        return [json.loads(path.read_text()) for path in folder.glob("*.json")] if folder.exists() else []

    def address_in(self, namespace):
        done = shell("nsenter", f"--net={self.run_dir}/netns/{namespace}", "ip", "-j", "-4", "addr", "show", "eth0", check=False)
        if done.returncode != 0:
            return None
        return [address["local"] for link in json.loads(done.stdout) for address in link.get("addr_info", [])]

    def host_ports(self):
        """Ports of the host that our rules lead elsewhere."""
        text = shell("nft", "list", "ruleset", check=False).stdout
        return {int(port) for port in re.findall(r"dport (\d+) .*dnat to \d+\.\d+\.\d+\.\d+:\d+", text)}

    def names(self):
        """Load balancers in the hosts file: {name: address}."""
        inside, found = False, {}
        for line in pathlib.Path("/etc/hosts").read_text().splitlines():
            if line.startswith("# roadstead"):
                inside = " begin" in line
            elif inside and line.strip() and not line.endswith(" data-localhost"):
                address, name = line.split()
                found[name] = address
        return found

    def folders(self):
        folder = self.data_dir / "node/groups"
        return set(os.listdir(folder)) if folder.exists() else set()

    def half_layers(self):
        folder = self.data_dir / "node/layers"
        return sorted(name for name in os.listdir(folder) if name.startswith("tmp-")) if folder.exists() else []


def tasks(server):
    """All tasks that the API shows, by id."""
    ecs = server.client("ecs")
    arns = [arn for status in ("RUNNING", "STOPPED") for arn in ecs.list_tasks(desiredStatus=status)["taskArns"]]
    told = ecs.describe_tasks(tasks=arns)["tasks"] if arns else []
    return {task["taskArn"].rsplit("/", 1)[1]: task for task in told}


def differences(server):
    """What of the machine is not as the records say; empty when they agree."""
    world, found = World(server.data_dir), []

    def same(what, here, wanted):
        if here != wanted:
            found.append(f"{what}: {here!r}, by the records {wanted!r}")

    told = tasks(server)
    live = {id: task for id, task in told.items() if task["lastStatus"] != "STOPPED"}
    for id, task in live.items():
        if (task["lastStatus"], task["desiredStatus"]) != ("RUNNING", "RUNNING"):
            found.append(f"task {id} is {task['lastStatus']}, to be {task['desiredStatus']}")
    same("folders", world.folders(), set(live))
    same("cgroups", world.cgroups() - {"_supervisors"}, set(live))
    belong = set()
    for id, task in live.items():
        same(f"cgroups of {id}", world.cgroups(f"{id}/"), {
            f"c{index}" for index, each in enumerate(in_order(task)) if each["lastStatus"] == "RUNNING"})
        for index, each in enumerate(in_order(task)):
            inside = world.processes(f"{id}/c{index}")
            belong |= set(inside)
            same(f"processes of {each['name']} of {id}", bool(inside), each["lastStatus"] == "RUNNING")
    same("stray processes", world.in_container_mounts() - belong, set())
    helpers = sorted(world.processes("_supervisors").values())
    same("supervisors", helpers.count("rs-supervisor"), len(live))
    same("helpers", [name for name in helpers if name not in ("rs-supervisor", "rs-nursery")], [])
    network(server, world, live, same)
    same("half layers", world.half_layers(), [])
    return found


def in_order(task):
    """A task's containers as its definition has them: their index is in the runtime's id."""
    return sorted(task["containers"], key=lambda each: int(each["runtimeId"].split("-")[1]) if "runtimeId" in each else 99)


def network(server, world, live, same):
    """Namespaces, interfaces, addresses, rules and names."""
    wanted = {}
    ports = set()
    for id, task in live.items():
        if any(each["type"] == "ElasticNetworkInterface" for each in task.get("attachments", [])):
            details = {d["name"]: d["value"] for d in task["attachments"][0]["details"]}
            wanted[id] = details["privateIPv4Address"]
        else:
            for index, each in enumerate(in_order(task)):
                wanted[f"{id}-{index}"] = None
                ports |= {b["hostPort"] for b in each.get("networkBindings", [])}
    files, mounts = world.namespaces()
    same("namespaces", files, set(wanted))
    same("kept namespaces", mounts, set(wanted))
    prefix = f"rv{digest(2, world.instance)}"
    same("interfaces", world.links("rv"), {prefix + digest(4, name) for name in wanted})
    for name, address in wanted.items():
        here = world.address_in(name)
        same(f"address in {name}", here if address else bool(here), [address] if address else True)
    same("host ports", world.host_ports(), ports)
    bridges = world.bridge_records()
    same("bridges", world.links("rs"), {each["name"] for each in bridges})
    balancers = {each["DNSName"] for each in server.client("elbv2").describe_load_balancers()["LoadBalancers"]}
    names = world.names()
    same("names", set(names), balancers)
    of_bridges = {(each["name"], each["gateway"], int(str(each["cidr"]).rsplit("/", 1)[1]) if isinstance(each["cidr"], str)
                   else each["cidr"]["prefix"]) for each in bridges}
    here = world.addresses()
    same("gateways", {each for each in here if each[2] != 32}, of_bridges)
    same("load balancers' addresses", sorted(each[1] for each in here if each[2] == 32), sorted(names.values()))
