"""Asks a running server, by the Open Inference Protocol or another one: what `dukou predict` and notebooks use."""

from __future__ import annotations

import http.client
import json
import urllib.parse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from dukou.base.errors import DukouError, InputError, RemoteError, StateError, TrustError
from dukou.base.settings import dukou_home_path, resolve_setting
from dukou.serve.dialects.table import Target, is_of_calls, load_dialect
from dukou.serve.local_api import error_of_answer

if TYPE_CHECKING:
    import ssl


# Where Debian and others keep what they trust.
_BUNDLE = "/etc/ssl/certs/ca-certificates.crt"


class Client:
    """A connection to one server, kept open between requests. Not for several threads at once.

    Args:
        url: the server's address.
        timeout_s: of one exchange.
        key: what is shown to it; DUKOU_KEY where None.
        cacert: what its certificate is checked against; DUKOU_CACERT where None.
        dialect: what is spoken with it, of `dukou.serve.dialects.table`.
    """

    def __init__(
        self,
        url: str,
        timeout_s: float = 60.0,
        *,
        key: str | None = None,
        cacert: str | None = None,
        dialect: str = "v2",
    ) -> None:
        parts = urllib.parse.urlsplit(url if "//" in url else f"//{url}", scheme="http")
        try:
            port = parts.port
        except ValueError:
            port = -1
        calls = is_of_calls(dialect)
        schemes = ("http", "https", "grpc", "grpcs") if calls else ("http", "https")
        if parts.scheme not in schemes or not parts.hostname or port == -1:
            raise InputError(
                "usage.invalid",
                f"`{url}` is not the address of a server",
                hint=f"an address is like `{'grpc' if calls else 'http'}://127.0.0.1:8080`",
            )
        self.url = f"{parts.scheme}://{parts.netloc}"
        self._dialect = load_dialect(dialect)
        secure = parts.scheme in ("https", "grpcs")
        shown = key_of(key, "https" if secure else "http", parts.hostname)
        self._way: Way
        if calls:
            from dukou.serve.calls import Calls, Roots

            host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
            authority = f"{host}:{port or (443 if secure else 80)}"
            roots = Roots(trusted_pem(cacert)) if secure else None
            self._way = Calls(self.url, authority, timeout_s, key=shown, roots=roots)
        else:
            tls = client_tls(cacert) if secure else None
            self._way = _Requests(self.url, parts, timeout_s, key=shown, tls=tls)

    def metadata(
        self, model: str, version: str | None = None, alias: str | None = None
    ) -> dict[str, Any]:
        """The model's inputs and outputs: `{"inputs": [{"name", "datatype", "shape"}], …}`.

        Raises:
            DukouError: the server's own error, `server.not-running` where none answers,
                `client.server-error` where what answers does not speak of models.
        """
        answer = self.signature(model, version, alias)
        if answer is None:
            raise RemoteError(
                "client.server-error", f"`{self.url}` does not say what `{model}` takes"
            )
        return answer

    def signature(
        self, model: str, version: str | None = None, alias: str | None = None
    ) -> dict[str, Any] | None:
        """The same; None where the dialect has no way to tell."""
        answer = self._dialect.metadata(self._way.ask, Target(model, version, alias))
        if answer is None:
            return None
        if not isinstance(answer, dict) or not all(
            _are_specs(answer.get(side)) for side in ("inputs", "outputs")
        ):
            raise RemoteError(
                "client.server-error",
                f"`{self.url}` answers, but not with the inputs and outputs of a model",
                hint="is it a server of the Open Inference Protocol? `--dialect` names another",
            )
        return answer

    def infer(
        self,
        model: str,
        request: dict[str, Any],
        version: str | None = None,
        alias: str | None = None,
    ) -> dict[str, Any]:
        """Sends a V2 request and gives the V2 response, outputs with flat `data`.

        Raises:
            DukouError: the server's own error, `server.not-running` where none answers.
        """
        return self._dialect.infer(self._way.ask, Target(model, version, alias), request)

    def infer_rows(
        self,
        model: str,
        rows: Sequence[Any],
        version: str | None = None,
        alias: str | None = None,
    ) -> dict[str, Any]:
        """Sends rows to a model that nobody told the signature of; a V2 response, a row an element.

        Raises:
            DukouError: as `infer`.
        """
        return self._dialect.infer_rows(self._way.ask, Target(model, version, alias), rows)

    def close(self) -> None:
        """Ends the connection."""
        self._way.close()


class Way(Protocol):
    """How a server is reached."""

    def ask(self, method: str, target: str, content: Any = None) -> Any:
        """One exchange.

        Raises:
            DukouError: the server's own error, `server.not-running` where none answers.
        """

    def close(self) -> None:
        """Ends the connection."""


