"""`dukou image` and `dukou fleet manifests` as a person meets them; what they make is run in `tests/journey`."""

from __future__ import annotations

import json
import re
import stat
from collections.abc import Iterator
from pathlib import Path

import kubernetes_validate
import pytest
import yaml
from tests import serving
from tests.registry_house import move_alias, publish
from tests.serving import House, write_model

RELEASE = ".".join(kubernetes_validate.latest_version().split(".")[:2])


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """A registry with the champion `chain:1`, which nothing here changes."""
    with serving.house() as made:
        publish(made, tmp_path_factory.mktemp("models"), seed=1)
        move_alias(made, 1)
        yield made


@pytest.mark.timeout(180)
def test_an_image_of_the_champion(chain: House, tmp_path: Path) -> None:
    archive, folder = tmp_path / "chain.tar", tmp_path / "layout"
    shown = chain.dukou("image", "build", "chain", "--output", archive, timeout_s=100)
    assert shown.returncode == 0, shown.stderr
    assert re.search(r"^ONNX Runtime +\d+\.\d$", shown.stdout, re.MULTILINE)
    assert re.search(r"^chain:1  sha256:[0-9a-f]{64}$", shown.stdout, re.MULTILINE)
    assert "-v ./access:/run/dukou:ro chain:1" in shown.stdout
    again = chain.dukou("image", "build", "chain:1", "--output", folder, "--json", timeout_s=100)
    said = json.loads(again.stdout)
    assert said["digest"] in shown.stdout
    assert said["unpacked_bytes"] == sum(said["bytes"].values()) + _passwd()
    index = json.loads((folder / "index.json").read_bytes())
    assert index["manifests"][0]["digest"] == said["digest"]
    # Nothing half-made is left beside it.
    assert {path.name for path in tmp_path.iterdir()} >= {"chain.tar", "layout"}
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".dukou")]


def _passwd() -> int:
    """Bytes of the two files that name the image's user."""
    return len("dukou:x:65532:65532::/dukou:/nonexistent\n") + len("dukou:x:65532:\n")


@pytest.mark.parametrize(
    ("words", "code", "part"),
    [
        (["nobody"], "registry.unknown-model", "nobody"),
        (["chain:9"], "registry.unknown-version", "9"),
        (["chain", "--tag", "Chain:1"], "image.invalid-reference", "capital letters"),
        (["chain", "--port", "70000"], "usage.invalid", "70000"),
        (["chain", "--engine", "lxc"], "usage.invalid", "podman, buildah, docker, none"),
        (["chain", "chain"], "usage.invalid", "two models"),
    ],
)
def test_what_cannot_be_built(chain: House, words: list[str], code: str, part: str) -> None:
    done = chain.dukou("image", "build", *words)
    assert done.returncode in (2, 3), done
    assert f"[{code}]" in done.stderr and part in done.stderr
    assert "Traceback" not in done.stderr and not done.stdout


def test_what_is_there_stays(chain: House, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "note").write_text("mine")
    done = chain.dukou("image", "build", "chain", "--output", tmp_path / "mine")
    assert done.returncode == 2 and "is there already" in done.stderr
    assert (tmp_path / "mine" / "note").read_text() == "mine"


