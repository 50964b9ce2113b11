"""Versions travel to a registry and a folder and back: whole, verified, and only what is lacking."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from tests.artifacts import Place, make_layers, make_model
from tests.oci_registry import BreakingWire, OciRegistry, oci_registry

from dukou.base.errors import DukouError
from dukou.package.package import PackagedVersion, package_model
from dukou.package.remotes import oci
from dukou.package.remotes.address import parse_address
from dukou.package.remotes.carry import find_version, pull_version, push_version
from dukou.package.remotes.contract import Remote
from dukou.package.remotes.table import REMOTES, open_remote
from dukou.package.store import Store
from dukou.package.unpack import open_version, read_config
from dukou.trust.keyring import EncryptionKey, Keyring

Open = Callable[[], contextlib.AbstractContextManager[Remote]]


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OciRegistry]:
    with oci_registry(tmp_path_factory.mktemp("registry")) as running:
        yield running


@pytest.fixture(params=sorted(REMOTES))
def remote_of(request: pytest.FixtureRequest, tmp_path: Path) -> Open:
    """Opens the same repository again and again; every kind of remote passes every test of these."""
    if request.param == "folder":
        text = str(tmp_path / "share")
    else:
        running: OciRegistry = request.getfixturevalue("registry")
        name = request.node.name.partition("[")[0].replace("_", "-")
        text = f"{running.host}/tests/{name}"
    return lambda: opened(text)


@contextlib.contextmanager
def opened(text: str) -> Iterator[Remote]:
    remote = open_remote(parse_address(text))
    try:
        yield remote
    finally:
        remote.close()


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    monkeypatch.delenv("DUKOU_ENCRYPTION_KEY", raising=False)
    return Place.make(tmp_path / "here")


@pytest.fixture
def there(tmp_path: Path, place: Place) -> Place:
    """Another installation, which trusts the first one's key."""
    other = Place.make(tmp_path / "there")
    (other.home / "trust" / "theirs.pem").write_text(place.key.public.pem, encoding="utf-8")
    return Place.make(tmp_path / "there")


def code_of(action: Callable[[], object]) -> str:
    with pytest.raises(DukouError) as caught:
        action()
    return caught.value.code


def publish(place: Place, folder: Path, *, seed: int = 7, wide: int = 8) -> PackagedVersion:
    return place.publish(make_model(folder, *make_layers(4, wide, 3, seed=seed)))


def pull(remote: Remote, there: Place, digest: str, keyring: Keyring | None = None) -> object:
    return pull_version(remote, digest, there.store, there.trusted, keyring)


def test_a_version_comes_back_as_it_went(
    remote_of: Open, place: Place, there: Place, tmp_path: Path
) -> None:
    version = publish(place, tmp_path / "a")
    with remote_of() as remote:
        push_version(place.store, version.digest, remote, ["1", "champion"], fixed=["1"])
    with remote_of() as remote:
        assert find_version(remote, None) == ("champion", version.digest)
        pulled = pull_version(remote, version.digest, there.store, there.trusted, None)
        assert sorted(t for t in remote.tags() if "sha256" not in t) == ["1", "champion"]
    assert pulled.signed_by == place.key.id
    assert pulled.traffic.present == 0
    assert pulled.traffic.moved_bytes >= version.size_bytes
    model = open_version(there.store, version.digest, there.trusted)
    assert model.golden is not None
    assert [f.message for f in there.store.verify_all()] == []


def test_only_what_is_lacking_travels(
    remote_of: Open, place: Place, there: Place, tmp_path: Path
) -> None:
    """One layer of three is another: the delta is that layer and the documents."""
    layers = make_layers(512, 1024, 1024, 512)
    one = place.publish(make_model(tmp_path / "a", *layers))
    changed = [layers[0], layers[1], layers[2] + np.float32(1)]
    two = place.publish(make_model(tmp_path / "b", *changed))
    layer = layers[2].nbytes
    with remote_of() as remote:
        push_version(place.store, one.digest, remote, ["1"])
        assert push_version(place.store, one.digest, remote, ["1"]).moved_bytes == 0
        pull(remote, there, one.digest)
        sent = push_version(place.store, two.digest, remote, ["2"])
        came = pull_version(remote, two.digest, there.store, there.trusted, None).traffic
    for traffic in (sent, came):
        assert layer <= traffic.moved_bytes <= 1.1 * layer
        assert traffic.present_bytes >= layers[0].nbytes + layers[1].nbytes


def test_a_number_is_not_moved_and_an_alias_is(
    remote_of: Open, place: Place, tmp_path: Path
) -> None:
    one, two = publish(place, tmp_path / "a", seed=1), publish(place, tmp_path / "b", seed=2)
    with remote_of() as remote:
        push_version(place.store, one.digest, remote, ["1", "champion"], fixed=["1"])
        with pytest.raises(DukouError, match="tag `1` of .* is version") as caught:
            push_version(place.store, two.digest, remote, ["1"], fixed=["1"])
        assert caught.value.code == "remote.tag-taken"
        assert not remote.has_manifest(two.digest)
        push_version(place.store, two.digest, remote, ["2", "champion"], fixed=["2"])
    with remote_of() as remote:
        assert remote.find_tag("1") == one.digest
        assert remote.find_tag("champion") == two.digest
        assert find_version(remote, None)[0] == "champion"
        with pytest.raises(DukouError, match="no tag `3`") as caught:
            find_version(remote, "3")
        assert caught.value.code == "remote.not-found"
        assert caught.value.hint == "its tags are `champion`, `2`, `1`"


