"""A folder of models, as TensorFlow Serving and Triton lay one out, or with plain files in it.

    models/iris/2/model.onnx     `iris`, version 2: a folder a model, numbered folders its versions
    models/iris/config.pbtxt     Triton's: what of it is plain is honoured, the rest is named
    models/iris/labels.txt       class names, one a line
    models/digits/graph.onnx     `digits`: without numbers; so lies an unpacked version of the registry
    models/flowers.onnx          `flowers`: a plain file

No file is opened as a model here: the engine has the last word on that.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from dukou.base.errors import InputError
from dukou.base.ids import ModelName
from dukou.deploy.dropin.triton import ModelConfig, Policy, load_config
from dukou.serve.bare import VERSION, FileModel, name_of_file, name_of_words

CONFIG, LABELS = "config.pbtxt", "labels.txt"
# The usual names, in this order: Triton's, and that of an unpacked version.
_USUAL = ("model.onnx", "graph.onnx")
# What `dukou serve FILE` converts first, and so does a folder.
_CONVERTED = (".keras", ".h5", ".joblib", ".pkl", ".pickle", ".skops")
# Code of PyTorch's: converted where the user has vouched for it.
_PROGRAMS = (".pt", ".pth", ".pt2")
_LARGEST_LABELS = 4 << 20

# A converter: a file → its ONNX, and the input tensors of a golden sample where it made one.
Convert = Callable[[Path], tuple[Path, list[dict[str, Any]] | None]]


class Found(NamedTuple):
    """What a folder holds.

    Attributes:
        models: by name.
        golden: model → input tensors of a golden sample of a converted file.
        notes: sentences for the person who watches: what is there and not served, or not honoured.
    """

    models: dict[ModelName, FileModel]
    golden: dict[str, list[dict[str, Any]]]
    notes: list[str]


def parse_versions(word: str | None) -> Policy | None:
    """`--versions all|latest|N`; None where it is not said.

    Raises:
        InputError: `usage.invalid`.
    """
    if word is None:
        return None
    if word == "all":
        return Policy(latest=None)
    if word == "latest":
        return Policy()
    if word.isdigit() and 1 <= int(word) <= 1000:
        return Policy(latest=int(word))
    raise InputError(
        "usage.invalid",
        f"`--versions {word}` is neither `all`, `latest`, nor how many of the latest",
    )


def is_repository(folder: Path) -> bool:
    """Whether a folder holds models rather than being one: it has folders with models, or several files."""
    files = [path for path in _entries(folder) if _is_model_file(path)]
    return len(files) > 1 or any(_holds_something(path) for path in _folders(folder)) or not files


def read_repository(
    folder: Path, convert: Convert, *, policy: Policy | None = None, trust_code: bool = False
) -> Found:
    """Every model of a folder; of one whose own folders are numbers, the one model that it is.

    Args:
        folder: where they lie.
        convert: makes ONNX of a file of another kind.
        policy: which versions are served; what each `config.pbtxt` says, else the latest, where None.
        trust_code: whether programs and pickles may be converted.

    Raises:
        InputError: `folder.no-model`, `folder.ambiguous`, `folder.foreign-model`,
            `folder.invalid-config`, `formats.not-found`, and whatever a conversion says.
    """
    reading = _Reading(convert, policy, trust_code=trust_code)
    numbered = [path for path in _folders(folder) if path.name.isdigit()]
    others = [path for path in _folders(folder) if path not in numbered and _holds_something(path)]
    if numbered and not others:
        reading.add(folder, name_of_words(folder.absolute().name, f"the folder `{folder}`"))
    else:
        for path in _entries(folder):
            if path.is_dir():
                reading.add(path, None)
            elif _is_model_file(path):
                reading.add_file(path)
    if not reading.found.models:
        _refuse_foreign(folder, trust_code=trust_code)
        raise InputError(
            "folder.no-model",
            f"`{folder}` holds no model"
            + ("" if any(folder.iterdir()) else ": the folder is empty"),
        )
    return reading.found


class _Reading:
    """The models of one folder, as they are found."""

    def __init__(self, convert: Convert, policy: Policy | None, *, trust_code: bool) -> None:
        self.found = Found({}, {}, [])
        self._places: dict[ModelName, Path] = {}
        self._convert = convert
        self._policy = policy
        self._trust_code = trust_code

    def add_file(self, path: Path) -> None:
        """A plain file, called by its own name."""
        name = self._claim(name_of_file(path), path)
        self.found.models[name] = FileModel({VERSION: self._as_onnx(name, path)})

    def add(self, folder: Path, name: ModelName | None) -> None:
        """A model's folder; one that holds nothing of the kind is left out, and that is said."""
        if not _holds_something(folder):
            if any(folder.iterdir()):
                self.found.notes.append(f"`{folder}` holds no model, and is left out")
            return
        config = load_config(folder / CONFIG) if (folder / CONFIG).is_file() else ModelConfig()
        name = name or name_of_words(folder.name, f"the folder's name `{folder.name}`")
        self._claim(name, folder)
        if config.name not in (None, folder.name):
            raise InputError(
                "folder.invalid-config",
                f"`{folder / CONFIG}` is of `{config.name}`, and its folder is called `{folder.name}`",
                hint="give both one name, or leave `name` out",
            )
        if config.kind == "ensemble":
            self.found.notes.append(
                f"`{folder.name}` is an ensemble of other models, and is left out: "
                "a document with a `graph` serves one (docs/services.md)"
            )
            return
        self.found.models[name] = FileModel(
            self._versions(name, folder, config),
            labels=_labels(folder, config),
            max_rows=config.max_rows,
            delay_us=config.delay_us,
            instances=config.instances,
            threads=config.threads,
        )
        if config.left_out:
            self.found.notes.append(
                f"`{folder / CONFIG}`: not honoured here: {', '.join(config.left_out)}"
            )

    def _claim(self, name: ModelName, place: Path) -> ModelName:
        other = self._places.setdefault(name, place)
        if other != place:
            raise InputError(
                "folder.ambiguous",
                f"`{other}` and `{place}` would both be served as `{name}`",
                hint="take one of them away, or rename it",
            )
        return name

    def _versions(self, name: ModelName, folder: Path, config: ModelConfig) -> dict[str, Path]:
        numbered: dict[int, Path] = {}
        for path in _folders(folder):
            if not path.name.isdigit():
                continue
            other = numbered.setdefault(int(path.name), path)
            if other != path:
                raise InputError(
                    "folder.ambiguous", f"`{other}` and `{path}` are both version {int(path.name)}"
                )
        if not numbered:
            return {VERSION: self._as_onnx(name, self._file_in(folder, config))}
        beside = [path for path in _entries(folder) if path.suffix.lower() == ".onnx"]
        if beside:
            raise InputError(
                "folder.ambiguous",
                f"`{folder}` holds numbered versions, and `{beside[0].name}` beside them",
                hint="put the file into a folder of its number, or take it away",
            )
        policy = self._policy or config.policy or Policy()
        served = policy.choose(list(numbered))
        if not served:
            raise InputError(
                "folder.no-model",
                f"`{folder}` has versions {_listed(numbered)}, and none that is to be served "
                f"({_listed(policy.numbers)})",
                hint="`--versions all` serves every one",
            )
        if len(served) < len(numbered) and self._policy is None and config.policy is None:
            self.found.notes.append(
                f"`{name}` has versions {_listed(numbered)}: {_listed(served)} is served, "
                "`--versions all` serves every one"
            )
        return {
            str(number): self._as_onnx(name, self._file_in(numbered[number], config))
            for number in served
        }

    def _file_in(self, folder: Path, config: ModelConfig) -> Path:
        """The model's file in a folder: named by its config, called as usual, or the only one."""
        if config.file_name is not None:
            return _readable(folder / config.file_name)
        for usual in _USUAL:
            path = folder / usual
            if path.is_dir():  # Triton's, for a graph with weights beside it
                path /= usual
            if path.is_file() or path.is_symlink():
                return _readable(path)
        files = [path for path in _entries(folder) if path.suffix.lower() == ".onnx"]
        files = files or [path for path in _entries(folder) if _is_model_file(path)]
        if len(files) > 1:
            shown = ", ".join(f"`{path.name}`" for path in files[:4])
            raise InputError(
                "folder.ambiguous",
                f"`{folder}` holds {len(files)} models ({shown}), and one is expected",
                hint="call the one that is meant `model.onnx`",
            )
        if files:
            return files[0]
        _refuse_foreign(folder, trust_code=self._trust_code)
        raise InputError(
            "folder.no-model",
            f"`{folder}` holds no model",
            hint="put the ONNX file there as `model.onnx`",
        )

    def _as_onnx(self, name: ModelName, path: Path) -> Path:
        path = _readable(path)
        if path.suffix.lower() == ".onnx":
            return path.absolute()
        if path.suffix.lower() in _PROGRAMS and not self._trust_code:
            raise _foreign(path)
        graph, sample = self._convert(path)
        if sample is not None:
            self.found.golden[name] = sample
        return graph


