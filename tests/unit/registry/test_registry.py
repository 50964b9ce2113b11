"""Names, versions, aliases and deployments: compare-and-set, in words where it fails."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from tests.artifacts import Place, make_layers, make_model

from dukou.base.errors import InputError, ResourceError, StateError
from dukou.registry.look import look_at_registry
from dukou.registry.registry import ANYTHING, Registry


def digest(number: int) -> str:
    return f"sha256:{number:064x}"


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("DUKOU_REGISTRY", raising=False)
    moment = datetime(2026, 11, 23, 8, tzinfo=timezone(timedelta(hours=8)))
    with Registry.open(tmp_path / "home", actor="ada@loom", clock=lambda: moment) as opened:
        yield opened


def code_of(call) -> tuple[str, str, str]:
    with pytest.raises((InputError, StateError)) as caught:
        call()
    return caught.value.code, caught.value.message, caught.value.hint


def test_versions_are_numbered_in_order_and_keep_their_number(registry: Registry) -> None:
    assert registry.register_version("digits", digest(1), metrics={"accuracy": 0.97}) == 1
    assert registry.register_version("digits", digest(2), variant="int8") == 2
    assert registry.register_version("other", digest(1)) == 1
    token = registry.change_token()
    assert registry.register_version("digits", digest(1), metrics={"accuracy": 0.1}) == 1
    assert registry.change_token() == token
    first, second = registry.versions("digits")
    assert (first.digest, first.metrics, first.variant) == (
        digest(1),
        {"accuracy": 0.97},
        "original",
    )
    assert (second.number, second.variant, second.status) == (2, "int8", "ready")
    assert first.created == "2026-11-23T00:00:00.000000+00:00"
    assert [(m.name, m.versions, m.latest) for m in registry.models()] == [
        ("digits", 2, 2),
        ("other", 1, 1),
    ]


def test_references(registry: Registry) -> None:
    for number in (1, 2, 3):
        registry.register_version("digits", digest(number))
    assert registry.resolve("digits").number == 3, "the latest, where nobody is the champion"
    registry.set_status("digits", 3, "archived")
    assert registry.resolve("digits").number == 2
    registry.set_alias("digits", "champion", 1, expected=None)
    assert registry.resolve("digits").number == 1
    assert registry.resolve("digits@champion").digest == digest(1)
    assert registry.resolve("digits@champion").aliases == ("champion",)
    assert registry.resolve("digits:3").number == 3, "an archived version is there when named"
    assert registry.resolve(f"digits@{digest(2)}").number == 2


def test_what_is_not_there_is_named_with_what_is(registry: Registry) -> None:
    assert code_of(lambda: registry.resolve("digits")) == (
        "registry.unknown-model",
        "the registry has no model `digits`",
        "the registry is empty: `dukou ship` fills it",
    )
    registry.register_version("digits", digest(1))
    registry.set_alias("digits", "champion", 1, expected=None)
    assert code_of(lambda: registry.resolve("digit"))[2] == "did you mean `digits`?"
    assert code_of(lambda: registry.resolve("zebra"))[2] == "there are `digits`"
    assert code_of(lambda: registry.versions("digit"))[0] == "registry.unknown-model"
    for reference in (
        "digits:7",
        "digits@challenger",
        f"digits@{digest(9)}",
        "digits@",
        "digits:0",
    ):
        code, message, hint = code_of(lambda r=reference: registry.resolve(r))
        assert code == "registry.unknown-version"
        assert message.startswith("`digits` has no")
        assert hint == "versions: 1; aliases: `champion` (1)"
    for reference in ("digits:", "digits:one", "digits:-1", "digits:１", "digits:" + "9" * 30):
        code, _, hint = code_of(lambda r=reference: registry.resolve(r))
        assert code == "registry.unknown-version"
        assert "`digits@" in hint
    for reference in ("", "@champion", ":1", "../digits", "a/b:1"):
        assert code_of(lambda r=reference: registry.resolve(r))[0] == "config.invalid"


def test_an_alias_moves_only_from_where_it_was_expected(registry: Registry) -> None:
    for number in (1, 2, 3):
        registry.register_version("digits", digest(number))
    registry.set_alias("digits", "champion", 1, expected=None)
    code, message, _ = code_of(lambda: registry.set_alias("digits", "champion", 2, expected=None))
    assert code == "registry.conflict"
    assert message == "`digits@champion` was expected to be absent, and is version 1"
    registry.set_alias("digits", "champion", 2, expected=1)
    code, message, _ = code_of(lambda: registry.set_alias("digits", "champion", 3, expected=1))
    assert (code, registry.resolve("digits@champion").number) == ("registry.conflict", 2)
    assert message == "`digits@champion` was expected to be version 1, and is version 2"
    registry.set_alias("digits", "champion", 3, expected=ANYTHING)
    token = registry.change_token()
    registry.set_alias("digits", "champion", 3, expected=3)
    assert registry.change_token() == token, "what changes nothing leaves no event"
    registry.set_alias("digits", "champion", None, expected=3)
    assert code_of(lambda: registry.resolve("digits@champion"))[0] == "registry.unknown-version"
    assert code_of(lambda: registry.set_alias("digits", "a", 9, expected=None))[0] == (
        "registry.unknown-version"
    )
    assert code_of(lambda: registry.set_alias("iris", "a", None, expected=None))[0] == (
        "registry.unknown-model"
    )
    for alias in ("7", "", "a b", "sha256:0"):
        refused = code_of(lambda a=alias: registry.set_alias("digits", a, 1, expected=None))
        assert refused[0] == "config.invalid"


def test_a_deployment_is_replaced_only_from_the_revision_that_was_read(registry: Registry) -> None:
    assert registry.deployment("home") is None
    assert registry.put_deployment("home", {"split": {"1": 100}}, expected=0) == 1
    code, message, _ = code_of(lambda: registry.put_deployment("home", {}, expected=0))
    assert code == "registry.conflict"
    assert message == "deployment `home` was expected at revision 0, and is at 1"
    assert registry.put_deployment("home", {"split": {"2": 100}}, expected=1) == 2
    token = registry.change_token()
    assert registry.put_deployment("home", {"split": {"2": 100}}, expected=2) == 2
    assert registry.change_token() == token
    current = registry.deployment("home")
    assert current is not None
    assert (current.revision, current.document) == (2, {"split": {"2": 100}})
    first = registry.deployment("home", revision=1)
    assert first is not None
    assert first.document == {"split": {"1": 100}}
    registry.put_deployment("attic", {}, expected=0)
    assert [(d.name, d.revision) for d in registry.deployments()] == [("attic", 1), ("home", 2)]


def test_evaluations_are_kept_with_their_version(registry: Registry) -> None:
    registry.register_version("digits", digest(1))
    registry.evaluations.add("digits", 1, {"accuracy": 0.97})
    registry.evaluations.add("digits", 1, {"accuracy": 0.98, "worst": float("nan")})
    documents = [e.document for e in registry.evaluations.list("digits", 1)]
    assert documents == [{"accuracy": 0.97}, {"accuracy": 0.98, "worst": None}]
    assert code_of(lambda: registry.evaluations.add("digits", 2, {}))[0] == (
        "registry.unknown-version"
    )
    assert code_of(lambda: registry.evaluations.list("iris", 1))[0] == "registry.unknown-model"


def test_the_token_tells_another_opening_of_a_change(registry: Registry, tmp_path: Path) -> None:
    with Registry.open(tmp_path / "home") as control:
        before = control.change_token()
        assert control.change_token() == before
        registry.register_version("digits", digest(1))
        after = control.change_token()
        assert after > before
        assert control.resolve("digits").number == 1


def test_what_cannot_be_stored_changes_nothing(registry: Registry) -> None:
    for name, blob in (("a/b", digest(1)), ("digits", "sha256:12"), ("digits", digest(1).upper())):
        assert (
            code_of(lambda n=name, b=blob: registry.register_version(n, b))[0] == "config.invalid"
        )
    registry.register_version("digits", digest(1))
    refused = code_of(lambda: registry.set_status("digits", 1, "gone"))
    assert refused[:2] == ("config.invalid", "a version is `ready` or `archived`, not `gone`")
    assert len(registry.audit_events()) == 1


@pytest.mark.parametrize("name", ["a home", "home?mode=ro", "home#1", "100%25", "家"])
def test_any_folder_can_hold_a_registry(tmp_path: Path, name: str) -> None:
    with Registry.open(tmp_path / name) as registry:
        registry.register_version("digits", digest(1))
    assert (tmp_path / name / "registry.db").is_file()
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_url_names_another_database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DUKOU_REGISTRY", f"sqlite:///{tmp_path / 'elsewhere.db'}")
    with Registry.open(tmp_path / "home") as registry:
        registry.register_version("digits", digest(1))
    assert (tmp_path / "elsewhere.db").is_file()
    assert not (tmp_path / "home" / "registry.db").exists()


@pytest.mark.parametrize("content", [b"not a database" * 1000, b"SQLite format 3\0" + bytes(500)])
def test_a_file_that_is_no_registry_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "registry.db").write_bytes(content)
    with pytest.raises(StateError) as caught:
        Registry.open(tmp_path)
    assert caught.value.code == "registry.unreadable"
    assert "registry.db" in caught.value.message


def test_a_place_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "registry.db").mkdir()
    with pytest.raises(ResourceError) as caught:
        Registry.open(tmp_path)
    assert caught.value.code == "store.not-writable"


class RegistryLaws(RuleBasedStateMachine):
    """Whatever is done, the registry says what a dictionary would, and the chain verifies."""

    def __init__(self) -> None:
        super().__init__()
        import tempfile

        self.folder = tempfile.TemporaryDirectory()
        self.registry = Registry.open(Path(self.folder.name), clock=lambda: datetime.now(UTC))
        self.digests: list[str] = []
        self.aliases: dict[str, int] = {}
        self.revision = 0

    @rule(number=st.integers(0, 5))
    def register(self, number: int) -> None:
        known = digest(number) in self.digests
        if not known:
            self.digests.append(digest(number))
        expected = self.digests.index(digest(number)) + 1
        assert self.registry.register_version("m", digest(number)) == expected

    @precondition(lambda self: self.digests)
    @rule(
        alias=st.sampled_from(["a", "b"]),
        number=st.none() | st.integers(1, 6),
        expected=st.none() | st.integers(1, 6),
    )
    def move(self, alias: str, number: int | None, expected: int | None) -> None:
        exists = number is None or number <= len(self.digests)
        if exists and self.aliases.get(alias) == expected:
            self.registry.set_alias("m", alias, number, expected=expected)
            if number is None:
                self.aliases.pop(alias, None)
            else:
                self.aliases[alias] = number
        else:
            with pytest.raises(StateError):
                self.registry.set_alias("m", alias, number, expected=expected)

    @rule(expected=st.integers(0, 3), value=st.integers(0, 9))
    def deploy(self, expected: int, value: int) -> None:
        if expected != self.revision:
            with pytest.raises(StateError):
                self.registry.put_deployment("d", {"v": value}, expected=expected)
            return
        current = self.registry.deployment("d")
        same = current is not None and current.document == {"v": value}
        self.revision += not same
        assert self.registry.put_deployment("d", {"v": value}, expected=expected) == self.revision

    @invariant()
    def it_says_what_was_done(self) -> None:
        assert self.registry.verify_audit() == self.registry.change_token()
        if self.digests:
            versions = self.registry.versions("m")
            assert [v.digest for v in versions] == self.digests
            assert {a: v.number for v in versions for a in v.aliases} == self.aliases

    def teardown(self) -> None:
        self.registry.close()
        self.folder.cleanup()


TestRegistryLaws = RegistryLaws.TestCase
TestRegistryLaws.settings = settings(
    max_examples=25, stateful_step_count=15, deadline=None, suppress_health_check=list(HealthCheck)
)


def _fill(home: Path) -> None:
    """A store with a version, registered."""
    place = Place.make(home.parent)
    packaged = place.publish(make_model(home.parent / "model", *make_layers(4, 3, seed=1)), "chain")
    with Registry.open(place.home) as registry:
        registry.register_version("chain", packaged.digest)


def test_an_empty_file_beside_a_full_store_is_no_new_registry(tmp_path: Path) -> None:
    """It would begin at version 1 again, and clean away what it has forgotten."""
    home = tmp_path / "home"
    _fill(home)
    file = home / "registry.db"
    for path in home.glob("registry.db*"):
        path.unlink()
    file.touch()
    for look in (lambda: Registry.open(home), lambda: look_at_registry(home)):
        code, message, hint = code_of(look)
        assert code == "registry.unreadable"
        assert f"`{file}` is empty, and the store beside it holds 1 version:" in message
        assert "backup" in hint
    assert file.stat().st_size == 0, "a second look finds the same"
    file.unlink()  # as the hint says
    with Registry.open(home) as registry:
        assert registry.models() == []


def test_a_first_version_that_was_cut_off_leaves_no_riddle(tmp_path: Path) -> None:
    """An empty store, or a store and no registry yet: both are the beginning."""
    home = tmp_path / "home"
    home.mkdir()
    (home / "registry.db").touch()
    with Registry.open(home) as registry:
        assert registry.models() == []
    other = tmp_path / "other"
    other.mkdir()
    place = Place.make(other)
    place.publish(make_model(other / "model", *make_layers(4, 3, seed=1)), "chain")
    with Registry.open(place.home) as registry:
        assert registry.models() == []
