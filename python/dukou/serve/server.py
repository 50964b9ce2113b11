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
from typing import TYPE_CHECKING, Any

from dukou.base.errors import InputError, RemoteError, relay_error
from dukou.serve.process import ChildProcess, describe_end

if TYPE_CHECKING:
    from dukou.model.model import Model

_LIFELINE = 3


class Server:
    """A running server.

    Attributes:
        url: where it answers: `http://127.0.0.1:PORT`.
        models: what it serves.
        pid: of its supervisor.
        key: the installation's first key, where this start made it; shown this once.
        certificate: what its own is checked against, where it speaks TLS.
    """

    def __init__(self, child: ChildProcess, facts: Mapping[str, Any]) -> None:
        self._child = child
        self._clients = threading.local()
        self.url = str(facts["url"])
        self.models = [str(name) for name in facts["models"]]
        self.pid = child.pid
        self.key = facts.get("key")
        self.certificate = facts.get("certificate")

    def __repr__(self) -> str:
        return f"<dukou server of {', '.join(self.models)} at {self.url}>"

    def predict(self, inputs: Any, *, model: str | None = None, version: str | None = None) -> Any:
        """Asks a model.

        Args:
            inputs: rows for a model with one input (an array, or nested lists), else rows by input
                name; or a DataFrame, whose columns are the model's inputs by name, or, for a model
                with one input, its features in their order.
            model: which, where several are served.
            version: which, where it is not the default.

        Returns:
            Nested lists by output name; as NumPy arrays where an array came in; a DataFrame with the
            same index where a DataFrame came in (an output of several numbers a row becomes the
            columns `NAME_0`, `NAME_1` …).

        Raises:
            DukouError: the server's own error, `data.mismatch`.
        """
        from dukou.serve.client import Client

        name = self._one_model(model)
        client = getattr(self._clients, "client", None)
        if client is None:
            client = self._clients.client = Client(self.url, key=self.key, cacert=self.certificate)
        specs = client.metadata(name, version)["inputs"]
        frame = inputs if _is_frame(inputs) else None
        if frame is not None:
            inputs = _from_frame(frame, specs)
        by_name = _by_name(inputs, [spec["name"] for spec in specs])
        request = {"inputs": [_tensor(spec, by_name) for spec in specs]}
        answer = client.infer(name, request, version)
        arrays = any(hasattr(value, "dtype") for value in by_name.values())
        found = {output["name"]: _shaped(output, arrays=arrays) for output in answer["outputs"]}
        return found if frame is None else _to_frame(found, frame)

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
    *models: str | os.PathLike[str] | Model,
    name: str | Sequence[str] = (),
    host: str = "127.0.0.1",
    port: int = 0,
    trust_pickle: bool = False,
    versions: str | int | None = None,
    like: str | None = None,
    home: str | os.PathLike[str] | None = None,
) -> Server:
    """Serves model files or versions of the registry, and returns once they answer.

    Args:
        models: files, folders of models, references (`digits`, `digits:3`, `digits@champion`), or a
            `Model` at hand.
        name: what they are served as, in their order; their own names where absent.
        host: the address to listen on; off loopback with TLS and keys (`DUKOU_KEY`).
        port: 0 takes a free one.
        trust_pickle: load pickles: this runs the code that they carry.
        versions: of a folder's numbered versions: `latest`, `all`, or how many of the latest.
        like: the server whose clients are to find their ports: `tensorflow-serving`, `torchserve`,
            `triton`; with `port` 0 on free ones.
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
    if versions is not None:
        command += ["--versions", str(versions)]
    if like is not None:
        command += ["--like", like]
    command += ["--", *map(_path, models)]
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


def _path(model: Any) -> str:
    """A Model is its graph, with what lies beside it."""
    path: str = os.fspath(getattr(model, "graph", model))
    return path


def _is_frame(inputs: Any) -> bool:
    """Whether it is a table with named columns, whatever library made it."""
    return hasattr(inputs, "columns") and hasattr(inputs, "to_numpy")


def _from_frame(frame: Any, specs: list[dict[str, Any]]) -> Mapping[str, Any]:
    """The model's inputs from columns.

    Raises:
        InputError: `data.mismatch`, with both sides.
    """
    from dukou.model.rows import fit_rows
    from dukou.model.signature import Signature, TensorSpec

    inputs = tuple(
        TensorSpec(
            spec["name"],
            spec["datatype"],
            tuple("n" if extent < 0 else extent for extent in spec["shape"]),
        )
        for spec in specs
    )
    columns = {str(name): frame[name].to_numpy() for name in frame.columns}
    width = inputs[0].shape[-1] if len(inputs) == 1 and len(inputs[0].shape) == 2 else None
    if isinstance(width, int) and inputs[0].name not in columns and len(columns) != width:
        shown = ", ".join(f"`{name}`" for name in list(columns)[:8])
        more = " …" if len(columns) > 8 else ""
        raise InputError(
            "data.mismatch",
            f"the model takes {width} numbers a row, the table has {len(columns)} columns: {shown}{more}",
            hint="drop the columns that are no feature, as `df.drop(columns=[…])`",
        )
    return fit_rows(Signature(inputs, ()), columns)


def _to_frame(found: Mapping[str, Any], frame: Any) -> Any:
    columns: dict[str, Any] = {}
    for name, array in found.items():
        flat = array.reshape(len(array), -1)
        if flat.shape[1] == 1:
            columns[name] = flat[:, 0]
        else:
            columns |= {f"{name}_{index}": flat[:, index] for index in range(flat.shape[1])}
    return type(frame)(columns, index=frame.index)


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
