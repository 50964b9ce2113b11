"""The serving folder: an engine with all that it needs, to be run where nothing is installed.

One noun for images and devices; its form is `spec/standalone.md`. What it serves is a `Contents`,
decided before anything is written; its table leaves to whoever starts the engine what only they know:
where the folder lies, how many processors there are, and who may come in.
"""

from __future__ import annotations

import hashlib
import json
import platform
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dukou.base.canonical import dump_canonical
from dukou.base.documents import parse_document
from dukou.base.errors import InputError
from dukou.deploy.compile import Surroundings, compile_deployment, deployment_of_reference
from dukou.deploy.document import Deployment
from dukou.deploy.libraries import find_libraries
from dukou.package.disk import translate_errors
from dukou.package.encryption import is_encrypted
from dukou.package.extract import copy_versions
from dukou.package.store import Store
from dukou.package.unpack import read_config, verify_version
from dukou.trust.keys import load_trust_store

if TYPE_CHECKING:
    from dukou.registry.registry import Registry

PROGRAM, LIBRARIES, RUNTIME = "dukou-engine", "lib", "libonnxruntime.so"
TABLE, FACTS = "table.json", "folder.json"
# Of a folder of nothing but files, which have no time of their own.
NO_TIME = "1970-01-01T00:00:00Z"

_LISTENER = "http"
_STORE, _MODELS = "store", "models"
# What the starter puts the number of processors for.
_PROCESSORS = "cpus"
# A table names an absolute store; the folder's is where the folder is.
_ELSEWHERE = Path("/store")
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


@dataclass(frozen=True, slots=True)
class BareFile:
    """An ONNX file that is served as it is.

    Attributes:
        name: what it is served as.
        graph: the file.
        beside: names of the files of weights in its folder.
        document: the model as in a table; empty where a deployment says it.
    """

    name: str
    graph: Path
    beside: tuple[str, ...]
    document: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ServedModel:
    """A version in a folder.

    Attributes:
        name: what it is served as.
        version: its number; `1` of a bare file.
        digest: of the version, or of the bare file's bytes; empty for what others answer.
        bytes: of its graph and weights.
        is_packaged: whether it is a version of the registry.
    """

    name: str
    version: str
    digest: str
    bytes: int
    is_packaged: bool


@dataclass(frozen=True, slots=True)
class Contents:
    """What a folder serves.

    Attributes:
        name: of the first model.
        table: the serving table, paths and processors left to the starter.
        models: every version.
        created: when the newest of them was, ISO 8601.
        deployments: what was compiled; nothing for bare files.
        store: where the versions are.
        files: the bare files.
    """

    name: str
    table: Mapping[str, Any]
    models: tuple[ServedModel, ...]
    created: str
    deployments: tuple[Deployment, ...]
    store: Store
    files: tuple[BareFile, ...] = ()

    @property
    def digests(self) -> tuple[str, ...]:
        """Of the packaged versions."""
        return tuple(model.digest for model in self.models if model.is_packaged)

    @property
    def asks_others(self) -> bool:
        """Whether some of it is answered by servers elsewhere."""
        versions = (version for model in self.table["models"] for version in model["versions"])
        return any("remote" in version["source"] for version in versions)

    @property
    def is_encrypted(self) -> bool:
        """Whether an encryption key is needed to serve it."""
        manifests = (self.store.read_manifest(self.store.find_version(d)) for d in self.digests)
        return any(is_encrypted(manifest) for manifest in manifests)


@dataclass(frozen=True, slots=True)
class FolderFacts:
    """What a folder turned out to be.

    Attributes:
        path: where it is.
        document: `folder.json`.
        bytes: part → bytes: `engine`, `runtime`, `libraries`, `models`, `other`.
    """

    path: Path
    document: Mapping[str, Any]
    bytes: Mapping[str, int] = field(default_factory=dict)