class _Requests:
    """JSON over HTTP/1.1."""

    def __init__(
        self,
        url: str,
        parts: urllib.parse.SplitResult,
        timeout_s: float,
        *,
        key: str | None,
        tls: ssl.SSLContext | None,
    ) -> None:
        self._url = url
        self._prefix = parts.path.rstrip("/")
        self._headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        self._connection: http.client.HTTPConnection
        host = str(parts.hostname)
        if tls is not None:
            self._connection = http.client.HTTPSConnection(
                host, parts.port, timeout=timeout_s, context=tls
            )
        else:
            self._connection = http.client.HTTPConnection(host, parts.port, timeout=timeout_s)

    def close(self) -> None:
        """Ends the connection."""
        self._connection.close()

    def ask(self, method: str, target: str, content: Any = None) -> Any:
        """The JSON that a path answers with."""
        try:
            body = None if content is None else json.dumps(content, allow_nan=False)
        except ValueError as error:
            raise InputError(
                "data.mismatch", "a value is NaN or infinite, and JSON has neither"
            ) from error
        try:
            status, answer = self._exchange(method, self._prefix + target, body)
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()
            raise _not_running(self._url, error) from error
        try:
            parsed = json.loads(answer)
        except ValueError:
            parsed = None
        if isinstance(parsed, dict) and status != 200:
            raise server_error(parsed, self._url, status)
        if status != 200 or not isinstance(parsed, dict | list):
            raise RemoteError(
                "client.server-error",
                f"`{self._url}` answered {status} with what is not a JSON object: {answer[:200]!r}",
                hint="check that a dukou server listens at this address",
            )
        return parsed

    def _exchange(self, method: str, target: str, body: str | None) -> tuple[int, bytes]:
        headers = dict(self._headers)
        if body is not None:
            headers["Content-Type"] = "application/json"
        for attempt in (1, 2):
            fresh = self._connection.sock is None
            try:
                self._connection.request(method, target, body, headers)
                response = self._connection.getresponse()
                return response.status, response.read()
            except (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError):
                # A kept connection may have been closed between two requests (the engine was
                # restarted): nothing was read of it, and a model's answer has no side effect.
                self._connection.close()
                if fresh or attempt == 2:
                    raise
        raise AssertionError("unreachable")  # pragma: no cover


def key_of(key: str | None, scheme: str, host: str) -> str | None:
    """The key that is shown to a server: `--key`, or DUKOU_KEY; never in clear to another machine.

    Raises:
        InputError: `usage.invalid`: it holds what no key holds, or would travel in clear.
    """
    text = resolve_setting("key", key).value
    if text is None:
        return None
    if not text.isascii() or not text.isprintable() or " " in text:
        raise InputError("usage.invalid", "the key holds what no key holds: was it copied whole?")
    if scheme == "http" and not (host == "localhost" or host.startswith("127.") or host == "::1"):
        raise InputError(
            "usage.invalid",
            f"the key would travel to `{host}` in clear",
            hint="use `https://`, or leave the key away",
        )
    return text


def client_tls(cacert: str | None) -> ssl.SSLContext:
    """Checks the server's certificate: against this file, else the system's and this installation's own."""
    import ssl

    said = resolve_setting("cacert", cacert).value
    try:
        if said is not None:
            return ssl.create_default_context(cafile=said)
        context = ssl.create_default_context()
        own = dukou_home_path() / "access" / "certificate.pem"
        if own.is_file():
            context.load_verify_locations(own)
        return context
    except (OSError, ssl.SSLError) as error:
        raise InputError(
            "usage.invalid", f"the certificate `{said}` cannot be used: {error}"
        ) from error


def trusted_pem(cacert: str | None) -> bytes | None:
    """What gRPC checks a server's certificate against, as PEM: as `client_tls`; None: gRPC's own roots.

    Raises:
        InputError: `usage.invalid`.
    """
    import ssl

    said = resolve_setting("cacert", cacert).value
    own = dukou_home_path() / "access" / "certificate.pem"
    try:
        if said is not None:
            return Path(said).read_bytes()
        if not own.is_file():
            return None
        usual = ssl.get_default_verify_paths().cafile
        bundles = [Path(place) for place in (usual, _BUNDLE) if place is not None]
        system = next((bundle.read_bytes() for bundle in bundles if bundle.is_file()), b"")
        return system + b"\n" + own.read_bytes()
    except OSError as error:
        raise InputError(
            "usage.invalid", f"the certificate `{said or own}` cannot be used: {error}"
        ) from error


def server_error(document: dict[str, Any], url: str, status: int) -> DukouError:
    """What a server's error says, as ours: our own codes keep their meaning, others are relayed."""
    error = document.get("error")
    code = document.get("code")
    if isinstance(error, dict):
        return error_of_answer(document, f"`{url}` answered {status}")
    if isinstance(error, str) and isinstance(code, str):
        return error_of_answer(
            {"error": {"code": code, "message": error, "remedy": document.get("remedy")}}, error
        )
    said = error or document.get("message") or document
    return RemoteError("client.server-error", f"`{url}` answered {status}: {str(said)[:300]}")


def _not_running(url: str, error: Exception) -> DukouError:
    if isinstance(error, ConnectionRefusedError):
        return StateError("server.not-running", f"nothing listens at `{url}`")
    if type(error).__name__ == "SSLCertVerificationError":
        return TrustError(
            "trust.unknown-certificate",
            f"`{url}` shows a certificate that is not trusted here: {getattr(error, 'verify_message', error)}",
        )
    said = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return StateError("server.not-running", f"no answer from `{url}`: {said}")


def _are_specs(specs: Any) -> bool:
    """Whether this is a list of names with dtypes and shapes, as the protocol has them."""
    return isinstance(specs, list) and all(
        isinstance(spec, dict)
        and isinstance(spec.get("name"), str)
        and isinstance(spec.get("datatype"), str)
        and isinstance(spec.get("shape"), list)
        and all(isinstance(extent, int) for extent in spec["shape"])
        for spec in specs
    )
