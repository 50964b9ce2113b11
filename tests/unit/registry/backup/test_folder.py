"""Snapshots: what is kept, what is shared, what comes back, and what is refused."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tests.artifacts import Place, make_layers, make_model

from dukou.base.errors import DukouError, InputError, StateError, TrustError
from dukou.registry.backup.folder import Backups
from dukou.registry.backup.home import PARTS
from dukou.registry.backup.snapshot import Snapshot
from dukou.registry.registry import ANYTHING, Registry


class Clock:
    """A minute later each time."""

    def __init__(self) -> None:
        self.now = datetime(2026, 11, 25, 18, tzinfo=UTC)

    def __call__(self) -> datetime:
        self.now += timedelta(minutes=1)
        return self.now


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """An installation with one version, a trusted key, a capture and what is not to be kept."""
    made = Place.make(tmp_path)
    publish(made, tmp_path, seed=1)
    for name, content in {
        "monitor/chain/2026-11-24/000001.parquet": b"rows",
        "runs/chain/one/run.json": b"{}",
        "cache/stages/data/x/train.csv": b"again",
        "store/versions/abc/graph.onnx": b"laid out",
        "keys/subjects.db": b"keys of people",
        "keys/encryption.key": b"the key itself",
    }.items():
        (made.home / name).parent.mkdir(parents=True, exist_ok=True)
        (made.home / name).write_bytes(content)
    return made


def publish(place: Place, folder: Path, *, seed: int) -> str:
    packaged = place.publish(
        make_model(folder / f"m{seed}", *make_layers(4, 3, seed=seed)), "chain"
    )
    with Registry.open(place.home) as registry:
        number = registry.register_version("chain", packaged.digest)
        registry.set_alias("chain", "champion", number, expected=ANYTHING)
    return packaged.digest


def files_of(home: Path) -> dict[str, bytes]:
    return {p.relative_to(home).as_posix(): p.read_bytes() for p in home.rglob("*") if p.is_file()}


def test_what_was_kept_comes_back_byte_for_byte(place: Place, tmp_path: Path) -> None:
    backups = Backups(tmp_path / "backups", clock=Clock())
    taken = backups.take(place.home)
    backups.restore(backups.read(taken.snapshot.id), tmp_path / "home-2")
    before, after = files_of(place.home), files_of(tmp_path / "home-2")
    for name, content in after.items():
        if name != "registry.db":
            assert content == before[name], name
    kept = {name for name in after if not name.startswith("store/blobs/")}
    assert kept == {
        "registry.db",
        "store/index.json",
        "store/oci-layout",
        *(name for name in before if name.startswith("trust/")),
        "monitor/chain/2026-11-24/000001.parquet",
        "runs/chain/one/run.json",
    }
    assert (tmp_path / "home-2").stat().st_mode & 0o777 == 0o700
    with Registry.open(tmp_path / "home-2") as registry:
        assert registry.audit_head() == taken.snapshot.audit
        assert registry.verify_audit() == taken.snapshot.audit[0]
    # Secrets are left out aloud where nothing is sealed.
    assert any("signing.pem" in text for text in taken.snapshot.left_out)


def test_the_table_of_parts_names_no_key_that_must_not_travel(place: Place) -> None:
    kept = {p for part in PARTS for p in place.home.glob(part.pattern)}
    assert place.home / "keys" / "subjects.db" not in kept
    assert place.home / "keys" / "encryption.key" not in kept


def test_what_did_not_change_takes_no_space_again(place: Place, tmp_path: Path) -> None:
    backups = Backups(tmp_path / "backups", clock=Clock())
    first = backups.take(place.home)
    assert backups.take(place.home).new_bytes == 0
    publish(place, tmp_path, seed=2)
    third = backups.take(place.home)
    added = third.snapshot.size - first.snapshot.size
    registry = next(f.size for f in third.snapshot.files if f.path == "registry.db")
    index = next(f.size for f in third.snapshot.files if f.path == "store/index.json")
    assert 0 < third.new_bytes <= added + registry + index


def test_older_ones_go_and_the_proved_one_stays(place: Place, tmp_path: Path) -> None:
    backups = Backups(tmp_path / "backups", clock=Clock())
    ids = []
    for seed in (2, 3, 4):
        publish(place, tmp_path, seed=seed)
        ids.append(backups.take(place.home).snapshot.id)
    backups.note_verified(ids[0], {"events": 1})
    assert backups.prune(1) == [ids[1]]
    assert backups.ids() == [ids[0], ids[2]]
    proved = backups.newest_verified()
    assert proved is not None
    assert proved.id == ids[0]
    named = {f.blob for name in backups.ids() for f in backups.read(name).files}
    assert {p.name for p in (tmp_path / "backups" / "blobs").iterdir()} == named
    for number, name in enumerate(backups.ids()):
        backups.restore(backups.read(name), tmp_path / f"again-{number}")


def test_every_flipped_byte_is_refused_and_nothing_appears(place: Place, tmp_path: Path) -> None:
    backups = Backups(tmp_path / "backups", clock=Clock())
    taken = backups.take(place.home).snapshot
    flipped = 0
    for blob in sorted((tmp_path / "backups" / "blobs").iterdir()):
        whole = blob.read_bytes()
        blob.chmod(0o600)
        for position in range(0, len(whole), max(1, len(whole) // 4)):
            damaged = bytearray(whole)
            damaged[position] ^= 0x20
            blob.write_bytes(damaged)
            with pytest.raises(TrustError) as refused:
                backups.restore(taken, tmp_path / "never")
            assert refused.value.code == "backup.damaged"
            flipped += 1
        blob.write_bytes(whole)
    assert flipped > 40
    assert not (tmp_path / "never").exists()
    assert not list(tmp_path.glob(".never*"))
    backups.restore(taken, tmp_path / "never")


def test_a_snapshot_that_was_cut_off_or_written_by_others_is_refused(
    place: Place, tmp_path: Path
) -> None:
    backups = Backups(tmp_path / "backups", clock=Clock())
    name = backups.take(place.home).snapshot.id
    path = tmp_path / "backups" / "snapshots" / f"{name}.json"
    path.chmod(0o600)
    whole = path.read_bytes()
    outside = json.loads(whole)
    outside["files"][0]["path"] = "../../etc/passwd"
    future = {**json.loads(whole), "format": 2}
    for content in (
        b"",
        whole[: len(whole) // 2],
        b"{}",
        json.dumps(outside).encode(),
        json.dumps(future).encode(),
    ):
        path.write_bytes(content)
        with pytest.raises(TrustError) as refused:
            backups.read(name)
        assert refused.value.code == "backup.damaged"
    # One that cannot be read keeps every byte that it might need, and the next one is whole.
    blobs = set((tmp_path / "backups" / "blobs").iterdir())
    said: list[str] = []
    again = backups.take(place.home, say=said.append)
    assert blobs <= set((tmp_path / "backups" / "blobs").iterdir())
    assert "stays" in said[0]
    backups.restore(again.snapshot, tmp_path / "home-2")


def test_a_damaged_store_is_found_while_the_backup_is_made(place: Place, tmp_path: Path) -> None:
    blob = max(place.store.path.glob("blobs/sha256/*"), key=lambda p: p.stat().st_size)
    content = bytearray(blob.read_bytes())
    content[0] ^= 1
    blob.chmod(0o600)
    blob.write_bytes(content)
    backups = Backups(tmp_path / "backups")
    with pytest.raises(TrustError) as refused:
        backups.take(place.home)
    assert refused.value.code == "package.digest-mismatch"
    assert backups.ids() == []


def test_folders_in_each_other_two_at_once_and_places_that_are_taken(
    place: Place, tmp_path: Path
) -> None:
    for folder in (place.home, place.home / "backups", place.home.parent):
        with pytest.raises(InputError) as inside:
            Backups(folder).take(place.home)
        assert inside.value.code == "usage.invalid"
    backups = Backups(tmp_path / "backups", clock=Clock())
    taken = backups.take(place.home).snapshot
    with backups._alone(), pytest.raises(StateError) as busy:
        Backups(tmp_path / "backups").take(place.home)
    assert busy.value.code == "backup.busy"
    with pytest.raises(StateError) as full:
        backups.restore(taken, place.home)
    assert full.value.code == "backup.not-empty"
    with pytest.raises(InputError) as unknown:
        backups.read("20200101T000000Z-00000000")
    assert unknown.value.code == "backup.unknown"
    assert taken.id in unknown.value.message


def test_snapshots_read_back_equal(place: Place, tmp_path: Path) -> None:
    taken = Backups(tmp_path / "backups").take(place.home).snapshot
    assert Snapshot.from_json(taken.to_json(), "here") == taken
    with pytest.raises(DukouError):
        Snapshot.from_json(taken.to_json().replace(b'"format": 1', b'"format": 9'), "here")


def test_of_two_in_one_second_the_later_one_is_the_newest(place: Place, tmp_path: Path) -> None:
    moments = iter(datetime(2026, 11, 25, 18, 0, 0, number, UTC) for number in range(12))
    backups = Backups(tmp_path / "backups", clock=lambda: next(moments))
    taken = [backups.take(place.home).snapshot.id for _ in range(12)]
    assert backups.ids() == taken
    assert backups.find(None).id == taken[-1]
