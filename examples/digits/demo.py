"""`make demo`: one real model from training to a served endpoint, by the commands a user types.

Each step is a `dukou` command, printed as it is run. Everything lies under `demo/`; the registry there
is made anew, the cache of finished stages is kept, so that a second demo is quick. Every figure in the
summary is computed from what the commands answered.
"""

from __future__ import annotations

import argparse
import collections
import csv
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
DEMO = Path(os.environ.get("DUKOU_DEMO", ROOT / "demo"))
PROJECT = DEMO / "digits"
BIN = Path(sys.executable).parent
TARGET = "digit"
SECOND_SEED = 8
ROUND_SECONDS = 4
MOST_ROUNDS = 15


def main() -> int:
    """Runs the demo; 0 where everything was as it should be."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--keep", action="store_true", help="leave the server up and say its address"
    )
    keep = parser.parse_args().keep
    begun = time.monotonic()
    os.environ["DUKOU_HOME"] = str(DEMO / "home")
    _clear()

    title("A project")
    run("init", str(PROJECT), "--example", "digits")
    title(
        "From data to a deployed version: check, train, convert, validate, evaluate, quantize, sign, publish"
    )
    first = json.loads(run("ship", str(PROJECT), "--json", show=False))
    say_shipped(first)

    title("Serve it")
    server, ready = start_server()
    try:
        print(f"  serving at {ready['url']}")
        title("The held-out digits, over HTTP")
        held_out = Path(first["folders"]["data"]) / "test.csv"
        accuracy, rows = endpoint_accuracy(held_out, ready["url"])
        print(f"  {accuracy:.4f} of {rows} right; in the evaluation {accuracy_of(first):.4f}")

        title("A second version (another seed), replaced under load")
        run(
            "ship",
            str(PROJECT),
            "--json",
            "--seed",
            str(SECOND_SEED),
            "--until",
            "package",
            show=False,
        )
        with Load(ready["url"], held_out) as load:
            second = json.loads(
                run("ship", str(PROJECT), "--json", "--seed", str(SECOND_SEED), show=False)
            )
        say_shipped(second)
        outcome = load.outcome()
        versions = outcome["versions"]
        print(
            f"  answers by version: {', '.join(f'{v}: {n:,}' for v, n in sorted(versions.items()))}"
        )
        accuracy_second, _ = endpoint_accuracy(held_out, ready["url"])
        run("models", "digits")
        run("status")
    except BaseException:
        stop(server)
        raise

    sizes = {c["variant"]: c["size_bytes"] for c in second["facts"]["optimize"]["candidates"]}
    chosen = second["facts"]["optimize"]["chosen"]
    failed, latency = outcome["failed"], outcome["latency_us"]
    title("What was measured")
    rows_of_summary = [
        (
            "accuracy through the endpoint",
            f"{accuracy:.4f} (version 1), {accuracy_second:.4f} (version 2)",
        ),
        (
            "latency while it was replaced",
            f"p50 {latency['p50'] / 1000:.2f} ms, p99 {latency['p99'] / 1000:.2f} ms, "
            f"at {outcome['rate']:,.0f} requests/s from 4 connections",
        ),
        ("size", f"{sizes['original']:,} bytes before, {sizes[chosen]:,} after ({chosen})"),
        ("failed requests during the swap", f"{failed} of {outcome['sent']:,}"),
        ("report", second["report"]),
        ("registry", str(DEMO / "home" / "registry.db")),
        ("metrics", f"{ready['url']}/metrics"),
        ("time", f"{time.monotonic() - begun:.0f} s"),
    ]
    for name, value in rows_of_summary:
        print(f"  {name:<38} {value}")
    if keep:
        print(f"\nthe server is still up at {ready['url']}; stop it with `kill {server.pid}`")
    else:
        stop(server)
    good = failed == 0 and {"1", "2"} <= set(versions) and min(accuracy, accuracy_second) > 0.9
    print("\ndemo: everything as it should be" if good else "\ndemo: NOT as it should be")
    return 0 if good else 1


def title(text: str) -> None:
    """A step's heading."""
    print(f"\n== {text}", flush=True)


def run(*arguments: str, show: bool = True) -> str:
    """Runs a `dukou` command and gives its stdout; a failure ends the demo with its words."""
    print(f"$ dukou {shlex.join(arguments)}", flush=True)
    done = subprocess.run(
        [BIN / "dukou", *arguments], stdout=subprocess.PIPE, text=True, check=False
    )
    if done.returncode != 0:
        sys.exit(f"demo: `dukou {arguments[0]}` ended with {done.returncode}")
    if show:
        print("".join(f"  {line}\n" for line in done.stdout.splitlines()), end="", flush=True)
    return done.stdout


