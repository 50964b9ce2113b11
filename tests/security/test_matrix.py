"""Every endpoint of every port, asked with every role and with none. What is not granted is refused."""

from __future__ import annotations

import json
import os
import socket
import stat
import tomllib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import grpc
import pytest
from tests.secure import SecureClient, make_key
from tests.serving import BODY, House, RunningServer, write_model

from dukou.trust.access import KeyStore

ROOT = Path(__file__).parents[2]
ENDPOINTS: list[dict[str, Any]] = tomllib.loads((ROOT / "spec" / "endpoints.toml").read_text())[
    "endpoint"
]
MODELS = ("a", "b", "nothing")
ONE_MODEL = ("/predict", "/evaluate", "/invocations")
ELSEWHERE = ["/v1/a", "/admin", "/v2/models/a/infer/more", "/v2/logging", "/healthz", "//"]


class Role(NamedTuple):
    """A caller.

    Attributes:
        words: of `dukou keys add`; None where there is no such key, or none that is good.
        refused: the code that it hears everywhere but where nobody needs a key.
        may: (role, model) that it was granted; `*` for every model.
    """

    words: tuple[str, ...] | None
    refused: str | None
    may: frozenset[tuple[str, str]] = frozenset()


ROLES = {
    "nobody": Role(None, "access.no-key"),
    "forged": Role(None, "access.bad-key"),
    "of another installation": Role(None, "access.bad-key"),
    "expired": Role(("--role", "predict"), "access.bad-key"),
    "revoked": Role(("--role", "predict"), "access.bad-key"),
    "rotated": Role(("--role", "predict"), "access.bad-key"),
    "predict a": Role(("--role", "predict", "--model", "a"), None, frozenset({("predict", "a")})),
    "predict": Role(("--role", "predict"), None, frozenset({("predict", "*")})),
    "manage b": Role(("--role", "manage", "--model", "b"), None, frozenset({("manage", "b")})),
    "manage": Role(("--role", "manage"), None, frozenset({("manage", "*")})),
    "read-metrics": Role(("--role", "read-metrics"), None, frozenset({("read-metrics", "*")})),
    "everything": Role(
        ("--role", "predict", "--role", "manage", "--role", "read-metrics"),
        None,
        frozenset({("predict", "*"), ("manage", "*"), ("read-metrics", "*")}),
    ),
}


class Place(NamedTuple):
    """A server with TLS and keys, and its callers' keys."""

    server: RunningServer
    keys: dict[str, str | None]


