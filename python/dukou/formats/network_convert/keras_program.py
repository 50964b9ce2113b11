"""Keras's files and models become a `Program`, on Keras's PyTorch backend: TensorFlow is not needed."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

from dukou.base.errors import InputError
from dukou.formats.network_convert.program import BATCH, Program, first_sentence
from dukou.model.signature import PROTOCOL_NAMES, TensorSpec


def load_keras(path: Path, shown: str, *, trust: bool, inputs: tuple[TensorSpec, ...]) -> Program:
    """A `.keras` or `.h5` file.

    Args:
        path: the file, with the suffix that Keras goes by.
        shown: as the user calls it.
        trust: whether layers that carry code (`Lambda`) may be loaded.
        inputs: what the user says of the inputs; empty where nothing.
    """
    keras = import_keras()
    try:
        model = keras.saving.load_model(path, compile=False, safe_mode=not trust)
    except Exception as error:
        raise _refuse(shown, error) from error
    return wrap_keras(model, shown, inputs)


def import_keras() -> Any:
    """Keras without its wrapper for scikit-learn, whose import costs a fifth of a conversion."""
    absent = "sklearn" not in sys.modules
    if absent:
        sys.modules["sklearn"] = None  # type: ignore[assignment] # what says "not installed"
    try:
        import keras
    finally:
        if absent:
            del sys.modules["sklearn"]
    return keras


def fill_keras(model: Any, shown: str, weights: Path, named: str) -> None:
    """Loads a file's weights into what a factory built."""
    try:
        model.load_weights(weights)
    except Exception as error:
        raise InputError(
            "formats.cannot-convert",
            f"`{named}` does not fit what `{shown}` makes: {first_sentence(error)}",
        ) from error


def wrap_keras(model: Any, shown: str, inputs: tuple[TensorSpec, ...]) -> Program:
    """A Keras model as a module that takes its inputs in order."""
    import keras
    import torch

    if not model.built or not getattr(model, "inputs", None):
        raise InputError(
            "formats.cannot-convert",
            f"`{shown}` was never built: it does not know what it takes",
            hint="begin it with `keras.Input(shape)`, or call it once before saving",
        )
    found = inputs or tuple(_spec(shown, tensor, i) for i, tensor in enumerate(model.inputs))
    if len(found) != len(model.inputs):
        raise InputError(
            "formats.cannot-convert",
            f"`{shown}` takes {len(model.inputs)} inputs, {len(found)} are described",
        )
    structure = getattr(model, "input", None)

    class Flat(torch.nn.Module):  # type: ignore[misc] # Any where torch is not installed
        def __init__(self) -> None:
            super().__init__()
            self.inner = model

        def forward(self, *arguments: Any) -> Any:
            packed = (
                arguments[0]
                if len(arguments) == 1
                else keras.tree.pack_sequence_as(structure, list(arguments))
            )
            said = self.inner(packed, training=False)
            return tuple(keras.tree.flatten(said))

    return Program(
        Flat().eval(), found, "Keras model", f"Keras {keras.__version__}", None, _outputs(model)
    )


def _spec(shown: str, tensor: Any, index: int) -> TensorSpec:
    import keras

    dtype = keras.backend.standardize_dtype(tensor.dtype)
    if dtype not in PROTOCOL_NAMES:
        raise InputError(
            "formats.cannot-convert",
            f"`{shown}`: input `{tensor.name}` takes `{dtype}`, which PyTorch has no tensors of",
        )
    shape = [
        extent
        if extent is not None
        else BATCH
        if axis == 0
        else _axis(len(tensor.shape), index, axis)
        for axis, extent in enumerate(tensor.shape)
    ]
    return TensorSpec(tensor.name, PROTOCOL_NAMES[dtype], tuple(shape))


def _axis(rank: int, index: int, axis: int) -> str:
    """`time` for the second axis of a sequence, as Keras's own words have it."""
    return "time" if rank <= 3 and axis == 1 and index == 0 else f"axis_{index}_{axis}"


def _outputs(model: Any) -> tuple[str, ...]:
    """Names of outputs: a dictionary's keys, else the layers that make them."""
    structure = getattr(model, "output", None)
    if isinstance(structure, dict):
        return tuple(sorted(structure))
    # A Sequential has no names of outputs; its last layer makes the one that there is.
    names = list(getattr(model, "output_names", ()) or ()) or [model.layers[-1].name]
    if not names or len(set(names)) != len(names):
        return ()
    return tuple(names)


def _refuse(shown: str, error: BaseException) -> InputError:
    words = str(error)
    if "safe_mode" in words or "enable_unsafe_deserialization" in words:
        layer = re.search(r"`?(Lambda)`?", words)
        return InputError(
            "formats.untrusted-code",
            f"`{shown}` has a `{layer[1] if layer else 'Lambda'}` layer: loading it runs the code "
            "that it carries, and nobody has vouched for it",
        )
    unknown = re.search(
        r"(?:Could not locate class|Unknown layer:?|Could not find class) '?\"?`?([\w>.]+)", words
    )
    if unknown:
        name = unknown[1].rpartition(">")[2]
        return InputError(
            "formats.cannot-convert",
            f"`{shown}` has a layer of class `{name}`, which is not one of Keras's",
            hint="name the code that builds the model: `--factory module.py:function`",
        )
    if "ensor" in words and "low" in words and "requires" in words:
        return InputError(
            "formats.cannot-convert",
            f"`{shown}` has a layer that works on TensorFlow alone: {first_sentence(error)}",
        )
    return InputError(
        "formats.corrupt",
        f"`{shown}` begins like a Keras model, but does not load: {first_sentence(error)}",
    )
