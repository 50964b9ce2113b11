"""A model becomes a version: cut, written, described, signed, and only then visible."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dukou.base.canonical import dump_canonical
from dukou.base.ids import Digest, parse_model_name
from dukou.model.model import Model
from dukou.package.chunks import cut_graph
from dukou.package.descriptor import MANIFEST_MEDIA_TYPE, Descriptor
from dukou.package.layout import (
    ARTIFACT_TYPE,
    BUNDLE_TYPE,
    CARD_FILE,
    CARD_TYPE,
    EMPTY_TYPE,
    GOLDEN_FILE,
    GOLDEN_TYPE,
    GRAPH_FILE,
    GRAPH_TYPE,
    PROFILE_FILE,
    PROFILE_TYPE,
    WEIGHT_TYPE,
    make_card,
    make_config,
    make_manifest,
    make_referrer,
)
from dukou.package.sealing import BlobWriter
from dukou.package.store import Publication, Store
from dukou.trust.keyring import Keyring
from dukou.trust.keys import SigningKey
from dukou.trust.signature import sign_manifest


@dataclass(frozen=True, slots=True)
class PackagedVersion:
    """A version in a store.

    Attributes:
        digest: the version's: its manifest's.
        manifest: the manifest's document.
        size_bytes: of everything that the manifest names, and itself.
        new_bytes: of what the store did not have before, signature included.
        signed_by: the signing key's id; None for an unsigned version.
    """

    digest: Digest
    manifest: Mapping[str, Any]
    size_bytes: int
    new_bytes: int
    signed_by: str | None


def package_model(
    model: Model,
    store: Store,
    *,
    name: str,
    signer: SigningKey | None,
    evaluation: Mapping[str, Any] | None = None,
    profile: Mapping[str, Any] | None = None,
    limitations: Sequence[Mapping[str, Any]] | None = None,
    keyring: Keyring | None = None,
    privacy: Mapping[str, Any] | None = None,
) -> PackagedVersion:
    """Publishes the model as an immutable version of the model line `name`.

    The same model, name and evaluation give the same digest, encrypted with the model's key or not. A
    version that the store has already costs nothing but its signature by a new key.

    Args:
        model: graph, signature, golden samples, card, lineage.
        store: where to; made where it is missing.
        name: the model line's name.
        signer: whose signature it carries; None leaves it unsigned, and such a version is refused
            wherever a signature is required.
        evaluation: what `evaluate` found, kept beside the card; no timestamps, or the digest moves.
        limitations: what the evaluation found to be the model's limits (`dukou.evaluate.limitations`),
            kept in the card.
        profile: of the rows that it was trained on, to know drift by (`dukou.monitor.profile`).
        keyring: encrypts every blob with the model's key, which the keyring wraps; None: in clear.
        privacy: what may be kept of its requests, wherever it is deployed (`dukou.trust.privacy`).

    Raises:
        InputError: `config.invalid` (the name), `formats.*` (the graph or its weights).
        TrustError: `trust.wrong-encryption-key`: the model has a key that cannot be unwrapped here.
        ResourceError: `store.disk-full`, `store.not-writable`; the store is as it was.
    """
    parse_model_name(name)
    cut = cut_graph(model.graph)
    with store.publishing() as publication:
        writer = BlobWriter.make(store, publication, name, keyring)
        writer.write_layer(GRAPH_TYPE, GRAPH_FILE, [cut.graph])
        for chunk in cut.chunks:
            writer.write_layer(WEIGHT_TYPE, chunk.name, chunk.parts)
        if model.golden is not None:
            golden = model.golden.to_json(model.signature)
            writer.write_layer(GOLDEN_TYPE, GOLDEN_FILE, [golden])
        if profile is not None:
            writer.write_layer(PROFILE_TYPE, PROFILE_FILE, [dump_canonical(profile)])
        card = dump_canonical(make_card(model, evaluation, limitations))
        writer.write_layer(CARD_TYPE, CARD_FILE, [card])
        config = writer.write_config(make_config(model, name, writer.diff_ids, privacy))
        layers = writer.layers
        manifest = make_manifest(config, layers, writer.model_key_id)
        version = publication.write_document(
            MANIFEST_MEDIA_TYPE, manifest, artifact_type=ARTIFACT_TYPE
        )
        referrers = []
        if signer is not None:
            bundle = sign_manifest(dump_canonical(manifest), signer, name)
            referrers.append(_write_signature(publication, version, bundle))
        publication.commit(version, referrers, writer.beside)
        return PackagedVersion(
            digest=version.digest,
            manifest=manifest,
            size_bytes=version.size + config.size + sum(layer.size for layer in layers),
            new_bytes=publication.new_bytes,
            signed_by=None if signer is None else signer.id,
        )


def sign_version(
    store: Store, digest: str, signer: SigningKey, keyring: Keyring | None = None
) -> None:
    """Adds a signature to a version that is in the store.

    Args:
        store: where the version lies.
        digest: which.
        signer: whose signature.
        keyring: for an encrypted version; None takes the one of the home that the store lies in.

    Raises:
        StateError: `package.incomplete`: the version is not there.
        TrustError: `package.digest-mismatch`: its manifest is damaged.
        ResourceError: `store.disk-full`, `store.not-writable`.
    """
    from dukou.package.unpack import read_config

    version = store.find_version(digest)
    manifest = store.read_blob(version.digest, version.size)
    name = read_config(store, digest, keyring).name
    with store.publishing() as publication:
        bundle = sign_manifest(manifest, signer, name)
        publication.commit(version, [_write_signature(publication, version, bundle)])


def _write_signature(publication: Publication, version: Descriptor, bundle: bytes) -> Descriptor:
    empty = publication.write_blob(EMPTY_TYPE, [b"{}"])
    layer = publication.write_blob(BUNDLE_TYPE, [bundle])
    return publication.write_document(
        MANIFEST_MEDIA_TYPE, make_referrer(version, empty, layer), artifact_type=BUNDLE_TYPE
    )