def select_contents(
    references: Sequence[tuple[str, str]],
    *,
    home: Path,
    registry: Registry | None,
    files: Sequence[BareFile] = (),
    documents: Sequence[Deployment] = (),
    sequence: int = 1,
    access_log: bool = False,
) -> Contents:
    """What a folder of these versions and files serves.

    Nobody collects captures of an engine that stands alone: none are kept.

    Args:
        references: (served as, reference): `digits`, `digits:3`, `digits@champion`, or the name of a
            deployment.
        home: DUKOU_HOME.
        registry: where references are looked up; None where there are none.
        files: bare files besides, and those that the documents name.
        documents: deployments that stand in files.
        sequence: of the table.
        access_log: whether every request is a line on stdout.

    Raises:
        DukouError: `registry.unknown-*`, `deploy.invalid`, `package.*`, `trust.*`.
    """
    store = Store(home / "store")
    trusted = load_trust_store(home)
    deployments: list[Deployment] = []
    entries: dict[str, Any] = {}

    def resolve(reference: str) -> Any:
        if registry is None:
            raise InputError("usage.invalid", f"`{reference}` is looked up in no registry")
        entry = registry.resolve(reference)
        entries[entry.digest] = entry
        return entry

    found_here = [find_deployment(*pair, registry, resolve) for pair in references]
    for found in [*found_here, *documents]:
        models = [model.model_copy(update={"capture": None}) for model in found.models]
        deployments.append(found.model_copy(update={"models": models}))
    table = compile_deployment(
        deployments,
        resolve=resolve,
        labels=lambda digest: read_config(store, digest).labels,
        surroundings=Surroundings(
            store=_ELSEWHERE,
            listeners=[_LISTENER],
            trusted=[(key.id, key.pem) for key in trusted.values()],
            access_log=Path("-") if access_log else None,
            bare=[dict(file.document) for file in files if file.document],
        ),
        sequence=sequence,
    ).model_dump(mode="json", exclude_none=False)
    served = _leave_open(table, deployments, {file.name for file in files})
    for digest in (model.digest for model in served if model.is_packaged):
        if table["trust"]["require_signature"]:
            verify_version(store, digest, trusted)
    identity = {"table": {**table, "revision": ""}, "files": [_digest(f.graph) for f in files]}
    table["revision"] = f"t{hashlib.sha256(dump_canonical(identity)).hexdigest()[:12]}"
    return Contents(
        name=served[0].name,
        table=table,
        models=tuple(_with_size(model, store, files) for model in served),
        created=max((entry.created for entry in entries.values()), default=NO_TIME),
        deployments=tuple(deployments),
        store=store,
        files=tuple(files),
    )


def find_deployment(
    name: str, reference: str, registry: Registry | None, resolve: Callable[[str], Any]
) -> Deployment:
    """The deployment that a reference means: the registry's own of this name, or one of it alone.

    Raises:
        DukouError: `registry.unknown-*`, `deploy.invalid`.
    """
    if registry is not None and ":" not in reference and "@" not in reference:
        entry = registry.deployment(reference)
        if entry is not None:
            return parse_document(
                Deployment,
                entry.document,
                code="deploy.invalid",
                source=f"deployment `{entry.name}`, revision {entry.revision}",
            )
    # Asked first by itself: the person who typed it wants to hear of a model, not of a document.
    resolve(reference)
    return deployment_of_reference(name, reference)


def _leave_open(
    table: dict[str, Any], deployments: Sequence[Deployment], bare: set[str]
) -> list[ServedModel]:
    """Puts in the table what the starter resolves; gives what it serves."""
    said = {m.name for d in deployments for m in d.models if m.run.instances is not None}
    served = []
    for model in table["models"]:
        name = model["name"]
        for version in model["versions"]:
            if name not in said and version["backend"] is not None:
                version["backend"]["instances"] = _PROCESSORS
            source = version["source"]
            if not {"file", "artifact"} & source.keys():
                # Answered by others, or made of the models beside it: there is nothing to carry.
                served.append(ServedModel(name, version["version"], "", 0, is_packaged=False))
                continue
            if name in bare:
                version["source"] = {"file": f"{_MODELS}/{name}/{Path(source['file']).name}"}
            else:
                version["source"] = {"artifact": source["artifact"], "store": _STORE}
            digest = source.get("artifact", "")
            served.append(ServedModel(name, version["version"], digest, 0, name not in bare))
    return served


