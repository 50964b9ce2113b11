"""TensorFlow Serving's configuration files: what of them a server of ONNX files honours.

models.config     `model_config_list`: models, where their versions lie, which of them, and their labels
batching.config   `BatchingParameters`: how many rows run together, and how long is waited for them

Standard library only: `dukou serve` reads it.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

from dukou.base.errors import InputError
from dukou.deploy.dropin.text_format import Fields, Message, load_text
from dukou.deploy.dropin.triton import Policy, read_policy

_LIST = "model_config_list"
_BEGINS = re.compile(r"(?:\s|#[^\n]*(?:\n|\Z))*(?:model_config_list|custom_model_config)\s*[:{<]")
_SUFFIXES = (".config", ".conf", ".cfg", ".pbtxt", ".txt", ".prototxt")
_LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}\Z")
_HONOURED = {"name", "base_path", "model_version_policy", "version_labels"}
# What says nothing that a server of ONNX files could do otherwise.
_SILENT = {"model_platform", "model_type"}


class ServedFolder(NamedTuple):
    """One model of a configuration.

    Attributes:
        name: what it is served as.
        path: the folder of its numbered versions.
        policy: which of them are served.
        labels: label → number.
    """

    name: str
    path: Path
    policy: Policy
    labels: dict[str, str]


class BatchingParameters(NamedTuple):
    """How requests ride together.

    Attributes:
        max_rows: of one run; None where nothing is said, as below.
        delay_us: how long an idle instance waits for more.
        instances: runs at once.
    """

    max_rows: int | None = None
    delay_us: int | None = None
    instances: int | None = None


def is_server_config(path: Path) -> bool:
    """Whether a file is a `ModelServerConfig`: by how it is called and how it begins."""
    if path.suffix.lower() not in _SUFFIXES or not path.is_file():
        return False
    try:
        with path.open("rb") as file:
            begin = file.read(1 << 16).decode("utf-8", "replace")
    except OSError:
        return False
    return _BEGINS.match(begin) is not None


def load_server_config(path: Path) -> tuple[list[ServedFolder], list[str]]:
    """The models of a `ModelServerConfig`, and sentences of what of it is not honoured.

    Raises:
        InputError: `folder.invalid-config`, `formats.not-found`.
    """
    said = load_text(path)
    fields = Fields(str(path))
    if "custom_model_config" in said:
        raise fields.wrong("custom_model_config", f"is not read; `{_LIST}` is")
    models: list[ServedFolder] = []
    notes: list[str] = []
    for configs in fields.messages(said, _LIST):
        for config in fields.messages(configs, "config"):
            models.append(_read_model(fields, config))
            left_out = [name for name in config if name not in _HONOURED | _SILENT]
            if left_out:
                notes.append(
                    f"`{path}`: not honoured here, of `{models[-1].name}`: {', '.join(left_out)}"
                )
    names = [model.name for model in models]
    for name in names:
        if names.count(name) > 1:
            raise fields.wrong("name", f"is `{name}` of two models")
    if not models:
        raise fields.wrong(_LIST, "names no model")
    return models, notes


def _read_model(fields: Fields, config: Message) -> ServedFolder:
    name = fields.text(config, "name")
    if name is None:
        raise fields.wrong("name", "of a model is missing")
    place = fields.text(config, "base_path")
    if place is None:
        raise fields.wrong("base_path", f"of `{name}` is missing")
    if "://" in place:
        raise fields.wrong(
            "base_path", f"of `{name}` is `{place}`, and only folders of this machine are read"
        )
    if not place.startswith("/"):
        raise fields.wrong("base_path", f"of `{name}` is `{place}`, which is not absolute")
    labels: dict[str, str] = {}
    for label in fields.messages(config, "version_labels"):
        key = fields.text(label, "key") or ""
        number = fields.integer(label, "value", least=0)
        if _LABEL.match(key) is None or number is None:
            raise fields.wrong("version_labels", f"of `{name}` has `{key}`, which is no label")
        labels[key] = str(number)
    policy = read_policy(fields, config, "model_version_policy") or Policy()
    return ServedFolder(name, Path(place), policy, labels)


def load_batching(path: Path) -> tuple[BatchingParameters, list[str]]:
    """A `BatchingParameters` file, and the names of what of it is not honoured.

    Raises:
        InputError: `folder.invalid-config`, `formats.not-found`.
    """
    said = load_text(path)
    fields = Fields(str(path))

    def value(field: str, least: int, most: int) -> int | None:
        found = None
        for wrapper in fields.messages(said, field):
            found = fields.integer(wrapper, "value", least=least)
        return None if found is None else min(found, most)

    batching = BatchingParameters(
        max_rows=value("max_execution_batch_size", 1, 65536) or value("max_batch_size", 1, 65536),
        delay_us=value("batch_timeout_micros", 0, 1_000_000),
        instances=value("num_batch_threads", 1, 256),
    )
    honoured = {
        "max_batch_size",
        "max_execution_batch_size",
        "batch_timeout_micros",
        "num_batch_threads",
        # A request of more rows than ride together runs by itself, and a pool needs no name.
        "enable_large_batch_splitting",
        "thread_pool_name",
    }
    return batching, [name for name in said if name not in honoured]


def check_labels(
    name: str, labels: dict[str, str], served: list[str], *, lenient: bool
) -> tuple[dict[str, str], list[str]]:
    """The labels of versions that are served, and sentences of the others.

    Args:
        name: of the model.
        labels: label → number.
        served: numbers.
        lenient: whether a label of a version that is not there is only told.

    Raises:
        InputError: `folder.invalid-config`, in TensorFlow Serving's words.
    """
    notes = []
    for label, number in labels.items():
        if number in served:
            continue
        sentence = (
            f"label `{label}`: request to assign label to version {number} of model {name}, which "
            f"is not currently available for inference (served: {', '.join(served)})"
        )
        if not lenient:
            raise InputError(
                "folder.invalid-config",
                sentence,
                hint="correct `version_labels`, or have `model_version_policy` serve that version",
            )
        notes.append(sentence)
    return {label: number for label, number in labels.items() if number in served}, notes
