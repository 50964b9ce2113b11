"""Facts → whether a control holds, on what evidence, and what to do where it does not. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final, Literal

from dukou.lifecycle.compliance.facts import Facts

Outcome = Literal["holds", "missing", "does not apply"]
# Outcome, evidence, remedy (empty where nothing is to be done).
Judged = tuple[Outcome, str, str]
HOLDS: Final = "holds"
MISSING: Final = "missing"
NOT_HERE: Final = "does not apply"

_DAY = 86400.0
# A month, and a little for whoever is away on its last day.
FRESH_DAYS = 35.0


def authenticated(facts: Facts) -> Judged:
    """Every listener that other machines reach asks for a key."""
    return _listeners(
        facts,
        lambda listener: listener["access"] == "keys",
        "asks for a key",
        "is open to whoever reaches it",
        "serve without `--insecure`: `dukou serve --host` makes a key and a certificate",
    )


def encrypted_in_transit(facts: Facts) -> Judged:
    """Every listener that other machines reach has TLS."""
    return _listeners(
        facts,
        lambda listener: listener["tls"] is not None,
        "speaks TLS",
        "speaks in the clear",
        "serve without `--insecure`: `dukou serve --host` makes a certificate",
    )


def least_privilege(facts: Facts) -> Judged:
    """No key for everything, none for ever, none that has expired and still lies about."""
    if "keys" in facts.problems:
        return MISSING, facts.problems["keys"], "mend the document of the keys"
    if not facts.keys:
        return NOT_HERE, "there are no API keys", ""
    wrong = []
    for key in facts.keys:
        if any(g.role == "manage" and "*" in g.models for g in key.grants):
            wrong.append(f"`{key.name}` may manage every model")
        if key.expires is None:
            wrong.append(f"`{key.name}` never expires")
        elif key.expires <= facts.now:
            wrong.append(f"`{key.name}` has expired and is still there")
    if wrong:
        return (
            MISSING,
            _list(wrong),
            "`dukou keys revoke NAME`, then `dukou keys add NAME --role … --model … --expires 90d`",
        )
    return (
        HOLDS,
        f"{len(facts.keys)} keys, each for named models or for predicting, each expires",
        "",
    )


def encrypted_at_rest(facts: Facts) -> Judged:
    """A key is configured, and nothing that it could seal lies in the clear."""
    if "encryption" in facts.problems:
        return MISSING, facts.problems["encryption"], "`dukou encryption status` says more"
    if facts.encryption_key is None:
        return MISSING, "no encryption key is configured", "`dukou encryption new`"
    if facts.in_clear:
        said = ", ".join(f"{count} of {place}" for place, count in facts.in_clear.items())
        return MISSING, f"in the clear: {said}", "`dukou encryption apply`, and package again"
    return (
        HOLDS,
        f"{facts.sealed} things are sealed under key `{facts.encryption_key}`; run records "
        "and reports (figures, ranges, plots) are not",
        "",
    )


def private_state(facts: Facts) -> Judged:
    """Nobody but the owner may read the state."""
    if facts.loose:
        return MISSING, f"others may read {_list(facts.loose)}", "`chmod go-rwx` these"
    return HOLDS, "the home folder, its keys, captures and registry are the owner's alone", ""


def genuine_models(facts: Facts) -> Judged:
    """What has an alias verifies, and the engines demand it."""
    if "registry" in facts.problems:
        return MISSING, facts.problems["registry"], "`dukou doctor` says more"
    wrong = [f"`{reference}`: {why}" for reference, why in facts.unsigned.items()]
    wrong += [
        f"{url} serves without asking for signatures"
        for url, table in _tables(facts)
        if not table["trust"]["require_signature"]
    ]
    wrong += [
        f"{url} serves the bare file `{version['source']['file']}`, which nobody signed"
        for url, table in _tables(facts)
        for model in table["models"]
        for version in model["versions"]
        if "file" in version["source"]
    ]
    if wrong:
        return MISSING, _list(wrong), "publish it with `dukou ship`, and serve it by its name"
    if not facts.signed:
        return NOT_HERE, "no version has an alias", ""
    return HOLDS, f"signatures and every byte verified now: {', '.join(facts.signed)}", ""


def whole_audit(facts: Facts) -> Judged:
    """The chain verifies from its first event to its noted end."""
    if "registry" in facts.problems:
        return MISSING, facts.problems["registry"], "`dukou doctor` says more"
    if facts.audit_problem:
        return (
            MISSING,
            facts.audit_problem,
            "`dukou restore` a backup from before, and find out who",
        )
    return HOLDS, f"{facts.audit_events} events, each holding the hash of the one before", ""


def kept_logs(facts: Facts) -> Judged:
    """Every engine writes requests and refusals down."""
    tables = list(_tables(facts))
    if not tables:
        return NOT_HERE, "no server runs", ""
    wrong = [
        f"{url} writes no {name.replace('_', ' ')}"
        for url, table in tables
        for name in ("access_log", "security_log")
        if table["observability"][name] is None
    ]
    if wrong:
        return MISSING, _list(wrong), "give it a folder that it may write to"
    return HOLDS, f"{len(tables)} servers write an access log and a security log", ""


def proved_backup(facts: Facts) -> Judged:
    """A backup was restored and proved not long ago."""
    if facts.backup_verified is None:
        said = "no backup was ever proved" if facts.backup_folder else "there is no backup"
        return MISSING, said, "`dukou backup --to FOLDER`, then `dukou backup verify`"
    days = (facts.now - facts.backup_verified) / _DAY
    if days > FRESH_DAYS:
        return MISSING, f"the last proof is {days:.0f} days old", "`dukou backup verify`"
    return HOLDS, f"restored and proved {days:.1f} days ago, from `{facts.backup_folder}`", ""


def tagged_captures(facts: Facts) -> Judged:
    """Where requests are kept, every field has a tag or is dropped."""
    if "registry" in facts.problems:
        return MISSING, facts.problems["registry"], "`dukou doctor` says more"
    if not facts.captured:
        return NOT_HERE, "no requests are kept", ""
    wrong = [
        f"`{c.model}` keeps fields without a tag" for c in facts.captured if c.untagged_allowed
    ]
    if wrong:
        return MISSING, _list(wrong), "`dukou privacy check PROJECT` proposes tags for `[privacy]`"
    said = ", ".join(f"`{c.model}` ({c.tagged} tags)" for c in facts.captured)
    return HOLDS, f"what has no tag is dropped before the first write: {said}", ""


def limited_captures(facts: Facts) -> Judged:
    """Where requests are kept, they go after a time, and those that are there are younger."""
    if "registry" in facts.problems:
        return MISSING, facts.problems["registry"], "`dukou doctor` says more"
    if not facts.captured:
        return NOT_HERE, "no requests are kept", ""
    wrong = []
    for captured in facts.captured:
        if captured.keep_days is None:
            wrong.append(f"`{captured.model}` keeps requests for ever")
        elif captured.oldest_days is not None and captured.oldest_days > captured.keep_days + 1:
            wrong.append(
                f"`{captured.model}` still has requests of {captured.oldest_days:.0f} days ago, "
                f"{captured.keep_days:.0f} are allowed"
            )
    if wrong:
        return MISSING, _list(wrong), "`[monitor] keep`, and `dukou maintain --run retention`"
    said = ", ".join(f"`{c.model}` after {c.keep_days:.0f} days" for c in facts.captured)
    return HOLDS, f"requests go: {said}", ""


def audited_software(facts: Facts) -> Judged:
    """What is installed was looked at not long ago, and nothing was found."""
    remedy = "`dukou maintain PROJECT --run audit-dependencies`"
    if facts.dependencies is None:
        return MISSING, "what is installed was never looked at", remedy
    when, outcome = facts.dependencies
    days = (facts.now - when) / _DAY
    if outcome != "done":
        return MISSING, f"the audit of {days:.0f} days ago found something", remedy
    if days > FRESH_DAYS:
        return MISSING, f"the last audit is {days:.0f} days old", remedy
    return HOLDS, f"looked at {days:.1f} days ago: requirements, pins and licences hold", ""


def _tables(facts: Facts) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for server in facts.servers:
        if server.table is not None:
            yield server.url, server.table


def _listeners(facts: Facts, good: Any, yes: str, no: str, remedy: str) -> Judged:
    silent = [server.url for server in facts.servers if server.table is None]
    if silent:
        return MISSING, f"{_list(silent)} does not answer", "`dukou status` says more"
    reached = [
        (server.url, listener)
        for server in facts.servers
        if server.table is not None
        for listener in server.table["listeners"]
        if listener["access"] != "loopback"
    ]
    wrong = [url for url, listener in reached if not good(listener)]
    if wrong:
        return MISSING, f"{_list(wrong)} {no}", remedy
    if not reached:
        return NOT_HERE, "every server is for this machine alone", ""
    return HOLDS, f"{_list([url for url, _ in reached])} {yes}", ""


def _list(said: Any) -> str:
    """The first few, and how many more."""
    items = list(said)
    more = len(items) - 4
    return ", ".join(items[:4]) + (f" and {more} more" if more > 0 else "")
