"""Names of execution providers, as people write them and as tables have them."""

from __future__ import annotations

import pytest

from dukou.base.errors import InputError
from dukou.deploy.override import providers_of_words
from dukou.deploy.providers import (
    PROVIDERS,
    find_provider,
    parse_provider,
    provider_document,
    short_name,
    with_cpu,
)


@pytest.mark.parametrize(
    ("word", "name"),
    [
        ("cuda", "CUDAExecutionProvider"),
        ("CUDA", "CUDAExecutionProvider"),
        ("cudaexecutionprovider", "CUDAExecutionProvider"),
        ("TensorRT", "TensorrtExecutionProvider"),
        ("trt", "TensorrtExecutionProvider"),
        ("directml", "DmlExecutionProvider"),
        ("vitis", "VitisAIExecutionProvider"),
        ("OpenVINOExecutionProvider", "OpenVINOExecutionProvider"),
        ("QuantumExecutionProvider", "QuantumExecutionProvider"),
    ],
)
def test_a_word_means_a_provider(word: str, name: str) -> None:
    assert find_provider(word, key="x") == name


@pytest.mark.parametrize(
    ("word", "near"),
    [
        ("opnevino", "did you mean `openvino`?"),
        ("CUDDA", "did you mean `cuda`?"),
        ("OpenVinnoExecutionProvider", "did you mean `openvino`?"),
        ("gpu", "cuda, tensorrt, migraphx, openvino"),
        ("FPGA", "vitisai"),
        ("quantum", "known are cpu, openvino, cuda"),
        ("", "known are"),
    ],
)
def test_a_slip_of_the_pen_gets_the_nearest_name(word: str, near: str) -> None:
    with pytest.raises(InputError) as caught:
        find_provider(word, key="--provider")
    assert caught.value.code == "deploy.unknown-provider"
    assert f"`{word}`" in caught.value.message
    assert near in caught.value.hint
    assert "`dukou devices`" in caught.value.hint


def test_options_come_from_words_and_from_tables() -> None:
    wanted = {
        "name": "OpenVINOExecutionProvider",
        "options": {"device_type": "GPU", "precision": "FP16"},
    }
    assert parse_provider("openvino:device_type=GPU,precision=FP16", key="x") == wanted
    options = {"device_type": "GPU", "precision": "FP16"}
    assert provider_document({"name": "openvino", "options": options}, key="x") == wanted
    numbers = provider_document({"name": "cuda", "options": {"device_id": 1, "b": True}}, key="x")
    assert numbers["options"] == {"device_id": "1", "b": "1"}
    with pytest.raises(InputError, match="`device_type` is no option with a value") as caught:
        parse_provider("openvino:device_type", key="--provider")
    assert caught.value.code == "usage.invalid"
    for wrong in ({"options": {}}, {"name": "cuda", "device": 0}, {"name": "cuda", "options": 1}):
        with pytest.raises(InputError) as caught:
            provider_document(wrong, key="run.providers")
        assert caught.value.code == "deploy.invalid"


def test_every_list_ends_with_the_cpu() -> None:
    cpu = {"name": "CPUExecutionProvider", "options": {}}
    cuda = {"name": "CUDAExecutionProvider", "options": {}}
    assert with_cpu([]) == [cpu]
    assert with_cpu([cuda]) == [cuda, cpu]
    assert with_cpu([cuda, cpu, cuda]) == [cuda, cpu]
    assert providers_of_words([]) is None
    assert providers_of_words(["cuda", "cpu"]) == [cuda, cpu]


def test_names_are_each_ones_own() -> None:
    assert len({p.short for p in PROVIDERS}) == len({p.name for p in PROVIDERS}) == len(PROVIDERS)
    assert all(provider.brought_by for provider in PROVIDERS)
    assert short_name("CUDAExecutionProvider") == "cuda"
    assert short_name("QuantumExecutionProvider") == "QuantumExecutionProvider"
