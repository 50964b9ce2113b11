"""Keras's models: inputs and outputs keep their names, what cannot be converted is named."""

from __future__ import annotations

import os
import warnings
from pathlib import Path

import pytest
from tests.frameworks import require
from tests.unit.formats.network_convert.conversion import convert

from dukou.base.errors import InputError
from dukou.model.signature import TensorSpec

pytestmark = pytest.mark.timeout(300)
CODE = """\
import keras


class Twice(keras.layers.Layer):
    def call(self, values):
        return values * 2


def build():
    return keras.Sequential([keras.Input((4,), name="x"), keras.layers.Dense(3), Twice()])
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    require("keras", "h5py", "torch", "onnxscript")
    os.environ.setdefault("KERAS_BACKEND", "torch")
    folder = tmp_path_factory.mktemp("made")
    (folder / "code.py").write_text(CODE, encoding="utf-8")
    names: dict[str, object] = {"__name__": "code"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import keras
        from keras import layers

        exec(compile(CODE, "code.py", "exec"), names)  # noqa: S102
        keras.utils.set_random_seed(5)
        image, place = keras.Input((8, 8, 1), name="image"), keras.Input((3,), name="place")
        found = layers.MaxPooling2D()(layers.Conv2D(4, 3, activation="relu")(image))
        both = layers.Concatenate()([layers.Flatten()(layers.BatchNormalization()(found)), place])
        keras.Model(
            [image, place],
            {"kind": layers.Dense(3, activation="softmax")(both), "size": layers.Dense(1)(both)},
        ).save(folder / "two.keras")
        dense = keras.Sequential([keras.Input((6,)), layers.Dense(4), layers.Dense(2, name="said")])
        dense.save(folder / "dense.h5")
        steps = keras.Input((None, 4), name="steps")
        keras.Model(steps, layers.Dense(2)(layers.GRU(3)(steps))).save(folder / "gru.keras")
        keras.Sequential([keras.Input((4,)), layers.Lambda(lambda x: x + 1)]).save(
            folder / "lambda.keras"
        )
        keras.Sequential([layers.Dense(2)]).save(folder / "unbuilt.keras")
        custom = names["build"]()  # type: ignore[operator]
        custom.save(folder / "custom.keras")
        custom.save_weights(folder / "custom.weights.h5")
    return {path.name: path for path in folder.iterdir()}


def test_several_inputs_and_outputs(made: dict[str, Path], tmp_path: Path) -> None:
    found = convert(made["two.keras"], "keras", tmp_path / "o")
    assert found.inputs() == {"image": ["batch", 8, 8, 1], "place": ["batch", 3]}
    assert list(found.answers) == ["kind", "size"]
    assert found.told["framework"].startswith("Keras 3")
    found.check()
    found.check(rows=1)


def test_a_file_of_keras_2(made: dict[str, Path], tmp_path: Path) -> None:
    found = convert(made["dense.h5"], "keras", tmp_path / "o")
    assert list(found.answers) == ["said"]
    found.check()


def test_an_axis_that_cannot_stay_free(made: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"axis 1 \(`time`\) of input `steps` cannot stay"
    ) as caught:
        convert(made["gru.keras"], "keras", tmp_path / "o")
    assert "--input 'steps:FP32[batch,12,4]'" in caught.value.hint
    fixed = [TensorSpec("steps", "FP32", ("batch", 12, 4))]
    found = convert(made["gru.keras"], "keras", tmp_path / "p", inputs=fixed)
    assert found.inputs() == {"steps": ["batch", 12, 4]}
    found.check()


def test_code_in_a_layer_runs_only_for_who_vouches(made: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="`Lambda` layer") as caught:
        convert(made["lambda.keras"], "keras", tmp_path / "o")
    assert caught.value.code == "formats.untrusted-code"
    convert(made["lambda.keras"], "keras", tmp_path / "p", trust=True).check()


@pytest.mark.parametrize("file", ["custom.keras", "custom.weights.h5"])
def test_a_layer_of_the_users_own(made: dict[str, Path], tmp_path: Path, file: str) -> None:
    if file.endswith(".keras"):
        with pytest.raises(InputError, match="layer of class `Twice`") as caught:
            convert(made[file], "keras", tmp_path / "o")
        assert "--factory" in caught.value.hint
    factory = f"{made['code.py']}:build"
    found = convert(made[file], "keras", tmp_path / "p", factory=factory)
    assert found.inputs() == {"x": ["batch", 4]}
    found.check()


def test_weights_of_another_network_and_a_network_that_was_never_built(
    made: dict[str, Path], tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=r"`two\.keras` does not fit what .*code\.py:build"):
        convert(made["two.keras"], "keras", tmp_path / "o", factory=f"{made['code.py']}:build")
    with pytest.raises(InputError, match="was never built"):
        convert(made["unbuilt.keras"], "keras", tmp_path / "p")
