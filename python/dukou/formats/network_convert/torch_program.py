"""PyTorch's files and code become a `Program`: TorchScript, exported programs, checkpoints with a factory."""

from __future__ import annotations

import io
import pickle
import re
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from dukou.base.errors import InputError
from dukou.formats.child import load_arrays
from dukou.formats.network_convert.program import BATCH, Program, first_sentence
from dukou.model.signature import PROTOCOL_NAMES, TensorSpec

_HOW_TO_SAY = "say what it takes: `--input 'x:FP32[batch,1,8,8]'`"


def load_torch(
    path: Path, shown: str, kind: str, inputs: tuple[TensorSpec, ...], samples: Path | None
) -> Program:
    """A file of PyTorch's.

    Args:
        path: the file.
        shown: as the user calls it.
        kind: `script`, `export` or `checkpoint`.
        inputs: what the user says of the inputs; empty where nothing.
        samples: the user's rows.
    """
    if kind == "export":
        return _load_exported(path, shown)
    if kind == "script":
        return _load_script(path, shown, inputs, samples)
    return _from_module(_unpickle(path, shown), shown, "module", inputs, samples, ())


def load_built(
    built: Any,
    shown: str,
    inputs: tuple[TensorSpec, ...],
    samples: Path | None,
    weights: Path | None,
    named: str,
) -> Program:
    """What a factory made: a module, or a module with example inputs.

    Args:
        built: what it returned.
        shown: the factory, as the user wrote it.
        inputs: what the user says of the inputs.
        samples: the user's rows.
        weights: a file with a state dictionary, where the factory does not load its own.
        named: that file, as the user calls it.
    """
    import torch

    module, examples = built, ()
    if isinstance(built, tuple) and len(built) == 2:
        module, examples = built
    if not isinstance(module, torch.nn.Module):
        raise InputError(
            "formats.cannot-convert",
            f"`{shown}` returned a `{type(module).__name__}`, a `torch.nn.Module` or a Keras model "
            "is expected, alone or with its example inputs",
        )
    if weights is not None:
        _fill(module, _read_weights(weights, named), shown, named)
    return _from_module(module.eval(), shown, "module", inputs, samples, examples)


def _framework() -> str:
    import torch

    return f"PyTorch {torch.__version__.partition('+')[0]}"


def _load_exported(path: Path, shown: str) -> Program:
    import torch

    try:
        exported = torch.export.load(str(path))
    except Exception as error:
        raise _corrupt(shown, "exported program", error) from error
    nodes = {node.name: node for node in exported.graph.nodes if node.op == "placeholder"}
    inputs: list[TensorSpec] = []
    symbols: dict[str, str] = {}
    for index, name in enumerate(exported.graph_signature.user_inputs):
        value = nodes[str(name)].meta.get("val") if str(name) in nodes else None
        if not isinstance(value, torch.Tensor):
            raise InputError(
                "formats.cannot-convert", f"`{shown}`: input {index} (`{name}`) is not a tensor"
            )
        shape: list[int | str] = []
        for axis, extent in enumerate(value.shape):
            if isinstance(extent, int):
                shape.append(extent)
            else:
                made = (
                    BATCH if axis == 0 and BATCH not in symbols.values() else f"axis_{index}_{axis}"
                )
                shape.append(symbols.setdefault(str(extent), made))
        inputs.append(TensorSpec(str(name), _dtype(shown, value.dtype), tuple(shape)))
    return Program(exported.module(), tuple(inputs), "exported program", _framework(), exported)


def _load_script(
    path: Path, shown: str, inputs: tuple[TensorSpec, ...], samples: Path | None
) -> Program:
    import torch

    try:
        module = torch.jit.load(str(path), map_location="cpu").eval()
        arguments = module.forward.schema.arguments[1:]
    except Exception as error:
        raise _corrupt(shown, "TorchScript model", error) from error
    needed = [a for a in arguments if not a.has_default_value()]
    names = [re.sub(r"\.\d+$", "", a.name) for a in needed]
    other = next((a for a in needed if "Tensor" not in str(a.type)), None)
    if other is not None:
        raise InputError(
            "formats.cannot-convert",
            f"`{shown}`: argument `{other.name}` of its `forward` is a `{other.type}`, tensors are "
            "expected",
        )
    found = inputs or _traced_inputs(path, names) or _guess(shown, names, samples)
    if len(found) != len(names):
        raise InputError(
            "formats.cannot-convert",
            f"`{shown}` takes {len(names)} inputs ({', '.join(names)}), {len(found)} are described",
            hint=_HOW_TO_SAY,
        )
    return Program(module, found, "TorchScript", _framework())