@pytest.mark.timeout(180)
def test_a_tool_that_is_not_there_or_does_not_work(
    chain: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = chain.environment["PATH"]
    monkeypatch.setitem(chain.environment, "PATH", str(tmp_path))
    missing = chain.dukou("image", "build", "chain", "--engine", "docker")
    assert missing.returncode == 6 and "[image.tool-missing]" in missing.stderr
    docker = tmp_path / "docker"
    docker.write_text("#!/bin/sh\necho 'Cannot connect to the Docker daemon' >&2\nexit 1\n")
    docker.chmod(0o755)
    monkeypatch.setitem(chain.environment, "PATH", f"{tmp_path}:{path}")
    failed = chain.dukou("image", "build", "chain", "--engine", "docker", timeout_s=100)
    assert failed.returncode == 6, failed.stderr
    assert "[image.tool-failed]" in failed.stderr
    assert "`docker load` ended with status 1: Cannot connect to the Docker daemon" in failed.stderr


def test_what_a_container_has_mounted(house: House, tmp_path: Path) -> None:
    made = house.dukou("image", "access", tmp_path / "access", "--host", "models.example.com")
    assert made.returncode == 0, made.stderr
    key = re.search(r"dk_[0-9a-f]{12}_[A-Za-z0-9_-]{43}", made.stdout)
    assert key is not None
    for name in ("keys.json", "tls.crt", "tls.key"):
        mode = stat.S_IMODE((tmp_path / "access" / name).stat().st_mode)
        assert mode == 0o400, name
    said = (tmp_path / "access" / "keys.json").read_text()
    assert key[0].split("_")[1] in said and key[0].split("_", 2)[2] not in said
    again = house.dukou("image", "access", tmp_path / "access", "--host", "models.example.com")
    assert again.returncode == 0 and "dk_" not in again.stdout


SIZED = ("--cpu", "500m", "--memory", "256m")


def test_manifests_for_kubernetes(chain: House, tmp_path: Path) -> None:
    words = ("fleet", "manifests", "chain", "--image", "registry.example.com/chain:1")
    stream = chain.dukou(*words, *SIZED, "--replicas", "3:9", "--namespace", "models")
    assert stream.returncode == 0, stream.stderr
    objects = list(yaml.safe_load_all(stream.stdout))
    assert len(objects) == 5
    for each in objects:
        kubernetes_validate.validate(each, RELEASE, strict=True)
        assert each["metadata"]["namespace"] == "models"
    assert "# as `--cpu` says" in stream.stdout
    assert "kubectl create secret tls chain-tls --namespace models" in stream.stderr
    written = chain.dukou(*words, *SIZED, "--insecure", "--output", tmp_path / "k8s")
    assert written.returncode == 0, written.stderr
    assert {path.name for path in (tmp_path / "k8s").iterdir()} == {
        "deployment.yaml",
        "horizontalpodautoscaler.yaml",
        "networkpolicy.yaml",
        "poddisruptionbudget.yaml",
        "service.yaml",
    }
    assert "secret" not in written.stderr


@pytest.mark.timeout(180)
def test_numbers_that_nobody_said_are_measured(house: House, tmp_path: Path) -> None:
    model = write_model(tmp_path / "small.onnx")
    words = ("fleet", "manifests", model, "--image", "small:1", "--rps", "1000", "--json")
    done = house.dukou(*words, timeout_s=100)
    assert done.returncode == 0, done.stderr
    [deployment] = [each for each in json.loads(done.stdout) if each["kind"] == "Deployment"]
    [container] = deployment["spec"]["template"]["spec"]["containers"]
    resources = container["resources"]
    assert 0 < int(resources["requests"]["cpu"].removesuffix("m")) < 64_000
    assert int(resources["limits"]["memory"].removesuffix("Mi")) >= 128


@pytest.mark.parametrize(
    ("words", "code", "part"),
    [
        (["nobody", "--image", "a:1"], "registry.unknown-model", "nobody"),
        (["chain", "--image", "A B"], "image.invalid-reference", "A B"),
        (["chain", "--image", "a:1", "--replicas", "0"], "usage.invalid", "nobody would answer"),
        (["chain", "--image", "a:1", "--replicas", "5:2"], "usage.invalid", "at least 5"),
        (["chain", "--image", "a:1", "--cpu", "many"], "usage.invalid", "--cpu many"),
        (["chain", "--image", "a:1", "--memory", "lots"], "usage.invalid", "lots"),
        (["chain", "--image", "a:1", "--rps", "-1"], "usage.invalid", "--rps -1"),
        (["chain", "--image", "a:1", "--name", "A"], "usage.invalid", "--name A"),
        (["chain", "--image", "a:1", "--port", "0"], "usage.invalid", "--port 0"),
    ],
)
def test_manifests_that_cannot_be(chain: House, words: list[str], code: str, part: str) -> None:
    done = chain.dukou("fleet", "manifests", *words)
    assert done.returncode in (2, 3), done
    assert f"[{code}]" in done.stderr and part in done.stderr
    assert "Traceback" not in done.stderr and not done.stdout
