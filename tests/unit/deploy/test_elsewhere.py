"""Models that are not the registry's: what a document may say of them, and the table that it becomes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dukou.base.documents import parse_document
from dukou.base.errors import InputError
from dukou.deploy.addresses import problem_with_address
from dukou.deploy.compile import Surroundings, compile_deployment
from dukou.deploy.document import Deployment
from dukou.deploy.files import read_deployment
from dukou.deploy.sources import FileSource, GraphSource, RemoteSource
from dukou.deploy.table import ServingTable
from dukou.serve.bare import bare_model, name_of_file

REMOTE = {"name": "far", "remote": {"replicas": ["http://10.0.0.7:8080"]}}
SIGNATURE = {
    "inputs": [{"name": "x", "dtype": "FP32", "shape": [-1, 4]}],
    "outputs": [{"name": "y", "dtype": "FP32", "shape": [-1, 3]}],
}
LOCAL = {"name": "near", "file": "/models/near.onnx"}


def read(*models: dict[str, Any]) -> Deployment:
    document = {"name": "shop", "models": list(models)}
    return parse_document(Deployment, document, code="deploy.invalid", source="shop.toml")


def table_of(*models: dict[str, Any], **surroundings: Any) -> ServingTable:
    return compile_deployment(
        [read(*models)],
        resolve=lambda reference: pytest.fail(f"{reference} is not the registry's"),
        labels=lambda _: [],
        surroundings=Surroundings(store=Path("/store"), listeners=["http"], **surroundings),
        sequence=7,
    )


def graph(**said: Any) -> dict[str, Any]:
    return {"name": "g", "graph": said}


def graph_in(table: ServingTable) -> dict[str, Any]:
    source = table.models[-1].versions[0].source
    assert isinstance(source, GraphSource)
    return source.graph.model_dump()


def test_every_kind_becomes_a_version_of_its_own_kind() -> None:
    table = table_of(LOCAL, REMOTE, graph(sequence=["near", "far"]))
    near, far, both = (model.versions[0] for model in table.models)
    assert (near.version, far.version, both.version) == ("1", "remote", "graph")
    assert near.backend is not None and far.backend is None and both.backend is None
    assert near.source == FileSource(file="/models/near.onnx")
    assert isinstance(far.source, RemoteSource)
    assert far.source.remote.model_dump() == {
        "dialect": "v2",
        "signature": None,
        "model": "far",
        "version": None,
        "replicas": ["http://10.0.0.7:8080"],
        "key_file": None,
        "ca_file": None,
        "health_ms": 250,
        "retry_percent": 20,
    }
    assert graph_in(table) == {
        "nodes": [
            {"name": "near", "model": "near", "version": None, "inputs": None},
            {"name": "far", "model": "far", "version": None, "inputs": "near"},
        ],
        "outputs": "far",
    }


def test_an_old_server_is_said_with_what_it_does_not_tell() -> None:
    remote = {
        "dialect": "torchserve",
        "replicas": ["http://10.0.0.9:8080"],
        "signature": SIGNATURE,
    }
    source = table_of({"name": "old", "remote": remote}).models[0].versions[0].source
    assert isinstance(source, RemoteSource)
    assert source.remote.dialect == "torchserve"
    assert source.remote.signature is not None
    assert source.remote.signature.model_dump() == SIGNATURE


def test_a_sequence_names_its_nodes_apart() -> None:
    names = [
        node["name"]
        for node in graph_in(
            table_of(
                *({**LOCAL, "name": name} for name in ("a.b", "a-b", "input")),
                graph(sequence=["a.b", "a-b", "input", "a.b"]),
            )
        )["nodes"]
    ]
    assert names == ["a-b", "a-b-2", "input-3", "a-b-4"]


def test_nodes_say_only_what_their_kind_has() -> None:
    nodes = [
        {"name": "a", "model": "near", "version": 1, "inputs": {"x": "input.x"}},
        {"name": "m", "ensemble": ["a.p", "a.p"], "combine": "mean"},
        {"name": "s", "switch": "input.k", "cases": {"1": "near"}, "otherwise": "far"},
    ]
    found = graph_in(table_of(LOCAL, REMOTE, graph(nodes=nodes, outputs={"p": "m", "q": "s.p"})))
    assert found["nodes"] == [
        {"name": "a", "model": "near", "version": "1", "inputs": {"x": "input.x"}},
        {"name": "m", "ensemble": ["a.p", "a.p"], "combine": "mean", "weights": None},
        {
            "name": "s",
            "switch": "input.k",
            "cases": {"1": "near"},
            "otherwise": "far",
            "inputs": None,
        },
    ]


def node(**said: Any) -> dict[str, Any]:
    return {"name": "a", "model": "near", **said}


BAD = {
    "two kinds": ({**LOCAL, **REMOTE}, "a model is one of `file`, `remote`"),
    "a remote with traffic": (
        {**REMOTE, "traffic": [{"version": 3}]},
        "a model with `remote` has no `traffic`",
    ),
    "a graph that is captured": (
        {**graph(sequence=["near"]), "capture": {}},
        "a model with `graph` has no `capture`",
    ),
    "no replicas": ({"name": "far", "remote": {"replicas": []}}, "models.0.remote.replicas"),
    "a replica without a scheme": (
        {"name": "far", "remote": {"replicas": ["10.0.0.7:80"]}},
        "`models.0.remote.replicas.0`: `10.0.0.7:80` is not an address such as `http://10.0.0.7:8080`",
    ),
    "a replica twice": (
        {"name": "far", "remote": {"replicas": ["http://a", "http://a"]}},
        "`models.0.remote.replicas.1`: `http://a` is there twice",
    ),
    "TLS without certificates": (
        {"name": "far", "remote": {"replicas": ["https://a"]}},
        "`models.0.remote.replicas.0`: `https://a` speaks TLS: `ca_file` must name",
    ),
    "a dialect that is none": (
        {"name": "far", "remote": {"replicas": ["http://a"], "dialect": "triton"}},
        "`models.0.remote.dialect` is `'triton'`: input should be 'v2', 'v2-grpc', 'tensorflow'",
    ),
    "a server that does not tell": (
        {"name": "far", "remote": {"replicas": ["http://a"], "dialect": "torchserve"}},
        "`models.0.remote.signature`: is missing: a server of `torchserve` does not tell what a model",
    ),
    "a version where there are none": (
        {
            "name": "far",
            "remote": {
                "replicas": ["http://a"],
                "dialect": "keras",
                "version": 3,
                "signature": SIGNATURE,
            },
        },
        "`models.0.remote.version`: `keras` has no versions, and `3` of `it` is asked for",
    ),
    "an input twice": (
        {
            "name": "far",
            "remote": {
                "replicas": ["http://a"],
                "signature": {**SIGNATURE, "inputs": SIGNATURE["inputs"] * 2},
            },
        },
        "`models.0.remote.signature.inputs[1].name`: `x` is there twice",
    ),
    "a mistyped key": (
        {"name": "far", "remote": {"replicas": ["http://a"], "retries": 3}},
        "`models.0.remote.retries` is not a key that dukou knows",
    ),
    "nothing": (graph(), "a graph needs `nodes` and `outputs`, or a `sequence`"),
    "both": (graph(sequence=["near"], outputs="a"), "a graph is either a `sequence`"),
    "a node of two kinds": (
        graph(nodes=[node(switch="input.k", cases={"a": "near"})], outputs="a"),
        "a node is one of `model`, `ensemble`, `switch`, and this one says `model` and `switch`",
    ),
    "a node of no kind": (
        graph(nodes=[{"name": "a"}], outputs="a"),
        "a node is one of `model`, `ensemble`, `switch`, and this one says none of them",
    ),
    "a model that combines": (
        graph(nodes=[node(combine="mean")], outputs="a"),
        "a node with `model` has no `combine`",
    ),
    "an ensemble that says not how": (
        graph(nodes=[node(), {"name": "m", "ensemble": ["a.p", "a.p"]}], outputs="m"),
        "a node with `ensemble` needs `combine`",
    ),
    "a circle": (
        graph(nodes=[node(inputs="b"), node(name="b", inputs="a")], outputs="a"),
        "`models.0.graph.nodes`: `a` → `b` → `a` wait for each other",
    ),
    "a reference to nothing": (
        graph(nodes=[node(inputs={"x": "c.y"})], outputs="a"),
        "`models.0.graph.nodes[0].inputs.x`: `c.y` is neither `input.NAME` nor an output of a node",
    ),
}


@pytest.mark.parametrize(("model", "words"), BAD.values(), ids=BAD)
def test_what_a_document_may_not_say_is_said_with_its_place(
    model: dict[str, Any], words: str
) -> None:
    with pytest.raises(InputError) as refused:
        read(model)
    assert refused.value.code == "deploy.invalid"
    assert words in str(refused.value)


def test_a_graph_of_a_model_that_is_not_served_is_refused_with_its_place() -> None:
    with pytest.raises(InputError) as refused:
        table_of(LOCAL, graph(sequence=["near", "nowhere"]))
    assert refused.value.code == "deploy.invalid"
    assert refused.value.message == (
        "deployment `shop`: models.1.graph.nodes[1]: node `nowhere` asks model `nowhere`, "
        "and this table serves `g`, `near`"
    )
    assert refused.value.hint is not None
    with pytest.raises(InputError, match="the graphs `g` → `h` → `g` use each other"):
        table_of(graph(sequence=["h"]), {**graph(sequence=["g"]), "name": "h"})
    with pytest.raises(InputError, match="`9` is no version and no alias of `near`"):
        table_of(LOCAL, graph(nodes=[node(version=9)], outputs="a"))


def test_a_graph_finds_models_of_the_command_line() -> None:
    name = name_of_file(Path("near.onnx"))
    table = table_of(graph(sequence=["near"]), bare=[bare_model(name, Path("/near.onnx"))])
    assert [model.name for model in table.models] == ["near", "g"]


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("ftp://a", "such as"),
        ("http://", "no host"),
        ("http://:80", "no host"),
        ("http://a:0", "port"),
        ("http://a:99999", "port"),
        ("http://a:b", "port"),
        ("http://me:secret@a", "password"),
        ("http://a/?q", "base address"),
        ("http://a b", "base address"),
        ("http://a\n", "base address"),
    ],
)
def test_what_is_no_address_is_said(text: str, word: str) -> None:
    problem = problem_with_address(text, ca_file=True)
    assert problem is not None and word in problem


@pytest.mark.parametrize("text", ["http://a", "https://[::1]:9/x", "http://10.0.0.7:8080/base/"])
def test_addresses(text: str) -> None:
    assert problem_with_address(text, ca_file=True) is None


def test_paths_are_those_of_the_document(tmp_path: Path) -> None:
    (tmp_path / "near.onnx").touch()
    (tmp_path / "key").touch()
    file = tmp_path / "shop.toml"
    file.write_text(
        'name = "shop"\n[[models]]\nname = "near"\nfile = "near.onnx"\n'
        '[[models]]\nname = "far"\n[models.remote]\nreplicas = ["http://a"]\nkey_file = "key"\n'
    )
    near, far = read_deployment(file).models
    assert near.file == str(tmp_path / "near.onnx")
    assert far.remote is not None and far.remote.key_file == str(tmp_path / "key")
    (tmp_path / "key").unlink()
    with pytest.raises(InputError, match=r"`models\.1\.remote\.key_file`: there is no file"):
        read_deployment(file)


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("a.toml", "name = ", "is not TOML"),
        ("a.toml", '[model]\nname = "x"\n', "has no `models`, and is no deployment"),
        ("a.json", "{", "is not JSON"),
        ("a.json", "[]", "is no deployment"),
        ("a.toml", 'name = "shop"\nmodels = 3\n', "`models` is"),
    ],
)
def test_what_is_no_deployment_is_refused(tmp_path: Path, name: str, text: str, words: str) -> None:
    file = tmp_path / name
    file.write_text(text)
    with pytest.raises(InputError) as refused:
        read_deployment(file)
    assert refused.value.code == "deploy.invalid"
    assert words in str(refused.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError) as refused:
        read_deployment(tmp_path / "a.toml")
    assert refused.value.code == "formats.not-found"