def start_server() -> tuple[subprocess.Popen[bytes], dict[str, Any]]:
    """Starts `dukou serve digits` on a free port and waits until it answers."""
    ready = DEMO / "ready.json"
    arguments = ["serve", "digits", "--port", "0", "--ready-file", str(ready)]
    print(f"$ dukou {shlex.join(arguments)} &", flush=True)
    with (DEMO / "serve.log").open("wb") as log:
        server = subprocess.Popen([BIN / "dukou", *arguments], stdout=log, stderr=log)
    deadline = time.monotonic() + 60
    while not ready.exists():
        if server.poll() is not None or time.monotonic() > deadline:
            stop(server)
            sys.exit("demo: the server did not start:\n" + (DEMO / "serve.log").read_text())
        time.sleep(0.05)
    return server, json.loads(ready.read_text())


def stop(server: subprocess.Popen[bytes]) -> None:
    """Ends the server as an operator would, and waits for it."""
    if server.poll() is None:
        server.send_signal(signal.SIGTERM)
        server.wait(timeout=30)


def endpoint_accuracy(held_out: Path, url: str) -> tuple[float, int]:
    """Sends the held-out rows with `dukou predict` and compares the labels."""
    with held_out.open(encoding="utf-8", newline="") as file:
        truth = [row[TARGET] for row in csv.DictReader(file)]
    arguments = ["predict", "digits", str(held_out), "--drop", TARGET, "--url", url, "--json"]
    labels = [str(json.loads(line)["label"]) for line in run(*arguments, show=False).splitlines()]
    return sum(a == b for a, b in zip(labels, truth, strict=True)) / len(truth), len(truth)


def accuracy_of(shipped: dict[str, Any]) -> float:
    """Accuracy of the variant that was chosen, in the evaluation."""
    optimize = shipped["facts"]["optimize"]
    return next(c["quality"] for c in optimize["candidates"] if c["variant"] == optimize["chosen"])


def say_shipped(shipped: dict[str, Any]) -> None:
    """One line of what was shipped."""
    print(
        f"  shipped {shipped['model']}:{shipped['version']} {shipped['digest'][:19]}… "
        f"({shipped['facts']['optimize']['summary']})"
    )


class Load:
    """Sends held-out digits, each of four connections one after the other, in rounds of seconds.

    Rounds go on until the new version has answered in one of them; what became of every request is
    added up.
    """

    def __init__(self, url: str, held_out: Path) -> None:
        arguments = [f"{url}/v2/models/digits/infer", "--connections", "4", "--header-version"]
        arguments += ["--duration", str(ROUND_SECONDS)]
        print(f"$ dukou-load {shlex.join(arguments)} --body … &", flush=True)
        self._command = [str(BIN / "dukou-load"), *arguments, *_bodies(held_out)]
        self._shipped = threading.Event()
        self._rounds: list[dict[str, Any]] = []
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Load:
        self._thread.start()
        time.sleep(ROUND_SECONDS / 2)
        return self

    def __exit__(self, *_error: object) -> None:
        self._shipped.set()
        self._thread.join()

    def _run(self) -> None:
        while len(self._rounds) < MOST_ROUNDS:
            done = subprocess.run(self._command, stdout=subprocess.PIPE, check=True)
            self._rounds.append(json.loads(done.stdout)["measured"])
            if self._shipped.is_set() and "2" in self._rounds[-1]["versions"]:
                return

    def outcome(self) -> dict[str, Any]:
        """Requests, failures and answers by version; latency of the round of the swap."""
        versions: collections.Counter[str] = collections.Counter()
        for measured in self._rounds:
            versions.update(measured["versions"])
        swap = max(self._rounds, key=lambda measured: len(measured["versions"]))
        return {
            "sent": sum(measured["sent"] for measured in self._rounds),
            "failed": sum(measured["failed"] for measured in self._rounds),
            "versions": dict(versions),
            "latency_us": swap["latency_us"],
            "rate": swap["rate"],
        }


def _bodies(held_out: Path) -> list[str]:
    arguments = []
    folder = DEMO / "bodies"
    folder.mkdir(exist_ok=True)
    with held_out.open(encoding="utf-8", newline="") as file:
        for number, row in zip(range(32), csv.DictReader(file), strict=False):
            pixels = [float(v) for name, v in row.items() if name != TARGET]
            tensor = {"name": "x", "datatype": "FP32", "shape": [1, 64], "data": pixels}
            body = folder / f"{number}.json"
            body.write_text(json.dumps({"inputs": [tensor]}))
            arguments += ["--body", str(body)]
    return arguments


def _clear() -> None:
    """Removes an earlier demo's project, registry and store; keeps the cache."""
    home = DEMO / "home"
    for path in (PROJECT, *(p for p in home.glob("*") if p.name != "cache")):
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    (DEMO / "ready.json").unlink(missing_ok=True)
    DEMO.mkdir(exist_ok=True)


if __name__ == "__main__":
    sys.exit(main())
