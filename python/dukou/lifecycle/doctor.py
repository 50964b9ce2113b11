"""Looks at an installation and says, line by line, what is well, what is doubtful and what is broken.

Offline, and nothing is changed by it: no folder is made, no table upgraded, no server's folder swept.
This file has the frame and the machine (programs, limits, time, fonts, variables); what lies under
DUKOU_HOME is `doctor_home.py`'s.
"""

from __future__ import annotations

import difflib
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

from dukou.base.errors import DukouError
from dukou.base.settings import SETTINGS, dukou_home_path

Level = Literal["ok", "warning", "problem"]

OLDEST_PYTHON = (3, 11)
FEW_FILES = 1024
LITTLE_MEMORY = 512 * 1024 * 1024
# Before the first release no clock is right.
_NOT_BEFORE = 1_790_000_000.0
# Of other programs of ours, beside the settings: what a training command is given, the demo's, a
# replica's and a pod's.
_OTHER_VARIABLES = (
    "DUKOU_CHAMPION",
    "DUKOU_DATA",
    "DUKOU_DEMO",
    "DUKOU_FOLD",
    "DUKOU_LIFELINE_FD",
    "DUKOU_MODEL_KEY",
    "DUKOU_OUTPUT",
    "DUKOU_REPLICA_OF",
    "DUKOU_SEED",
    "DUKOU_TARGET",
    "DUKOU_TASK",
)
# extra → what it is for.
_EXTRAS = {
    "sklearn": (("skl2onnx", "joblib"), "scikit-learn models (.joblib, .pkl)"),
    "monitor": (("pyarrow",), "captured requests, drift and quality"),
    "bf16": (("ml_dtypes",), "models that take BF16"),
    "keras": (("keras", "h5py", "onnxscript", "torch"), "Keras models (.keras, .h5)"),
    "torch": (("torch", "onnxscript"), "PyTorch models (.pt, .pt2)"),
    "openvino-ir": (("openvino",), "OpenVINO's own files, from any model"),
    "openvino": (("onnxruntime_ep_openvino",), "Intel's processors, GPUs and NPUs"),
    "grpc": (
        ("grpc", "google.protobuf"),
        "asking other servers over gRPC (`dukou migrate`, `dukou predict`)",
    ),
    "ray": (("ray",), "replicas placed by a Ray cluster"),
}
# What the names of installed fonts with Chinese characters contain, lower case.
_CJK_FONTS = (
    *("cjk", "sourcehan", "wqy", "simhei", "simsun", "msyh", "yahei", "pingfang", "heiti"),
    *("droidsansfallback", "uming", "ukai", "sarasa", "lxgw", "fandol", "stsong"),
)


class Finding(NamedTuple):
    """What one check found.

    Attributes:
        topic: what was looked at: `engine`, `registry` …
        level: `ok`, `warning` or `problem`.
        says: one sentence.
        remedy: what to do; empty where nothing is.
        code: of the error that it would be, where there is one.
    """

    topic: str
    level: Level
    says: str
    remedy: str = ""
    code: str | None = None


def examine(folder: Path | None = None, *, every_byte: bool = False) -> Iterator[Finding]:
    """Everything, in the order of the life: programs, home, servers, machine, project.

    Args:
        folder: where the person stands: its project file, if it has one, is looked at too.
        every_byte: read the whole store and compare it with its digests, instead of the sizes alone.
    """
    from dukou.lifecycle.doctor_home import check_home

    yield from _guard("python", _check_python)
    yield from _guard("engine", _check_engine)
    yield from _guard("extras", _check_extras)
    home = dukou_home_path()
    yield from check_home(home, _guard, every_byte=every_byte)
    yield from _guard("machine", _check_limits)
    yield from _guard("time", _check_time)
    yield from _guard("text", _check_text)
    yield from _guard("variables", lambda: check_variables(os.environ))
    yield from _guard("project", lambda: _check_project(folder or Path.cwd()))