def _entries(folder: Path) -> list[Path]:
    """What lies in a folder, in one order everywhere; hidden things are nobody's models."""
    try:
        return sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError as error:
        raise InputError(
            "formats.not-found", f"`{folder}` cannot be read: {error.strerror}"
        ) from error


def _folders(folder: Path) -> Iterator[Path]:
    return (path for path in _entries(folder) if path.is_dir())


def _is_model_file(path: Path) -> bool:
    endings = (".onnx", *_CONVERTED, *_PROGRAMS)
    return path.suffix.lower() in endings and not path.is_dir()


def _holds_something(folder: Path) -> bool:
    """Whether a folder is a model's, be it one of a kind that is not served."""
    if (folder / CONFIG).is_file():
        return True
    return any(
        _is_model_file(path)
        or _foreign_kind(path) is not None
        or (path.is_dir() and (path.name.isdigit() or path.name in _USUAL))
        for path in _entries(folder)
    )


def _readable(path: Path) -> Path:
    """The path itself, once a byte of it could be read."""
    try:
        with path.open("rb") as file:
            file.read(1)
    except OSError as error:
        raise InputError(
            "formats.not-found", f"`{path}` cannot be read: {error.strerror}"
        ) from error
    return path


def _labels(folder: Path, config: ModelConfig) -> tuple[str, ...]:
    path = folder / (config.labels_file or LABELS)
    if config.labels_file is None and not path.is_file():
        return ()
    _readable(path)
    try:
        with path.open("rb") as file:
            text = file.read(_LARGEST_LABELS).decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(
            "folder.invalid-config", f"`{path}` is not UTF-8 from byte {error.start} on"
        ) from error
    return tuple(line.strip() for line in text.splitlines() if line.strip())


