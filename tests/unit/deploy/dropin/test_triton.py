"""What of a `config.pbtxt` is honoured, and that the rest is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from dukou.base.errors import InputError
from dukou.deploy.dropin.triton import ModelConfig, Policy, load_config


def _load(folder: Path, text: str) -> ModelConfig:
    path = folder / "config.pbtxt"
    path.write_text(text, encoding="utf-8")
    return load_config(path)


def test_what_is_plain_is_honoured(tmp_path: Path) -> None:
    config = _load(
        tmp_path,
        """
        name: "iris"
        platform: "onnxruntime_onnx"
        max_batch_size: 16
        default_model_filename: "net.onnx"
        input [ { name: "x" data_type: TYPE_FP32 dims: [ 4 ] } ]
        output [ { name: "label" data_type: TYPE_INT64 dims: [ 1 ] label_filename: "names.txt" } ]
        version_policy: { specific { versions: [ 1, 3 ] } }
        dynamic_batching { preferred_batch_size: [ 4, 8 ] max_queue_delay_microseconds: 200 }
        instance_group [ { count: 2 kind: KIND_CPU }, { count: 1 } ]
        parameters { key: "intra_op_thread_count" value: { string_value: "2" } }
        """,
    )
    assert config == ModelConfig(
        name="iris",
        kind="onnxruntime_onnx",
        file_name="net.onnx",
        labels_file="names.txt",
        policy=Policy(numbers=(1, 3)),
        max_rows=16,
        delay_us=200,
        instances=3,
        threads=2,
    )


def test_an_empty_file_says_nothing(tmp_path: Path) -> None:
    assert _load(tmp_path, "") == ModelConfig()


def test_the_rest_is_named(tmp_path: Path) -> None:
    config = _load(
        tmp_path,
        """
        sequence_batching { max_sequence_idle_microseconds: 5 }
        model_warmup [ { name: "w" } ]
        dynamic_batching { preserve_ordering: true }
        instance_group [ { kind: KIND_GPU gpus: [ 0 ] } ]
        parameters { key: "execution_mode" value: { string_value: "1" } }
        parameters { key: "intra_op_thread_count" value: { string_value: "0" } }
        """,
    )
    assert config.instances is None
    assert config.threads is None
    assert config.left_out == (
        "dynamic_batching.preserve_ordering",
        "instance_group with GPUs (`--provider cuda` runs on one)",
        "parameters.execution_mode",
        "sequence_batching",
        "model_warmup",
    )


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("max_batch_size: -1", "`max_batch_size` is an integer from 0 on, and is `-1`"),
        ("name: 5", "`name` is a text, and is `5`"),
        ('default_model_filename: "../x"', "`default_model_filename` is a file's name"),
        ("version_policy: 3", "`version_policy` is a message, and is `3`"),
        ("version_policy { newest {} }", "`version_policy` is `newest`, not a policy"),
        ("version_policy { specific {} }", "`version_policy` names versions by their numbers"),
    ],
)
def test_a_wrong_value_is_refused(tmp_path: Path, text: str, what: str) -> None:
    with pytest.raises(InputError) as error:
        _load(tmp_path, text)
    assert error.value.code == "folder.invalid-config"
    assert what in error.value.message


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "config.pbtxt"
    path.write_bytes(b"name: \xff")
    with pytest.raises(InputError, match="is not UTF-8 from byte 6 on"):
        load_config(path)
    with pytest.raises(InputError, match="cannot be read"):
        load_config(tmp_path)


@pytest.mark.parametrize(
    ("policy", "served"),
    [
        (Policy(), [7]),
        (Policy(latest=2), [3, 7]),
        (Policy(latest=None), [1, 3, 7]),
        (Policy(numbers=(1, 9)), [1]),
    ],
)
def test_which_versions_are_served(policy: Policy, served: list[int]) -> None:
    assert policy.choose([7, 1, 3]) == served