def _guard(topic: str, check: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    """A check's findings; what it raises is a finding too: one broken thing hides no other."""
    try:
        yield from check()
    except DukouError as error:
        yield of_error(topic, error)
    except OSError as error:
        yield Finding(
            topic,
            "problem",
            f"`{error.filename}` cannot be looked at: {error.strerror}",
            "mend its permissions, or the path that names it",
            "store.not-writable",
        )
    except Exception as error:  # noqa: BLE001 (said, not swallowed)
        yield Finding(
            topic, "problem", f"this check failed itself: {type(error).__name__}: {error}"
        )


def of_error(topic: str, error: DukouError) -> Finding:
    """An error as a finding."""
    return Finding(topic, "problem", error.message, error.hint, error.code)


def _check_python() -> Iterator[Finding]:
    from dukou import __version__

    version = ".".join(map(str, sys.version_info[:3]))
    says = f"dukou {__version__}, Python {version} at `{sys.executable}`"
    if sys.version_info < OLDEST_PYTHON:
        wanted = ".".join(map(str, OLDEST_PYTHON))
        yield Finding("python", "problem", says, f"install Python {wanted} or later")
    else:
        yield Finding("python", "ok", says)
    if not sys.platform.startswith("linux"):
        yield Finding("python", "problem", f"this is `{sys.platform}`", "dukou runs on Linux")


def _check_engine() -> Iterator[Finding]:
    from dukou import __version__
    from dukou.serve.find import find_engine, find_runtime

    engine = find_engine()
    command: list[str | Path] = [engine, "--hello"]
    try:
        runtime = find_runtime()
        command += ["--runtime", runtime]
    except DukouError as error:
        yield of_error("runtime", error)
        runtime = None
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=30, check=False
        )
        said = _last_document(done.stdout)
        version = str(said["engine"])
    except (OSError, subprocess.TimeoutExpired, ValueError, LookupError, TypeError) as error:
        why = f"{type(error).__name__}: {error}"
        if not isinstance(error, OSError | subprocess.TimeoutExpired):
            # What the loader or the engine itself said: a C library that is too old, say.
            words = done.stderr.decode("utf-8", "replace").split("\n")
            last = next((line.strip() for line in reversed(words) if line.strip()), "nothing")
            why = f"it ended with status {done.returncode} and said: {last[:300]}"
        yield Finding(
            "engine",
            "problem",
            f"`{engine}` does not say what it is: {why}",
            "install dukou again; a checkout needs `make build`",
            "engine.no-start",
        )
        return
    if version == __version__:
        yield Finding(
            "engine", "ok", f"{version} at `{engine}`; {said.get('cpu', '')}".rstrip("; ")
        )
    else:
        yield Finding(
            "engine",
            "problem",
            f"`{engine}` is of version {version}, and the package of {__version__}",
            "install dukou again; a checkout needs `make build`",
        )
    if runtime is None:
        return
    if said.get("runtime"):
        providers = ", ".join(said.get("providers", []))
        yield Finding(
            "runtime", "ok", f"ONNX Runtime {said['runtime']} at `{runtime}` ({providers})"
        )
    else:
        yield Finding(
            "runtime",
            "problem",
            f"`{runtime}` cannot be used: {said.get('problem', 'no reason was given')}",
            "`pip install --force-reinstall onnxruntime`, or name another with ORT_DYLIB_PATH",
            "engine.runtime-missing",
        )


def _last_document(output: bytes) -> dict[str, Any]:
    document = json.loads(output.splitlines()[-1])
    if not isinstance(document, dict):
        raise TypeError("no document")
    return document


def _check_extras() -> Iterator[Finding]:
    import importlib.util

    for extra, (modules, purpose) in _EXTRAS.items():
        missing = [m for m in modules if importlib.util.find_spec(m) is None]
        if missing:
            yield Finding(
                "extras",
                "ok",
                f"`{extra}` is not installed; it is for {purpose}",
                f"if you need it: `pip install 'dukou[{extra}]'`",
            )
        else:
            yield Finding("extras", "ok", f"`{extra}` is there, for {purpose}")


def _check_limits() -> Iterator[Finding]:
    usable = len(os.sched_getaffinity(0))
    allowed = read_cpu_limit()
    if allowed is not None and allowed < usable:
        yield Finding(
            "machine",
            "warning",
            f"{usable} CPUs are seen, and the control group allows the time of {allowed:g}",
            f"start servers with `--threads {max(1, int(allowed))}`, or raise the limit",
        )
    else:
        yield Finding("machine", "ok", f"{usable} CPUs")
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = read_memory_limit()
    memory = total if limit is None else min(total, limit)
    whose = "" if limit is None or limit >= total else ", by the control group's limit"
    says = f"{memory / 1e9:.1f} GB of memory{whose}"
    if memory < LITTLE_MEMORY:
        yield Finding(
            "machine", "warning", says, "training and conversion want 1 GB and more; raise it"
        )
    else:
        yield Finding("machine", "ok", says)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < FEW_FILES:
        yield Finding(
            "machine",
            "warning",
            f"a process may have {hard} open files: a server holds fewer connections than that",
            "raise it: `ulimit -Hn`, or `LimitNOFILE=` of the service",
        )


