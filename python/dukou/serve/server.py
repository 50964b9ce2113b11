"""A server from Python: `with dukou.serve("digits.onnx") as server: server.predict(rows)`.

The supervisor runs as a child process and ends with the block, or with this process, whatever ends it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from dukou.base.errors import InputError, RemoteError, relay_error
from dukou.serve.process import ChildProcess, describe_end

_LIFELINE = 3


class Server:
    """A running server.

    Attributes:
        url: where it answers: `http://127.0.0.1:PORT`.
        models: what it serves.
        pid: of its supervisor.
    """

    def __init__(self, child: ChildProcess, facts: Mapping[str, Any]) -> None:
        self._child = child
        self._clients = threading.local()
        self.url = str(facts["url"])
        self.models = [str(name) for name in facts["models"]]
        self.pid = child.pid

    def __repr__(self) -> str:
        return f"<dukou server of {', '.join(self.models)} at {self.url}>"

    def predict(
        self, inputs: Any, *, model: str | None = None, version: str | None = None
    ) -> dict[str, Any]:
        """Asks a model.

        Args:
            inputs: rows for a model with one input (an array, or nested lists), else rows by input
                name.
            model: which, where several are served.
            version: which, where it is not the default.

        Returns:
            Nested lists by output name; as NumPy arrays where an array came in.

        Raises:
            DukouError: the server's own error, `data.mismatch`.
        """
        from dukou.serve.client import Client

        name = self._one_model(model)
        client = getattr(self._clients, "client", None)
        if client is None:
            client = self._clients.client = Client(self.url)
        specs = client.metadata(name, version)["inputs"]
        by_name = _by_name(inputs, [spec["name"] for spec in specs])
        request = {"inputs": [_tensor(spec, by_name) for spec in specs]}
        answer = client.infer(name, request, version)
        arrays = any(hasattr(value, "dtype") for value in by_name.values())
        return {output["name"]: _shaped(output, arrays=arrays) for output in answer["outputs"]}

    def close(self) -> None:
        """Has it answer what is in flight, and end. Once is enough; more does nothing."""
        client = getattr(self._clients, "client", None)
        if client is not None:
            client.close()
        if self._child.returncode is None:
            self._child.signal(signal.SIGTERM)
            self._child.wait()
        self._child.close()

    def _one_model(self, model: str | None) -> str:
        if model is not None:
            return model
        if len(self.models) == 1:
            return self.models[0]
        raise InputError(
            "usage.invalid",
            f"{len(self.models)} models are served, and none is named",
            hint=f"pass `model=`, one of {', '.join(self.models)}",
        )

    def __enter__(self) -> Server:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __del__(self) -> None:
        # Without a `with`: the lifeline closes, and the server drains by itself.
        with contextlib.suppress(Exception):
            self._child.close()


def serve(
    *models: str | os.PathLike[str],
    name: str | Sequence[str] = (),
    host: str = "127.0.0.1",
    port: int = 0,
    trust_pickle: bool = False,
    home: str | os.PathLike[str] | None = None,
) -> Server:
    """Serves model files or versions of the registry, and returns once they answer.

    Args:
        models: files, or references: `digits`, `digits:3`, `digits@champion`.
        name: what they are served as, in their order; their own names where absent.
        host: a loopback address.
        port: 0 takes a free one.
        trust_pickle: load pickles: this runs the code that they carry.
        home: DUKOU_HOME; the environment's where absent.

    Raises:
        DukouError: why it could not start, as `dukou serve` would say it.
    """
    if not models:
        raise InputError("usage.invalid", "no model is named")
    command: list[str | Path] = [sys.executable, "-P", "-m", "dukou", "serve", "--json"]
    command += ["--host", host, "--port", str(port)]
    for one in [name] if isinstance(name, str) else name:
        command += ["--name", one]
    if trust_pickle:
        command.append("--trust-pickle")
    command += ["--", *(os.fspath(model) for model in models)]
    environment = {**os.environ, "DUKOU_LIFELINE_FD": str(_LIFELINE)}
    if home is not None:
        environment["DUKOU_HOME"] = os.fspath(home)
    child = ChildProcess.spawn(
        command, places={}, lifeline_place=_LIFELINE, environment=environment, log=None
    )
    try:
        facts = child.read_event()
    except BaseException:
        child.close()
        raise
    if facts.get("event") == "ready":
        return Server(child, facts)
    returncode = child.wait()
    child.close()
    if "code" in facts:
        raise relay_error(str(facts["code"]), str(facts["message"]), facts.get("hint"))
    raise RemoteError("engine.no-start", f"the server {describe_end(returncode)}")


def _by_name(inputs: Any, names: list[str]) -> Mapping[str, Any]:
    if isinstance(inputs, Mapping):
        missing = [name for name in names if name not in inputs]
        if missing:
            raise InputError(
                "data.mismatch",
                f"`{missing[0]}` is missing: the model takes {', '.join(names)}, "
                f"and {', '.join(map(str, inputs)) or 'nothing'} came",
            )
        return inputs
    if len(names) != 1:
        raise InputError("data.mismatch", f"the model takes {', '.join(names)}: give them by name")
    return {names[0]: inputs}


def _tensor(spec: dict[str, Any], by_name: Mapping[str, Any]) -> dict[str, Any]:
    value = by_name[spec["name"]]
    nested = value.tolist() if hasattr(value, "tolist") else value
    shape: list[int] = []
    probe = nested
    while isinstance(probe, list | tuple):
        shape.append(len(probe))
        probe = probe[0] if len(probe) else None
    flat = nested
    for _ in shape[1:]:
        flat = [element for row in flat for element in row]
    data = list(flat) if shape else [flat]
    return {"name": spec["name"], "datatype": spec["datatype"], "shape": shape, "data": data}


def _shaped(output: dict[str, Any], *, arrays: bool) -> Any:
    if not arrays:
        from dukou.serve.example import nest

        return nest(output["data"], output["shape"])
    import numpy as np

    from dukou.model.signature import TensorSpec

    dtype = TensorSpec(output["name"], output["datatype"], ()).to_numpy()
    return np.asarray(output["data"], dtype=dtype).reshape(output["shape"])
