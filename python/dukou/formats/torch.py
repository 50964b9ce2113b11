"""PyTorch's files come in: TorchScript, exported programs, checkpoints with the code that builds them.

Every one of them is a program: its loading may run what it carries, so that it is loaded in a child
process, and only for a user who vouches for it. A state dictionary alone is loaded as weights and
nothing else.
"""

from __future__ import annotations

import dataclasses
import re
import warnings
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from dukou.base.errors import InputError
from dukou.formats.archive import check_archive, list_archive
from dukou.formats.network import check_installed, open_network
from dukou.formats.reader import NO_OPTIONS, ReadOptions
from dukou.model.model import Model

if TYPE_CHECKING:
    from dukou.formats.reader import Samples

# A name in the archive → what it is; the first that fits speaks.
_KINDS = (
    (r"(^|/)constants\.pkl$", "script"),
    (r"(^|/)(archive_format|models/.*\.json|serialized_exported_program\.json)$", "export"),
    (r"(^|/)data\.pkl$", "checkpoint"),
)
_WORDS = {
    "script": "a TorchScript model",
    "export": "a PyTorch exported program",
    "checkpoint": "a PyTorch checkpoint",
}


@dataclass(frozen=True, slots=True)
class TorchReader:
    """Reads what `torch.jit.save`, `torch.export.save` and `torch.save` write."""

    options: ReadOptions = NO_OPTIONS

    name: ClassVar[str] = "torch"
    kind: ClassVar[str] = (
        "PyTorch models (TorchScript, torch.export's .pt2; a state_dict with --factory)"
    )
    needs: ClassVar[tuple[str, ...]] = ("torch", "onnxscript")

    def reads(self, head: bytes, path: Path) -> bool:
        """Whether it is a zip archive with the entries that PyTorch writes; nothing is loaded."""
        return head.startswith(b"PK\x03\x04") and _kind_of(path) is not None

    def with_options(self, options: ReadOptions) -> TorchReader:
        """A reader that knows what the user says beside the file."""
        return dataclasses.replace(self, options=options)

    def load_model(self, path: Path, *, into: Path, samples: Samples | None, trust: bool) -> Model:
        """Converts by torch.onnx in a child, compares the answers, records golden samples."""
        kind = _kind_of(path) or "checkpoint"
        check_archive(path, _WORDS[kind])
        if kind == "checkpoint" and self.options.factory is None and _is_state(path):
            raise InputError(
                "formats.not-a-model",
                f"`{path}` is a PyTorch state_dict: weights without a graph",
                hint="name what builds the module: `--factory module.py:function`",
            )
        if self.options.factory is None and not trust:
            raise InputError(
                "formats.untrusted-code",
                f"`{path}` is {_WORDS[kind]}: loading it can run code that it carries, and nobody "
                "has vouched for it",
            )
        check_installed(path, _WORDS[kind], self.needs, "torch")
        return open_network(
            path,
            kind=kind,
            suffix=".pt2" if kind == "export" else ".pt",
            into=into,
            samples=samples,
            trust=trust,
            options=self.options,
        )

    def write_example(self, into: Path) -> Path:
        """A convolutional network as TorchScript, seeded."""
        import torch

        into.mkdir(parents=True, exist_ok=True)
        with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
            warnings.simplefilter("ignore")  # of TorchScript's age
            torch.manual_seed(7)
            network = torch.nn.Sequential(
                torch.nn.Unflatten(1, (1, 4, 4)),
                torch.nn.Conv2d(1, 4, 3),
                torch.nn.ReLU(),
                torch.nn.Flatten(),
                torch.nn.Linear(16, 3),
                torch.nn.Softmax(dim=1),
            ).eval()
            traced = torch.jit.trace(network, torch.zeros(2, 16))
        path = into / "example.pt"
        traced.save(str(path))
        return path


def _kind_of(path: Path) -> str | None:
    names = list_archive(path)
    return next((k for p, k in _KINDS if any(re.search(p, name) for name in names)), None)


def _is_state(path: Path) -> bool:
    """Whether a checkpoint's pickle names tensors and containers alone: nothing is loaded."""
    import pickletools

    with zipfile.ZipFile(path) as archive:
        entry = next(name for name in archive.namelist() if name.endswith("data.pkl"))
        content = archive.read(entry)
    modules = set()
    try:
        for opcode, argument, _ in pickletools.genops(content):
            if opcode.name in ("GLOBAL", "INST"):
                modules.add(str(argument).split(" ")[0])
            elif opcode.name == "STACK_GLOBAL":
                return False
    except (ValueError, IndexError):
        return False
    return all(m in ("torch._utils", "torch", "collections") for m in modules)
