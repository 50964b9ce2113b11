"""A sealed file opens whole and unchanged, by its key and as what it is, or it does not open."""

from __future__ import annotations

import io
import random
import tarfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dukou.base.errors import TrustError
from dukou.trust.envelope import (
    HEADER_BYTES,
    SEGMENT_BYTES,
    OpeningReader,
    SealingWriter,
    is_sealed,
    key_id_of,
    open_bytes,
    rewrap_header,
    seal_bytes,
)
from dukou.trust.keyring import EncryptionKey, Keyring
from dukou.trust.sealed import read_file, rewrap_file, seal_file, sealed_under

KEY, OTHER = EncryptionKey.generate(), EncryptionKey.generate()
RING = Keyring.of(KEY)
SEED = 20261125


def code_of(sealed: bytes, keyring: Keyring | None = RING, context: str = "c") -> str:
    with pytest.raises(TrustError) as caught:
        open_bytes(sealed, keyring, context, "`it`")
    assert "`it`" in caught.value.message
    return caught.value.code


@pytest.mark.parametrize(
    "size", [0, 1, SEGMENT_BYTES - 1, SEGMENT_BYTES, SEGMENT_BYTES + 1, 3 * SEGMENT_BYTES]
)
def test_what_was_sealed_comes_back(size: int) -> None:
    content = random.Random(SEED).randbytes(size)
    sealed = seal_bytes(content, RING, "c")
    assert is_sealed(sealed)
    assert key_id_of(sealed) == KEY.id
    segments = max(1, -(-size // SEGMENT_BYTES))
    assert len(sealed) == HEADER_BYTES + size + 16 * segments
    assert open_bytes(sealed, RING, "c", "it") == content
    # One byte may stand there by chance.
    assert size < 64 or content[:64] not in sealed
    # The same content is never sealed to the same bytes.
    assert seal_bytes(content, RING, "c") != sealed


def test_every_flipped_byte_is_refused() -> None:
    generator = random.Random(SEED)
    sealed = seal_bytes(b"eleven rows", RING, "c")
    for at in range(len(sealed)):
        changed = bytearray(sealed)
        changed[at] ^= generator.randrange(1, 256)
        code = code_of(bytes(changed))
        # The key's id is the one part that may lead elsewhere than to `changed`.
        assert code == ("trust.wrong-encryption-key" if 8 <= at < 16 else "trust.bad-ciphertext"), (
            at
        )


def test_every_cut_and_everything_behind_the_end_is_refused() -> None:
    sealed = seal_bytes(b"eleven rows", RING, "c")
    assert {code_of(sealed[:cut]) for cut in range(len(sealed))} == {"trust.bad-ciphertext"}
    for more in (b"\0", sealed[HEADER_BYTES:], sealed):
        assert code_of(sealed + more) == "trust.bad-ciphertext"


def test_segments_cannot_be_dropped_moved_or_repeated() -> None:
    content = random.Random(SEED).randbytes(3 * SEGMENT_BYTES + 5)
    sealed = seal_bytes(content, RING, "c")
    size = SEGMENT_BYTES + 16
    header, rest = sealed[:HEADER_BYTES], sealed[HEADER_BYTES:]
    a, b, c, end = (rest[at : at + size] for at in range(0, 4 * size, size))
    assert open_bytes(header + a + b + c + end, RING, "c", "it") == content
    for parts in (
        (a, b, c),  # cut at a segment's end
        (a, b, end),
        (b, a, c, end),
        (a, a, b, c, end),
        (end,),
        (),
    ):
        assert code_of(header + b"".join(parts)) == "trust.bad-ciphertext"


def test_a_file_of_another_context_or_another_file_s_segments_do_not_open() -> None:
    first, second = seal_bytes(b"first", RING, "c"), seal_bytes(b"other", RING, "c")
    assert code_of(first, context="d") == "trust.bad-ciphertext"
    assert code_of(first[:HEADER_BYTES] + second[HEADER_BYTES:]) == "trust.bad-ciphertext"


def test_a_wrong_key_is_named_with_the_one_that_is_wanted() -> None:
    sealed = seal_bytes(b"rows", RING, "c")
    with pytest.raises(TrustError) as caught:
        open_bytes(sealed, Keyring.of(OTHER), "c", "`it`")
    assert caught.value.code == "trust.wrong-encryption-key"
    assert KEY.id in caught.value.message
    assert OTHER.id in caught.value.message
    assert code_of(sealed, keyring=None) == "trust.no-encryption-key"
    assert open_bytes(sealed, Keyring.of(OTHER, KEY), "c", "it") == b"rows"


def test_a_rotation_changes_the_header_alone() -> None:
    sealed = seal_bytes(b"rows", RING, "c")
    both = Keyring.of(OTHER, KEY)
    header = rewrap_header(sealed[:HEADER_BYTES], both, "it")
    assert header is not None
    turned = header + sealed[HEADER_BYTES:]
    assert open_bytes(turned, Keyring.of(OTHER), "c", "it") == b"rows"
    assert code_of(turned, RING) == "trust.wrong-encryption-key"
    assert rewrap_header(header, both, "it") is None
    with pytest.raises(TrustError, match="wrong-encryption-key"):
        rewrap_header(sealed[:HEADER_BYTES], Keyring.of(OTHER), "it")


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 2 * SEGMENT_BYTES + 3), max_size=6), st.integers(1, 1 << 17))
def test_pieces_of_any_size_make_the_same_stream(sizes: list[int], step: int) -> None:
    pieces = [random.Random(number).randbytes(size) for number, size in enumerate(sizes)]
    sink = io.BytesIO()
    with SealingWriter(sink, RING, "c") as writer:
        for piece in pieces:
            assert writer.write(piece) == len(piece)
    sink.seek(0)
    reader = io.BufferedReader(OpeningReader(sink, RING, "c", "it"))
    came = b""
    while part := reader.read(step):
        came += part
    assert came == b"".join(pieces)


