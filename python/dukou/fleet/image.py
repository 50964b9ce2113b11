"""An OCI image from scratch: the serving folder, the C library's loader, and nothing else.

No base image, no shell, no Python; a user without rights, a root that nobody writes to. The image is
written here as an OCI layout, byte for byte the same for the same inputs, and needs no tool; what
podman, buildah or docker do with it stands in `tools.py`.

Source: OCI image-spec 1.1 (layout, manifest, config); `Healthcheck` as Docker and BuildKit write it.
"""

from __future__ import annotations

import hashlib
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dukou.base.canonical import dump_canonical
from dukou.base.errors import InputError
from dukou.deploy.standalone import LIBRARIES, PROGRAM, Contents, FolderFacts, architecture
from dukou.fleet.layers import Entry, Layer, write_layer
from dukou.fleet.reference import ImageReference
from dukou.package.disk import translate_errors

PORT = 8000
USER = 65532
# Where keys and a certificate are mounted: `keys.json`, `tls.crt`, `tls.key`.
ACCESS = "/run/dukou"
READY = "/v2/health/ready"
LIVE = "/v2/health/live"

_ROOT = "dukou"
_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_CONFIG = "application/vnd.oci.image.config.v1+json"
_INDEX = "application/vnd.oci.image.index.v1+json"
_SECOND = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Image:
    """An image that was written.

    Attributes:
        reference: its name.
        digest: of its manifest: the same inputs give the same.
        path: the layout's folder.
        layers: of the programs, and of what they serve.
        sizes: part → bytes, unpacked.
        insecure: whether it lets anybody in.
        port: on which it answers.
    """

    reference: ImageReference
    digest: str
    path: Path
    layers: tuple[Layer, ...]
    sizes: Mapping[str, int]
    insecure: bool
    port: int

    @property
    def unpacked(self) -> int:
        """Bytes of all files in it."""
        return sum(layer.unpacked for layer in self.layers)

    @property
    def packed(self) -> int:
        """Bytes that are sent to a registry that has nothing of it."""
        return sum(layer.size for layer in self.layers)


def write_image(
    folder: FolderFacts,
    contents: Contents,
    into: Path,
    *,
    reference: ImageReference,
    insecure: bool = False,
    port: int = PORT,
) -> Image:
    """Writes a serving folder as an image, in an OCI layout.

    The programs are one layer, what they serve is another: images of several models share the first.

    Args:
        folder: the serving folder, with its C library.
        contents: what it serves.
        into: a folder that is not there yet, or empty.
        reference: the image's name.
        insecure: whether it answers anybody, in clear, where nobody mounts keys.
        port: on which it answers.

    Raises:
        InputError: `usage.invalid`: something is at `into` already.
        ResourceError: `store.disk-full`, `store.not-writable`.
    """
    if into.exists() and (not into.is_dir() or any(into.iterdir())):
        raise InputError("usage.invalid", f"`{into}` is there already, and is no empty folder")
    with translate_errors(into):
        blobs = into / "blobs" / "sha256"
        blobs.mkdir(parents=True)
        programs, served = _entries(folder.path)
        layers = (
            write_layer(programs, blobs, compress=True),
            write_layer(served, blobs, compress=False),
        )
        labels = _labels(folder, contents)
        config = _config(labels, layers, contents.created, insecure=insecure, port=port)
        manifest = {
            "schemaVersion": 2,
            "mediaType": _MANIFEST,
            "config": _blob(blobs, _CONFIG, config),
            "layers": [
                {"mediaType": layer.media_type, "digest": layer.digest, "size": layer.size}
                for layer in layers
            ],
            "annotations": labels,
        }
        descriptor = _blob(blobs, _MANIFEST, manifest)
        entry = {
            **descriptor,
            "platform": {"architecture": architecture(), "os": "linux"},
            "annotations": {
                # podman and skopeo read the first, containerd and Docker the second.
                "org.opencontainers.image.ref.name": str(reference),
                "io.containerd.image.name": str(_canonical(reference)),
            },
        }
        index = {"schemaVersion": 2, "mediaType": _INDEX, "manifests": [entry]}
        (into / "index.json").write_bytes(dump_canonical(index))
        (into / "oci-layout").write_bytes(b'{"imageLayoutVersion":"1.0.0"}')
    return Image(reference, str(descriptor["digest"]), into, layers, folder.bytes, insecure, port)


