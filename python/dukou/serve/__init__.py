"""Answers requests: the supervisor and the engine process. `dukou.serve(...)` starts a server from Python."""

from __future__ import annotations

import os
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dukou.serve.server import Server


class _CallableRoom(ModuleType):
    """This package itself: a room of the house, and the verb that a notebook calls."""

    def __call__(self, *models: str | os.PathLike[str], **options: Any) -> Server:
        """Serves model files or registry versions; see `dukou.serve.server.serve`."""
        from dukou.serve.server import serve

        return serve(*models, **options)


# `import dukou.serve.find` sets the attribute `dukou.serve` to this package: a function of the same
# name would be overwritten, so the package is the function.
sys.modules[__name__].__class__ = _CallableRoom
room = sys.modules[__name__]