def test_an_archive_streams_through(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_bytes(b"1,2\n" * 50_000)
    sealed = tmp_path / "archive"
    with (
        sealed.open("wb") as sink,
        SealingWriter(sink, RING, "a") as writer,
        tarfile.open(fileobj=writer, mode="w|") as archive,
    ):
        archive.add(tmp_path / "rows.csv", "rows.csv")
    with sealed.open("rb") as source:
        reader = io.BufferedReader(OpeningReader(source, RING, "a", "it"))
        with tarfile.open(fileobj=reader, mode="r|") as archive:
            archive.extractall(tmp_path / "out", filter="data")
    assert (tmp_path / "out" / "rows.csv").read_bytes() == (tmp_path / "rows.csv").read_bytes()


def test_a_writer_that_failed_leaves_nothing_that_opens() -> None:
    sink = io.BytesIO()
    with pytest.raises(RuntimeError), SealingWriter(sink, RING, "c") as writer:
        writer.write(b"half")
        raise RuntimeError
    assert code_of(sink.getvalue()) == "trust.bad-ciphertext"
    dropped = io.BytesIO()
    SealingWriter(dropped, RING, "c").write(b"x" * SEGMENT_BYTES * 2)
    assert code_of(dropped.getvalue()) == "trust.bad-ciphertext"


def test_files_are_sealed_and_turned_where_they_lie(tmp_path: Path) -> None:
    path = tmp_path / "rows"
    path.write_bytes(b"planted" * 20_000)
    path.chmod(0o640)
    assert read_file(path, None, "c") == b"planted" * 20_000
    assert sealed_under(path) is None
    assert not rewrap_file(path, RING)
    assert seal_file(path, RING, "c")
    assert not seal_file(path, RING, "c")
    assert sealed_under(path) == KEY.id
    assert b"planted" not in path.read_bytes()
    assert path.stat().st_mode & 0o777 == 0o640
    assert rewrap_file(path, Keyring.of(OTHER, KEY))
    assert not rewrap_file(path, Keyring.of(OTHER, KEY))
    assert sealed_under(path) == OTHER.id
    assert read_file(path, Keyring.of(OTHER), "c") == b"planted" * 20_000
    assert [p.name for p in tmp_path.iterdir()] == ["rows"]
