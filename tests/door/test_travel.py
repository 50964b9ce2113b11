"""`dukou push` and `dukou pull` as a person types them: what they print, and what they refuse."""

from __future__ import annotations

import json
import re
from pathlib import Path

from tests.oci_registry import PASSWORD, USER, oci_registry
from tests.registry_house import move_alias, publish
from tests.serving import House


def test_a_version_travels_between_two_installations(
    house: House, other_house: House, tmp_path: Path
) -> None:
    publish(house, tmp_path, seed=1)
    publish(house, tmp_path, seed=2)
    move_alias(house, 2)
    with oci_registry(tmp_path / "registry", password=True) as registry:
        repository = f"{registry.host}/models/"
        refused = house.dukou("push", "chain", repository)
        assert (refused.returncode, "[remote.denied]" in refused.stderr) == (4, True)
        refused = house.dukou("push", "chain", repository, "--username", USER)
        assert (refused.returncode, "DUKOU_REMOTE_PASSWORD" in refused.stderr) == (2, True)

        login = ("--username", USER, "--password-stdin")
        done = house.dukou("push", "chain", repository, *login, stdin=f"{PASSWORD}\n")
        assert done.returncode == 0, done.stderr
        assert f"chain:2 is in {registry.host}/models/chain (tags 2, champion)" in done.stdout
        assert re.search(r"moved \d+ blobs, .*; already there: 0 blobs", done.stdout)
        assert PASSWORD not in done.stdout + done.stderr
        house.environment["DUKOU_REMOTE_PASSWORD"] = PASSWORD
        login = login[:2]
        sent = house.dukou("push", "chain:1", repository, *login, "--json")
        assert json.loads(sent.stdout)["tags"] == ["1"]

        other_house.environment["DUKOU_REMOTE_PASSWORD"] = PASSWORD
        source = f"{registry.host}/models/chain"
        refused = other_house.dukou("pull", source, *login)
        assert (refused.returncode, "[trust.unknown-key]" in refused.stderr) == (4, True)
        trust = other_house.home / "trust"
        trust.mkdir(parents=True, exist_ok=True)
        (trust / "theirs.pem").write_bytes((house.home / "keys" / "signing.pub").read_bytes())
        done = other_house.dukou("pull", source, *login)
        assert done.returncode == 0, done.stderr
        assert f"{source}:champion is chain:1 here" in done.stdout
        done = other_house.dukou("pull", f"{source}:1", "--as", "theirs", *login, "--json")
        assert json.loads(done.stdout)["model"] == "theirs"
        again = other_house.dukou("pull", f"{source}:1", "--as", "theirs", *login)
        assert "theirs:1 here" in again.stdout
        assert "moved 0 blobs" in again.stdout
        refused = other_house.dukou("pull", f"{source}:9", *login)
        assert (refused.returncode, "[remote.not-found]" in refused.stderr) == (3, True)
        assert "`champion`, `2`, `1`" in refused.stderr
    listed = other_house.dukou("models", "--json")
    names = [model["name"] for model in json.loads(listed.stdout)["models"]]
    assert names == ["chain", "theirs"]


def test_numbers_of_two_installations_do_not_mix(
    house: House, other_house: House, tmp_path: Path
) -> None:
    publish(house, tmp_path / "a", seed=1)
    publish(other_house, tmp_path / "b", seed=2)
    share = f"{tmp_path}/share/"
    assert house.dukou("push", "chain:1", share).returncode == 0
    refused = other_house.dukou("push", "chain:1", share)
    assert (refused.returncode, "[remote.tag-taken]" in refused.stderr) == (3, True)
    done = other_house.dukou("push", "chain:1", share, "--tag", "plant-2")
    assert done.returncode == 0, done.stderr
    assert "(tags plant-2)" in done.stdout


def test_what_is_wrong_is_said_before_anything_is_asked(house: House, tmp_path: Path) -> None:
    publish(house, tmp_path, seed=1)
    for words, code in (
        (("push", "chain", "http://registry.example/a"), "remote.insecure"),
        (("push", "chain", "Registry/UPPER"), "usage.invalid"),
        (("push", "chain:7", "127.0.0.1:1/a"), "registry.unknown-version"),
        (("push", "chain", str(tmp_path)), "usage.invalid"),
        (("pull", "127.0.0.1:1/a", "--password-stdin"), "usage.invalid"),
        (("pull", f"{tmp_path}/nothing"), "remote.not-found"),
    ):
        refused = house.dukou(*words)
        assert f"[{code}]" in refused.stderr, refused.stderr
        assert "hint:" in refused.stderr
        assert "Traceback" not in refused.stderr
