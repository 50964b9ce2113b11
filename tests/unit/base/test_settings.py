"""One declaration a setting; flag before environment before default."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from dukou.base.errors import InputError, ResourceError
from dukou.base.settings import SETTINGS, Resolved, dukou_home, resolve_setting


def test_the_order_is_flag_environment_default() -> None:
    environment = {"DUKOU_HOME": "/from/environment"}
    assert resolve_setting("home", "/f", environment) == Resolved("/f", "--home")
    assert resolve_setting("home", None, environment) == Resolved("/from/environment", "DUKOU_HOME")
    assert resolve_setting("home", None, {"DUKOU_HOME": ""}) == Resolved("~/.dukou", "default")
    assert resolve_setting("signing_key", None, {}) == Resolved(None, "default")


def test_declarations_are_complete_and_apart() -> None:
    assert all(s.doc.endswith(".") and s.flag.startswith("--") for s in SETTINGS.values())
    assert len({s.variable for s in SETTINGS.values()}) == len(SETTINGS)
    assert len({s.flag for s in SETTINGS.values()}) == len(SETTINGS)


def test_the_home_is_made_for_its_owner_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DUKOU_HOME", str(tmp_path / "deep" / "home"))
    home = dukou_home()
    assert home == tmp_path / "deep" / "home"
    assert stat.S_IMODE(home.stat().st_mode) == 0o700
    home.chmod(0o755)
    assert dukou_home() == home
    assert stat.S_IMODE(home.stat().st_mode) == 0o755, "what is there is its owner's decision"
    monkeypatch.delenv("DUKOU_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "user"))
    assert dukou_home() == tmp_path / "user" / ".dukou"


def test_a_home_that_cannot_be_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(InputError) as caught:
            dukou_home(str(place))
        assert caught.value.code == "config.invalid"
        assert "--home" in caught.value.message
    with pytest.raises(ResourceError) as failed:
        dukou_home("/proc/dukou-home")
    assert failed.value.code == "store.not-writable"