def _listed(numbers: Any) -> str:
    return ", ".join(str(number) for number in sorted(numbers))


def _foreign_kind(path: Path) -> tuple[str, str] | None:
    """What a file or folder of another server's is, and how it becomes ONNX; None for all else."""
    shown = shlex.quote(str(path))
    onnx = shlex.quote(str(path.with_name("model.onnx")))
    if path.name == "saved_model.pb" or path.name == "model.savedmodel":
        folder = shlex.quote(str(path.parent if path.name == "saved_model.pb" else path))
        return "a TensorFlow SavedModel", (
            f"`python -m tf2onnx.convert --saved-model {folder} --output {onnx}` makes ONNX of it; a Keras "
            "model saved as `.keras` is read as it is, and `dukou convert` makes ONNX of that"
        )
    kinds = {
        ".mar": (
            "a TorchServe archive",
            f"take the weights out (`unzip {shown}`), and `dukou convert WEIGHTS.pt --factory NET.py:BUILD` "
            "makes ONNX of them",
        ),
        ".plan": ("a TensorRT engine", "put the ONNX file there that it was built from"),
        ".graphdef": (
            "a TensorFlow graph",
            f"`python -m tf2onnx.convert --graphdef {shown} --output {onnx}` makes ONNX of it",
        ),
    }
    if path.name == "model.py":
        return "a program of Triton's Python backend", (
            "export the model that it runs as ONNX: `dukou convert` reads Keras, PyTorch and scikit-learn"
        )
    if path.suffix.lower() in _PROGRAMS:
        return "a program or weights of PyTorch", (
            f"`dukou convert {shown} --trust-code` makes ONNX of it, or serve the folder with `--trust-code`"
        )
    return kinds.get(path.suffix.lower())


def _foreign(path: Path) -> InputError:
    what, remedy = _foreign_kind(path) or ("of a kind that is not served", "")
    return InputError("folder.foreign-model", f"`{path}` is {what}, not ONNX", hint=remedy or None)


def _refuse_foreign(folder: Path, *, trust_code: bool) -> None:
    for path in _entries(folder):
        known = _foreign_kind(path)
        if known is not None and not (trust_code and path.suffix.lower() in _PROGRAMS):
            raise _foreign(path)
