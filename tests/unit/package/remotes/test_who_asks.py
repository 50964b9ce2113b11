"""Who we are to a registry: passwords, tokens, login files, certificates; and what is said where it fails."""

from __future__ import annotations

import base64
import json
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.oci_registry import PASSWORD, USER, OciRegistry, TokenRealm, oci_registry

from dukou.base.errors import DukouError
from dukou.package.remotes.address import parse_address
from dukou.package.remotes.credentials import Credentials, find_credentials
from dukou.package.remotes.oci import OciRemote
from dukou.trust.certificate import ensure_certificate

LOGIN = Credentials(USER, PASSWORD)


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OciRegistry]:
    with oci_registry(tmp_path_factory.mktemp("registry"), password=True) as running:
        yield running


@pytest.fixture(autouse=True)
def no_logins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    monkeypatch.delenv("REGISTRY_AUTH_FILE", raising=False)
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)


def ask(host: str, credentials: Credentials | None = None) -> list[str]:
    remote = OciRemote(parse_address(f"{host}/a"), credentials)
    try:
        return remote.tags()
    finally:
        remote.close()


def refusal(host: str, credentials: Credentials | None = None) -> DukouError:
    with pytest.raises(DukouError) as caught:
        ask(host, credentials)
    return caught.value


def test_a_password_opens_and_a_wrong_one_is_said(guarded: OciRegistry) -> None:
    assert ask(guarded.host, LOGIN) == []
    unknown = refusal(guarded.host)
    assert (unknown.code, "wants to know who asks" in unknown.message) == ("remote.denied", True)
    wrong = refusal(guarded.host, Credentials(USER, "wrong"))
    assert wrong.code == "remote.denied"
    assert f"user `{USER}`" in wrong.message
    assert "wrong" not in wrong.message
    assert PASSWORD not in repr(LOGIN)


def test_login_files_are_read(guarded: OciRegistry, tmp_path: Path) -> None:
    pair = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
    folder = tmp_path / "docker"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"auths": {guarded.host: {"auth": pair}}}))
    assert ask(guarded.host) == []
    (folder / "config.json").write_text("{")
    assert refusal(guarded.host).code == "config.invalid"


def test_a_credential_helper_is_asked(
    guarded: OciRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    helper = tmp_path / "bin" / "docker-credential-test"
    helper.parent.mkdir()
    answer = json.dumps({"Username": USER, "Secret": PASSWORD})
    helper.write_text(f"#!/bin/sh\nread host\n[ $host = {guarded.host} ] && echo '{answer}'\n")
    helper.chmod(helper.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{helper.parent}:/usr/bin:/bin")
    (tmp_path / "docker").mkdir()
    (tmp_path / "docker" / "config.json").write_text(json.dumps({"credsStore": "test"}))
    assert ask(guarded.host) == []
    assert find_credentials("elsewhere.example") is None


def test_a_token_is_fetched_for_what_is_asked(tmp_path: Path) -> None:
    realm = TokenRealm(tmp_path)
    with oci_registry(tmp_path / "registry", tokens=realm) as running:
        assert ask(running.host, LOGIN) == []
        assert realm.asked == ["repository:a:pull"]
        refused = refusal(running.host, Credentials(USER, "wrong"))
        assert refused.code == "remote.denied"
        assert "gives no token" in refused.message
    realm.close()


def test_a_certificate_is_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = ensure_certificate(tmp_path / "access", "127.0.0.1")
    with oci_registry(tmp_path / "registry", tls=made) as running:
        monkeypatch.setenv("DUKOU_CACERT", str(made[0]))
        assert ask(f"https://{running.host}") == []
        monkeypatch.delenv("DUKOU_CACERT")
        assert refusal(f"https://{running.host}").code == "trust.unknown-certificate"
    with oci_registry(tmp_path / "plain") as running:
        refused = refusal(f"https://{running.host}")
        assert refused.code == "remote.unreachable"
        assert "--insecure" in refused.hint


def test_nobody_there_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dukou.package.remotes.http.PAUSES_S", (0.0,))
    refused = refusal("127.0.0.1:1")
    assert refused.code == "remote.unreachable"
    assert "Connection refused" in refused.message
