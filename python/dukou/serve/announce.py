"""What a started server says: what is served, a request to paste, where to look."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dukou.deploy.door import LOOPBACK, Door
from dukou.serve.example import (
    LONGEST_BODY,
    curl_line,
    example_inputs,
    predict_line,
    request_body,
    rows_argument,
)


def announce(
    *,
    url: str,
    models: list[dict[str, Any]],
    golden: Mapping[str, list[dict[str, Any]]],
    state_dir: Path,
    log: Path,
    access_log: Path,
    pid: int,
    seconds: float | None,
    door: Door = LOOPBACK,
    first_key: str | None = None,
    like: str | None = None,
) -> str:
    """The lines that end a start.

    Args:
        url: where requests are answered.
        models: as `GET /models` of the local API gives them.
        golden: model → input tensors of a golden sample, where there is one.
        state_dir: where a request too long for a line is left as a file.
        log: of the engine.
        access_log: of the requests.
        pid: the supervisor's, which a person ends.
        seconds: from the command to now, where known.
        door: who may come in.
        like: whose ports are open, where another server's are.
        first_key: the installation's first key, where it was just made: it is shown here and never again.
    """
    names = ", ".join(model["name"] for model in models) or "nothing yet"
    took = f" (ready in {seconds:.2f} s)" if seconds is not None else ""
    lines = [f"serving {names} at {url}{took}", ""]
    versions = {f"{m['name']}:{served_version(m)['version']}": served_version(m) for m in models}
    width = max(map(len, versions), default=0)
    lines += [
        f"  {name:<{width}}  {show_signature(version['signature'])}"
        for name, version in versions.items()
    ]
    if like is not None:
        lines += ["", f"  ports    {like}; each of them answers every client"]
    lines += _door_lines(door, first_key)
    for model in models:
        lines += ["", *_try_lines(url, model, golden.get(model["name"]), state_dir)]
    lines += [
        "",
        f"  models   {url}/",
        f"  metrics  {url}/metrics",
        f"  log      {log}",
        f"  access   {access_log}",
        f"  stop     Ctrl-C here, or `kill {pid}`",
    ]
    return "\n".join(lines)


def _door_lines(door: Door, first_key: str | None) -> list[str]:
    """What a client needs to come in."""
    if door.access == "open":
        return ["", "  warning: anybody who reaches this address may ask, and reads along"]
    if door.access == "loopback":
        return []
    lines = ["", f"  certificate  {door.certificate}"]
    if first_key is None:
        lines += ["  keys         `dukou keys list` shows them, `dukou keys add NAME` makes one"]
    else:
        lines += [f"  first key    {first_key}", "               (it is shown this once: keep it)"]
    set_key = f"export DUKOU_KEY={first_key or 'KEY'} DUKOU_CACERT={door.certificate}"
    return [*lines, "", f"  {set_key}"]


def served_version(model: dict[str, Any]) -> dict[str, Any]:
    """The version that most requests get: the heaviest arm of the split, else the first."""
    versions = {version["version"]: version for version in model["versions"]}
    split = model.get("split") or []
    heaviest = max(split, key=lambda arm: arm["weight"], default=None)
    chosen = versions.get(heaviest["version"]) if heaviest else None
    found: dict[str, Any] = chosen or model["versions"][0]
    return found


def show_signature(signature: dict[str, Any]) -> str:
    """`pixels FP32 [n, 64] → label INT64 [n]`."""
    sides = (
        ", ".join(
            f"{spec['name']} {spec['dtype']} {show_shape(spec['shape'])}"
            for spec in signature[side]
        )
        for side in ("inputs", "outputs")
    )
    return " → ".join(sides)


def show_shape(shape: list[Any]) -> str:
    """`[n, 64]`: a symbol by its name, what may be anything as `?`."""
    return f"[{', '.join('?' if extent in (None, -1) else str(extent) for extent in shape)}]"


def _try_lines(
    url: str, model: dict[str, Any], golden: list[dict[str, Any]] | None, state_dir: Path
) -> list[str]:
    name = model["name"]
    tensors = example_inputs(served_version(model)["signature"], golden)
    if tensors is None:
        return [f"  {name} takes a dtype that JSON cannot carry: send it as binary tensor data"]
    body = request_body(tensors)
    if len(body) <= LONGEST_BODY:
        return [
            f"  {curl_line(url, name, body)}",
            "",
            f"  {predict_line(url, name, rows_argument(tensors))}",
        ]
    file = state_dir / f"sample-{name}.json"
    file.write_text(body, encoding="utf-8")
    return [
        f"  {curl_line(url, name, f'@{file}')}",
        "",
        f"  {predict_line(url, name, str(file))}",
    ]
