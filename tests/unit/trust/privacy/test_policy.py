"""Which tag holds where: a column by name or by place, an answer, everything else."""

from __future__ import annotations

import pytest

from dukou.base.errors import InputError
from dukou.trust.privacy.policy import PrivacyPolicy


def policy(fields: dict[str, str], **more) -> PrivacyPolicy:
    return PrivacyPolicy.make(fields, **more)


def kinds(tags) -> list[str]:
    return [tag.kind for tag in tags]


def test_a_matrix_has_the_tags_of_its_columns() -> None:
    ours = policy({"age": "generalize:10", "*": "keep", "x[2]": "mask"}, columns=["a", "age", "c"])
    assert kinds(ours.input_tags("x", 3, text=False)) == ["keep", "generalize", "mask"]
    assert kinds(ours.input_tags("x", 2, text=False)) == ["keep"], "another matrix"
    assert kinds(policy({"x": "drop"}, columns=["a", "b"]).input_tags("x", 2, text=False)) == [
        "drop"
    ]
    assert kinds(policy({"x[1]": "hash"}).input_tags("x", 2, text=False)) == ["drop", "hash"]


def test_what_has_no_tag_is_not_kept_until_somebody_says_so() -> None:
    assert kinds(policy({"a": "keep"}).input_tags("b", 1, text=False)) == ["drop"]
    allowed = policy({}, capture_untagged=True)
    assert kinds(allowed.input_tags("b", 1, text=False)) == ["keep"]
    assert kinds(allowed.input_tags("b", 1, text=True)) == ["detect"]
    assert not policy({}).says_anything
    assert allowed.says_anything
    assert policy({"*": "keep"}).says_anything


def test_every_is_for_requests_and_not_for_answers() -> None:
    ours = policy({"*": "drop", "output.said": "mask"})
    assert ours.output_tag("label") is None
    assert ours.output_tag("said").kind == "mask"
    assert ours.text_answer_tag().kind == "mask"
    assert policy({"*": "keep"}).text_answer_tag().kind == "detect"


def test_capturing_without_tags_is_refused_with_their_names() -> None:
    ours = policy({"a": "keep"})
    with pytest.raises(InputError) as refused:
        ours.require_tags(["a", "b", "c"], "m")
    assert refused.value.code == "privacy.untagged"
    assert "`b`, `c` of `m` have no tag" in refused.value.message
    with pytest.raises(InputError, match="and 5 more of `m`"):
        policy({}).require_tags([f"p{i}" for i in range(13)], "m")
    policy({"*": "keep"}).require_tags(["a"], "m")
    policy({}, capture_untagged=True).require_tags(["a"], "m")


def test_a_field_that_there_is_not_is_refused_with_the_nearest() -> None:
    for ours in (policy({"agee": "keep"}), policy({}, subject="agee")):
        with pytest.raises(InputError) as refused:
            ours.require_known(["age", "email"])
        assert refused.value.code == "privacy.unknown-field"
        assert "`agee`" in refused.value.message
        assert refused.value.hint == "did you mean `age`?"
    policy({"x[3]": "keep", "*": "drop"}).require_known(["x"])


def test_a_policy_survives_the_journey() -> None:
    ours = policy(
        {"a": "generalize:0,18", "*": "hash"},
        columns=["a", "b"],
        target="y",
        subject="b",
        capture_untagged=True,
    )
    assert PrivacyPolicy.from_json(ours.to_json()) == ours
    assert PrivacyPolicy.from_json({}) == PrivacyPolicy()
    assert policy({"y": "mask"}, target="y").label_tag().kind == "mask"
    assert policy({}, target="y").label_tag().kind == "detect"
