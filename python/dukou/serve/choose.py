"""The words of a command line become an `Order`: which are files, which references, what each is called."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from dukou.base.errors import InputError, RemoteError, relay_error
from dukou.base.ids import ModelName, parse_model_name
from dukou.deploy.door import LOOPBACK, Door, check_networks
from dukou.deploy.dropin.tensorflow import is_server_config, load_server_config
from dukou.deploy.dropin.triton import Policy
from dukou.deploy.override import NO_OVERRIDE, Override
from dukou.serve.bare import NO_SETTINGS, FileModel, Settings, file_model, name_of_file
from dukou.serve.find import find_engine, find_runtime
from dukou.serve.follow import Followed
from dukou.serve.listen import is_loopback
from dukou.serve.order import Order, Reference
from dukou.serve.process import ChildProcess, describe_end
from dukou.serve.repository import is_repository, parse_versions, read_repository

_REFERENCE = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*)(:[0-9]+|@[A-Za-z0-9][A-Za-z0-9._-]*)?\Z")
_PROJECT_FILE = "dukou.toml"
# A word that ends like this means a file, even one that is not there.
_FILE_ENDINGS = (
    ".onnx",
    ".pkl",
    ".pickle",
    ".joblib",
    ".skops",
    ".keras",
    ".h5",
    ".pt",
    ".pth",
    ".pb",
    ".tflite",
    ".bin",
    ".json",
    ".zip",
)


def choose(
    models: Sequence[str],
    *,
    home: Path,
    names: Sequence[str] = (),
    host: str = "127.0.0.1",
    port: int = 8080,
    engine: str | None = None,
    runtime: str | None = None,
    threads: int | None = None,
    trust_pickle: bool = False,
    versions: str | None = None,
    door: Door | None = None,
    override: Override = NO_OVERRIDE,
    ports: Mapping[str, int] | None = None,
    follow: bool = True,
    settings: Settings = NO_SETTINGS,
) -> Order:
    """What to serve, every part of it checked as far as it can be without starting anything.

    Args:
        models: files, folders of projects (their models' champions) or of models, deployment
            documents, TensorFlow Serving's configurations, or references: `digits`, `digits:3`, `digits@champion`.
        home: DUKOU_HOME, where conversions are kept.
        names: what the models are served as, in their order; fewer leave the rest their own names.
        host: the address that is listened on.
        port: 0 takes a free one.
        engine: the engine's program; found where None.
        runtime: ONNX Runtime's library; found where None.
        threads: worker threads of the engine.
        trust_pickle: whether pickles may be loaded, for conversion.
        versions: which of a folder's numbered versions: `latest`, `all`, how many of the latest; what
            its models say, else the latest, where None.
        door: who may come in; whoever is on this machine where None.
        override: what is said of every model in place of its deployment's word.
        ports: of further sockets, by their names.
        follow: whether what is put into a folder of models later is served too.
        settings: what is said of every model of a folder beside it.

    Raises:
        InputError: `formats.*`, `folder.*`, `usage.invalid`, `config.invalid`.
        RemoteError: `engine.not-found`, `engine.runtime-missing`.
    """
    if len(names) > len(models):
        raise InputError("usage.invalid", f"{len(names)} `--name` for {len(models)} models")
    if threads is not None and not 1 <= threads <= 256:
        raise InputError("usage.invalid", f"`--threads {threads}` is not between 1 and 256")
    policy = parse_versions(versions)
    files: dict[ModelName, FileModel] = {}
    golden: dict[str, list[dict[str, Any]]] = {}
    references: list[Reference] = []
    documents: list[Path] = []
    folders: list[Followed] = []
    notes: list[str] = []
    stores: list[Path] = []
    taken: set[str] = set()
    converted: dict[Path, tuple[Path, list[dict[str, Any]] | None]] = {}

    def convert(path: Path) -> tuple[Path, list[dict[str, Any]] | None]:
        converted[path] = _as_onnx(path, home, trust_pickle=trust_pickle)
        return converted[path]

    def add_folder(
        path: Path, said: ModelName | None, word: str, policy: Policy | None, settings: Settings
    ) -> None:
        found = read_repository(path, convert, policy=policy, trust_code=trust_pickle)
        named = _named(found.models, said, word)
        _claim(named, taken)
        for name, model in named.items():
            files[name], left_out = settings.upon(name, model)
            notes.extend(left_out)
        golden.update(found.golden)
        notes.extend(found.notes)
        folders.append(Followed(path, said, policy, converted, settings))

    for index, word in enumerate(models):
        said = parse_model_name(names[index]) if index < len(names) else None
        text = model_of_project(word) or word
        path = Path(text).expanduser()
        if _is_deployment(path):
            _refuse_name(word, said)
            documents.append(path.absolute())
            continue
        is_file = names_a_file(text, path)
        if is_file and is_server_config(path):
            _refuse_name(word, said)
            configured, left_out = load_server_config(path)
            notes += left_out
            for each in configured:
                if not each.path.is_dir():
                    raise InputError(
                        "formats.not-found",
                        f"there is no folder at `{each.path}`, of `{each.name}`",
                    )
                own = settings._replace(labels=each.labels)
                model_name = parse_model_name(each.name)
                add_folder(each.path, model_name, str(each.path), policy or each.policy, own)
            continue
        if is_file and path.is_dir() and is_repository(path):
            add_folder(path, said, word, policy, settings)
            # What is laid beside its models later can be loaded by whoever may manage.
            stores.append(path.resolve())
            continue
        name = said or (name_of_file(path) if is_file else model_of_reference(text))
        _claim([name], taken)
        if is_file:
            graph, sample = convert(path)
            files[name] = file_model(graph)
            if sample is not None:
                golden[name] = sample
        else:
            model_of_reference(text)  # refused here, before anything starts
            references.append(Reference(name, text))
    return Order(
        files=files,
        references=references,
        documents=documents,
        host=host,
        port=port,
        engine=find_engine(engine),
        runtime=find_runtime(runtime),
        threads=threads,
        golden=golden,
        door=door or LOOPBACK,
        override=override,
        notes=notes,
        ports=ports or {},
        folders=folders if follow else (),
        stores=stores,
    )


def _claim(names: Iterable[ModelName], taken: set[str]) -> None:
    for name in names:
        if name in taken:
            raise InputError(
                "usage.invalid",
                f"two models are to be served as `{name}`",
                hint="give each a name of its own: `--name` once a model, in their order",
            )
        taken.add(name)


def _named(
    models: dict[ModelName, FileModel], said: ModelName | None, word: str
) -> dict[ModelName, FileModel]:
    """A folder's models, by the name that was said where there is one model."""
    if said is None:
        return models
    if len(models) > 1:
        raise InputError(
            "usage.invalid",
            f"`{word}` holds {len(models)} models, and `--name {said}` is for one",
            hint="a folder's models are called as its folders and files are: rename those",
        )
    (model,) = models.values()
    return {said: model}


def choose_door(
    host: str,
    *,
    secure: bool = False,
    insecure: bool = False,
    certificate: Path | None = None,
    key: Path | None = None,
    allow: Sequence[str] = (),
    deny: Sequence[str] = (),
) -> Door:
    """Who may come in by this address: off loopback whoever holds a key, by TLS.

    Args:
        host: the address that is listened on.
        secure: TLS and keys on loopback too.
        insecure: anybody, in clear, off loopback too.
        certificate: PEM; the installation's own is made where None.
        key: its private key.
        allow: networks that may connect.
        deny: networks that may not.

    Raises:
        InputError: `usage.invalid`: two of these contradict each other, or a file is not there.
    """
    if secure and insecure:
        raise InputError("usage.invalid", "`--secure` and `--insecure` contradict each other")
    if (certificate is None) != (key is None):
        raise InputError("usage.invalid", "`--tls-certificate` and `--tls-key` go together")
    if insecure and certificate is not None:
        raise InputError("usage.invalid", "`--insecure` speaks in clear and takes no certificate")
    for path in (certificate, key):
        if path is not None and not path.is_file():
            raise InputError("usage.invalid", f"there is no file `{path}`")
    here = is_loopback(host)
    guarded = secure or certificate is not None or not (here or insecure)
    return Door(
        access="keys" if guarded else "loopback" if here else "open",
        certificate=None if certificate is None else str(certificate.absolute()),
        key=None if key is None else str(key.absolute()),
        allow=check_networks("--allow", allow),
        deny=check_networks("--deny", deny),
    )


def model_of_project(word: str) -> str | None:
    """The name of the model whose project this folder is; None for every other word.

    A plain word is a reference first: a folder of the same name as a model in the registry is no
    reason to miss it.
    """
    file = Path(word).expanduser() / _PROJECT_FILE
    if (os.sep not in word and word not in (".", "..", "~")) or not file.is_file():
        return None
    import tomllib

    try:
        section = tomllib.loads(file.read_text(encoding="utf-8")).get("model")
    except ValueError as error:
        raise InputError("project.invalid", f"`{file}` is not TOML: {error}") from None
    name = section.get("name") if isinstance(section, dict) else None
    if not isinstance(name, str):
        raise InputError("project.invalid", f"`{file}` says no `model.name`")
    return parse_model_name(name)


def _is_deployment(path: Path) -> bool:
    """Whether a file is a deployment rather than a model: TOML, or JSON with a list of models."""
    suffix = path.suffix.lower()
    if suffix == ".toml":
        if not path.exists():
            raise InputError("formats.not-found", f"there is nothing at `{path}`")
        return True
    if suffix != ".json":
        return False
    try:
        document = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return False  # whoever reads models says what is wrong with it
    return isinstance(document, dict) and isinstance(document.get("models"), list)


def _refuse_name(word: str, said: ModelName | None) -> None:
    if said is not None:
        raise InputError(
            "usage.invalid",
            f"`{word}` is a deployment, whose models have names of their own; `--name {said}` is for a model",
        )


def names_a_file(text: str, path: Path) -> bool:
    """Whether a word means a file rather than a reference; one that is not there is refused."""
    if path.is_file():
        return True
    if os.sep in text or text.startswith("~") or path.suffix.lower() in _FILE_ENDINGS:
        if not path.exists():
            raise InputError("formats.not-found", f"there is nothing at `{path}`")
        return True
    return False


def model_of_reference(reference: str) -> ModelName:
    """The model that a reference is of.

    Raises:
        InputError: `formats.not-found`: it is no reference.
    """
    match = _REFERENCE.match(reference)
    if match is None:
        raise InputError(
            "formats.not-found",
            f"there is nothing at `{reference}`, and it is no reference to a version either",
            hint="a reference is `NAME`, `NAME:3` or `NAME@champion`",
        )
    return ModelName(match[1])


def _as_onnx(
    path: Path, home: Path, *, trust_pickle: bool
) -> tuple[Path, list[dict[str, Any]] | None]:
    """The path itself where it is named like ONNX (the engine has the last word), else its conversion.

    With the input tensors of a golden sample, where the conversion made one.
    """
    if path.is_file() and path.suffix.lower() == ".onnx":
        return path.absolute(), None
    return _convert(path, home, trust_pickle=trust_pickle)


def _convert(
    path: Path, home: Path, *, trust_pickle: bool
) -> tuple[Path, list[dict[str, Any]] | None]:
    """Converts in a process of its own: a framework in this one would stay for the server's life."""
    print(f"converting `{path}` to ONNX", file=sys.stderr, flush=True)
    command: list[str | Path] = [sys.executable, "-P", "-m", "dukou", "convert", path.absolute()]
    command += ["--into", home / "cache" / "conversions", "--json"]
    command += ["--trust-pickle"] if trust_pickle else []
    child = ChildProcess.spawn(
        command, places={}, lifeline_place=3, environment=os.environ, log=None
    )
    try:
        last = child.read_to_end()
        returncode = child.wait()
    except BaseException:
        child.signal(signal.SIGKILL)
        raise
    finally:
        child.close()
    if "graph" in last:
        return Path(str(last["graph"])), last.get("golden")
    if "code" in last:
        raise relay_error(str(last["code"]), str(last["message"]), last.get("hint"))
    raise RemoteError(
        "engine.no-start",
        f"the conversion of `{path}` {describe_end(returncode)}",
        hint="its words stand above",
    )
