"""A folder of models, served as TensorFlow Serving and Triton lay one out, on the ports of either."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import pytest
from tests.serving import House, Load, RunningServer, exchange, wait_until, write_model

import dukou

ROWS = json.dumps({"instances": [[1, 2, 3, 4]]})


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("repository")
    for place, scale in (("iris/1", 1.0), ("iris/2", -1.0), ("iris/10", 3.0), ("digits", 1.0)):
        (folder / place).mkdir(parents=True)
        write_model(folder / place / "model.onnx", scale=scale)
    (folder / "iris" / "config.pbtxt").write_text(
        'name: "iris"\nplatform: "onnxruntime_onnx"\nmax_batch_size: 8\nmodel_warmup {}\n'
    )
    (folder / "iris" / "labels.txt").write_text("setosa\nversicolor\nvirginica\n")
    write_model(folder / "plain.onnx")
    return folder


def _versions(address: tuple[str, int], name: str) -> list[str]:
    status, said, _ = exchange(address, "GET", f"/v1/models/{name}")
    assert status == 200
    return [each["version"] for each in said["model_version_status"]]


def test_every_model_answers_under_its_name(house: House, models: Path) -> None:
    with house.serving(models) as server:
        assert sorted(server.facts["models"]) == ["digits", "iris", "plain"]
        assert _versions(server.address, "iris") == ["10"]
        status, _, headers = server.ask("iris")
        assert (status, headers["dukou-version"]) == (200, "10")
        assert server.ask("iris", version="2")[0] == 404
        status, said, _ = exchange(server.address, "POST", "/iris/predict", "[[1, 2, 3, 4]]")
        assert status == 200
        assert said["classes"][0] in ("setosa", "versicolor", "virginica")
        _, stderr = server.end()
    assert "note: `iris` has versions 1, 2, 10: 10 is served" in stderr
    assert "config.pbtxt`: not honoured here: model_warmup" in stderr


def test_all_versions_by_their_numbers(house: House, models: Path) -> None:
    with house.serving(models / "iris", "--versions", "all") as server:
        assert server.facts["models"] == ["iris"]
        assert sorted(_versions(server.address, "iris")) == ["1", "10", "2"]
        answers: dict[str, Any] = {}
        for version in ("1", "2", "10"):
            path = f"/v1/models/iris/versions/{version}:predict"
            status, answers[version], _ = exchange(server.address, "POST", path, ROWS)
            assert status == 200
        assert exchange(server.address, "POST", "/v1/models/iris:predict", ROWS)[1] == answers["10"]
        assert answers["1"] != answers["2"]


@pytest.mark.parametrize(
    ("like", "names"),
    [
        ("tensorflow-serving", {"http", "grpc"}),
        ("torchserve", {"http", "management", "metrics", "grpc", "grpc-management"}),
        ("triton", {"http", "grpc", "metrics"}),
    ],
)
def test_the_ports_of_another_server(
    house: House, models: Path, like: str, names: set[str]
) -> None:
    with house.serving(models / "plain.onnx", "--like", like) as server:
        ports = server.facts["ports"]
        assert set(ports) == names
        assert len(set(ports.values())) == len(names)
        for port in ports.values():
            assert exchange(("127.0.0.1", port), "GET", "/v2/health/ready")[0] == 200
        assert server.address[1] == ports["http"]


def test_a_path_that_is_nobodys_is_answered_in_its_words(house: House, models: Path) -> None:
    """TensorFlow Serving says 400 where others say 404: on its ports so do we."""
    with house.serving(models / "plain.onnx", "--like", "tensorflow-serving") as server:
        for port in server.facts["ports"].values():
            assert exchange(("127.0.0.1", port), "GET", "/nowhere")[0] == 400
        assert exchange(server.address, "POST", "/v2/models/plain/infer", "{}")[0] == 400
        assert exchange(server.address, "GET", "/v2/models/nobody")[0] == 404
    with house.serving(models / "plain.onnx", "--like", "torchserve") as server:
        status, said, _ = exchange(server.address, "GET", "/nowhere")
        assert (status, said["type"]) == (404, "ResourceNotFoundException")
    with house.serving(models / "plain.onnx", "--like", "triton") as server:
        status, said, _ = exchange(server.address, "GET", "/nowhere")
        assert (status, "type" in said) == (404, False)


def test_with_a_registry_too_the_ports_are_held_by_control(house: House, models: Path) -> None:
    """A document is followed by control, which compiles the table: it knows of every socket too."""
    document = models / "plain.toml"
    document.write_text('name = "d"\n[[models]]\nname = "doc"\nfile = "plain.onnx"\n')
    with house.serving(models, document, "--like", "triton", "--versions", "all") as server:
        assert sorted(server.facts["models"]) == ["digits", "doc", "iris", "plain"]
        metrics = ("127.0.0.1", server.facts["ports"]["metrics"])
        assert exchange(metrics, "GET", "/v2/models/doc")[0] == 200
        assert sorted(_versions(metrics, "iris")) == ["1", "10", "2"]


def test_from_python(house: House, models: Path) -> None:
    with dukou.serve(f"{models}/", versions=2, like="triton", home=house.home) as server:
        assert sorted(server.models) == ["digits", "iris", "plain"]
        rows = [[1.0, 2.0, 3.0, 4.0]]
        assert server.predict(rows, model="iris") == server.predict(
            rows, model="iris", version="10"
        )
        assert server.predict(rows, model="iris", version="2")


def test_a_taken_port_is_said_by_its_number(house: House, models: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = house.dukou(
            *("serve", models / "plain.onnx", "--like", "triton", "--port", str(port - 2))
        )
    assert done.returncode == 3
    # One of the two before it may be somebody's as well; the sentence names the first that is.
    assert "[server.port-in-use]" in done.stderr
    assert "is taken" in done.stderr


def test_off_loopback_it_is_guarded_like_any_server(house: House, models: Path) -> None:
    words = ("--host", "0.0.0.0", "--like", "triton")
    with house.serving(models / "plain.onnx", *words) as server:
        assert server.url.startswith("https://")
        assert server.facts["key"]


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("EMPTY/",), "folder.no-model"),
        (("MODELS", "--name", "x"), "usage.invalid"),
        (("MODELS", "--versions", "0"), "usage.invalid"),
        (("MODELS", "MODELS/plain.onnx"), "usage.invalid"),
        (("MODELS/iris", "--like", "mlserver"), "usage.invalid"),
        (("MODELS/iris", "--like", "triton", "--port", "65535"), "usage.invalid"),
    ],
)
def test_what_is_refused(
    house: House, models: Path, tmp_path: Path, words: tuple[str, ...], code: str
) -> None:
    (tmp_path / "empty").mkdir()
    places = [
        w.replace("MODELS", str(models)).replace("EMPTY", str(tmp_path / "empty")) for w in words
    ]
    done = house.dukou("serve", *places)
    assert done.returncode == 2
    assert f"[{code}]" in done.stderr
    assert len(done.stderr.splitlines()) == 2


def test_an_image_carries_the_version_that_answers(
    house: House, models: Path, tmp_path: Path
) -> None:
    """What serves elsewhere reads the same folder, and takes of each model the version that answers."""
    from dukou.lifecycle.contents import choose_contents

    contents = choose_contents([str(models)], home=house.home).contents
    assert [(m.name, m.version) for m in contents.models] == [
        ("digits", "1"),
        ("iris", "10"),
        ("plain", "1"),
    ]


def _refuses(server: RunningServer, name: str, version: str) -> bool:
    return exchange(server.address, "GET", f"/v2/models/{name}/versions/{version}")[0] != 200


def test_what_is_put_into_the_folder_is_served(house: House, tmp_path: Path) -> None:
    folder = tmp_path / "models"
    (folder / "iris" / "1").mkdir(parents=True)
    write_model(folder / "iris" / "1" / "model.onnx")
    write_model(folder / "plain.onnx")
    with (
        house.serving(folder) as server,
        Load(server.address, "iris", clients=2, keep=True) as load,
    ):
        load.more(20)
        # As a copy that takes a while: what is there half-way is not served.
        (folder / "iris" / "3").mkdir()
        write_model(folder / "iris" / "3" / "model.onnx", scale=2.0)
        wait_until(lambda: _versions(server.address, "iris") == ["3"], "version 3 is served")
        load.more(20)
        (folder / "iris" / "4").mkdir()
        (folder / "iris" / "4" / "model.onnx").write_bytes(b"no model")
        said = server.process.stderr
        assert said is not None
        warning = ""
        while "warning" not in warning:
            warning = said.readline()
        assert "the engine refused its table" in warning
        assert "is not an ONNX model" in warning
        assert _versions(server.address, "iris") == ["3"]
        (folder / "plain.onnx").unlink()
        (folder / "iris" / "4" / "model.onnx").unlink()
        (folder / "iris" / "4").rmdir()
        wait_until(lambda: _refuses(server, "plain", "1"), "what was taken away is not served")
        load.more(20)
        load.stop()
        assert set(load.outcomes) == {"ok"}
        assert set(load.versions) == {"1", "3"}
