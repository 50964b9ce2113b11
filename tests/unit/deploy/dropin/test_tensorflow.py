"""What of TensorFlow Serving's configuration files is honoured, and that the rest is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from dukou.base.errors import InputError
from dukou.deploy.dropin.tensorflow import (
    BatchingParameters,
    ServedFolder,
    check_labels,
    is_server_config,
    load_batching,
    load_server_config,
)
from dukou.deploy.dropin.triton import Policy

MODEL = 'name: "m" base_path: "/models/m" model_platform: "tensorflow"'


def _file(folder: Path, text: str, name: str = "models.config") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def _list(*configs: str) -> str:
    return "model_config_list {" + "".join(f" config {{ {each} }}" for each in configs) + " }"


def test_models_their_folders_versions_and_labels(tmp_path: Path) -> None:
    path = _file(
        tmp_path,
        """
        # two of them
        model_config_list: {
          config: {
            name: "iris", base_path: "/models/iris", model_platform: "tensorflow"
            model_version_policy: { specific: { versions: 3, versions: 5 } }
            version_labels: { key: "stable", value: 3 }
            version_labels: { key: "canary", value: 5 }
            logging_config: { sampling_config: { sampling_rate: 0.1 } }
          }
          config { name: "digits" base_path: "/models/digits" model_version_policy { all {} } }
          config { name: "last" base_path: "/models/last" }
          config { name: "two" base_path: "/models/two" model_version_policy { latest { num_versions: 2 } } }
        }
        """,
    )
    assert is_server_config(path)
    models, notes = load_server_config(path)
    assert models == [
        ServedFolder(
            "iris",
            Path("/models/iris"),
            Policy(numbers=(3, 5)),
            {"stable": "3", "canary": "5"},
        ),
        ServedFolder("digits", Path("/models/digits"), Policy(latest=None), {}),
        ServedFolder("last", Path("/models/last"), Policy(), {}),
        ServedFolder("two", Path("/models/two"), Policy(latest=2), {}),
    ]
    assert notes == [f"`{path}`: not honoured here, of `iris`: logging_config"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (_list(), "names no model"),
        (_list('base_path: "/m"'), "`name` of a model is missing"),
        (_list('name: "m"'), "`base_path` of `m` is missing"),
        (_list('name: "m" base_path: "models/m"'), "is `models/m`, which is not absolute"),
        (_list('name: "m" base_path: "s3://bucket/m"'), "only folders of this machine are read"),
        (_list(MODEL, MODEL), "`name` is `m` of two models"),
        (_list(MODEL + " model_version_policy { newest {} }"), "is `newest`, not a policy"),
        (_list(MODEL + " model_version_policy { specific {} }"), "names versions by their numbers"),
        (_list(MODEL + ' version_labels { key: "a b" value: 1 }'), "`a b`, which is no label"),
        (_list(MODEL + ' version_labels { key: "a" }'), "`a`, which is no label"),
        (_list("name: 7"), "`name` is a text, and is `7`"),
        ("model_config_list { config ", "`:` is expected"),
        ("custom_model_config { }", "is not read; `model_config_list` is"),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, text: str, words: str) -> None:
    path = _file(tmp_path, text)
    assert is_server_config(path)
    with pytest.raises(InputError) as caught:
        load_server_config(path)
    assert caught.value.code == "folder.invalid-config"
    assert words in caught.value.message
    assert str(path) in caught.value.message


def test_other_files_are_none(tmp_path: Path) -> None:
    assert not is_server_config(_file(tmp_path, _list(MODEL), "models.onnx"))
    assert not is_server_config(_file(tmp_path, 'name: "m"', "config.pbtxt"))
    assert not is_server_config(tmp_path / "gone.config")
    # A banner costs no time, however long; angle brackets are brackets.
    banner = "#" * 4000 + "\n"
    assert not is_server_config(_file(tmp_path, banner + "model_list {}", "banner.config"))
    assert is_server_config(_file(tmp_path, banner + "model_config_list < >", "angle.config"))
    binary = tmp_path / "binary.config"
    binary.write_bytes(b"\xff\xfe\x00")
    assert not is_server_config(binary)


def test_batching(tmp_path: Path) -> None:
    path = _file(
        tmp_path,
        """
        max_batch_size { value: 128 }
        batch_timeout_micros { value: 1500 }
        num_batch_threads { value: 2 }
        max_enqueued_batches { value: 100 }
        allowed_batch_sizes: 64
        allowed_batch_sizes: 128
        thread_pool_name { value: "t" }
        """,
    )
    batching, left_out = load_batching(path)
    assert batching == BatchingParameters(max_rows=128, delay_us=1500, instances=2)
    assert left_out == ["max_enqueued_batches", "allowed_batch_sizes"]
    assert load_batching(_file(tmp_path, "", "empty")) == (BatchingParameters(), [])
    with pytest.raises(InputError, match="is an integer from 1 on, and is `0`"):
        load_batching(_file(tmp_path, "max_batch_size { value: 0 }", "zero"))
    with pytest.raises(InputError, match="is a message, and is `32`"):
        load_batching(_file(tmp_path, "max_batch_size: 32", "bare"))


def test_labels_of_what_is_not_there() -> None:
    labels = {"stable": "1", "canary": "2"}
    assert check_labels("m", labels, ["1", "2"], lenient=False) == (labels, [])
    with pytest.raises(InputError) as caught:
        check_labels("m", labels, ["1"], lenient=False)
    words = "request to assign label to version 2 of model m, which is not currently available"
    assert words in caught.value.message
    kept, notes = check_labels("m", labels, ["1"], lenient=True)
    assert kept == {"stable": "1"}
    assert len(notes) == 1 and words in notes[0]
