"""Images run as somebody would: by podman within limits, and where there is none, from their unpacked root.

podman gets a storage and a configuration of its own, so that nothing of a person's is touched. Where it
cannot be had, the image's own files are run in a root of their own (by `chroot`, or by the loader that
lies in them), and a line says that no container was run.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from tests.serving import wait_until

_USER = "65532:65532"


class Running(Protocol):
    """An image that runs."""

    def logs(self) -> str:
        """What it said so far, events and log."""
        ...

    def run_inside(self, *words: str) -> int:
        """Runs a program of the image beside it; the exit status."""
        ...

    def stop(self) -> int:
        """Ends it as an orchestrator does: SIGTERM; the exit status."""
        ...


class Runner(Protocol):
    """Runs images."""

    limits: bool

    def start(
        self, archive: Path, *words: str, memory: str = "256m", mount: Path | None = None
    ) -> Running:
        """Starts an image, with arguments in place of its own."""
        ...

    def close(self) -> None:
        """Takes away what it kept."""
        ...


def make_runner(folder: Path) -> Runner:
    """podman, or what can stand for it."""
    if os.geteuid() == 0 and shutil.which("podman") and shutil.which("runc"):
        return Podman(folder)
    print(
        "containers were not run: podman, runc or root's rights are not here; the image's files are run "
        "by themselves",
        file=sys.__stderr__,
    )
    return Unpacked(folder)


def free_port() -> int:
    """One that nobody listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def has_ended(process: subprocess.Popen[bytes]) -> bool:
    """Whether it did."""
    return process.poll() is not None


class _Process:
    """The process that stands for a running image."""

    def __init__(
        self, command: Sequence[str | Path], log: Path, environment: dict[str, str]
    ) -> None:
        self._log = log
        with log.open("wb") as file:
            self.process = subprocess.Popen(
                command, stdout=file, stderr=subprocess.STDOUT, env=environment
            )

    def logs(self) -> str:
        return self._log.read_text(encoding="utf-8")

    def wait_for(self, event: str) -> dict[str, Any]:
        """Waits until it says an event."""
        found: dict[str, Any] = {}

        def said() -> bool:
            # A line that is being written is none yet.
            for line in self.logs().splitlines(keepends=True):
                if line.startswith("{") and line.endswith("\n"):
                    document = json.loads(line)
                    if document["event"] == event:
                        found.update(document)
            return bool(found) or has_ended(self.process)

        wait_until(said, f"`{event}`", 60)
        assert found, self.logs()
        return found

    def wait(self) -> int:
        """Waits for its end; the exit status."""
        return self.process.wait(timeout=60)


class Podman:
    """podman with vfs, cgroupfs and runc: what works inside a container too."""

    limits = True

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        storage, engine = folder / "storage.conf", folder / "containers.conf"
        storage.write_text(
            f'[storage]\ndriver = "vfs"\ngraphroot = "{folder}/root"\nrunroot = "{folder}/run"\n'
        )
        engine.write_text(
            '[engine]\ncgroup_manager = "cgroupfs"\nruntime = "runc"\nevents_logger = "file"\n'
            f'tmp_dir = "{folder}/tmp"\n'
        )
        self.environment = {
            **os.environ,
            "CONTAINERS_STORAGE_CONF": str(storage),
            "CONTAINERS_CONF": str(engine),
        }
        self._count = 0
        self._loaded: dict[Path, str] = {}

    def podman(self, *words: str | Path, timeout_s: float = 60) -> subprocess.CompletedProcess[str]:
        """Runs podman to its end."""
        return subprocess.run(
            ["podman", *map(str, words)],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )

    def load(self, archive: Path) -> str:
        """Has podman take an image; its name."""
        if archive not in self._loaded:
            done = self.podman("load", "--quiet", "--input", archive)
            assert done.returncode == 0, done.stderr
            self._loaded[archive] = done.stdout.strip().rpartition(" ")[2]
        return self._loaded[archive]

    def start(
        self, archive: Path, *words: str, memory: str = "256m", mount: Path | None = None
    ) -> PodmanContainer:
        image = self.load(archive)
        self._count += 1
        name = f"dukou-test-{self._count}"
        command = ["podman", "run", "--name", name, "--rm", "--network", "host", "--read-only"]
        command += ["--memory", memory, "--cpus", "0.5", "--security-opt", "no-new-privileges"]
        command += ["--cap-drop", "ALL", "--ulimit", "nofile=1024:1024"]
        command += ["--ulimit", "nproc=1024:1024"]
        if mount is not None:
            command += ["--volume", f"{mount}:/run/dukou:ro"]
        log = self._folder / f"{name}.log"
        return PodmanContainer(
            self, name, _Process([*command, image, *words], log, self.environment)
        )

    def close(self) -> None:
        self.podman("rm", "--all", "--force", "--time", "0")
        self.podman("rmi", "--all", "--force")
        shutil.rmtree(self._folder / "root", ignore_errors=True)


