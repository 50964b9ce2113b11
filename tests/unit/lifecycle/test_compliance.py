"""Each control holds on facts that are as they should be, and fails on the one thing that it asks for."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from dukou.lifecycle.compliance.controls import CONTROLS, GDPR, ISO, MLPS, PIPL, measure
from dukou.lifecycle.compliance.facts import Captured, Facts, Server
from dukou.trust.access import AccessKey, Grant

NOW = 1_800_000_000.0
DAY = 86400.0


def table(**changes: Any) -> dict[str, Any]:
    listener = {"name": "main", "access": "keys", "tls": {"certificate": "/c", "key": "/k"}}
    source = {"artifact": "sha256:" + "0" * 64, "store": "/store"}
    return {
        "listeners": [listener],
        "trust": {"require_signature": True, "keys": []},
        "observability": {"access_log": "/a", "security_log": "/s"},
        "models": [{"name": "digits", "versions": [{"version": "1", "source": source}]}],
        **changes,
    }


def key(**changes: Any) -> AccessKey:
    made = AccessKey(
        id="0123456789ab",
        name="caller",
        secret_sha256="0" * 64,
        grants=(Grant("predict", ("digits",)),),
        rate=None,
        created=int(NOW - DAY),
        expires=int(NOW + 90 * DAY),
    )
    return made._replace(**changes)


GOOD = Facts(
    now=NOW,
    servers=(Server("https://10.0.0.7:8443", table()),),
    keys=(key(),),
    encryption_key="0011223344556677",
    sealed=12,
    signed=("digits:1",),
    audit_events=40,
    backup_verified=NOW - 2 * DAY,
    backup_folder="/backups",
    captured=(Captured("digits", False, 3, 30.0, 12.0),),
    dependencies=(NOW - 3 * DAY, "done"),
)


def with_table(**changes: Any) -> Facts:
    return replace(GOOD, servers=(Server("https://10.0.0.7:8443", table(**changes)),))


def listener(**changes: Any) -> list[dict[str, Any]]:
    return [{**table()["listeners"][0], **changes}]


BAD: list[tuple[str, Facts, str]] = [
    ("access.authenticated", with_table(listeners=listener(access="open")), "is open to whoever"),
    ("access.authenticated", replace(GOOD, servers=(Server("https://a", None),)), "not answer"),
    ("access.least", replace(GOOD, keys=(key(expires=None),)), "never expires"),
    ("access.least", replace(GOOD, keys=(key(expires=int(NOW) - 1),)), "has expired"),
    ("access.least", replace(GOOD, keys=(key(grants=(Grant("manage", ("*",)),)),)), "every model"),
    ("transit.encrypted", with_table(listeners=listener(tls=None)), "speaks in the clear"),
    ("rest.encrypted", replace(GOOD, encryption_key=None), "no encryption key"),
    ("rest.encrypted", replace(GOOD, in_clear={"captures and labels": 2}), "2 of captures"),
    ("state.private", replace(GOOD, loose=("`/home/keys` (0755)",)), "others may read"),
    ("model.genuine", replace(GOOD, unsigned={"digits:1": "nobody signed"}), "nobody signed"),
    (
        "model.genuine",
        with_table(trust={"require_signature": False, "keys": []}),
        "without asking for signatures",
    ),
    (
        "model.genuine",
        with_table(models=[{"name": "m", "versions": [{"source": {"file": "/m.onnx"}}]}]),
        "bare file `/m.onnx`",
    ),
    ("audit.whole", replace(GOOD, audit_problem="audit event 3 does not verify"), "event 3"),
    (
        "logs.kept",
        with_table(observability={"access_log": "/a", "security_log": None}),
        "no security log",
    ),
    ("backup.proved", replace(GOOD, backup_verified=None, backup_folder=""), "no backup"),
    ("backup.proved", replace(GOOD, backup_verified=NOW - 40 * DAY), "40 days old"),
    (
        "privacy.tagged",
        replace(GOOD, captured=(Captured("digits", True, 0, 30.0, None),)),
        "without a tag",
    ),
    (
        "privacy.limited",
        replace(GOOD, captured=(Captured("digits", False, 1, None, None),)),
        "for ever",
    ),
    (
        "privacy.limited",
        replace(GOOD, captured=(Captured("digits", False, 1, 30.0, 45.0),)),
        "45 days ago",
    ),
    ("software.audited", replace(GOOD, dependencies=None), "never looked at"),
    ("software.audited", replace(GOOD, dependencies=(NOW - 50 * DAY, "done")), "50 days old"),
    ("software.audited", replace(GOOD, dependencies=(NOW, "failed")), "found something"),
]


def judge(name: str, facts: Facts) -> Any:
    return measure(facts, next(control for control in CONTROLS if control.id == name))


def test_there_are_twelve_and_every_one_says_who_asks_for_it() -> None:
    assert len(CONTROLS) == len({control.id for control in CONTROLS}) == 12
    for control in CONTROLS:
        assert set(control.asked_by) == {ISO, GDPR, PIPL, MLPS}
        assert control.title
        assert control.title_zh


@pytest.mark.parametrize("control", CONTROLS, ids=lambda c: c.id)
def test_each_holds_where_all_is_as_it_should_be(control: Any) -> None:
    found = measure(GOOD, control)
    assert (found.outcome, found.remedy) == ("holds", "")
    assert found.evidence


@pytest.mark.parametrize(("name", "facts", "said"), BAD, ids=lambda v: v if "." in str(v) else "")
def test_each_is_missing_where_it_does_not_hold(name: str, facts: Facts, said: str) -> None:
    found = judge(name, facts)
    assert found.outcome == "missing"
    assert said in found.evidence
    assert found.remedy
    # One broken thing breaks no control that does not ask for it.
    others = [c.id for c in CONTROLS if c.id != name and measure(facts, c).outcome == "missing"]
    assert set(others) <= {"transit.encrypted"} if "answer" in said else not others


def test_every_control_was_made_to_fail() -> None:
    assert {name for name, _, _ in BAD} == {control.id for control in CONTROLS}


def test_where_there_is_nothing_to_judge_nothing_is_claimed() -> None:
    nothing = Facts(now=NOW)
    for name in ("access.authenticated", "access.least", "transit.encrypted", "logs.kept"):
        assert judge(name, nothing).outcome == "does not apply"
    unread = replace(
        GOOD, problems={"registry": "damaged", "keys": "no JSON", "encryption": "gone"}
    )
    for name in ("audit.whole", "model.genuine", "access.least", "rest.encrypted"):
        assert judge(name, unread).outcome == "missing"
