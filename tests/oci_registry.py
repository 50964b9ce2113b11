"""A real OCI registry on loopback: Debian's `docker-registry serve`, and a thin wire that can break."""

from __future__ import annotations

import base64
import contextlib
import http.server
import json
import re
import shutil
import socket
import subprocess
import threading
import time
import urllib.parse
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.x509.oid import NameOID

USER, PASSWORD = "reader", "correct horse"
# bcrypt of the password, made once: hashing it anew would need a package for this line alone.
_HTPASSWD = f"{USER}:$2b$04$abcdefghijklmnopqrstuujydOTSfIH/d5oUHpsygqV5X9xJLQc6e\n"


@dataclass
class OciRegistry:
    """A registry that runs.

    Attributes:
        folder: its data and its log.
        host: `127.0.0.1:port`.
    """

    folder: Path
    host: str
    _process: subprocess.Popen[bytes] = field(repr=False)
    _seen: int = 0

    def requests(self) -> list[dict[str, object]]:
        """What it has answered since this was last asked: method, path, status, bytes that it sent."""
        text = (self.folder / "log").read_text(encoding="utf-8")
        fresh, self._seen = text[self._seen :], len(text)
        found = []
        for line in fresh.splitlines():
            with contextlib.suppress(ValueError):
                entry = json.loads(line)
                if "http.response.status" in entry:
                    found.append(
                        {
                            "method": entry["http.request.method"],
                            "path": entry["http.request.uri"],
                            "status": entry["http.response.status"],
                            "bytes": entry.get("http.response.written", 0),
                        }
                    )
        return found

    def stop(self) -> None:
        """Ends it; the data stays."""
        self._process.kill()
        self._process.wait()


@contextlib.contextmanager
def oci_registry(
    folder: Path,
    *,
    port: int = 0,
    password: bool = False,
    tls: tuple[Path, Path] | None = None,
    tokens: TokenRealm | None = None,
) -> Iterator[OciRegistry]:
    """Starts one; where it is not installed says so, and leaves the test out.

    Args:
        folder: where its data lies; a second start finds it again.
        port: 0 for any.
        password: whether it wants `USER` and `PASSWORD`.
        tls: certificate and key.
        tokens: who gives out tokens that it takes.
    """
    program = shutil.which("docker-registry")
    if program is None:
        pytest.skip("not run: docker-registry is not installed (Debian has it)")
    folder.mkdir(parents=True, exist_ok=True)
    config = [
        "version: 0.1",
        "log: {level: info, formatter: json}",
        f"storage: {{filesystem: {{rootdirectory: {json.dumps(str(folder / 'data'))}}}, delete: {{enabled: true}}}}",
        "http:",
        f"  addr: 127.0.0.1:{port}",
        "  secret: of-this-test",
    ]
    if tls is not None:
        config.append(
            f"  tls: {{certificate: {json.dumps(str(tls[0]))}, key: {json.dumps(str(tls[1]))}}}"
        )
    if password:
        (folder / "htpasswd").write_text(_HTPASSWD, encoding="utf-8")
        config.append(
            f"auth: {{htpasswd: {{realm: test, path: {json.dumps(str(folder / 'htpasswd'))}}}}}"
        )
    if tokens is not None:
        words = {
            "realm": tokens.url,
            "service": "test",
            "issuer": "test",
            "rootcertbundle": str(tokens.certificate),
        }
        config.append(f"auth: {json.dumps({'token': words})}")
    (folder / "config.yml").write_text("\n".join(config) + "\n", encoding="utf-8")
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [program, "serve", str(folder / "config.yml")], stdout=log, stderr=log
        )
    try:
        yield OciRegistry(folder, f"127.0.0.1:{_port(folder / 'log', process)}", process)
    finally:
        process.kill()
        process.wait()


def _port(log: Path, process: subprocess.Popen[bytes]) -> int:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        found = re.search(r"listening on 127\.0\.0\.1:(\d+)", log.read_text(encoding="utf-8"))
        if found:
            return int(found[1])
        if process.poll() is not None:
            break
        time.sleep(0.02)
    raise AssertionError(f"docker-registry did not start: {log.read_text(encoding='utf-8')[-800:]}")


class TokenRealm:
    """Gives out tokens to `USER` with `PASSWORD`, as the services before public registries do.

    Attributes:
        url: where they are given.
        asked: the scopes that were asked for.
    """

    def __init__(self, folder: Path) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
        now = datetime.now(UTC)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(self._key.public_key())
            .serial_number(1)
            .not_valid_before(now - timedelta(hours=1))
            .not_valid_after(now + timedelta(hours=1))
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(self._key, hashes.SHA256())
        )
        self._der = certificate.public_bytes(serialization.Encoding.DER)
        self.certificate = folder / "realm.pem"
        self.certificate.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        self.asked: list[str] = []
        realm = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                query = urllib.parse.parse_qs(urllib.parse.urlsplit(self.path).query)
                pair = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
                known = self.headers.get("Authorization") == f"Basic {pair}"
                realm.asked += query["scope"]
                body = json.dumps({"token": realm.token(query["scope"])}).encode()
                self.send_response(200 if known else 401)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body if known else b" " * len(body))

            def log_message(self, *words: object) -> None:
                """Quiet."""

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/token"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        """Gives no more."""
        self._server.shutdown()
        self._server.server_close()

    def token(self, scopes: list[str]) -> str:
        """A token for what is asked, signed by the realm's key (ES256)."""
        access = [
            {"type": kind, "name": name, "actions": actions.split(",")}
            for kind, name, actions in (scope.split(":") for scope in scopes)
        ]
        now = int(time.time())
        claims = {"iss": "test", "aud": "test", "sub": USER, "jti": str(now), "access": access}
        head = {"typ": "JWT", "alg": "ES256", "x5c": [base64.b64encode(self._der).decode()]}
        times = {"iat": now, "nbf": now - 10, "exp": now + 300}
        signed = ".".join(_packed(json.dumps(part).encode()) for part in (head, claims | times))
        r, s = decode_dss_signature(self._key.sign(signed.encode(), ec.ECDSA(hashes.SHA256())))
        return f"{signed}.{_packed(r.to_bytes(32, 'big') + s.to_bytes(32, 'big'))}"


def _packed(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


class BreakingWire:
    """A wire before a registry that is cut after so many bytes of each connection, so many times.

    Args:
        target: `host:port` behind it.
        after: bytes, of both directions together, that a connection carries before it is cut.
        times: connections that are cut; later ones hold.
    """

    def __init__(self, target: str, *, after: int, times: int) -> None:
        self._target = target
        self._after = after
        self.left = times
        self.carried = 0
        self._server = socket.create_server(("127.0.0.1", 0))
        self.host = f"127.0.0.1:{self._server.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """No more connections."""
        self._server.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._server.accept()
            except OSError:
                return
            threading.Thread(target=self._carry, args=(client,), daemon=True).start()

    def _carry(self, client: socket.socket) -> None:
        host, _, port = self._target.partition(":")
        server = socket.create_connection((host, int(port)))
        budget = [self._after if self.left > 0 else 1 << 60]
        pairs = ((client, server), (server, client))
        threads = [
            threading.Thread(target=self._pump, args=(*p, budget), daemon=True) for p in pairs
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        client.close()
        server.close()

    def _pump(self, source: socket.socket, sink: socket.socket, budget: list[int]) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                budget[0] -= len(data)
                if budget[0] <= 0:
                    self.left -= 1
                    for end in (source, sink):
                        end.shutdown(socket.SHUT_RDWR)
                    return
                self.carried += len(data)
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)