@pytest.fixture(scope="module")
def place(house: House, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("models")
    files = [write_model(folder / f"{name}.onnx") for name in ("a", "b")]
    keys: dict[str, str | None] = {"nobody": None}
    for name, role in ROLES.items():
        if role.words is not None:
            keys[name] = make_key(house, name.replace(" ", "-"), *role.words)
    good = str(keys["predict"])
    keys["forged"] = good[:-20] + "A" * 20
    other = KeyStore(folder / "another").add("x", [])
    keys["of another installation"] = other.text
    _expire(house, str(keys["expired"]))
    assert house.dukou("keys", "revoke", "revoked").returncode == 0
    assert house.dukou("keys", "rotate", "rotated").returncode == 0
    with house.serving("--secure", *files) as server:
        yield Place(server, keys)


def _expire(house: House, key: str) -> None:
    """Has a key's time be over, without waiting for it."""
    path = house.home / "access" / "keys.json"
    document = json.loads(path.read_text())
    for entry in document["keys"]:
        if entry["id"] == key.split("_")[1]:
            entry["expires"] = 1
    path.write_text(json.dumps(document))


def expected(needs: str, role: Role, model: str, path: str) -> set[tuple[int, str]]:
    """Status and code that an endpoint must answer with."""
    if needs == "nobody":
        return {(200, "")}
    if role.refused is not None:
        return {(401, role.refused)}
    if needs == "key":
        # With one of the two models; these two paths are for a server of one.
        return {(404, "request.unknown-model")} if path in ONE_MODEL else {(200, "")}
    action = needs.split()[0]
    for_models = {granted for wanted, granted in role.may if wanted == action}
    if "with model" in needs and not for_models & {model, "*"}:
        return {(403, "access.forbidden")}
    if not for_models:
        return {(403, "access.forbidden")}
    if path.startswith("/models?url="):
        return {(404, "manage.no-store")}
    if model == "nothing":
        return {(404, "request.unknown-model")}
    if path.startswith("/explanations/"):
        return {(503, "wire.unsupported")}
    # Nobody waits for workers who does not say so.
    return {(200, ""), (202, "")} if action == "manage" else {(200, "")}


def cases() -> Iterator[tuple[str, str, str, str]]:
    """Method, path, what it needs, and the model that it is about."""
    for endpoint in ENDPOINTS:
        if "grpc" in endpoint:
            continue
        for model in MODELS if "{model}" in endpoint["path"] else ("a",):
            path = endpoint["path"].replace("{model}", model).replace("{version}", "1")
            # A bare file has no alias; its version answers to its name there too where it is one.
            for named in ("aliases", "labels"):
                path = path.replace(f"/{named}/{{alias}}", "/versions/1")
            yield endpoint["method"], path, endpoint["needs"], model


def takes_away(case: tuple[str, str, str, str]) -> bool:
    """Whether a model is gone afterwards."""
    method, path, *_ = case
    return method == "DELETE" or path.endswith("/unload")


def put_back(client: SecureClient, model: str, key: str | None) -> None:
    """Has a model served again that was taken away."""
    answer = client.ask("POST", f"/v2/repository/models/{model}/load", key=key)
    assert answer.status == 200, answer


def body_of(method: str, path: str) -> str | None:
    """What is sent there: an inference in the path's dialect."""
    if path.startswith("/v2/repository") or (path.startswith("/models") and "invoke" not in path):
        return None
    if method not in ("GET", "POST"):
        return None
    torchserve = path.startswith(("/predictions", "/explanations", "/invocations"))
    if method == "GET" and not torchserve and not path.endswith("/predict"):
        return None
    if path.startswith("/v2/"):
        return BODY
    return '{"instances": [[1, 2, 3, 4]], "labels": [0]}'


@pytest.mark.parametrize("name", ROLES)
def test_every_endpoint_with_tls_and_keys(place: Place, name: str) -> None:
    role, key = ROLES[name], place.keys[name]

    def ask(case: tuple[str, str, str, str]) -> None:
        method, path, needs, model = case
        with SecureClient(place.server) as client:
            answer = client.ask(method, path, key=key, body=body_of(method, path))
        assert (answer.status, answer.code) in expected(needs, role, model, path), (method, path)
        if answer.status == 401:
            assert answer.headers["www-authenticate"] == 'Bearer realm="dukou"'
            sentence = answer.said.get("detail", answer.said["error"])
            assert sentence in ("this needs a key", "the key is not good")
        if takes_away(case) and answer.status == 200:
            with SecureClient(place.server) as client:
                put_back(client, model, key)

    def ask_elsewhere(path: str) -> None:
        with SecureClient(place.server) as client:
            answer = client.ask("GET", path, key=key)
        if role.refused is not None:
            assert (answer.status, answer.code) == (401, role.refused), path
        else:
            assert answer.status in (404, 501), path

    asked = list(cases())
    assert len(asked) >= 35
    # Beside each other: who has shown many bad keys waits a little for each refusal.
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(ask, [case for case in asked if not takes_away(case)]))
        list(pool.map(ask_elsewhere, ELSEWHERE))
    for case in filter(takes_away, asked):
        ask(case)


