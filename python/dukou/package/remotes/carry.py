"""Carries versions between a store and a remote: only what the other side lacks, verified, tags last.

A version travels as it lies: manifest, config, chunks, its signatures, and of an encrypted one the wrapped
key. Knows stores and remotes; names and numbers are the registry's.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from dukou.base.errors import DukouError, RemoteError, StateError, TrustError
from dukou.base.ids import Digest, parse_digest
from dukou.package.descriptor import MANIFEST_MEDIA_TYPE, Descriptor, corrupt, load_document
from dukou.package.encryption import (
    KEY_TYPE,
    MODEL_ANNOTATION,
    is_encrypted,
    model_key_id,
    read_wrapped_key,
)
from dukou.package.layout import ARTIFACT_TYPE, BUNDLE_TYPE, file_layers
from dukou.package.remotes.contract import LARGEST_MANIFEST, Remote, Traffic
from dukou.package.store import KEY_TAG, REF_NAME, Publication, Store
from dukou.trust.keyring import Keyring
from dukou.trust.keys import PublicKey
from dukou.trust.signature import verify_any

Progress = Callable[[Descriptor, bool], None]


@dataclass(frozen=True, slots=True)
class Pulled:
    """A version that has come.

    Attributes:
        digest: its own.
        signed_by: the id of the trusted key.
        traffic: what travelled.
    """

    digest: Digest
    signed_by: str
    traffic: Traffic


def push_version(
    store: Store,
    digest: str,
    remote: Remote,
    tags: Sequence[str],
    *,
    fixed: Sequence[str] = (),
) -> Traffic:
    """Sends a version, its signatures and its wrapped key, and moves the tags to it at the very end.

    Args:
        store: where it lies.
        digest: which.
        remote: where to.
        tags: that shall lead to it.
        fixed: those of them that must not lead to another version already: numbers.

    Raises:
        StateError: `remote.tag-taken`, `package.incomplete`; before anything was sent.
        DukouError: `remote.*`; then no tag has moved.
    """
    version = store.find_version(digest)
    content = store.read_blob(version.digest, version.size)
    manifest = load_document(content, f"version `{digest}`")
    for tag in fixed:
        there = remote.find_tag(tag)
        if there is not None and there != digest:
            raise StateError(
                "remote.tag-taken",
                f"tag `{tag}` of {remote.where} is version `{there}`, and not `{digest}`",
            )
    traffic = Traffic()
    with remote.publishing():
        for blob in _once(Descriptor.all_from(manifest, f"version `{digest}`")):
            _send_blob(store, remote, blob, traffic)
        for referrer in store.referrers(digest):
            _send_manifest(store, remote, referrer, traffic, subject=digest)
        if is_encrypted(manifest):
            key_id = model_key_id(manifest, f"version `{digest}`")
            _send_manifest(store, remote, _key_entry(store, key_id), traffic)
        known = remote.has_manifest(digest)
        plain = Descriptor(MANIFEST_MEDIA_TYPE, version.digest, version.size, (), ARTIFACT_TYPE)
        remote.write_manifest(plain, content, tags)
        traffic.count(version.size, moved=not known)
    return traffic


def find_version(remote: Remote, tag: str | None) -> tuple[str, Digest]:
    """What a pull means: the tag that was said, else `champion`, else the highest number.

    Raises:
        StateError: `remote.not-found`, naming the tags that there are.
    """
    if tag is None:
        tags = remote.tags()
        numbers = sorted((t for t in tags if t.isdigit()), key=int)
        tag = "champion" if "champion" in tags else numbers[-1] if numbers else None
        if tag is None:
            raise StateError("remote.not-found", f"{remote.where} holds no version")
    digest = remote.find_tag(tag)
    if digest is None:
        shown = ", ".join(f"`{t}`" for t in sorted(_shown(remote.tags()), key=_order)[:12])
        raise StateError(
            "remote.not-found",
            f"{remote.where} has no tag `{tag}`",
            hint=f"its tags are {shown}" if shown else "it holds no version: push one first",
        )
    return tag, parse_digest(digest)


def pull_version(
    remote: Remote,
    digest: str,
    store: Store,
    trusted: Mapping[str, PublicKey],
    keyring: Keyring | None,
) -> Pulled:
    """Fetches a version. Its signature is believed before anything else of it is fetched.

    What has come whole stays where a connection fails: the next pull goes on from there.

    Raises:
        TrustError: `trust.*` (the signature), `package.digest-mismatch`; nothing of it is then in the index.
        DukouError: `remote.*`, `formats.corrupt`, `store.*`.
    """
    where = f"version `{digest}` of {remote.where}"
    content = _verified(remote.read_manifest(digest), digest, None, where)
    traffic = Traffic()
    bundles, referrers, carried = _fetch_signatures(remote, digest)
    signed_by = verify_any(bundles, content, trusted, digest)
    manifest = load_document(content, where)
    file_layers(manifest, where)  # Not every manifest is a version.
    broken: DukouError | None = None
    with store.publishing() as publication:
        try:
            for blob in _once(Descriptor.all_from(manifest, where)):
                _fetch_blob(remote, store, publication, blob, traffic)
        except (RemoteError, StateError) as error:
            # Out of the block without an error: what came whole is kept for the next try.
            broken = error
        else:
            for blob, piece in carried:
                _keep(store, publication, blob, piece, traffic)
            beside = _fetch_key(remote, store, publication, manifest, keyring, where, traffic)
            version = Descriptor(
                MANIFEST_MEDIA_TYPE, parse_digest(digest), len(content), (), ARTIFACT_TYPE
            )
            _keep(store, publication, version, content, traffic)
            publication.commit(version, referrers)
            if beside is not None:
                publication.commit_tagged([beside])
    if broken is not None:
        raise broken
    return Pulled(parse_digest(digest), signed_by, traffic)


def _send_blob(store: Store, remote: Remote, blob: Descriptor, traffic: Traffic) -> None:
    if remote.has_blob(blob):
        traffic.count(blob.size, moved=False)
        return
    # What is damaged here must not be spread.
    remote.write_blob(blob, store.verify_blob(blob.digest, blob.size))
    traffic.count(blob.size, moved=True)


def _send_manifest(
    store: Store,
    remote: Remote,
    entry: Descriptor,
    traffic: Traffic,
    *,
    subject: str | None = None,
) -> None:
    content = store.read_blob(entry.digest, entry.size)
    document = load_document(content, f"manifest `{entry.digest}`")
    for blob in _once(Descriptor.all_from(document, f"manifest `{entry.digest}`")):
        _send_blob(store, remote, blob, traffic)
    known = remote.has_manifest(entry.digest)
    if subject is None:
        remote.write_manifest(entry, content, [entry.annotation(REF_NAME) or ""])
    else:
        remote.write_referrer(entry, content, subject)
    traffic.count(entry.size, moved=not known)


def _key_entry(store: Store, key_id: str) -> Descriptor:
    for entry in store.index():
        if entry.annotation(REF_NAME) == KEY_TAG + key_id:
            return entry
    raise StateError(
        "package.incomplete", f"the store `{store.path}` has no wrapped key `{key_id}`"
    )


def _fetch_signatures(
    remote: Remote, digest: str
) -> tuple[list[bytes], list[Descriptor], list[tuple[Descriptor, bytes]]]:
    """The bundles that say they are of this version; their manifests' descriptors; all that came."""
    bundles: list[bytes] = []
    referrers: list[Descriptor] = []
    carried: list[tuple[Descriptor, bytes]] = []
    for listed in _once(remote.referrers(digest)):
        if listed.artifact_type not in (None, BUNDLE_TYPE):
            continue
        what = f"a signature of `{digest}` in {remote.where}"
        content = _verified(remote.read_manifest(listed.digest), listed.digest, listed.size, what)
        document = load_document(content, what)
        subject = document.get("subject")
        if document.get("artifactType") != BUNDLE_TYPE:
            continue
        if not isinstance(subject, dict) or subject.get("digest") != digest:
            raise TrustError(
                "trust.bad-signature",
                f"{what} says that it is of another version: {subject!r:.120}",
            )
        for blob in _once(Descriptor.all_from(document, what)):
            if blob.size > LARGEST_MANIFEST:
                raise corrupt(what, f"it names a blob of {blob.size} bytes")
            piece = _verified(b"".join(remote.read_blob(blob)), blob.digest, blob.size, what)
            carried.append((blob, piece))
            if blob.media_type == BUNDLE_TYPE:
                bundles.append(piece)
        entry = Descriptor(MANIFEST_MEDIA_TYPE, listed.digest, len(content), (), BUNDLE_TYPE)
        carried.append((entry, content))
        referrers.append(entry)
    return bundles, referrers, carried


