"""What a version is made of: media types, manifest, config, card; the contract is `spec/artifact.md`.

Pure: documents in, documents out. Knows nothing of where they are stored or who signs them.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from dukou.base.errors import BugError
from dukou.model.model import Card, Lineage
from dukou.model.signature import Signature
from dukou.package.descriptor import MANIFEST_MEDIA_TYPE, Descriptor, corrupt

if TYPE_CHECKING:
    from dukou.model.model import Model

ARTIFACT_TYPE = "application/vnd.cncf.model.manifest.v1+json"
CONFIG_TYPE = "application/vnd.cncf.model.config.v1+json"
WEIGHT_TYPE = "application/vnd.cncf.model.weight.v1.raw"
GRAPH_TYPE = "application/vnd.dukou.model.graph.v1+onnx"
GOLDEN_TYPE = "application/vnd.dukou.model.golden.v1+json"
PROFILE_TYPE = "application/vnd.dukou.model.profile.v1+json"
CARD_TYPE = "application/vnd.dukou.model.card.v1+json"
BUNDLE_TYPE = "application/vnd.dev.sigstore.bundle.v0.3+json"
EMPTY_TYPE = "application/vnd.oci.empty.v1+json"

# What the media types of an encrypted version's blobs end with.
ENCRYPTED = "+encrypted"

FILE_PATH = "org.cncf.model.filepath"
KEY_ANNOTATION = "dev.dukou.encryption.key"
GRAPH_FILE, GOLDEN_FILE, CARD_FILE = "graph.onnx", "golden.json", "card.json"
PROFILE_FILE = "profile.json"
FORMAT = 1

# A plain name inside the version's folder: no separator, not hidden.
_FILE_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}\Z")


@dataclass(frozen=True, slots=True)
class Config:
    """What a version's config says of it to dukou.

    Attributes:
        name: the model's name when it was packaged.
        variant: `original`, `int8` …
        signature: inputs and outputs.
        labels: class names; empty where there are none.
        privacy: the policy's tags (`dukou.trust.privacy.policy`); empty where nothing was said.
    """

    name: str
    variant: str
    signature: Signature
    labels: tuple[str, ...]
    privacy: Mapping[str, Any] = field(default_factory=dict)


def make_config(
    model: Model,
    name: str,
    diff_ids: Sequence[str],
    privacy: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """ModelPack's config with the key `dukou`.

    Args:
        model: what is packaged.
        name: the model line's name.
        diff_ids: digests of the layers' contents, in order: before they are encrypted.
        privacy: the policy's tags; None where nothing was said.
    """
    descriptor: dict[str, Any] = {"name": name}
    if model.card.title:
        descriptor["title"] = model.card.title
    if model.card.description:
        descriptor["description"] = model.card.description
    if model.card.license:
        descriptor["licenses"] = [model.card.license]
    return {
        "descriptor": descriptor,
        "modelfs": {"type": "layers", "diffIds": list(diff_ids)},
        "config": {"format": "onnx"},
        "dukou": {
            "format": FORMAT,
            "name": name,
            "variant": model.variant,
            "signature": model.signature.to_json(),
            "labels": list(model.card.labels),
            **({} if privacy is None else {"privacy": dict(privacy)}),
        },
    }


def parse_config(document: Mapping[str, Any], where: str) -> Config:
    """Reads the key `dukou` of a config.

    Raises:
        InputError: `formats.corrupt`.
    """
    said = document.get("dukou")
    if not isinstance(said, dict):
        raise corrupt(where, "its config has no `dukou`")
    if said.get("format") != FORMAT:
        raise corrupt(where, f"its format is {said.get('format')!r:.40}, and {FORMAT} is known")
    try:
        return Config(
            name=str(said["name"]),
            variant=str(said["variant"]),
            signature=Signature.from_json(said["signature"]),
            labels=tuple(str(label) for label in said["labels"]),
            privacy=dict(said.get("privacy") or {}),
        )
    except (KeyError, TypeError, ValueError, AttributeError, BugError) as error:
        raise corrupt(where, f"its config's `dukou` lacks or misuses {error}") from error


def make_card(
    model: Model,
    evaluation: Mapping[str, Any] | None,
    limitations: Sequence[Mapping[str, Any]] | None = None,
) -> dict[str, Any]:
    """What a person should know: card, lineage, evaluation, and limitations where they were computed."""
    return {
        "format": FORMAT,
        "card": dataclasses.asdict(model.card),
        "lineage": {
            **{
                name: getattr(model.lineage, name)
                for name in ("source", "framework", "source_digest", "parent", "steps")
            },
            "facts": dict(model.lineage.facts),
        },
        "evaluation": None if evaluation is None else dict(evaluation),
        **({} if limitations is None else {"limitations": [dict(entry) for entry in limitations]}),
    }


def parse_card(document: Mapping[str, Any], where: str) -> tuple[Card, Lineage]:
    """Reads card and lineage back.

    Raises:
        InputError: `formats.corrupt`.
    """
    try:
        card, lineage = dict(document["card"]), dict(document["lineage"])
        card["labels"] = tuple(card.get("labels", ()))
        lineage["steps"] = tuple(lineage.get("steps", ()))
        return Card(**card), Lineage(**lineage)
    except (KeyError, TypeError, ValueError) as error:
        raise corrupt(where, f"its card lacks or misuses {error}") from error


def parse_limitations(document: Mapping[str, Any], where: str) -> tuple[dict[str, Any], ...] | None:
    """The limitations that a card states, each with at least `kind` and `sentence`; None for a version
    that was packaged before there were any.

    Raises:
        InputError: `formats.corrupt`.
    """
    said = document.get("limitations")
    if said is None:
        return None
    if not isinstance(said, list) or not all(
        isinstance(entry, dict)
        and isinstance(entry.get("kind"), str)
        and isinstance(entry.get("sentence"), str)
        for entry in said
    ):
        raise corrupt(where, "its card's `limitations` are no list of entries with their sentences")
    return tuple(said)


def make_manifest(
    config: Descriptor, layers: Sequence[Descriptor], model_key: str | None = None
) -> dict[str, Any]:
    """The version itself. No time and no place stands in it: the same model is the same version.

    Args:
        config: of the config.
        layers: of the layers, in order.
        model_key: id of the key that the blobs are encrypted with; None where they are not.
    """
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST_MEDIA_TYPE,
        "artifactType": ARTIFACT_TYPE,
        "config": config.to_json(),
        "layers": [layer.to_json() for layer in layers],
    }
    return (
        manifest if model_key is None else {**manifest, "annotations": {KEY_ANNOTATION: model_key}}
    )


def make_referrer(subject: Descriptor, empty: Descriptor, bundle: Descriptor) -> dict[str, Any]:
    """The manifest that carries a signature and says of which version."""
    return {
        "schemaVersion": 2,
        "mediaType": MANIFEST_MEDIA_TYPE,
        "artifactType": BUNDLE_TYPE,
        "config": empty.to_json(),
        "layers": [bundle.to_json()],
        "subject": {
            "mediaType": subject.media_type,
            "digest": subject.digest,
            "size": subject.size,
        },
    }


def file_layers(manifest: Mapping[str, Any], where: str) -> dict[str, Descriptor]:
    """The layers that are files of the version's folder, by name.

    Raises:
        InputError: `formats.corrupt`: not a version, or a name that leads out of the folder or
            stands twice.
    """
    if manifest.get("artifactType") != ARTIFACT_TYPE:
        raise corrupt(where, f"its artifact type is `{manifest.get('artifactType')}`")
    files: dict[str, Descriptor] = {}
    for layer in Descriptor.list_from(dict(manifest), "layers", where):
        name = layer.annotation(FILE_PATH)
        if name is None:
            continue
        if not _FILE_NAME.match(name):
            raise corrupt(where, f"`{name[:80]}` is not a plain file name")
        if name in files:
            raise corrupt(where, f"two layers are called `{name}`")
        files[name] = layer
    graph = files.get(GRAPH_FILE)
    if graph is None or graph.media_type not in (GRAPH_TYPE, GRAPH_TYPE + ENCRYPTED):
        raise corrupt(where, f"it has no layer `{GRAPH_FILE}` of type `{GRAPH_TYPE}`")
    return files
