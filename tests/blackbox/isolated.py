"""Runs a command in a network namespace and a mount namespace of its own, with only loopback and its own /etc/hosts.

    isolated.py COMMAND [ARGUMENT ...]

Whatever Roadstead does to the network there, the machine's own network does not see it.
"""

import ctypes
import os
import shutil
import subprocess
import sys
import tempfile

CLONE_NEWNS, CLONE_NEWNET = 0x00020000, 0x40000000
MS_BIND, MS_REC, MS_PRIVATE = 4096, 16384, 1 << 18


def main():
    if os.geteuid() != 0:
        sys.exit("isolated.py: the black-box tests need root: containers and networks are real")
    libc = ctypes.CDLL(None, use_errno=True)

    def check(result, what):
        if result != 0:
            sys.exit(f"isolated.py: {what}: {os.strerror(ctypes.get_errno())}")

    check(libc.unshare(CLONE_NEWNS | CLONE_NEWNET), "unshare")
    check(libc.mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None), "making mounts private")
    hosts = tempfile.NamedTemporaryFile(prefix="roadstead-hosts-", delete=False).name
    shutil.copyfile("/etc/hosts", hosts)
    check(libc.mount(hosts.encode(), b"/etc/hosts", None, MS_BIND, None), "mounting /etc/hosts")
    # /sys shows the interfaces of the namespace that it was mounted in.
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    code = subprocess.run(sys.argv[1:], env={**os.environ, "ROADSTEAD_ISOLATED": "1"}).returncode
    os.unlink(hosts)
    sys.exit(code)


if __name__ == "__main__":
    main()
