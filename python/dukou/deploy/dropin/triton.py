"""Triton's `config.pbtxt`: what of it a server of ONNX files honours, and the names of what it does not.

The signature is the graph's own, so `input` and `output` are not asked: only the labels that an output
names. Standard library only: `dukou serve` reads it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from dukou.deploy.dropin.text_format import Fields, Message, load_text

# Fields whose meaning a server of ONNX files has by itself.
_SILENT = {"name", "platform", "backend", "runtime", "input", "output", "metric_tags"}


class Policy(NamedTuple):
    """Which versions of a model are served.

    Attributes:
        latest: so many of the highest numbers.
        numbers: these and no others; `latest` is then not asked.
    """

    latest: int | None = 1
    numbers: tuple[int, ...] = ()

    def choose(self, found: list[int]) -> list[int]:
        """The numbers that are served of those that are there, ascending."""
        if self.numbers:
            return sorted(number for number in found if number in self.numbers)
        return sorted(found) if self.latest is None else sorted(found)[-self.latest :]


class ModelConfig(NamedTuple):
    """What a model's `config.pbtxt` says, as far as it is honoured.

    Attributes:
        name: None where it says none.
        kind: its platform, else its backend; empty where it says neither.
        file_name: the model's file in a version's folder; None: the usual ones.
        labels_file: of the class names, in the model's folder.
        policy: which versions are served; None where it does not say.
        max_rows: rows of one run.
        delay_us: how long an idle instance waits for more.
        instances: runs at once.
        threads: inside one run.
        left_out: fields that are not honoured, by their names there.
    """

    name: str | None = None
    kind: str = ""
    file_name: str | None = None
    labels_file: str | None = None
    policy: Policy | None = None
    max_rows: int | None = None
    delay_us: int | None = None
    instances: int | None = None
    threads: int | None = None
    left_out: tuple[str, ...] = ()


def load_config(path: Path) -> ModelConfig:
    """Reads a `config.pbtxt`.

    Raises:
        InputError: `folder.invalid-config`: it is not in the text format, or a field holds what it may not;
            `formats.not-found`: it cannot be read.
    """
    return _Reading(load_text(path), str(path)).config()


def read_policy(fields: Fields, message: Message, field: str) -> Policy | None:
    """A version policy, which Triton and TensorFlow Serving write alike; None where there is none.

    Raises:
        InputError: `folder.invalid-config`.
    """
    for policy in fields.messages(message, field):
        if "all" in policy:
            return Policy(latest=None)
        for latest in fields.messages(policy, "latest"):
            return Policy(latest=fields.integer(latest, "num_versions", least=1) or 1)
        for specific in fields.messages(policy, "specific"):
            numbers = specific.get("versions", [])
            if not numbers or not all(type(n) is int and n >= 0 for n in numbers):
                raise fields.wrong(field, "names versions by their numbers")
            return Policy(numbers=tuple(numbers))
        if policy:
            raise fields.wrong(field, f"is `{next(iter(policy))}`, not a policy")
    return None


class _Reading(Fields):
    """One config, field by field; whatever nobody asked for is left out."""

    def __init__(self, said: Message, source: str) -> None:
        super().__init__(source)
        self._said = said
        self._left_out: list[str] = []

    def config(self) -> ModelConfig:
        said = self._said
        batch = self.integer(said, "max_batch_size", least=0)
        config = ModelConfig(
            name=self.text(said, "name"),
            kind=self.text(said, "platform") or self.text(said, "backend") or "",
            file_name=self._file_name(said, "default_model_filename"),
            labels_file=self._labels(),
            policy=read_policy(self, said, "version_policy"),
            max_rows=min(batch, 65536) if batch else None,
            delay_us=self._delay(),
            instances=self._instances(),
            threads=self._threads(),
        )
        known = _SILENT | {
            "max_batch_size",
            "default_model_filename",
            "version_policy",
            "dynamic_batching",
            "instance_group",
            "parameters",
        }
        self._left_out += [name for name in said if name not in known]
        return config._replace(left_out=tuple(dict.fromkeys(self._left_out)))

    def _file_name(self, message: Message, field: str) -> str | None:
        name = self.text(message, field)
        if name is not None and ("/" in name or name in (".", "..")):
            raise self.wrong(field, f"is a file's name, and is `{name}`")
        return name

    def _labels(self) -> str | None:
        named = [
            name
            for output in self.messages(self._said, "output")
            if (name := self._file_name(output, "label_filename")) is not None
        ]
        return named[0] if named else None

    def _delay(self) -> int | None:
        delay = None
        for batching in self.messages(self._said, "dynamic_batching"):
            found = self.integer(batching, "max_queue_delay_microseconds", least=0)
            delay = delay if found is None else min(found, 1_000_000)
            # Preferred sizes and kept order change no answer, and nothing waits for a size here.
            ignored = {"preferred_batch_size", "max_queue_delay_microseconds"}
            self._left_out += [
                f"dynamic_batching.{name}" for name in batching if name not in ignored
            ]
        return delay

    def _instances(self) -> int | None:
        total = 0
        for group in self.messages(self._said, "instance_group"):
            if str(group.get("kind", [""])[-1]) == "KIND_GPU" or "gpus" in group:
                self._left_out.append("instance_group with GPUs (`--provider cuda` runs on one)")
                continue
            total += self.integer(group, "count", least=0) or 1
            ignored = {"name", "count", "kind"}
            self._left_out += [f"instance_group.{name}" for name in group if name not in ignored]
        return min(total, 256) or None

    def _threads(self) -> int | None:
        threads = None
        for parameter in self.messages(self._said, "parameters"):
            key = self.text(parameter, "key") or "?"
            value: Any = next(iter(self.messages(parameter, "value")), {})
            text = self.text(value, "string_value") or ""
            if key == "intra_op_thread_count" and text.isdigit() and 1 <= int(text) <= 256:
                threads = int(text)
            elif not (key == "intra_op_thread_count" and text == "0"):
                self._left_out.append(f"parameters.{key}")
        return threads
