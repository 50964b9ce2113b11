"""Descriptors: how one blob names another.

Source: OCI image-spec 1.1, content descriptors.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dukou.base.errors import InputError
from dukou.base.ids import Digest, parse_digest

MANIFEST_MEDIA_TYPE = "application/vnd.oci.image.manifest.v1+json"
INDEX_MEDIA_TYPE = "application/vnd.oci.image.index.v1+json"


@dataclass(frozen=True, slots=True)
class Descriptor:
    """The name of a blob: what it is, its digest, its bytes.

    Attributes:
        media_type: what the bytes are.
        digest: `sha256:…` of them.
        size: how many they are.
        annotations: by key; the manifest that holds this descriptor says them.
        artifact_type: of a manifest, what kind of artifact it describes.
    """

    media_type: str
    digest: Digest
    size: int
    annotations: tuple[tuple[str, str], ...] = ()
    artifact_type: str | None = None

    @classmethod
    def make(
        cls, media_type: str, hexdigest: str, size: int, annotations: Mapping[str, str] | None
    ) -> Descriptor:
        """A descriptor from a digest's hex."""
        digest = Digest(f"sha256:{hexdigest}")
        return cls(media_type, digest, size, tuple(sorted((annotations or {}).items())))

    def annotation(self, key: str) -> str | None:
        """The annotation's value, None where there is none."""
        return dict(self.annotations).get(key)

    def with_annotations(self, annotations: Mapping[str, str]) -> Descriptor:
        """The same blob with other annotations."""
        return dataclasses.replace(self, annotations=tuple(sorted(annotations.items())))

    def with_artifact_type(self, artifact_type: str) -> Descriptor:
        """The same manifest with its artifact's type."""
        return dataclasses.replace(self, artifact_type=artifact_type)

    def to_json(self) -> dict[str, Any]:
        """As it stands in a manifest or an index."""
        document: dict[str, Any] = {
            "mediaType": self.media_type,
            "digest": self.digest,
            "size": self.size,
        }
        if self.artifact_type:
            document["artifactType"] = self.artifact_type
        if self.annotations:
            document["annotations"] = dict(self.annotations)
        return document

    @classmethod
    def from_json(cls, document: object, where: str) -> Descriptor:
        """Reads a descriptor; `where` names the document in the error.

        Raises:
            InputError: `formats.corrupt`.
        """
        if not isinstance(document, dict):
            raise corrupt(where, "a descriptor in it is not an object")
        size, annotations = document.get("size"), document.get("annotations", {})
        if not isinstance(size, int) or isinstance(size, bool) or size < 0:
            raise corrupt(where, f"a descriptor's `size` is `{size!r:.40}`")
        if not isinstance(annotations, dict) or not all(
            isinstance(value, str) for value in annotations.values()
        ):
            raise corrupt(where, "a descriptor's `annotations` are not texts by key")
        try:
            digest = parse_digest(str(document.get("digest")))
        except InputError as error:
            raise corrupt(where, error.message) from error
        return cls(
            str(document.get("mediaType")),
            digest,
            size,
            tuple(sorted(annotations.items())),
            document.get("artifactType"),
        )

    @classmethod
    def list_from(cls, document: dict[str, Any], key: str, where: str) -> list[Descriptor]:
        """The list of descriptors under `key`."""
        listed = document.get(key)
        if not isinstance(listed, list):
            raise corrupt(where, f"`{key}` is missing or not a list")
        return [cls.from_json(item, where) for item in listed]

    @classmethod
    def all_from(cls, document: dict[str, Any], where: str) -> list[Descriptor]:
        """Every blob that a manifest or an index names, but for its subject."""
        named = [cls.from_json(document["config"], where)] if "config" in document else []
        for key in ("layers", "manifests"):
            if key in document:
                named += cls.list_from(document, key, where)
        return named


def corrupt(where: str, what: str) -> InputError:
    """`formats.corrupt` for a document of the store that is not what the specification says."""
    return InputError(
        "formats.corrupt",
        f"{where} is not as the specification says: {what}",
        hint="publish or pull the version again",
    )


def load_document(blob: bytes, where: str) -> dict[str, Any]:
    """A JSON object.

    Raises:
        InputError: `formats.corrupt`.
    """
    try:
        document = json.loads(blob)
    except (ValueError, RecursionError) as error:
        raise corrupt(where, "it is not JSON") from error
    if not isinstance(document, dict):
        raise corrupt(where, "it is not a JSON object")
    return document
