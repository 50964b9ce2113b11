"""A process that publishes and is killed, or starved of space, while it does; run by the tests.

    publish_child.py crash  WORK    one child a step: kill -9 just before the n-th call that writes
    publish_child.py limit  WORK    publications under a limit of file size (RLIMIT_FSIZE)
    publish_child.py tmpfs  WORK    publications and a registry on small file systems of their own

WORK holds `first.onnx` and `second.onnx`. Each line of the output is a JSON object.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dukou.base.errors import DukouError
from dukou.model.model import Lineage, Model
from dukou.model.signature import Signature, TensorSpec
from dukou.package.chunks import cut_graph
from dukou.package.package import package_model
from dukou.package.store import Store
from dukou.package.unpack import verify_version
from dukou.trust.keys import SigningKey, load_or_create_signing_key, load_trust_store


def model(path: Path) -> Model:
    spec = TensorSpec("x", "FP32", ("n", 4))
    return Model(path, Signature((spec,), (spec,)), Lineage(path.name, "onnx", "sha256:0"))


def publish(work: Path, name: str, store: Store, key: SigningKey) -> str:
    return package_model(model(work / f"{name}.onnx"), store, name="m", signer=key).digest


def say(**facts: Any) -> None:
    print(json.dumps(facts), flush=True)


class Countdown:
    """Kills this process just before the n-th call that changes the disk; a write is half done."""

    CALLS = ("open", "write", "fsync", "replace", "rename", "link", "mkdir", "unlink", "close")

    def __init__(self, steps: int) -> None:
        self.left = steps
        for name in self.CALLS:
            setattr(os, name, self._wrap(name, getattr(os, name)))

    def _wrap(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            self.left -= 1
            if self.left == 0:
                if name == "write":
                    real(arguments[0], arguments[1][: len(arguments[1]) // 2])
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*arguments, **options)

        return call


def crash(work: Path, key: SigningKey) -> None:
    base = Store(work / "base")
    publish(work, "first", base, key)
    cut_graph(work / "second.onnx")  # Everything is imported before the first child.
    step = 0
    while True:
        step += 1
        folder = work / f"step-{step}"
        shutil.copytree(base.path, folder)
        child = os.fork()
        if child == 0:
            Countdown(step)
            publish(work, "second", Store(folder), key)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        say(step=step, killed=os.WIFSIGNALED(status), store=str(folder))
        if not os.WIFSIGNALED(status):
            return


def attempt(work: Path, name: str, store: Store, key: SigningKey) -> dict[str, Any]:
    """Publishes; what came of it and what the store looks like."""
    try:
        outcome, digest = "published", publish(work, name, store, key)
    except DukouError as error:
        outcome, digest = error.code, None
    trusted = load_trust_store(work / "home")
    for version in store.versions():
        verify_version(store, version.digest, trusted)
    incoming = store.path / ".incoming"
    return {
        "outcome": outcome,
        "digest": digest,
        "versions": [version.digest for version in store.versions()],
        "findings": [str(finding) for finding in store.verify_all()],
        "half_written": [p.name for p in incoming.iterdir()] if incoming.is_dir() else [],
        "unreferenced_bytes": store.collect(),
    }


def limit(work: Path, key: SigningKey) -> None:
    for limit_bytes in (1, 100, 300, 600, 1500, 5000, 1 << 30):
        store = Store(work / f"limit-{limit_bytes}")
        publish(work, "first", store, key)
        child = os.fork()
        if child == 0:
            # The hard limit stays: it is a user's quota, not root's privilege.
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, resource.RLIM_INFINITY))
            result = attempt(work, "second", store, key)
            # stdout may be a file, which the limit holds for too.
            resource.setrlimit(
                resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
            )
            say(limit=limit_bytes, **result)
            os._exit(0)
        os.waitpid(child, 0)


def tmpfs(work: Path, key: SigningKey) -> None:
    from dukou.registry.registry import Registry

    for kilobytes in (96, 112, 128, 160, 192, 256, 1024):
        mount = work / f"mount-{kilobytes}"
        mount.mkdir()
        size = f"size={kilobytes}k"
        subprocess.run(["mount", "-t", "tmpfs", "-o", size, "none", str(mount)], check=True)
        store = Store(mount / "store")
        first = attempt(work, "first", store, key)
        second = attempt(work, "second", store, key)
        third = None
        if second["outcome"] != "published":
            subprocess.run(["mount", "-o", "remount,size=4m", str(mount)], check=True)
            third = attempt(work, "second", store, key)
        say(kind="store", kilobytes=kilobytes, first=first, second=second, third=third)

    mount = work / "mount-registry"
    mount.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "none", str(mount)], check=True)
    registry = Registry.open(mount / "home")
    outcome, number = "", 0
    while not outcome and number < 2000:
        number += 1
        try:
            registry.register_version("digits", f"sha256:{number:064x}")
        except DukouError as error:
            outcome = error.code
    versions, events = len(registry.versions("digits")), registry.verify_audit()
    subprocess.run(["mount", "-o", "remount,size=4m", str(mount)], check=True)
    after = registry.register_version("digits", f"sha256:{number:064x}")
    registry.close()
    say(
        kind="registry", outcome=outcome, tried=number, versions=versions, events=events, after=after
    )  # fmt: skip


if __name__ == "__main__":
    folder = Path(sys.argv[2])
    {"crash": crash, "limit": limit, "tmpfs": tmpfs}[sys.argv[1]](
        folder, load_or_create_signing_key(folder / "home")
    )