def _traced_inputs(path: Path, names: Sequence[str]) -> tuple[TensorSpec, ...]:
    """What a traced module was traced with: the archive keeps it, the shapes are read without loading."""
    with zipfile.ZipFile(path) as archive:
        entry = next((n for n in archive.namelist() if n.endswith("/traced_inputs.pkl")), None)
        if entry is None:
            return ()
        content = archive.read(entry)
    try:
        traced = _ShapeUnpickler(io.BytesIO(content)).load().get("forward", [])
    except (pickle.UnpicklingError, AttributeError, EOFError, TypeError, ValueError, IndexError):
        return ()
    if len(traced) != len(names) or not all(isinstance(t, tuple) for t in traced):
        return ()
    return tuple(
        TensorSpec(name, dtype, tuple([BATCH, *shape[1:]] if shape else shape))
        for name, (dtype, shape) in zip(names, traced, strict=True)
    )


class _ShapeUnpickler(pickle.Unpickler):
    """Reads dtypes and shapes of pickled tensors; every other class is refused."""

    _DTYPES: ClassVar[Mapping[str, str]] = {
        "FloatStorage": "FP32",
        "DoubleStorage": "FP64",
        "HalfStorage": "FP16",
        "LongStorage": "INT64",
        "IntStorage": "INT32",
        "ShortStorage": "INT16",
        "CharStorage": "INT8",
        "ByteStorage": "UINT8",
        "BoolStorage": "BOOL",
    }

    def find_class(self, module: str, name: str) -> Any:
        """Stand-ins for the four names that such a pickle may have."""
        if (module, name) == ("torch.jit._pickle", "restore_type_tag"):
            return lambda value, _kind: value
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return lambda storage, _offset, shape, *_rest: (storage, tuple(shape))
        if (module, name) == ("collections", "OrderedDict"):
            return dict
        if module == "torch" and name in self._DTYPES:
            return self._DTYPES[name]
        raise pickle.UnpicklingError(f"{module}.{name}")

    def persistent_load(self, pid: Any) -> Any:
        """A storage is its dtype."""
        return pid[1]


def _guess(shown: str, names: Sequence[str], samples: Path | None) -> tuple[TensorSpec, ...]:
    """From the user's rows: columns by name, or all of them as one matrix.

    Raises:
        InputError: `formats.cannot-convert`, where there are none.
    """
    if samples is None:
        raise InputError(
            "formats.cannot-convert",
            f"`{shown}` does not say what its inputs ({', '.join(names)}) look like",
            hint=_HOW_TO_SAY,
        )
    given = load_arrays(samples)
    if all(name in given for name in names):
        return tuple(
            TensorSpec(
                name, PROTOCOL_NAMES[given[name].dtype.name], (BATCH, *given[name].shape[1:])
            )
            for name in names
        )
    if len(names) != 1:
        raise InputError(
            "data.mismatch",
            f"`{shown}` takes {len(names)} inputs ({', '.join(names)}), the samples have "
            f"{', '.join(f'`{name}`' for name in list(given)[:12])}",
        )
    if len(given) == 1:
        (array,) = given.values()
        shape = array.shape[1:] if array.ndim > 1 else (1,)
        return (TensorSpec(names[0], "FP32", (BATCH, *shape)),)
    width = sum(1 if a.ndim == 1 else int(a[0].size) for a in given.values())
    return (TensorSpec(names[0], "FP32", (BATCH, width)),)


def _from_module(
    module: Any,
    shown: str,
    kind: str,
    inputs: tuple[TensorSpec, ...],
    samples: Path | None,
    examples: Any,
) -> Program:
    import torch

    module = module.eval()
    if isinstance(module, torch.jit.ScriptModule):
        names = [re.sub(r"\.\d+$", "", a.name) for a in module.forward.schema.arguments[1:]]
        kind = "TorchScript"
    else:
        names = _parameters_of(module)
    if not inputs and _count(examples):
        inputs = _like(shown, names, examples)
    if not inputs:
        needed = names if len(names) == 1 else names[:1]
        inputs = _guess(shown, needed, samples)
    return Program(module, inputs, kind, _framework())