class PodmanContainer:
    """A container."""

    def __init__(self, podman: Podman, name: str, process: _Process) -> None:
        self._podman, self._name = podman, name
        self.process = process
        self.logs, self.wait_for, self.wait = process.logs, process.wait_for, process.wait

    def run_inside(self, *words: str) -> int:
        return self._podman.podman("exec", self._name, *words).returncode

    def stop(self) -> int:
        done = self._podman.podman("stop", "--time", "30", self._name)
        assert done.returncode == 0, done.stderr
        return self.wait()


class Unpacked:
    """An image's files in a folder: the C library in them runs its programs, no container does."""

    limits = False

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._count = 0

    def start(
        self, archive: Path, *words: str, memory: str = "256m", mount: Path | None = None
    ) -> UnpackedImage:
        del memory  # nothing limits it here
        self._count += 1
        root = self._folder / f"root-{self._count}"
        config = unpack(archive, root)
        if mount is not None:
            shutil.copytree(mount, root / "run" / "dukou", dirs_exist_ok=True)
        return UnpackedImage(root, [*config["Entrypoint"], *words])

    def close(self) -> None:
        for root in self._folder.glob("root-*"):
            shutil.rmtree(root, ignore_errors=True)


class UnpackedImage:
    """The entrypoint, run in its own root where this user may."""

    def __init__(self, root: Path, words: Sequence[str]) -> None:
        self._root = root
        self.process = _Process(self._command(words), root.with_suffix(".log"), self._environment())
        self.logs, self.wait_for, self.wait = (
            self.process.logs,
            self.process.wait_for,
            self.process.wait,
        )

    def _command(self, words: Sequence[str]) -> list[str | Path]:
        if os.geteuid() == 0:
            return ["chroot", f"--userspec={_USER}", self._root, *words]
        [loader] = (self._root / "dukou" / "lib").glob("ld-*")
        inside = [f"{self._root}{word}" if word.startswith("/") else word for word in words]
        return [loader, "--library-path", self._root / "dukou" / "lib", *inside]

    def _environment(self) -> dict[str, str]:
        return {"LD_LIBRARY_PATH": "/dukou/lib", "PATH": "/dukou"} if os.geteuid() == 0 else {}

    def run_inside(self, *words: str) -> int:
        program = self._root / "dukou" / words[0].removeprefix("/")
        if not program.exists():
            return 127
        command = self._command([f"/dukou/{words[0]}", *words[1:]])
        return subprocess.run(
            command, env=self._environment(), timeout=60, check=False, capture_output=True
        ).returncode

    def stop(self) -> int:
        self.process.process.send_signal(signal.SIGTERM)
        return self.wait()


def unpack(archive: Path, root: Path) -> dict[str, Any]:
    """Lays an image's layers out in `root`; its configuration."""
    layout = root.with_suffix(".layout")
    with tarfile.open(archive) as packed:
        packed.extractall(layout, filter="data")
    blobs = layout / "blobs" / "sha256"

    def read(digest: str) -> Path:
        return blobs / digest.removeprefix("sha256:")

    index = json.loads((layout / "index.json").read_bytes())
    manifest = json.loads(read(index["manifests"][0]["digest"]).read_bytes())
    for layer in manifest["layers"]:
        with tarfile.open(read(layer["digest"])) as packed:
            # Links lead to places of the new root, as in every image.
            packed.extractall(root, filter="tar")
    config: dict[str, Any] = json.loads(read(manifest["config"]["digest"]).read_bytes())["config"]
    shutil.rmtree(layout)
    return config


def wait_ready(address: tuple[str, int], timeout_s: float = 60) -> float:
    """Waits until something listens; seconds that this took."""
    begun = time.monotonic()

    def listens() -> bool:
        try:
            socket.create_connection(address, timeout=5).close()
        except OSError:
            return False
        return True

    wait_until(listens, f"a listener on {address}", timeout_s)
    return time.monotonic() - begun
