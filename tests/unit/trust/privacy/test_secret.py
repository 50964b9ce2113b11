"""The privacy key is made once; a new one leaves people to be found under the old."""

from __future__ import annotations

import stat

import pytest

from dukou.base.errors import TrustError
from dukou.trust.privacy.secret import load_or_create_privacy_key, rotate_privacy_key


def test_the_key_is_made_once_and_cannot_be_printed(tmp_path) -> None:
    key = load_or_create_privacy_key(tmp_path)
    path = tmp_path / "keys" / "privacy.key"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert load_or_create_privacy_key(tmp_path) == key
    assert key.current.hex() not in repr(key)
    assert load_or_create_privacy_key(tmp_path / "other").pseudonym("a") != key.pseudonym("a")
    assert key.pseudonym("a") != key.client_id("a") != key.pseudonym("b")


def test_after_a_rotation_people_are_found_under_both(tmp_path) -> None:
    before = load_or_create_privacy_key(tmp_path)
    after = rotate_privacy_key(tmp_path)
    assert load_or_create_privacy_key(tmp_path) == after
    assert after.pseudonym("a") != before.pseudonym("a")
    assert after.pseudonyms("a") == [after.pseudonym("a"), before.pseudonym("a")]
    assert after.client_ids("r") == [after.client_id("r"), before.client_id("r")]
    path = tmp_path / "keys" / "privacy.key"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [p.name for p in path.parent.iterdir()] == ["privacy.key"]


@pytest.mark.parametrize("content", ["", "no hex\n", "ab\n", "é\n"])
def test_a_file_of_something_else_is_refused(tmp_path, content) -> None:
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / "privacy.key").write_text(content, encoding="utf-8")
    with pytest.raises(TrustError) as refused:
        load_or_create_privacy_key(tmp_path)
    assert refused.value.code == "trust.missing-key"