def _with_size(model: ServedModel, store: Store, files: Sequence[BareFile]) -> ServedModel:
    if model.is_packaged:
        manifest = store.read_manifest(store.find_version(model.digest))
        size = sum(int(layer["size"]) for layer in manifest["layers"])
        return ServedModel(model.name, model.version, model.digest, size, True)
    file = next((file for file in files if file.name == model.name), None)
    if file is None:
        return model
    paths = [file.graph, *(file.graph.parent / name for name in file.beside)]
    size = sum(path.stat().st_size for path in paths)
    return ServedModel(model.name, model.version, _digest(file.graph), size, False)


def write_folder(
    contents: Contents,
    into: Path,
    *,
    engine: Path,
    runtime: Path,
    runtime_version: str | None = None,
    c_library: bool = True,
) -> FolderFacts:
    """Writes a serving folder; the same contents and programs give the same files.

    Args:
        contents: what it serves.
        into: a folder that is not there yet, or empty.
        engine: the engine's program.
        runtime: ONNX Runtime's library.
        runtime_version: of that library, for `folder.json`.
        c_library: whether the C library comes with it, for a root of its own.

    Raises:
        InputError: `usage.invalid`: something is there already.
        RemoteError: `standalone.library-missing`.
        DukouError: `package.*`, `store.*`.
    """
    if into.exists() and (not into.is_dir() or any(into.iterdir())):
        raise InputError("usage.invalid", f"`{into}` is there already, and is no empty folder")
    libraries = find_libraries(engine, [runtime]) if c_library else {}
    with translate_errors(into):
        (into / LIBRARIES).mkdir(parents=True)
        _copy(engine, into / PROGRAM, 0o755)
        _copy(runtime, into / LIBRARIES / RUNTIME, 0o644)
        for name, path in libraries.items():
            _copy(path, into / LIBRARIES / name, 0o755)
        for file in contents.files:
            folder = into / _MODELS / file.name
            for name in (file.graph.name, *file.beside):
                target = folder / name
                target.parent.mkdir(parents=True, exist_ok=True)
                _copy(file.graph.parent / name, target, 0o644)
        if contents.digests:
            copy_versions(contents.store, contents.digests, into / _STORE)
        table = json.dumps(contents.table, indent=1, sort_keys=True, ensure_ascii=False)
        (into / TABLE).write_text(table + "\n", encoding="utf-8")
        document = _describe(contents, into, runtime_version)
        text = json.dumps(document, indent=1, sort_keys=True, ensure_ascii=False)
        (into / FACTS).write_text(text + "\n", encoding="utf-8")
    return FolderFacts(into, document, _sizes(into))


def _describe(contents: Contents, folder: Path, runtime_version: str | None) -> dict[str, Any]:
    from dukou import __version__

    files = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        relative = path.relative_to(folder).as_posix()
        files[relative] = {"sha256": _digest(path), "bytes": path.stat().st_size}
    return {
        "format": 1,
        "dukou": __version__,
        "runtime": runtime_version,
        "architecture": architecture(),
        "revision": contents.table["revision"],
        "created": contents.created,
        "models": [
            {
                "name": model.name,
                "version": model.version,
                **(
                    {("digest" if model.is_packaged else "file"): model.digest}
                    if model.digest
                    else {}
                ),
            }
            for model in contents.models
        ],
        "files": files,
    }


def architecture() -> str:
    """This machine's, as images name it."""
    machine = platform.machine()
    return _ARCHITECTURES.get(machine, machine)


def _sizes(folder: Path) -> dict[str, int]:
    sizes = dict.fromkeys(("engine", "runtime", "libraries", "models", "other"), 0)
    for path in folder.rglob("*"):
        if not path.is_file():
            continue
        match path.relative_to(folder).parts:
            case (name,) if name == PROGRAM:
                part = "engine"
            case (first, second) if first == LIBRARIES:
                part = "runtime" if second == RUNTIME else "libraries"
            case (first, *_) if first in (_STORE, _MODELS):
                part = "models"
            case _:
                part = "other"
        sizes[part] += path.stat().st_size
    return sizes


def _copy(source: Path, target: Path, mode: int) -> None:
    shutil.copyfile(source, target)
    target.chmod(mode)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
