"""The word of the command line becomes a model at hand: a project's, a file's, or a version's."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dukou.base.errors import InputError
from dukou.lifecycle.project import FILE_NAME, Project, load_project

if TYPE_CHECKING:
    from dukou.model.model import Model
    from dukou.optimize.contract import Arrays


@dataclass(frozen=True, slots=True)
class Subject:
    """What advice is about.

    Attributes:
        name: of the model.
        source: what it is, in words.
        model: the form that would be served.
        samples: requests of one row, inputs by name.
        project: whose model it is; None for a file or a version.
        optimization: what the project's optimize stage found; None where there is no project.
    """

    name: str
    source: str
    model: Model
    samples: Sequence[Arrays]
    project: Project | None = None
    optimization: Mapping[str, Any] | None = None


def open_subject(
    word: str, *, home: Path, into: Path, trust_pickle: bool, say: Callable[[str], None]
) -> Subject:
    """The model that `word` means.

    Args:
        word: a project's folder or file, a model file, or a reference: `digits`, `digits:3`,
            `digits@champion`. A folder with a project file is a project, whatever the registry holds.
        home: DUKOU_HOME.
        into: an empty folder for graphs.
        trust_pickle: whether pickles may be loaded.
        say: shows a line of progress.

    Raises:
        DukouError: there is no such model, or the project's line stops before a model is there.
    """
    path = Path(word).expanduser()
    if (path / FILE_NAME).is_file() or (path.name == FILE_NAME and path.is_file()):
        return _of_project(load_project(path), home, say)
    from dukou.serve.choose import names_a_file

    if path.is_dir() or names_a_file(word, path):
        from dukou.formats.open import open_model
        from dukou.serve.bare import name_of_file

        model = open_model(path, into=into / "model", trust_pickle=trust_pickle)
        return _of_model(name_of_file(path.resolve()), f"the file `{word}`", model)
    return _of_version(word, home, into)


def _of_project(project: Project, home: Path, say: Callable[[str], None]) -> Subject:
    """What this project file makes now: kept results where nothing changed."""
    from dukou.lifecycle.keep import load_model
    from dukou.lifecycle.runner import ship

    say(
        f"running `{project.model.name}` as far as `optimize`, to have the model that would be served"
    )
    shipment = ship(project, home, until="optimize", say=say)
    result = shipment.results["optimize"]
    model = load_model(result.folder / "chosen")
    subject = _of_model(project.model.name, f"the project in `{project.folder}`", model)
    return Subject(
        subject.name, subject.source, model, subject.samples, project, dict(result.facts)
    )


def _of_version(word: str, home: Path, into: Path) -> Subject:
    from dukou.package.store import Store
    from dukou.package.unpack import folder_for, open_version
    from dukou.registry.registry import Registry
    from dukou.trust.keys import load_trust_store

    with Registry.open(home) as registry:
        entry = registry.resolve(word)
    store = Store(home / "store")
    folder = folder_for(store, entry.digest, into / "model")
    model = open_version(store, entry.digest, load_trust_store(home), folder=folder, copy=True)
    reference = f"{entry.model}:{entry.number}"
    return _of_model(entry.model, f"the version `{reference}`", model)


def _of_model(name: str, source: str, model: Model) -> Subject:
    """Its golden requests are what it is asked."""
    requests = [inputs for inputs, _ in model.golden.samples] if model.golden else []
    if not requests:
        raise InputError(
            "data.mismatch",
            f"{source} answers none of the inputs that were made up for it, so there is nothing to "
            "measure it with",
            hint="put it into a project (`dukou init`), whose rows are then its requests",
        )
    # The one of several rows is for another purpose: what is counted here is requests of one.
    fewest = min(_rows(request) for request in requests)
    singles = [request for request in requests if _rows(request) == fewest]
    return Subject(name, source, model, singles)


def _rows(request: Arrays) -> int:
    return sum(int(array.size) for array in request.values())
