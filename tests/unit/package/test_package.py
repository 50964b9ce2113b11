"""A model becomes a version and a model again."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from tests.artifacts import Place, make_layers, make_model

from dukou.base.errors import InputError, StateError, TrustError
from dukou.package.layout import parse_config, parse_limitations
from dukou.package.package import package_model, sign_version
from dukou.package.store import Store
from dukou.package.unpack import open_version, read_card, read_config, verify_version
from dukou.trust.keys import TrustStore, load_or_create_signing_key


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place.make(tmp_path)


def test_the_same_model_is_the_same_version(place: Place, tmp_path: Path) -> None:
    layers = make_layers(32, 64, 10)
    first = place.publish(make_model(tmp_path / "a", *layers))
    again = place.publish(make_model(tmp_path / "elsewhere", *layers))
    assert again.digest == first.digest
    assert again.new_bytes == 0
    assert len(place.store.versions()) == 1
    other = Store(tmp_path / "other")
    third = package_model(make_model(tmp_path / "c", *layers), other, name="chain", signer=None)
    assert third.digest == first.digest
    assert first.size_bytes == sum(
        place.store.blob_path(d["digest"]).stat().st_size
        for d in (first.manifest["config"], *first.manifest["layers"], {"digest": first.digest})
    )


def test_the_manifest_is_as_specified(place: Place, tmp_path: Path) -> None:
    version = place.publish(make_model(tmp_path, *make_layers(32, 64, 10)))
    manifest = json.loads(place.store.read_blob(version.digest))
    assert manifest == version.manifest
    assert manifest["mediaType"] == "application/vnd.oci.image.manifest.v1+json"
    assert manifest["artifactType"] == "application/vnd.cncf.model.manifest.v1+json"
    assert [
        (layer["mediaType"], layer["annotations"]["org.cncf.model.filepath"])
        for layer in manifest["layers"]
    ] == [
        ("application/vnd.dukou.model.graph.v1+onnx", "graph.onnx"),
        ("application/vnd.cncf.model.weight.v1.raw", "weights-0.bin"),
        ("application/vnd.dukou.model.golden.v1+json", "golden.json"),
        ("application/vnd.dukou.model.card.v1+json", "card.json"),
    ]
    config = json.loads(place.store.read_blob(manifest["config"]["digest"]))
    assert config["dukou"] == {
        "format": 1,
        "name": "chain",
        "variant": "original",
        "signature": {
            "inputs": [{"name": "x", "dtype": "FP32", "shape": ["n", 32]}],
            "outputs": [{"name": "y", "dtype": "FP32", "shape": ["n", 10]}],
        },
        "labels": [],
    }
    assert config["modelfs"]["diffIds"] == [layer["digest"] for layer in manifest["layers"]]


def test_a_version_opens_as_the_model_it_was(place: Place, tmp_path: Path) -> None:
    model = make_model(tmp_path / "source", *make_layers(32, 64, 10))
    version = place.publish(model)
    opened = open_version(place.store, version.digest, place.trusted)
    assert opened.signature == model.signature
    assert opened.lineage == model.lineage
    assert opened.card == model.card
    assert opened.variant == model.variant
    assert opened.golden is not None
    assert model.golden is not None
    (inputs, outputs) = opened.golden.samples[0]
    np.testing.assert_array_equal(inputs["x"], model.golden.samples[0][0]["x"])
    np.testing.assert_array_equal(outputs["y"], model.golden.samples[0][1]["y"])
    # Packaged from its own folder it is the same version still.
    assert place.publish(opened).digest == version.digest


def test_stock_onnxruntime_opens_the_folder_of_links(place: Place, tmp_path: Path) -> None:
    model = make_model(tmp_path / "source", *make_layers(32, 64, 10))
    version = place.publish(model)
    opened = open_version(place.store, version.digest, place.trusted)
    session = onnxruntime.InferenceSession(str(opened.graph))
    assert model.golden is not None
    inputs, outputs = model.golden.samples[0]
    np.testing.assert_allclose(session.run(None, dict(inputs))[0], outputs["y"], rtol=1e-5)
    weights = opened.graph.parent / "weights-0.bin"
    assert weights.samefile(place.store.blob_path(version.manifest["layers"][1]["digest"]))
    # A second opening leaves the folder alone.
    before = opened.graph.parent.stat().st_ino
    again = open_version(place.store, version.digest, place.trusted)
    assert again.graph.parent.stat().st_ino == before


def test_a_copy_opens_in_tools_that_refuse_links(place: Place, tmp_path: Path) -> None:
    version = place.publish(make_model(tmp_path / "source", *make_layers(32, 64, 10)))
    opened = open_version(
        place.store, version.digest, place.trusted, folder=tmp_path / "copy", copy=True
    )
    onnx.load(str(opened.graph))
    onnx.checker.check_model(str(opened.graph), full_check=True)
    (tmp_path / "copy" / "weights-0.bin").write_bytes(b"written in place")
    assert place.store.verify_all() == []


def test_a_folder_that_was_tampered_with_is_laid_out_anew(place: Place, tmp_path: Path) -> None:
    version = place.publish(make_model(tmp_path / "source", *make_layers(32, 64, 10)))
    opened = open_version(place.store, version.digest, place.trusted)
    weights = opened.graph.parent / "weights-0.bin"
    weights.unlink()
    weights.write_bytes(bytes(10))
    open_version(place.store, version.digest, place.trusted)
    assert weights.samefile(place.store.blob_path(version.manifest["layers"][1]["digest"]))


def test_two_versions_share_what_did_not_change(place: Place, tmp_path: Path) -> None:
    large = make_layers(600, 700)[0]  # 1.7 MB
    first = place.publish(make_model(tmp_path / "a", large, make_layers(700, 400)[0]))
    second = place.publish(make_model(tmp_path / "b", large, make_layers(700, 400, seed=9)[0]))
    assert second.digest != first.digest
    assert first.new_bytes > 2_800_000
    assert 1_120_000 < second.new_bytes < 1_140_000  # the head and what describes it


def test_evaluation_and_card_can_be_read(place: Place, tmp_path: Path) -> None:
    model = make_model(tmp_path, *make_layers(32, 64, 10))
    evaluation = {"accuracy": np.float64(0.97), "interval": (0.9, np.float32(0.5)), "worst": np.nan}
    version = package_model(
        model, place.store, name="chain", signer=place.key, evaluation=evaluation
    )
    card = read_card(place.store, version.digest)
    assert card["evaluation"] == {"accuracy": 0.97, "interval": [0.9, 0.5], "worst": None}
    assert card["card"]["title"] == "chain"
    assert read_config(place.store, version.digest).name == "chain"


def test_limitations_travel_in_the_card_and_old_cards_have_none(
    place: Place, tmp_path: Path
) -> None:
    model = make_model(tmp_path, *make_layers(32, 64, 10))
    said = [{"kind": "slice", "sentence": "Worse where `age > 60`.", "rows": 12}]
    with_them, again = (
        package_model(model, place.store, name="chain", signer=place.key, limitations=said)
        for _ in range(2)
    )
    without = package_model(model, place.store, name="chain", signer=place.key)
    assert with_them.digest == again.digest != without.digest
    card = read_card(place.store, with_them.digest)
    assert parse_limitations(card, "card") == tuple(said)
    old = read_card(place.store, without.digest)
    assert "limitations" not in old and parse_limitations(old, "card") is None
    for broken in ("text", [{"kind": "slice"}], [1]):
        with pytest.raises(InputError) as refused:
            parse_limitations({"limitations": broken}, "card")
        assert refused.value.code == "formats.corrupt"


def test_who_signed_counts(place: Place, tmp_path: Path) -> None:
    model = make_model(tmp_path / "m", *make_layers(32, 64, 10))
    unsigned = package_model(model, place.store, name="chain", signer=None)
    with pytest.raises(TrustError) as caught:
        verify_version(place.store, unsigned.digest, place.trusted)
    assert caught.value.code == "trust.unsigned"
    assert verify_version(place.store, unsigned.digest, None).signed_by is None

    stranger = load_or_create_signing_key(tmp_path / "stranger")
    sign_version(place.store, unsigned.digest, stranger)
    with pytest.raises(TrustError) as caught:
        verify_version(place.store, unsigned.digest, place.trusted)
    assert caught.value.code == "trust.unknown-key"
    assert stranger.id in caught.value.message

    # A second signature stands beside the first; either is enough.
    sign_version(place.store, unsigned.digest, place.key)
    assert len(place.store.referrers(unsigned.digest)) == 2
    for key in (place.key, stranger):
        trusted = TrustStore({key.id: key.public})
        assert verify_version(place.store, unsigned.digest, trusted).signed_by == key.id
    assert place.store.verify_all() == []
    assert place.store.collect() > 0  # the listing of referrers that the second one replaced
    assert place.store.verify_all() == []


def test_a_model_without_golden_samples_has_no_such_layer(place: Place, tmp_path: Path) -> None:
    model = make_model(tmp_path, *make_layers(32, 64, 10)).replace(golden=None)
    version = place.publish(model)
    assert open_version(place.store, version.digest, place.trusted).golden is None


def test_what_does_not_exist_is_named(place: Place, tmp_path: Path) -> None:
    digest = "sha256:" + "0" * 64
    with pytest.raises(StateError) as caught:
        open_version(place.store, digest, place.trusted)
    assert caught.value.code == "package.incomplete"
    assert digest in caught.value.message
    version = place.publish(make_model(tmp_path, *make_layers(32, 64, 10)))
    lost = place.store.blob_path(version.manifest["layers"][1]["digest"])
    lost.unlink()
    with pytest.raises(StateError) as caught:
        open_version(place.store, version.digest, place.trusted)
    assert caught.value.code == "package.incomplete"
    assert lost.name in caught.value.message


@pytest.mark.parametrize("name", ["", "../up", "a b", "a/b"])
def test_a_name_is_checked_before_anything_is_written(
    place: Place, tmp_path: Path, name: str
) -> None:
    model = make_model(tmp_path, *make_layers(32, 64, 10))
    with pytest.raises(InputError):
        package_model(model, place.store, name=name, signer=place.key)
    assert not place.store.path.exists()


def test_a_config_of_another_format_is_refused() -> None:
    with pytest.raises(InputError, match="its format is 2, and 1 is known") as caught:
        parse_config({"dukou": {"format": 2}}, "version `v`")
    assert caught.value.code == "formats.corrupt"
    with pytest.raises(InputError, match="signature"):
        parse_config({"dukou": {"format": 1, "name": "n", "variant": "v"}}, "version `v`")


def test_values_are_frozen(place: Place, tmp_path: Path) -> None:
    version = place.publish(make_model(tmp_path, *make_layers(32, 64, 10)))
    with pytest.raises(dataclasses.FrozenInstanceError):
        version.digest = "sha256:" + "0" * 64  # type: ignore[misc,assignment]
