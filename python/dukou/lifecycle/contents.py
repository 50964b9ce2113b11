"""The words of a command line become what a serving folder holds: files, projects, versions, deployments."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from dukou.base.errors import RemoteError
from dukou.deploy.files import read_deployment
from dukou.deploy.standalone import BareFile, Contents, select_contents
from dukou.formats.external import check_external_data
from dukou.formats.onnx import parse_graph
from dukou.registry.registry import Registry
from dukou.serve.bare import bare_model
from dukou.serve.choose import choose


class Choice(NamedTuple):
    """What is to be put into a folder, with the programs that serve it.

    Attributes:
        contents: what it serves.
        engine: the engine's program.
        runtime: ONNX Runtime's library.
    """

    contents: Contents
    engine: Path
    runtime: Path


def choose_contents(
    words: Sequence[str],
    *,
    home: Path,
    names: Sequence[str] = (),
    trust_pickle: bool = False,
    engine: str | None = None,
    runtime: str | None = None,
    sequence: int = 1,
    access_log: bool = False,
) -> Choice:
    """What `words` mean, as for `dukou serve`: every part of it looked at, nothing written.

    Args:
        words: files, folders of projects, references, names of deployments.
        home: DUKOU_HOME, where conversions are kept.
        names: what they are served as, in their order.
        trust_pickle: whether pickles may be loaded, for conversion.
        engine: another program; the installed one where None.
        runtime: another library.
        sequence: of the table.
        access_log: whether every request is a line on stdout.

    Raises:
        DukouError: what one of them is not, as `dukou serve` would say it.
    """
    order = choose(
        words, home=home, names=names, engine=engine, runtime=runtime, trust_pickle=trust_pickle
    )
    files = [
        # The version that answers: an image carries no others, for nobody could change them there.
        BareFile(
            name,
            model.graph,
            _weights_beside(model.graph),
            bare_model(name, model._replace(versions={model.default: model.graph})),
        )
        for name, model in order.files.items()
    ]
    documents = [read_deployment(path) for path in order.documents]
    for model in (model for document in documents for model in document.models):
        if model.file is not None:
            path = Path(model.file)
            files.append(BareFile(model.name, path, _weights_beside(path), {}))
    references = [(reference.name, reference.text) for reference in order.references]
    with Registry.open(home) as registry:
        contents = select_contents(
            references,
            home=home,
            registry=registry,
            files=files,
            documents=documents,
            sequence=sequence,
            access_log=access_log,
        )
    return Choice(contents, order.engine, order.runtime)


def _weights_beside(path: Path) -> tuple[str, ...]:
    return check_external_data(path, parse_graph(path))


def runtime_version(engine: Path, runtime: Path) -> str | None:
    """The version of a runtime's library, as the engine that loads it says; None where it cannot.

    Raises:
        RemoteError: `engine.no-start`: the program cannot be run.
    """
    try:
        asked = subprocess.run(
            [engine, "--hello", "--runtime", runtime],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        said = json.loads(asked.stdout)
    except OSError as error:
        raise RemoteError(
            "engine.no-start", f"`{engine}` cannot be run: {error.strerror}"
        ) from error
    except ValueError:
        return None
    version = said.get("runtime")
    return None if version is None else str(version)
