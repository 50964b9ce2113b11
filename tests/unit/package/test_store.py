"""The store: whole or not there, verified whenever read, shared by many."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from dukou.base.errors import InputError, StateError, TrustError
from dukou.package.descriptor import MANIFEST_MEDIA_TYPE, Descriptor
from dukou.package.layout import CONFIG_TYPE, make_manifest
from dukou.package.store import Store


def publish(store: Store, *contents: bytes) -> Descriptor:
    with store.publishing() as publication:
        layers = [publication.write_blob("text/plain", [content]) for content in contents]
        config = publication.write_document(CONFIG_TYPE, {})
        version = publication.write_document(MANIFEST_MEDIA_TYPE, make_manifest(config, layers))
        publication.commit(version)
    return version


def blobs(store: Store) -> set[str]:
    return {path.name for path in (store.path / "blobs" / "sha256").iterdir()}


def test_looking_at_a_store_that_is_not_there_makes_nothing(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    assert store.versions() == []
    assert store.verify_all() == []
    assert store.collect() == 0
    with pytest.raises(StateError) as caught:
        store.read_blob("sha256:" + "0" * 64)
    assert caught.value.code == "package.incomplete"
    assert not store.path.exists()


def test_a_store_is_an_oci_layout(tmp_path: Path) -> None:
    store = Store(tmp_path)
    version = publish(store, b"one", b"two")
    assert json.loads((tmp_path / "oci-layout").read_text()) == {"imageLayoutVersion": "1.0.0"}
    index = json.loads((tmp_path / "index.json").read_text())
    assert index["schemaVersion"] == 2
    assert index["manifests"] == [version.to_json()]
    for name in blobs(store):
        content = (tmp_path / "blobs" / "sha256" / name).read_bytes()
        assert hashlib.sha256(content).hexdigest() == name
    assert not list((tmp_path / ".incoming").iterdir())


def test_publishing_again_writes_nothing(tmp_path: Path) -> None:
    store = Store(tmp_path)
    version = publish(store, b"one")
    before = {p: p.stat().st_ino for p in (tmp_path / "blobs" / "sha256").iterdir()}
    assert publish(store, b"one") == version
    assert {p: p.stat().st_ino for p in (tmp_path / "blobs" / "sha256").iterdir()} == before
    assert store.versions() == [version]


def test_a_damaged_blob_is_refused_and_publishing_again_mends_it(tmp_path: Path) -> None:
    store = Store(tmp_path)
    publish(store, b"one")
    digest = "sha256:" + hashlib.sha256(b"one").hexdigest()
    path = store.blob_path(digest)
    path.chmod(0o644)
    path.write_bytes(b"ome")
    got = "sha256:" + hashlib.sha256(b"ome").hexdigest()
    for read in (store.read_blob, store.verify_blob):
        with pytest.raises(TrustError) as caught:
            read(digest)
        assert caught.value.code == "package.digest-mismatch"
        assert digest in caught.value.message
        assert got in caught.value.message
    assert [error.code for error in store.verify_all()] == ["package.digest-mismatch"]
    publish(store, b"one")
    assert store.read_blob(digest) == b"one"
    assert store.verify_all() == []


def test_a_blob_of_another_size_names_both_digests(tmp_path: Path) -> None:
    store = Store(tmp_path)
    publish(store, b"one")
    digest = "sha256:" + hashlib.sha256(b"one").hexdigest()
    store.blob_path(digest).chmod(0o644)
    store.blob_path(digest).write_bytes(b"longer")
    with pytest.raises(TrustError) as caught:
        store.read_blob(digest, 3)
    assert caught.value.code == "package.digest-mismatch"
    assert hashlib.sha256(b"longer").hexdigest() in caught.value.message


def test_a_failed_publication_leaves_the_store_as_it_was(tmp_path: Path) -> None:
    store = Store(tmp_path)
    version = publish(store, b"one")
    before = blobs(store)
    with pytest.raises(RuntimeError, match="changed my mind"), store.publishing() as publication:
        publication.write_blob("text/plain", [b"other"])
        raise RuntimeError("changed my mind")
    assert blobs(store) == before
    assert store.versions() == [version]


def test_blobs_of_others_at_work_are_not_taken_away(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with store.publishing() as mine:
        layer = mine.write_blob("text/plain", [b"mine"])
        with pytest.raises(RuntimeError), store.publishing() as other:
            other.write_blob("text/plain", [b"theirs"])
            raise RuntimeError
        config = mine.write_document(CONFIG_TYPE, {})
        version = mine.write_document(MANIFEST_MEDIA_TYPE, make_manifest(config, [layer]))
        mine.commit(version)
    assert store.verify_all() == []
    assert store.collect() == len(b"theirs")
    assert store.verify_all() == []
    assert store.versions() == [version]


def test_collect_takes_nothing_from_a_store_that_does_not_know_what_it_needs(
    tmp_path: Path,
) -> None:
    store = Store(tmp_path)
    version = publish(store, b"one")
    path = store.blob_path(version.digest)
    path.chmod(0o644)
    path.write_bytes(b"{}")
    before = blobs(store)
    with pytest.raises(TrustError):
        store.collect()
    assert blobs(store) == before


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{",
        '{"manifests": 3}',
        '{"manifests": [3]}',
        '{"manifests": [{"mediaType": "a", "digest": "sha256:../../etc/passwd", "size": 3}]}',
        '{"manifests": [{"mediaType": "a", "digest": "sha256:' + "0" * 64 + '", "size": -1}]}',
        '{"manifests": [{"digest": "sha256:'
        + "0" * 64
        + '", "size": 1, "annotations": {"a": 1}}]}',
        "[" * 100_000,
    ],
)
def test_an_index_that_is_none_is_refused_in_words(tmp_path: Path, text: str) -> None:
    (tmp_path / "index.json").write_text(text)
    with pytest.raises(InputError) as caught:
        Store(tmp_path).versions()
    assert caught.value.code == "formats.corrupt"


WRITER = """
import sys
from dukou.package.store import Store
from tests.unit.package.test_store import publish
store = Store(sys.argv[1])
sys.stdin.readline()
for number in range(20):
    publish(store, f"{sys.argv[2]} {number}".encode(), b"shared")
"""


def test_writers_at_once_all_land(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path), str(writer)],
            stdin=subprocess.PIPE,
            text=True,
            env=environment,
        )
        for writer in range(3)
    ]
    for writer in writers:
        writer.communicate("go\n", timeout=50)
    assert [writer.returncode for writer in writers] == [0, 0, 0]
    store = Store(tmp_path)
    assert len(store.versions()) == 60
    assert store.verify_all() == []
    assert store.collect() == 0
