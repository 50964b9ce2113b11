"""TorchServe's REST as its users call it: plain `requests`, in the forms that its documentation shows with curl."""

from __future__ import annotations

import json
from typing import Any

import requests
from case import case, close

PACKAGE = "requests"
ROWS = [[1.0, 2.0, 3.0, 4.0], [0.5, -1.5, 2.25, 0.0]]


@case("ping")
def ping(facts: dict[str, Any]) -> None:
    """What probes ask."""
    answer = requests.get(f"{facts['url']}/ping", timeout=20)
    assert (answer.status_code, answer.json()) == (200, {"status": "Healthy"})


@case("predictions: a file (curl -T), JSON, a form's part (curl -F)")
def predictions(facts: dict[str, Any]) -> None:
    """The same rows in each form get the same answer."""
    url = f"{facts['url']}/predictions/m"
    text = json.dumps(ROWS)
    answers = [
        requests.put(url, data=text, timeout=20),
        requests.post(url, json=ROWS, timeout=20),
        requests.post(url, files={"data": ("rows.json", text)}, timeout=20),
    ]
    for answer in answers:
        assert answer.status_code == 200, answer.text
        found = answer.json()
        rows = found["probabilities"] if isinstance(found, dict) else None
        close(rows or [row["probabilities"] for row in found], facts["probabilities"])


@case("predictions, a version by its number")
def version(facts: dict[str, Any]) -> None:
    """Two versions of one model answer differently."""
    first = requests.post(f"{facts['url']}/predictions/m/1", json=ROWS, timeout=20)
    latest = requests.post(f"{facts['url']}/predictions/m", json=ROWS, timeout=20)
    assert first.status_code == latest.status_code == 200
    assert first.json() != latest.json()


@case("list and describe models")
def describe(facts: dict[str, Any]) -> None:
    """What automation polls."""
    listed = requests.get(f"{facts['url']}/models", timeout=20).json()["models"]
    assert "m" in {each["modelName"] for each in listed}
    (described,) = requests.get(f"{facts['url']}/models/m", timeout=20).json()
    assert described["modelName"] == "m"
    assert {worker["status"] for worker in described["workers"]} == {"READY"}


@case("explanations: answered as by a handler that has none")
def explanations(facts: dict[str, Any]) -> None:
    """503, by TorchServe's own name of the failure."""
    answer = requests.post(f"{facts['url']}/explanations/m", json=ROWS, timeout=20)
    assert answer.status_code == 503
    assert answer.json()["type"] == "InternalServerException"


@case("errors: code, type and message")
def errors(facts: dict[str, Any]) -> None:
    """The type is part of the contract."""
    answer = requests.post(f"{facts['url']}/predictions/nobody", json=ROWS, timeout=20)
    assert answer.status_code == 404
    said = answer.json()
    assert (said["code"], said["type"]) == (404, "ModelNotFoundException")
    assert said["message"] == "Model not found: nobody"
    answer = requests.post(f"{facts['url']}/predictions/m/9", json=ROWS, timeout=20)
    assert answer.json()["type"] == "ModelVersionNotFoundException"