def calls() -> Iterator[tuple[str, str, str, bytes]]:
    """Path, what it needs, the model that it is about, and a message that names it."""
    for endpoint in ENDPOINTS:
        path = endpoint["path"]
        if "grpc" not in endpoint:
            continue
        for model in MODELS if "with model" in endpoint["needs"] else ("a",):
            message = _field(1, model.encode())
            if path.startswith("/tensorflow"):
                message = _field(1, message)
            if path.endswith("/MultiInference"):
                message = _field(1, message)
            if "/RepositoryModel" in path:
                message = _field(2, model.encode())
            if path.endswith("/Predictions"):
                message += _field(3, _field(1, b"data") + _field(2, b"[1, 2, 3, 4]"))
            if path.endswith("/SetDefault"):
                message += _field(2, b"1")
            if path.endswith("/UnregisterModel"):
                # A version that there is not, so that nothing is gone.
                message += _field(2, b"9")
            if path.endswith("/RegisterModel"):
                message = _field(5, model.encode()) + _field(9, b"x.onnx")
            if path.endswith("GetModelMetadata"):
                message += _field(2, b"signature_def")
            if path.endswith("ModelInfer"):
                x = [_field(1, b"x"), _field(2, b"FP32"), _field(3, b"\x01\x04")]
                message += _field(5, b"".join(x)) + _field(7, bytes(16))
            if path.endswith("/Predict"):
                shape = _field(2, _field(2, b"\x08\x01") + _field(2, b"\x08\x04"))
                message += _field(2, _field(1, b"x") + _field(2, b"\x08\x01" + shape))
            yield path, endpoint["needs"], model, message


def _field(number: int, content: bytes) -> bytes:
    """A protobuf field with a length."""
    assert len(content) < 128
    return bytes([number << 3 | 2, len(content)]) + content


@pytest.mark.parametrize("name", ROLES)
def test_every_call_with_tls_and_keys(place: Place, name: str) -> None:
    role, key = ROLES[name], place.keys[name]
    metadata = [("authorization", f"Bearer {key}")] if key else []
    trusted = Path(place.server.facts["certificate"]).read_bytes()
    address = f"localhost:{place.server.address[1]}"
    asked = list(calls())
    assert len(asked) >= 20
    with grpc.secure_channel(address, grpc.ssl_channel_credentials(trusted)) as channel:

        def ask(case: tuple[str, str, str, bytes]) -> None:
            path, needs, model, message = case
            call = channel.unary_unary(path, lambda m: m, lambda m: m)
            code = ""
            try:
                if path.endswith("/Watch"):
                    watching = channel.unary_stream(path, lambda m: m, lambda m: m)
                    next(watching(message, metadata=metadata, timeout=30))
                else:
                    call(message, metadata=metadata, timeout=30)
            except grpc.RpcError as error:
                code = dict(error.trailing_metadata())["dukou-code"]
                if role.refused == code:
                    # TorchServe has one number for whoever may not.
                    denied = path.startswith("/org.pytorch.")
                    said = "PERMISSION_DENIED" if denied else "UNAUTHENTICATED"
                    assert error.code().name == said, path
            codes = {code for _, code in expected(needs, role, model, path)}
            if path.endswith("/RegisterModel"):
                codes = {code.replace("request.unknown-model", "") for code in codes}
            if path.endswith("/ModelReady"):
                # A model that is not there is not ready, which is an answer.
                codes = {code.replace("request.unknown-model", "") for code in codes}
            # Nothing to answer is in these; whether they may ask was decided before that.
            bare = {
                "StreamPredictions": "request.missing-input",
                "RegisterModel": "manage.no-store",
                "UnregisterModel": "request.unknown-version",
                "Classify": "wire.missing-field",
                "Regress": "wire.unsupported",
                "MultiInference": "wire.invalid-field",
                "HandleReloadConfigRequest": "wire.invalid-message",
            }
            codes = {code or bare.get(path.rpartition("/")[2], "") for code in codes}
            assert code in codes, (path, model)

        unloads = [case for case in asked if case[0].endswith("Unload")]
        with ThreadPoolExecutor(16) as pool:
            list(pool.map(ask, [case for case in asked if case not in unloads]))
        for case in unloads:
            ask(case)
            # Has it served again where it was taken away.
            ask((case[0].replace("Unload", "Load"), *case[1:]))


