"""The image as an OCI layout: what is in it, and that it is the same twice."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests import registry_house, serving

from dukou.base.errors import InputError
from dukou.deploy.standalone import write_folder
from dukou.fleet.image import Image, write_archive, write_image
from dukou.fleet.reference import parse_image
from dukou.lifecycle.contents import choose_contents

REFERENCE = parse_image("team/chain:1", flag="--tag")


def write(house: serving.House, into: Path, **said: Any) -> Image:
    """The image of `chain`."""
    choice = choose_contents(["chain"], home=house.home)
    folder = write_folder(
        choice.contents, into / "folder", engine=choice.engine, runtime=choice.runtime
    )
    return write_image(folder, choice.contents, into / "layout", reference=REFERENCE, **said)


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[serving.House]:
    """A version of `chain`."""
    with serving.house() as made:
        registry_house.publish(made, tmp_path_factory.mktemp("models"), seed=1)
        registry_house.move_alias(made, 1)
        yield made


@pytest.fixture(scope="module")
def image(house: serving.House, tmp_path_factory: pytest.TempPathFactory) -> Image:
    """Written once."""
    return write(house, tmp_path_factory.mktemp("image"))


def blob(image: Image, digest: str) -> bytes:
    """A blob, held to its digest."""
    content = (image.path / "blobs" / "sha256" / digest.removeprefix("sha256:")).read_bytes()
    assert f"sha256:{hashlib.sha256(content).hexdigest()}" == digest
    return content


def documents(image: Image) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Index entry, manifest and config."""
    index = json.loads((image.path / "index.json").read_bytes())
    [entry] = index["manifests"]
    manifest = json.loads(blob(image, entry["digest"]))
    return entry, manifest, json.loads(blob(image, manifest["config"]["digest"]))


def members(image: Image) -> dict[str, tarfile.TarInfo]:
    """Every entry of both layers."""
    found: dict[str, tarfile.TarInfo] = {}
    for layer in documents(image)[1]["layers"]:
        content = blob(image, layer["digest"])
        with tarfile.open(fileobj=io.BytesIO(content)) as archive:
            found |= {member.name: member for member in archive}
    return found


def test_digests_sizes_and_names_hold(image: Image) -> None:
    entry, manifest, config = documents(image)
    assert entry["digest"] == image.digest
    assert entry["annotations"]["org.opencontainers.image.ref.name"] == "team/chain:1"
    assert entry["annotations"]["io.containerd.image.name"] == "docker.io/team/chain:1"
    for layer, diff_id in zip(manifest["layers"], config["rootfs"]["diff_ids"], strict=True):
        content = blob(image, layer["digest"])
        assert len(content) == layer["size"]
        plain = gzip.decompress(content) if layer["mediaType"].endswith("gzip") else content
        assert f"sha256:{hashlib.sha256(plain).hexdigest()}" == diff_id
    # Nothing lies there that the index does not lead to.
    named = {entry["digest"], manifest["config"]["digest"]}
    named |= {layer["digest"] for layer in manifest["layers"]}
    assert {f"sha256:{path.name}" for path in (image.path / "blobs/sha256").iterdir()} == named


def test_nothing_in_it_but_the_engine_and_the_model(image: Image) -> None:
    found = members(image)
    names = set(found)
    assert {"dukou/dukou-engine", "dukou/lib/libonnxruntime.so", "dukou/table.json"} <= names
    assert not [n for n in names if "python" in n or n.endswith((".py", "/sh"))]
    assert {n.split("/")[0] for n in names} <= {"dukou", "etc", "run", "lib", "lib64"}
    assert image.unpacked < 120e6
    assert image.unpacked == sum(member.size for member in found.values())
    for member in found.values():
        assert (member.uid, member.gid, member.mtime) == (0, 0, 0), member.name
        assert member.issym() or not member.mode & 0o022, member.name
    [loader] = [member for member in found.values() if member.issym()]
    assert found[loader.linkname.lstrip("/")].mode & 0o111


def test_it_runs_as_nobody_and_drains(image: Image) -> None:
    _, manifest, config = documents(image)
    said = config["config"]
    assert said["User"] == "65532:65532" and said["StopSignal"] == "SIGTERM"
    assert "--insecure" not in said["Entrypoint"]
    assert said["Cmd"] == ["--listen", "http=0.0.0.0:8000"]
    assert "--probe" in said["Healthcheck"]["Test"]
    labels = said["Labels"]
    assert labels == manifest["annotations"]
    assert labels["dev.dukou.models"] == "chain:1"
    assert labels["dev.dukou.model.digest"].startswith("sha256:")
    assert labels["org.opencontainers.image.created"] == config["created"]


def test_the_same_inputs_give_the_same_image(
    house: serving.House, image: Image, tmp_path: Path
) -> None:
    assert write(house, tmp_path).digest == image.digest
    write_archive(image.path, tmp_path / "a.tar")
    write_archive(tmp_path / "layout", tmp_path / "b.tar")
    assert (tmp_path / "a.tar").read_bytes() == (tmp_path / "b.tar").read_bytes()
    other = write(house, tmp_path / "other", insecure=True, port=9000)
    assert other.digest != image.digest
    said = documents(other)[2]["config"]
    assert said["Entrypoint"][-1] == "--insecure"
    assert said["ExposedPorts"] == {"9000/tcp": {}} and said["Cmd"][-1].endswith(":9000")
    # The programs are the same: a registry that has them takes only what they serve.
    assert other.layers[0] == image.layers[0]


def test_a_layout_that_is_there_is_left_alone(house: serving.House, tmp_path: Path) -> None:
    (tmp_path / "layout").mkdir()
    (tmp_path / "layout" / "note").write_text("mine")
    with pytest.raises(InputError):
        write(house, tmp_path)
    assert [path.name for path in (tmp_path / "layout").iterdir()] == ["note"]
