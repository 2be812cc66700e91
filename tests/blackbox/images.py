"""Makes OCI images from files at hand and pushes them with skopeo: no image can be pulled in tests."""

import gzip
import hashlib
import io
import json
import os
import platform
import subprocess
import tarfile

ARCHITECTURE = {"x86_64": "amd64", "aarch64": "arm64"}[platform.machine()]
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
INDEX = "application/vnd.oci.image.index.v1+json"


def digest(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


def tar_of(entries):
    """A tar of {path: bytes | ("link", target) | ("hard", target) | None for a folder}; paths are written as given."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for path, content in entries.items():
            info = tarfile.TarInfo(path)
            info.mode = 0o755
            if content is None:
                info.type = tarfile.DIRTYPE
                tar.addfile(info)
            elif isinstance(content, tuple):
                info.type = tarfile.SYMTYPE if content[0] == "link" else tarfile.LNKTYPE
                info.linkname = content[1]
                tar.addfile(info)
            else:
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    return out.getvalue()


class Layout:
    """An OCI image layout in a folder."""

    def __init__(self, root):
        self.root = str(root)
        os.makedirs(f"{self.root}/blobs/sha256", exist_ok=True)
        with open(f"{self.root}/oci-layout", "w") as f:
            json.dump({"imageLayoutVersion": "1.0.0"}, f)

    def blob(self, data, media_type):
        with open(f"{self.root}/blobs/sha256/{digest(data)[7:]}", "wb") as f:
            f.write(data)
        return {"mediaType": media_type, "digest": digest(data), "size": len(data)}

    def image(self, layers, config=None, architecture=ARCHITECTURE):
        """Writes an image of uncompressed layer tars; its descriptor."""
        document = {
            "architecture": architecture,
            "os": "linux",
            "config": config or {},
            "rootfs": {"type": "layers", "diff_ids": [digest(layer) for layer in layers]},
        }
        manifest = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": self.blob(json.dumps(document).encode(), CONFIG),
            "layers": [self.blob(gzip.compress(layer, 1, mtime=0), LAYER) for layer in layers],
        }
        return self.blob(json.dumps(manifest).encode(), MANIFEST)

    def publish(self, descriptor):
        """Makes the descriptor what the layout holds."""
        with open(f"{self.root}/index.json", "w") as f:
            json.dump({"schemaVersion": 2, "manifests": [descriptor]}, f)
        return descriptor["digest"]


def busybox_layer():
    """A root filesystem with busybox as every usual command."""
    with open("/bin/busybox", "rb") as f:
        entries = {"bin/": None, "tmp/": None, "etc/": None, "proc/": None, "bin/busybox": f.read()}
    names = subprocess.run(["/bin/busybox", "--list"], capture_output=True, text=True, check=True).stdout.split()
    entries.update({f"bin/{name}": ("link", "busybox") for name in names if name != "busybox"})
    entries["etc/passwd"] = b"root:x:0:0:root:/:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n"
    entries["etc/group"] = b"root:x:0:\nnogroup:x:65534:\n"
    return tar_of(entries)


def busybox_layout(root, config=None, extra=()):
    """A busybox image, with further layers on top; its layout."""
    layout = Layout(root)
    layout.publish(layout.image([busybox_layer(), *extra], config or {"Env": ["PATH=/bin"], "Cmd": ["/bin/sh"]}))
    return layout
