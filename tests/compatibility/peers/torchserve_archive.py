"""Archives of the tests' weights for TorchServe: `python torchserve_archive.py WEIGHTS.npy STORE`.

`m` in two versions, and `other`; each is a TorchScript module and the handler beside this file.
"""

from __future__ import annotations

import json
import sys
import zipfile
from pathlib import Path

import numpy as np
import torch

WEIGHTS, STORE = np.load(sys.argv[1]), Path(sys.argv[2])
# File → model, version.
ARCHIVES = {"m.mar": ("m", "1.0"), "m2.mar": ("m", "2.0"), "other.mar": ("other", "1.0")}


class Scores(torch.nn.Module):
    """What the ONNX file of the same weights answers."""

    def __init__(self, weights: torch.Tensor) -> None:
        super().__init__()
        self.weights = torch.nn.Parameter(weights, requires_grad=False)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        """Probabilities, a row each."""
        return torch.softmax(rows @ self.weights, -1)


def write_archives() -> None:
    """Writes them."""
    STORE.mkdir()
    module = STORE / "scores.pt"
    torch.jit.script(Scores(torch.from_numpy(WEIGHTS))).save(str(module))
    handler = Path(__file__).with_name("torchserve_handler.py")
    for file, (name, version) in ARCHIVES.items():
        manifest = {
            "createdOn": "01/01/2026 00:00:00",
            "runtime": "python",
            "model": {
                "modelName": name,
                "modelVersion": version,
                "serializedFile": module.name,
                "handler": handler.name,
            },
            "archiverVersion": "0.12.0",
        }
        with zipfile.ZipFile(STORE / file, "w") as archive:
            archive.writestr("MAR-INF/MANIFEST.json", json.dumps(manifest))
            archive.write(module, module.name)
            archive.write(handler, handler.name)
    module.unlink()


if __name__ == "__main__":
    write_archives()