def test_nothing_unsigned_or_strange_is_taken(
    remote_of: Open, place: Place, there: Place, tmp_path: Path
) -> None:
    unsigned = package_model(
        make_model(tmp_path / "u", *make_layers(4, 3)), place.store, name="chain", signer=None
    )
    stranger = Place.make(tmp_path / "stranger")
    foreign = publish(stranger, tmp_path / "s", seed=3)
    with remote_of() as remote:
        push_version(place.store, unsigned.digest, remote, ["1"])
        push_version(stranger.store, foreign.digest, remote, ["2"])
        assert code_of(lambda: pull(remote, there, unsigned.digest)) == "trust.unsigned"
        assert code_of(lambda: pull(remote, there, foreign.digest)) == "trust.unknown-key"
    assert there.store.versions() == []


def test_an_encrypted_version_moves_encrypted_with_its_key(
    remote_of: Open, place: Place, there: Place, tmp_path: Path
) -> None:
    key = EncryptionKey.generate()
    ring = Keyring.of(key)
    model = make_model(tmp_path / "a", *make_layers(4, 3))
    version = package_model(model, place.store, name="chain", signer=place.key, keyring=ring)
    with remote_of() as remote:
        push_version(place.store, version.digest, remote, ["1"])
        pull(remote, there, version.digest)  # Without the key: it moves all the same.
        pull(remote, there, version.digest, ring)
    assert read_config(there.store, version.digest, ring).name == "chain"
    assert code_of(lambda: read_config(there.store, version.digest)) == "trust.no-encryption-key"


def test_a_push_that_dies_shows_nothing(
    remote_of: Open, place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = publish(place, tmp_path / "a")
    with remote_of() as remote:
        write, written = type(remote).write_blob, []

        def dying(self: Remote, blob: object, content: Path) -> None:
            if len(written) == 3:
                raise OSError("the plug was pulled")
            written.append(blob)
            write(self, blob, content)  # type: ignore[arg-type]

        monkeypatch.setattr(type(remote), "write_blob", dying)
        with pytest.raises((OSError, DukouError)):
            push_version(place.store, version.digest, remote, ["1"])
        monkeypatch.undo()
        assert remote.tags() == []
        assert not remote.has_manifest(version.digest)
        push_version(place.store, version.digest, remote, ["1"])
        assert remote.find_tag("1") == version.digest


def test_bytes_that_are_others_are_refused_and_not_kept(
    place: Place, there: Place, tmp_path: Path
) -> None:
    share = str(tmp_path / "share")
    version = publish(place, tmp_path / "a")
    with opened(share) as remote:
        push_version(place.store, version.digest, remote, ["1"])
    layer = version.manifest["layers"][0]["digest"]
    path = Store(share).blob_path(layer)
    path.chmod(0o644)
    content = bytearray(path.read_bytes())
    content[10] ^= 1
    path.write_bytes(content)
    with opened(share) as remote:
        assert code_of(lambda: pull(remote, there, version.digest)) == "package.digest-mismatch"
    assert there.store.versions() == []
    assert not there.store.has_blob(layer)


def test_a_broken_wire_costs_what_was_on_it(
    registry: OciRegistry,
    place: Place,
    there: Place,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Down by ranges: what arrived is not sent again. Up in pieces: `docker-registry` 2.8 wants an upload
    whose piece came in half begun anew, once."""
    monkeypatch.setattr(oci, "UPLOAD_PIECE", 1 << 20)
    layers = make_layers(1024, 1536)
    version = place.publish(make_model(tmp_path / "a", *layers))
    size = layers[0].nbytes
    up = BreakingWire(registry.host, after=4_500_000, times=1)
    with opened(f"{up.host}/tests/broken") as remote:
        push_version(place.store, version.digest, remote, ["1"])
    assert up.left == 0
    # Once more a piece, where the cut fell between a piece and its answer.
    assert up.carried < size * 2
    down = BreakingWire(registry.host, after=4_500_000, times=1)
    with opened(f"{down.host}/tests/broken") as remote:
        pull(remote, there, version.digest)
    assert down.left == 0
    assert down.carried < size * 1.2
    up.close()
    down.close()
    open_version(there.store, version.digest, there.trusted)


def test_other_tools_read_the_folder(place: Place, tmp_path: Path) -> None:
    """Tags stand where the image-spec wants them; the version's entry says what it is."""
    version = publish(place, tmp_path / "a")
    with opened(str(tmp_path / "share")) as remote:
        push_version(place.store, version.digest, remote, ["1", "champion"])
    index = json.loads((tmp_path / "share" / "index.json").read_text(encoding="utf-8"))
    named = {
        entry["annotations"]["org.opencontainers.image.ref.name"]: entry["digest"]
        for entry in index["manifests"]
        if "annotations" in entry
    }
    assert named["1"] == named["champion"] == version.digest
    (tmp_path / "things").mkdir()
    (tmp_path / "things" / "a.txt").write_text("mine", encoding="utf-8")
    assert code_of(lambda: open_remote(parse_address(str(tmp_path / "things")))) == "usage.invalid"