def _fetch_blob(
    remote: Remote, store: Store, publication: Publication, blob: Descriptor, traffic: Traffic
) -> None:
    if store.has_blob(blob.digest) and _is_whole(store, blob):
        traffic.count(blob.size, moved=False)
        return
    publication.receive_blob(blob, remote.read_blob(blob))
    traffic.count(blob.size, moved=True)


def _is_whole(store: Store, blob: Descriptor) -> bool:
    try:
        store.verify_blob(blob.digest, blob.size)
    except TrustError:
        return False  # Damaged here: fetching it again mends it.
    return True


def _keep(
    store: Store, publication: Publication, blob: Descriptor, content: bytes, traffic: Traffic
) -> None:
    there = store.has_blob(blob.digest)
    publication.write_blob(blob.media_type, [content])
    traffic.count(blob.size, moved=not there)


def _fetch_key(
    remote: Remote,
    store: Store,
    publication: Publication,
    manifest: Mapping[str, object],
    keyring: Keyring | None,
    where: str,
    traffic: Traffic,
) -> Descriptor | None:
    """The wrapped key of an encrypted version; None where ours is the one to keep, or none is needed."""
    if not is_encrypted(manifest):
        return None
    key_id = model_key_id(manifest, where)
    ours = keyring is not None and _opens(store, key_id, keyring)
    tag = KEY_TAG + key_id
    digest = remote.find_tag(tag)
    if digest is None:
        if ours:
            return None
        raise StateError(
            "package.incomplete", f"{where} is encrypted, and {remote.where} has no tag `{tag}`"
        )
    content = _verified(remote.read_manifest(digest), digest, None, where)
    document = load_document(content, where)
    layers = Descriptor.list_from(document, "layers", where)
    if document.get("artifactType") != KEY_TYPE or len(layers) != 1:
        raise corrupt(where, f"what stands under its tag `{tag}` is no wrapped key")
    for blob in _once(Descriptor.all_from(document, where)):
        _fetch_blob(remote, store, publication, blob, traffic)
    wrapped = load_document(store.read_blob(layers[0].digest, layers[0].size), where)
    if ours:
        return None  # Rotated here, perhaps: what opens is not replaced.
    entry = Descriptor(MANIFEST_MEDIA_TYPE, parse_digest(digest), len(content), (), KEY_TYPE)
    _keep(store, publication, entry, content, traffic)
    model = str(wrapped.get("model"))
    return entry.with_annotations({REF_NAME: tag, MODEL_ANNOTATION: model})


def _opens(store: Store, key_id: str, keyring: Keyring) -> bool:
    """Whether the store has the wrapped key already, by a key that is here."""
    try:
        wrapped = read_wrapped_key(store, key_id, "the version")
    except StateError:
        return False
    return any(key.id == wrapped["key"] for key in keyring.keys)


def _verified(content: bytes, digest: str, size: int | None, what: str) -> bytes:
    got = hashlib.sha256(content).hexdigest()
    if digest != f"sha256:{got}" or (size is not None and size != len(content)):
        raise TrustError(
            "package.digest-mismatch",
            f"{what} should be `{digest}`, and {len(content)} bytes of `sha256:{got}` came",
        )
    return content


def _once(blobs: Sequence[Descriptor]) -> list[Descriptor]:
    """Each blob once: versions may name one twice."""
    return list({blob.digest: blob for blob in blobs}.values())


def _shown(tags: Sequence[str]) -> list[str]:
    return [tag for tag in tags if not tag.startswith((KEY_TAG, "sha256-"))]


def _order(tag: str) -> tuple[bool, int, str]:
    return (tag.isdigit(), -int(tag) if tag.isdigit() else 0, tag)