def write_archive(layout: Path, into: Path) -> None:
    """Packs an OCI layout into one file, as `podman load` and `docker load` take it.

    Raises:
        ResourceError: `store.disk-full`, `store.not-writable`.
    """
    incoming = into.with_name(f".{into.name}.new")
    with translate_errors(into.parent):
        with tarfile.open(incoming, "w", format=tarfile.PAX_FORMAT) as archive:
            for path in sorted(path for path in layout.rglob("*") if path.is_file()):
                info = tarfile.TarInfo(path.relative_to(layout).as_posix())
                info.size, info.mode = path.stat().st_size, 0o644
                with path.open("rb") as file:
                    archive.addfile(info, file)
        incoming.replace(into)


def _entries(folder: Path) -> tuple[list[Entry], list[Entry]]:
    """The files of the two layers."""
    programs = [
        Entry("etc/passwd", f"dukou:x:{USER}:{USER}::/{_ROOT}:/nonexistent\n".encode()),
        Entry("etc/group", f"dukou:x:{USER}:\n".encode()),
        # Where keys are mounted: a root that nobody may write to has no room for a new folder.
        Entry(ACCESS.lstrip("/"), None, 0o755),
    ]
    served: list[Entry] = []
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        relative = path.relative_to(folder)
        is_program = relative.parts[0] in (PROGRAM, LIBRARIES)
        runs = relative.parts[0] == PROGRAM or relative.name.startswith("ld-")
        entry = Entry(f"{_ROOT}/{relative.as_posix()}", path, 0o555 if runs else 0o444)
        (programs if is_program else served).append(entry)
        if relative.parts[0] == LIBRARIES and relative.name.startswith("ld-"):
            # Programs name their loader by this path.
            programs.append(Entry(_loader_path(relative.name), f"/{_ROOT}/{relative.as_posix()}"))
    return programs, served


def _loader_path(name: str) -> str:
    # Each architecture's own: x86-64 looks in /lib64, arm64 in /lib.
    return f"lib64/{name}" if "x86-64" in name else f"lib/{name}"


def _labels(folder: FolderFacts, contents: Contents) -> dict[str, str]:
    first = contents.models[0]
    labels = {
        "org.opencontainers.image.title": contents.name,
        "org.opencontainers.image.version": first.version,
        "org.opencontainers.image.created": contents.created,
        "dev.dukou.version": str(folder.document["dukou"]),
        "dev.dukou.revision": str(folder.document["revision"]),
        "dev.dukou.models": ",".join(f"{m.name}:{m.version}" for m in contents.models),
    }
    if first.digest:
        labels["dev.dukou.model.digest"] = first.digest
    if folder.document.get("runtime"):
        labels["dev.dukou.runtime"] = str(folder.document["runtime"])
    return labels


def _config(
    labels: Mapping[str, str],
    layers: Sequence[Layer],
    created: str,
    *,
    insecure: bool,
    port: int,
) -> dict[str, Any]:
    program = f"/{_ROOT}/{PROGRAM}"
    entrypoint = [program, "--folder", f"/{_ROOT}", "--access", ACCESS]
    probe = [program, "--probe", f"127.0.0.1:{port}{READY}", "--access", ACCESS]
    return {
        "created": created,
        "architecture": architecture(),
        "os": "linux",
        "config": {
            "User": f"{USER}:{USER}",
            "ExposedPorts": {f"{port}/tcp": {}},
            "Env": [f"PATH=/{_ROOT}", f"LD_LIBRARY_PATH=/{_ROOT}/{LIBRARIES}"],
            "Entrypoint": entrypoint + (["--insecure"] if insecure else []),
            "Cmd": ["--listen", f"http=0.0.0.0:{port}"],
            "WorkingDir": f"/{_ROOT}",
            "StopSignal": "SIGTERM",
            "Labels": dict(labels),
            "Healthcheck": {
                "Test": ["CMD", *probe],
                "Interval": 10 * _SECOND,
                "Timeout": 5 * _SECOND,
                "StartPeriod": 60 * _SECOND,
                "Retries": 3,
            },
        },
        "rootfs": {"type": "layers", "diff_ids": [layer.diff_id for layer in layers]},
        "history": [
            {"created": created, "created_by": f"dukou image build: {what}"}
            for what in ("engine, runtime, C library", "models")
        ],
    }


def _blob(blobs: Path, media_type: str, document: Mapping[str, Any]) -> dict[str, Any]:
    content = dump_canonical(document)
    digest = hashlib.sha256(content).hexdigest()
    (blobs / digest).write_bytes(content)
    return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(content)}


def _canonical(reference: ImageReference) -> ImageReference:
    """With the registry and folder that Docker thinks of where none is said."""
    if reference.domain:
        return reference
    path = reference.path if "/" in reference.path else f"library/{reference.path}"
    return reference._replace(domain="docker.io", path=path)
