"""What travels with a version obeys the tags; what cannot be learnt from is refused; nothing stays behind."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from dukou.base.errors import InputError
from dukou.formats.open import open_model
from dukou.lifecycle.cache import remove_captured, use_cache
from dukou.lifecycle.tags import (
    check_answers,
    make_columns_private,
    make_golden_private,
    make_limits_private,
    record_golden_of,
    require_learnable,
)
from dukou.monitor.profile import make_profile
from dukou.trust.privacy.policy import PrivacyPolicy

KEY = b"k" * 32


@pytest.fixture
def model(tmp_path):
    """`age` FP32 [n], `said` BYTES [n] → the same back."""
    tensors = [("age", TensorProto.FLOAT), ("said", TensorProto.STRING)]
    graph = helper.make_graph(
        [helper.make_node("Identity", [name], [f"{name}_back"]) for name, _ in tensors],
        "echo",
        [helper.make_tensor_value_info(name, kind, ["n"]) for name, kind in tensors],
        [helper.make_tensor_value_info(f"{name}_back", kind, ["n"]) for name, kind in tensors],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(proto, str(tmp_path / "echo.onnx"))
    said = np.array(["打 13800138000", "fine", "a@example.com", "ok"], dtype=object)
    rows = {"age": np.array([38, 42, 57, 61], np.float32), "said": said}
    return open_model(tmp_path / "echo.onnx", into=tmp_path / "model", samples=rows)


def golden_text(model) -> str:
    return (
        model.golden.to_json(model.signature).decode().encode().decode("unicode_escape", "ignore")
    )


def test_golden_samples_are_of_tagged_inputs_with_the_answers_to_those(model) -> None:
    policy = PrivacyPolicy.make({"age": "generalize:10", "said": "hash"})
    private = make_golden_private(model, policy, KEY)
    assert len(private.golden.samples) == len(model.golden.samples)
    for inputs, outputs in private.golden.samples:
        assert set(inputs["age"].tolist()) <= {30.0, 40.0, 50.0, 60.0}
        assert all(len(text) == 32 for text in inputs["said"].tolist())
        assert outputs["age_back"].tolist() == inputs["age"].tolist()
        assert outputs["said_back"].tolist() == inputs["said"].tolist()


def test_without_tags_texts_travel_without_what_patterns_find_and_numbers_as_they_are(
    model,
) -> None:
    private = make_golden_private(model, PrivacyPolicy(), b"")
    said = {text for inputs, _ in private.golden.samples for text in inputs["said"].tolist()}
    assert said == {"打 <phone>", "fine", "<email>", "ok"}
    kept = PrivacyPolicy.make({"said": "keep", "age": "keep"})
    assert make_golden_private(model, kept, b"") is model


def test_golden_samples_can_be_of_other_rows(model, tmp_path) -> None:
    file = tmp_path / "public.csv"
    file.write_text("age,said,good\n1,one,1\n2,two,0\n", encoding="utf-8")
    other = record_golden_of(model, file, "good")
    said = {text for inputs, _ in other.golden.samples for text in inputs["said"].tolist()}
    assert said == {"one", "two"}


def test_a_profile_holds_nothing_of_what_may_not_travel(model) -> None:
    rows = 60
    columns = {
        "age": np.arange(rows, dtype=np.float64),
        "said": np.array([f"打 138001380{n:02d}" for n in range(rows)], dtype=object),
    }
    policy = PrivacyPolicy.make({"age": "generalize:10"})
    private, gone = make_columns_private(policy, columns, KEY)
    profile = make_profile(model.signature, private, without=gone)
    assert [feature["name"] for feature in profile["features"]] == ["age", "said"]
    assert profile["features"][0]["high"] == 50
    assert profile["features"][1]["values"] == ["打 <phone>"]
    hashed = PrivacyPolicy.make({"said": "hash"})
    private, gone = make_columns_private(hashed, columns, KEY)
    assert gone == ["said"]
    profile = make_profile(model.signature, private, without=gone)
    assert [feature["name"] for feature in profile["features"]] == ["age"]
    rare = make_profile(model.signature, columns)
    assert rare["features"][1]["values"] == [], "a text of one row alone is nobody's business"
    assert rare["features"][1]["counts"] == [rows]


def test_a_column_that_is_left_out_moves_no_other_of_a_matrix(model) -> None:
    columns = {name: np.arange(9.0) for name in ("a", "b", "c")}
    signature = type(model.signature)((model.signature.inputs[0],), model.signature.outputs)
    profile = make_profile(signature, columns, without=["b"])
    assert [(f["name"], f["index"]) for f in profile["features"]] == [("a", 0), ("c", 2)]


def test_captures_that_lack_what_the_model_takes_are_not_learnt_from() -> None:
    policy = PrivacyPolicy.make({"age": "generalize:10", "mail": "hash", "*": "keep"})
    require_learnable(policy, ["age", "visits"], "m")
    with pytest.raises(InputError) as refused:
        require_learnable(policy, ["age", "mail"], "m")
    assert refused.value.code == "privacy.not-learnable"
    assert "`mail` (hash)" in refused.value.message


def test_a_tag_of_an_answer_that_there_is_not_is_refused(model) -> None:
    check_answers(PrivacyPolicy.make({"output.age_back": "mask", "anything": "keep"}), model)
    with pytest.raises(InputError) as refused:
        check_answers(PrivacyPolicy.make({"output.age_bakc": "mask"}), model)
    assert refused.value.code == "privacy.unknown-field"
    assert refused.value.hint == "did you mean `output.age_back`?"


def test_limits_that_say_a_value_of_a_tagged_field_do_not_travel() -> None:
    limits = [
        {"kind": "slice", "sentence": "Worse where `city = 北京`.", "slice": "city = 北京"},
        {"kind": "slice", "sentence": "Worse where `age > 30`.", "slice": "age > 30"},
        {"kind": "slice", "sentence": "`stage > 1` 13800138000", "slice": "stage > 1"},
        {
            "kind": "input-range",
            "sentence": "It learned from 10 rows.",
            "features": {
                "city": {"values": ["北京"], "distinct": 1},
                "said": {"values": ["a@example.com", "ok"], "distinct": 2},
                "stage": {"low": 0, "high": 3},
            },
        },
        {"kind": "rare-class", "sentence": "Little is known", "classes": {"x": {}}},
    ]
    policy = PrivacyPolicy.make({"city": "hash", "age": "generalize:10"}, target="y")
    found = make_limits_private(policy, limits)
    assert [limit["kind"] for limit in found] == ["slice", "input-range", "rare-class"]
    assert found[0]["sentence"] == "`stage > 1` <phone>"
    assert found[1]["features"] == {
        "said": {"values": ["<email>", "ok"], "distinct": 2},
        "stage": {"low": 0, "high": 3},
    }
    hidden = PrivacyPolicy.make({"y": "hash", "*": "keep"}, target="y")
    assert [limit["kind"] for limit in make_limits_private(hidden, limits)][-1] == "input-range"
    assert make_limits_private(PrivacyPolicy(), limits[:2]) == limits[:2]


def test_what_a_retraining_left_of_callers_rows_is_taken_away(tmp_path) -> None:
    stages = tmp_path / "cache" / "stages" / "data"
    for key in ("ours", ".theirs-x1"):
        (stages / key).mkdir(parents=True)
        (stages / key / "train.csv").write_text("a\n1\n")
    (tmp_path / "cache" / "retrain-x").mkdir()
    with use_cache(tmp_path):
        assert remove_captured(tmp_path) is None, "one runs"
        assert (stages / ".theirs-x1").is_dir()
    assert remove_captured(tmp_path) == 2
    assert [p.name for p in stages.iterdir()] == ["ours"]
    assert not (tmp_path / "cache" / "retrain-x").exists()
    assert remove_captured(tmp_path / "nothing") == 0
