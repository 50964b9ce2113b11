"""A registry of the OCI distribution specification as a remote: a repository a model, a tag a version.

Only what the registry lacks is sent. A blob larger than a piece goes in pieces, and where a connection
breaks the registry is asked how far it got. Nothing carries a tag before all of it is there.

Source: OCI distribution-spec 1.1.
"""

from __future__ import annotations

import contextlib
import http.client
import urllib.parse
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from dukou.base.canonical import dump_canonical
from dukou.base.errors import DukouError, RemoteError, TrustError
from dukou.base.ids import parse_digest
from dukou.package.descriptor import (
    INDEX_MEDIA_TYPE,
    MANIFEST_MEDIA_TYPE,
    Descriptor,
    load_document,
)
from dukou.package.remotes.address import Address
from dukou.package.remotes.credentials import Credentials
from dukou.package.remotes.http import PAUSES_S, Answer, Part, Session

_ACCEPT = {"Accept": f"{MANIFEST_MEDIA_TYPE}, {INDEX_MEDIA_TYPE}"}
# Sent at once; what a broken connection costs at most.
UPLOAD_PIECE = 16 << 20
# Pages of a listing that are followed.
_PAGES = 1000


class OciRemote:
    """A repository of a registry."""

    def __init__(self, address: Address, credentials: Credentials | None = None) -> None:
        self.where = f"`{address.host}/{address.repository}`"
        self.name = address.name
        self._session = Session(address, credentials)
        self._root = f"/v2/{address.repository}"

    def close(self) -> None:
        """Ends the connections."""
        self._session.close()

    def find_tag(self, tag: str) -> str | None:
        """The digest that the tag leads to."""
        answer = self._session.ask("HEAD", self._manifest(tag), expect=(200, 404), headers=_ACCEPT)
        answer.drop()
        if answer.status == 404:
            return None
        said = answer.headers.get("docker-content-digest")
        if said is not None:
            return str(parse_digest(said))
        # A registry need not say it; the manifest does.
        import hashlib

        return f"sha256:{hashlib.sha256(self.read_manifest(tag)).hexdigest()}"

    def tags(self) -> list[str]:
        """Every tag of the repository."""
        found: list[str] = []
        target: str | None = f"{self._root}/tags/list"
        for _ in range(_PAGES):
            if target is None:
                break
            answer = self._session.ask("GET", target, expect=(200, 404))
            body = answer.read()
            if answer.status == 404:
                break
            listed = load_document(body, f"the tags of {self.where}").get("tags")
            found += [tag for tag in listed or () if isinstance(tag, str)]
            target = _next(answer)
        return found

    def has_blob(self, blob: Descriptor) -> bool:
        """Whether the registry has the blob."""
        return self._has(f"{self._root}/blobs/{blob.digest}")

    def has_manifest(self, digest: str) -> bool:
        """Whether the registry has the manifest."""
        return self._has(self._manifest(digest))

    def read_manifest(self, digest: str) -> bytes:
        """A manifest's bytes."""
        answer = self._session.ask("GET", self._manifest(digest), expect=(200,), headers=_ACCEPT)
        return answer.read()

    def read_blob(self, blob: Descriptor) -> Iterator[bytes]:
        """A blob's bytes; goes on behind what has come where the connection breaks."""
        got, failures = 0, 0
        while got < blob.size:
            headers = {"Range": f"bytes={got}-"} if got else {}
            answer = self._session.ask(
                "GET", f"{self._root}/blobs/{blob.digest}", expect=(200, 206), headers=headers
            )
            # A registry that knows no ranges begins again.
            skip = got if answer.status == 200 else 0
            try:
                for piece in answer.pieces():
                    if skip >= len(piece):
                        skip -= len(piece)
                        continue
                    part, skip = piece[skip:], 0
                    got += len(part)
                    failures = 0
                    yield part
                if got < blob.size:
                    raise http.client.IncompleteRead(b"", blob.size - got)
            except (OSError, http.client.HTTPException) as error:
                self._session.close()
                failures += 1
                if failures > len(PAUSES_S):
                    raise self._session.failure(error) from error

    def referrers(self, digest: str) -> list[Descriptor]:
        """What refers to the manifest; the tag schema where the registry has no referrers API."""
        found: list[Descriptor] = []
        target: str | None = f"{self._root}/referrers/{digest}"
        what = f"the referrers of `{digest}` in {self.where}"
        for _ in range(_PAGES):
            if target is None:
                return found
            answer = self._session.ask("GET", target, expect=(200, 400, 404, 405))
            body = answer.read()
            if answer.status != 200:
                break
            found += Descriptor.list_from(load_document(body, what), "manifests", what)
            target = _next(answer)
        return found + self._tagged_referrers(digest)

    @contextlib.contextmanager
    def publishing(self) -> Iterator[None]:
        """Nothing of its own: a registry shows what carries a tag, and tags come last."""
        yield

    def write_blob(self, blob: Descriptor, content: Path) -> None:
        """Sends a blob; where a connection breaks it goes on, or begins again where the registry wants that."""
        for _ in PAUSES_S:
            if self._upload(blob, content):
                return
        raise RemoteError(
            "remote.refused",
            f"{self.where} lost the upload of `{blob.digest}`, {blob.size} bytes, again and again",
        )

    def _upload(self, blob: Descriptor, content: Path) -> bool:
        """One upload session; false where the registry lost it."""
        answer = self._session.ask(
            "POST", f"{self._root}/blobs/uploads/", expect=(202,), headers={"Content-Length": "0"}
        )
        answer.drop()
        upload, sent = self._location(answer), 0
        while blob.size - sent > UPLOAD_PIECE:
            onward = self._send_piece(blob, content, upload, sent)
            if onward is None:
                return False
            upload, sent = onward
        joint = "&" if urllib.parse.urlsplit(upload).query else "?"
        target = f"{upload}{joint}digest={urllib.parse.quote(blob.digest)}"
        try:
            answer = self._session.ask(
                "PUT",
                target,
                expect=(201, 202, 204),
                headers={"Content-Type": "application/octet-stream"},
                body=Part(content, sent, blob.size - sent),
            )
        except DukouError as error:
            if "DIGEST_INVALID" in error.message:
                raise TrustError("package.digest-mismatch", error.message) from error
            if error.code not in ("remote.refused", "remote.not-found"):
                raise
            # The answer may have been lost, and not the blob.
            return self.has_blob(blob)
        answer.drop()
        return True

    def write_manifest(
        self, manifest: Descriptor, content: bytes, tags: Sequence[str] = ()
    ) -> None:
        """Sends a manifest, under its digest or its tags."""
        for reference in tags or (manifest.digest,):
            self._put(reference, manifest.media_type, content)

    def write_referrer(self, referrer: Descriptor, content: bytes, subject: str) -> None:
        """Sends the manifest, and lists it by the tag schema where the registry does not by itself."""
        answer = self._put(referrer.digest, referrer.media_type, content)
        if answer.headers.get("oci-subject"):
            return
        listed = [one for one in self._tagged_referrers(subject) if one.digest != referrer.digest]
        document = {
            "schemaVersion": 2,
            "mediaType": INDEX_MEDIA_TYPE,
            "manifests": [one.to_json() for one in (*listed, referrer)],
        }
        self._put(_referrers_tag(subject), INDEX_MEDIA_TYPE, dump_canonical(document))

    def _put(self, reference: str, media_type: str, content: bytes) -> Answer:
        answer = self._session.ask(
            "PUT",
            self._manifest(reference),
            expect=(201, 202),
            headers={"Content-Type": media_type},
            body=content,
        )
        answer.drop()
        return answer

    def _send_piece(
        self, blob: Descriptor, content: Path, upload: str, sent: int
    ) -> tuple[str, int] | None:
        """Sends the next piece; gives where the next one goes and how much the registry has.

        None: the connection broke, and the registry cannot go on where it was.
        """
        size = min(UPLOAD_PIECE, blob.size - sent)
        headers = {
            "Content-Type": "application/octet-stream",
            "Content-Range": f"{sent}-{sent + size - 1}",
        }
        try:
            answer = self._session.ask(
                "PATCH",
                upload,
                expect=(202, 204),
                headers=headers,
                body=Part(content, sent, size),
                tries=1,
            )
            answer.drop()
            return self._location(answer), sent + size
        except DukouError as error:
            # The registry gave the upload up after it had said how much of it there is.
            if error.code == "remote.not-found":
                return None
            if error.code not in ("remote.unreachable", "remote.refused"):
                raise
        try:
            answer = self._session.ask("GET", upload, expect=(200, 202, 204))
        except DukouError as error:
            # `docker-registry` 2.8 gives up an upload whose last piece came in half.
            if error.code in ("remote.not-found", "remote.refused"):
                return None
            raise
        answer.drop()
        got = _got(answer.headers)
        return (self._location(answer), got) if got and sent <= got <= sent + size else None

    def _location(self, answer: Answer) -> str:
        said = answer.headers.get("location")
        if not said:
            raise RemoteError("remote.refused", f"{self.where} names no place for an upload")
        return urllib.parse.urljoin(self._session.base, said)

    def _tagged_referrers(self, digest: str) -> list[Descriptor]:
        tag = _referrers_tag(digest)
        answer = self._session.ask("GET", self._manifest(tag), expect=(200, 404), headers=_ACCEPT)
        body = answer.read()
        if answer.status == 404:
            return []
        what = f"the index of signatures `{tag}` in {self.where}"
        return Descriptor.list_from(load_document(body, what), "manifests", what)

    def _has(self, target: str) -> bool:
        answer = self._session.ask("HEAD", target, expect=(200, 404), headers=_ACCEPT)
        answer.drop()
        return answer.status == 200

    def _manifest(self, reference: str) -> str:
        return f"{self._root}/manifests/{reference}"


def _referrers_tag(digest: str) -> str:
    return digest.replace(":", "-")


def _got(headers: Mapping[str, str]) -> int | None:
    """How many bytes of an upload have arrived: `Range: 0-<last>`."""
    _, dash, last = headers.get("range", "").partition("-")
    return int(last) + 1 if dash and last.isascii() and last.isdigit() else None


def _next(answer: Answer) -> str | None:
    """The next page of a listing: `Link: <…>; rel="next"`."""
    link = answer.headers.get("link", "")
    if 'rel="next"' not in link.replace("'", '"'):
        return None
    return link[link.find("<") + 1 : link.find(">")] or None