def test_a_caller_hears_only_of_its_models(place: Place) -> None:
    def models(name: str) -> tuple[list[str], list[str]]:
        with SecureClient(place.server) as client:
            welcome = client.ask("GET", "/", key=place.keys[name]).said["models"]
            listed = client.ask("GET", "/v2/models", key=place.keys[name]).said
        return [m["name"] for m in welcome], _names(listed)

    assert models("predict a") == (["a"], ["a"])
    assert models("manage b") == (["b"], ["b"])
    assert models("predict") == (["a", "b"], ["a", "b"])
    assert models("read-metrics") == ([], [])


def _names(listed: Any) -> list[str]:
    entries = listed["models"] if isinstance(listed, dict) else listed
    return [entry["name"] if isinstance(entry, dict) else entry for entry in entries]


def test_the_loopback_port_asks_for_no_key(house: House, place: Place, tmp_path: Path) -> None:
    files = [write_model(tmp_path / f"{name}.onnx") for name in ("a", "b")]
    role = ROLES["everything"]
    with house.serving(*files) as server, SecureClient(server) as client:
        for method, path, needs, model in cases():
            answer = client.ask(method, path, body=body_of(method, path))
            came = answer.status, answer.code
            assert came in expected(needs, role, model, path), (method, path)
            if takes_away((method, path, needs, model)) and answer.status == 200:
                put_back(client, model, None)


def test_the_port_for_anybody_lets_nobody_manage(house: House, tmp_path: Path) -> None:
    model = write_model(tmp_path / "a.onnx")
    with (
        house.serving("--insecure", "--host", "0.0.0.0", model) as server,
        SecureClient(server) as client,
    ):
        for method, path, needs, _ in cases():
            answer = client.ask(method, path, body=body_of(method, path))
            if needs.startswith("manage"):
                assert (answer.status, answer.code) == (403, "access.forbidden"), path
            elif path.startswith("/explanations/"):
                assert answer.status in (404, 503), path
            else:
                assert answer.status in (200, 404), path


def test_the_local_api_is_its_user_s_alone(place: Place) -> None:
    """The socket's folder and mode keep others away; where both were opened, the engine asks who it is."""
    path = Path(place.server.facts["socket"])
    assert path.parent.stat().st_mode & 0o077 == 0
    assert path.stat().st_mode & 0o177 == 0
    for method, target in [
        ("GET", "/state"),
        ("GET", "/table"),
        ("PUT", "/table"),
        ("POST", "/drain"),
    ]:
        assert _status_as_another_user(path, method, target) in ("refused", "closed")


def _status_as_another_user(path: Path, method: str, target: str) -> str:
    """What user 65534 hears where the walls of folder and mode have been opened for it."""
    if os.geteuid() != 0:
        # Nobody else can be played: the modes, asserted above, are the wall.
        return "refused"
    opened = [(path, 0o666), *((folder, 0o711) for folder in list(path.parents)[:-2])]
    before = [(place, stat.S_IMODE(place.stat().st_mode)) for place, _ in opened]
    try:
        for place, mode in opened:
            place.chmod(mode)
        return _ask_in_a_child(path, f"{method} {target} HTTP/1.1\r\nhost: x\r\n\r\n".encode())
    finally:
        for place, mode in before:
            place.chmod(mode)


def _ask_in_a_child(path: Path, request: bytes) -> str:
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        said = "error"
        try:
            os.setresuid(65534, 65534, 65534)
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(10)
                connection.connect(str(path))
                said = "closed"
                connection.sendall(request)
                said = "answered" if connection.recv(100) else "closed"
        except (ConnectionResetError, BrokenPipeError):
            pass
        except OSError as error:
            said = type(error).__name__
        finally:
            os.write(writing, said.encode())
            os._exit(0)
    os.close(writing)
    os.waitpid(child, 0)
    with os.fdopen(reading) as pipe:
        return pipe.read()