def _count(examples: Any) -> int:
    return 1 if hasattr(examples, "shape") else len(examples)


def _parameters_of(module: Any) -> list[str]:
    """What `forward` must be given."""
    import inspect

    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    found = [
        name
        for name, parameter in inspect.signature(module.forward).parameters.items()
        if parameter.kind in kinds and parameter.default is inspect.Parameter.empty
    ]
    return found or ["x"]


def _like(shown: str, names: Sequence[str], examples: Any) -> tuple[TensorSpec, ...]:
    """Inputs that look like a factory's examples, the first axis free."""
    import torch

    if isinstance(examples, torch.Tensor):
        examples = (examples,)
    if not isinstance(examples, Mapping):
        every = [*names, *(f"input_{i}" for i in range(len(names), len(examples)))]
        examples = dict(zip(every, examples, strict=False))
    wrong = next((v for v in examples.values() if not isinstance(v, torch.Tensor)), None)
    if wrong is not None:
        raise InputError(
            "formats.cannot-convert",
            f"`{shown}` returned a `{type(wrong).__name__}` among its example inputs, tensors are "
            "expected",
        )
    return tuple(
        TensorSpec(str(name), _dtype(shown, value.dtype), (BATCH, *value.shape[1:]))
        for name, value in examples.items()
    )


def _dtype(shown: str, dtype: Any) -> str:
    name = {"float": "float32", "double": "float64", "half": "float16", "long": "int64"}.get(
        str(dtype).removeprefix("torch."), str(dtype).removeprefix("torch.")
    )
    if name not in PROTOCOL_NAMES:
        raise InputError(
            "formats.cannot-convert", f"`{shown}` takes `{dtype}`, which has no name here"
        )
    return PROTOCOL_NAMES[name]


def _unpickle(path: Path, shown: str) -> Any:
    """A whole module that somebody saved by `torch.save`: the user has vouched for it."""
    import torch

    try:
        found = torch.load(path, map_location="cpu", weights_only=False)
    except (AttributeError, ImportError) as error:
        raise InputError(
            "formats.cannot-convert",
            f"`{shown}` refers to code that is not here: {first_sentence(error)}",
            hint="save it by `torch.export.save`, or name what builds it: `--factory module.py:function`",
        ) from error
    except Exception as error:
        raise _corrupt(shown, "PyTorch checkpoint", error) from error
    if not isinstance(found, torch.nn.Module):
        raise InputError(
            "formats.not-a-model",
            f"`{shown}` holds a `{type(found).__name__}`: weights without a graph",
            hint="name what builds the module: `--factory module.py:function`",
        )
    return found


def _read_weights(path: Path, named: str) -> Mapping[str, Any]:
    import torch

    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise InputError(
            "formats.untrusted-code",
            f"`{named}` holds more than weights, and loading that runs code",
            hint="save the weights alone: `torch.save(model.state_dict(), …)`",
        ) from error
    except Exception as error:
        raise _corrupt(named, "PyTorch checkpoint", error) from error
    if isinstance(found, Mapping):
        for key in ("state_dict", "model_state_dict", "model"):
            if isinstance(found.get(key), Mapping):
                found = found[key]
                break
    if not isinstance(found, Mapping):
        raise InputError(
            "formats.not-a-model",
            f"`{named}` holds a `{type(found).__name__}`, a dictionary of weights is expected",
        )
    return found


def _fill(module: Any, weights: Mapping[str, Any], shown: str, named: str) -> None:
    try:
        missing, unexpected = module.load_state_dict(weights, strict=False)
    except RuntimeError as error:
        line = next(
            (x.strip() for x in str(error).splitlines() if "size mismatch" in x), str(error)
        )
        raise InputError(
            "formats.cannot-convert", f"`{named}` does not fit what `{shown}` makes: {line[:240]}"
        ) from error
    if missing or unexpected:
        sides = [
            f"{len(names)} {word} ({', '.join(f'`{n}`' for n in names[:3])})"
            for names, word in ((missing, "missing"), (unexpected, "too many"))
            if names
        ]
        raise InputError(
            "formats.cannot-convert",
            f"`{named}` does not fit what `{shown}` makes: of its weights {' and '.join(sides)}",
        )


def _corrupt(shown: str, kind: str, error: BaseException) -> InputError:
    return InputError(
        "formats.corrupt",
        f"`{shown}` begins like a {kind}, but does not load: {first_sentence(error)}",
    )
