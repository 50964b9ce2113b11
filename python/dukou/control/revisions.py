"""What a table says, whatever machine serves it, and the number that it has for that.

Two servers of one registry that are told to serve the same get the same number for the same content.
What differs from one machine to the next (listeners, paths, CPUs) is no part of the content.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from dukou.base.canonical import dump_canonical
from dukou.base.errors import ResourceError
from dukou.deploy.document import Deployment
from dukou.deploy.table import ServingTable
from dukou.registry.registry import Registry


def subject_of(document: Mapping[str, Any]) -> str:
    """A digest of what a server was told to serve (`desired.json`), whatever that says now."""
    told = {name: document[name] for name in ("files", "references")}
    if document.get("documents"):
        told["documents"] = document["documents"]
    # A server that knows no principals has another table than one that does.
    return _digest({**told, "access": document["door"]["access"]})


def content_of(table: ServingTable, deployments: Sequence[Deployment]) -> str:
    """A digest of what a table says, but for what differs from machine to machine.

    Args:
        table: compiled.
        deployments: that it was compiled from.
    """
    said = table.model_dump(mode="json", include={"trust", "principals"})
    models = [
        {
            "name": model.name,
            "aliases": model.aliases,
            "versions": {
                version.version: version.source.model_dump(mode="json", exclude={"store"})
                for version in model.versions
            },
        }
        for model in table.models
    ]
    documents = [deployment.model_dump(mode="json") for deployment in deployments]
    return _digest({**said, "models": models, "deployments": documents})


class Numbering:
    """The numbers of one server's tables.

    Args:
        registry: that hands them out.
        subject: of `subject_of`.
    """

    def __init__(self, registry: Registry, subject: str) -> None:
        self._registry = registry
        self._subject = subject
        self._given: tuple[object, str] | None = None
        self._number = 0

    def number(
        self, content: str, token: object, *, above: int, is_current: Callable[[], bool]
    ) -> int | None:
        """The content's number; None where it is out of date meanwhile.

        Args:
            content: of `content_of`.
            token: of the state that it was made from.
            above: the number that is being served; 0 for none.
            is_current: whether the token is still the newest.

        Raises:
            StateError: `registry.conflict`.
        """
        found = self._registry.revisions.find(self._subject)
        if found is None or found[1] != content or found[0] < above:
            given = (token, content)
            if self._given == given and self._number >= above:
                # Nothing changed here, and another server says otherwise: it has another trust store or
                # other keys. Each keeps its own number, or they would outbid each other for ever.
                return self._number
            try:
                number = self._registry.revisions.number(
                    self._subject, content, above=above, is_current=is_current
                )
            except ResourceError:
                # It may only be read, or the disk is full: no reason not to serve what it says.
                before = 0 if found is None else found[0]
                number = max(before + 1, above + 1, self._registry.change_token())
            if number is None:
                return None
            self._given, self._number = given, number
            return number
        self._given, self._number = (token, content), found[0]
        return found[0]


def _digest(document: Mapping[str, Any]) -> str:
    return hashlib.sha256(dump_canonical(document)).hexdigest()