def read_cpu_limit(
    root: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")
) -> float | None:
    """CPUs' worth of time that the control groups of this process allow; None where all.

    Args:
        root: where control groups are mounted, of version 2 or 1.
        own: the file that says which groups this process is in.
    """
    allowed = []
    for folder in _control_groups(root, own, "cpu"):
        try:
            if (folder / "cpu.max").exists():
                quota, period = (folder / "cpu.max").read_text(encoding="ascii").split()
            else:
                quota = (folder / "cpu.cfs_quota_us").read_text(encoding="ascii")
                period = (folder / "cpu.cfs_period_us").read_text(encoding="ascii")
            allowed.append(int(quota) / int(period))
        except (OSError, ValueError, ZeroDivisionError):  # not there, or `max`
            continue
    return min((cpus for cpus in allowed if cpus > 0), default=None)


def read_memory_limit(
    root: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")
) -> int | None:
    """Bytes that the control groups of this process allow; None where all. Arguments as above."""
    allowed = []
    for folder in _control_groups(root, own, "memory"):
        for name in ("memory.max", "memory.limit_in_bytes"):
            try:
                allowed.append(int((folder / name).read_text(encoding="ascii")))
            except (OSError, ValueError):
                continue
    return min(allowed, default=None)


def _control_groups(root: Path, own: Path, controller: str) -> Iterator[Path]:
    """Folders of the groups that this process is in, up to the root; each may set a limit."""
    try:
        lines = own.read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    yield from (root, root / controller)
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers and controller not in controllers.split(","):
            continue
        base = root / controller if controllers else root
        group = base / path.strip("/")
        while group != base:
            yield group
            group = group.parent


def _check_time() -> Iterator[Finding]:
    now = time.time()
    says = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now))
    if now < _NOT_BEFORE:
        yield Finding(
            "time",
            "warning",
            f"the clock says {says}, which is before this release",
            "set it: events, runs and alerts carry its time",
        )
    else:
        yield Finding("time", "ok", says)


def _check_text() -> Iterator[Finding]:
    encoding = sys.getfilesystemencoding()
    if encoding.lower().replace("-", "") != "utf8":
        yield Finding(
            "text",
            "warning",
            f"names of files are read as `{encoding}`",
            "`export LANG=C.UTF-8`, or `PYTHONUTF8=1`",
        )
    font = find_cjk_font(_font_folders())
    if font is not None:
        yield Finding("text", "ok", f"a font with Chinese characters: `{font}`")
    else:
        yield Finding(
            "text",
            "ok",
            "no font with Chinese characters is installed: a browser here shows boxes for them, in "
            "reports as anywhere; one on another machine does not",
            "if you need it: install `fonts-noto-cjk` (apt) or `google-noto-sans-cjk-fonts` (dnf)",
        )


def _font_folders() -> list[Path]:
    home = Path.home()
    return [
        *(Path("/usr/share/fonts"), Path("/usr/local/share/fonts")),
        *(home / ".local" / "share" / "fonts", home / ".fonts"),
    ]


def find_cjk_font(folders: list[Path]) -> Path | None:
    """The first font file whose name says that it has Chinese characters."""
    for folder in folders:
        for path in sorted(folder.rglob("*")):
            if path.suffix.lower() in (".ttf", ".ttc", ".otf", ".otc"):
                name = path.name.lower().replace("-", "").replace(" ", "")
                if any(part in name for part in _CJK_FONTS):
                    return path
    return None


def check_variables(environment: Mapping[str, str]) -> Iterator[Finding]:
    """Variables that begin with `DUKOU_` and that nobody reads: most often a typing error."""
    known = sorted({s.variable for s in SETTINGS.values()} | set(_OTHER_VARIABLES))
    said = sorted(name for name in environment if name.startswith("DUKOU_"))
    unknown = [name for name in said if name not in known]
    for name in unknown:
        near = difflib.get_close_matches(name, known, n=1)
        yield Finding(
            "variables",
            "warning",
            f"`{name}` is set, and dukou does not know it",
            f"did you mean `{near[0]}`?"
            if near
            else f"known: {', '.join(s.variable for s in SETTINGS.values())}",
        )
    if not unknown:
        listed = ", ".join(f"`{name}`" for name in said)
        yield Finding("variables", "ok", f"{listed or 'none'} of `DUKOU_*` set, and no unknown one")


def _check_project(folder: Path) -> Iterator[Finding]:
    from dukou.lifecycle.project import FILE_NAME, load_project

    if not (folder / FILE_NAME).is_file():
        return
    project = load_project(folder)
    yield Finding(
        "project", "ok", f"`{FILE_NAME}` here is of `{project.model.name}`, and says what it must"
    )
