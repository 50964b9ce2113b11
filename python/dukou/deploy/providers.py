"""Execution providers: the names that people use, ONNX Runtime's own, and which package brings each.

Standard library only: `dukou serve` reads it. What of these a machine has is `dukou.serve.devices`'.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from dukou.base.errors import InputError


class Provider(NamedTuple):
    """A way to run a model that ONNX Runtime may have.

    Attributes:
        short: what people write.
        name: what ONNX Runtime calls it, and what stands in a table.
        runs_on: the hardware.
        package: what brings it, as `pip install` takes it; empty where none does.
        needs: a kind of hardware (`dukou.serve.devices`); empty for what runs on any processor.
        options: those that matter most, by its own names, for the list that people read.
        otherwise: what brings it where no package does.
    """

    short: str
    name: str
    runs_on: str
    package: str
    needs: str = ""
    options: tuple[str, ...] = ()
    otherwise: str = ""

    @property
    def brought_by(self) -> str:
        """What to do to have it."""
        return f"`pip install {self.package}`" if self.package else self.otherwise


PROVIDERS: tuple[Provider, ...] = (
    Provider("cpu", "CPUExecutionProvider", "any processor", "onnxruntime"),
    Provider(
        "openvino",
        "OpenVINOExecutionProvider",
        "Intel's processors, GPUs and NPUs",
        "dukou[openvino]",
        "intel",
        ("device_type", "num_of_threads", "precision", "cache_dir"),
    ),
    Provider(
        "cuda",
        "CUDAExecutionProvider",
        "NVIDIA's GPUs",
        "onnxruntime-gpu",
        "nvidia",
        ("device_id", "gpu_mem_limit", "cudnn_conv_algo_search"),
    ),
    Provider(
        "tensorrt",
        "TensorrtExecutionProvider",
        "NVIDIA's GPUs, through TensorRT",
        "onnxruntime-gpu tensorrt",
        "nvidia",
        ("device_id", "trt_fp16_enable", "trt_engine_cache_enable", "trt_engine_cache_path"),
    ),
    Provider(
        "migraphx",
        "MIGraphXExecutionProvider",
        "AMD's GPUs",
        "onnxruntime-migraphx",
        "amd-gpu",
        ("device_id", "migraphx_fp16_enable"),
    ),
    Provider(
        "rocm",
        "ROCMExecutionProvider",
        "AMD's GPUs (before ONNX Runtime 1.23)",
        "onnxruntime-rocm",
        "amd-gpu",
        ("device_id", "gpu_mem_limit"),
    ),
    Provider(
        "vitisai",
        "VitisAIExecutionProvider",
        "AMD's (Xilinx') FPGAs and NPUs",
        "",
        "xilinx",
        ("config_file", "cache_dir", "cache_key"),
        "AMD's Vitis AI or Ryzen AI software, which brings an ONNX Runtime of its own",
    ),
    Provider(
        "qnn",
        "QNNExecutionProvider",
        "Qualcomm's NPUs",
        "onnxruntime-qnn",
        "qualcomm",
        ("backend_path", "htp_performance_mode"),
    ),
    Provider(
        "coreml",
        "CoreMLExecutionProvider",
        "Apple's processors, GPUs and neural engines",
        "",
        "apple",
        ("ModelFormat", "MLComputeUnits"),
        "`onnxruntime` on macOS",
    ),
    Provider(
        "dml",
        "DmlExecutionProvider",
        "GPUs under Windows, through DirectML",
        "",
        "windows",
        ("device_id",),
        "`onnxruntime-directml` on Windows",
    ),
    Provider(
        "xnnpack",
        "XnnpackExecutionProvider",
        "Arm and x86 processors, through XNNPACK",
        "",
        "",
        ("intra_op_num_threads",),
        "a build of ONNX Runtime with `--use_xnnpack`",
    ),
    Provider(
        "dnnl",
        "DnnlExecutionProvider",
        "x86 processors, through oneDNN",
        "",
        otherwise="a build of ONNX Runtime with `--use_dnnl`",
    ),
    Provider(
        "cann",
        "CANNExecutionProvider",
        "Huawei's Ascend NPUs",
        "onnxruntime-cann",
        "ascend",
        ("device_id", "npu_mem_limit"),
    ),
)
CPU = PROVIDERS[0]

_ENDING = "executionprovider"
# In words also: TensorRT's name is written as `Tensorrt` in ONNX Runtime alone, DirectML's as `Dml`.
_ALSO = {"directml": "dml", "trt": "tensorrt", "vitis": "vitisai", "vitis-ai": "vitisai"}
# A kind of hardware is not a provider: each maker has its own.
_KINDS = {
    "gpu": "cuda, tensorrt, migraphx, openvino, dml",
    "npu": "openvino, qnn, vitisai, cann",
    "fpga": "vitisai",
}
_OWN_NAME = re.compile(r"[A-Za-z0-9_.]{1,64}ExecutionProvider(\.[A-Za-z0-9]+)?\Z")


def find_provider(word: str, *, key: str, code: str = "deploy.unknown-provider") -> str:
    """ONNX Runtime's name of the provider that a word means, in any case, with its ending or without.

    A whole name of ONNX Runtime's form that resembles none of these is taken as it is: a plugin may
    bring a provider that this release has never heard of.

    Args:
        word: `cuda`, `CUDAExecutionProvider`.
        key: what it was written for, for the error.
        code: of the error.

    Raises:
        InputError: `code`, with the nearest name.
    """
    plain = word.strip().lower().removesuffix(_ENDING)
    plain = _ALSO.get(plain, plain)
    for provider in PROVIDERS:
        if plain in (provider.short, provider.name.lower().removesuffix(_ENDING)):
            return provider.name
    import difflib  # for a slip of the pen alone

    names = [provider.short for provider in PROVIDERS]
    near = difflib.get_close_matches(plain, names, n=1, cutoff=0.6)
    if not near and _OWN_NAME.match(word):
        return word
    known = ", ".join(names)
    hint = f"did you mean `{near[0]}`?" if near else f"known are {known};"
    if plain in _KINDS:
        hint = f"each maker's is called otherwise: {_KINDS[plain]};"
    raise InputError(
        code,
        f"`{key}` names the execution provider `{word}`, which there is not",
        hint=f"{hint} `dukou devices` says which of them this machine has",
    )


def provider_document(said: str | Mapping[str, Any], *, key: str) -> dict[str, Any]:
    """A provider as in a table: `{"name", "options"}`.

    Args:
        said: its name, or a mapping with `name` and `options`.
        key: what it was written for, for the error.

    Raises:
        InputError: `deploy.unknown-provider`, or `deploy.invalid` for a mapping of another form.
    """
    if isinstance(said, str):
        return {"name": find_provider(said, key=key), "options": {}}
    name, options = said.get("name"), said.get("options", {})
    unknown = sorted(set(said) - {"name", "options"})
    if unknown or not isinstance(name, str) or not isinstance(options, Mapping):
        what = f"has `{unknown[0]}`" if unknown else "lacks a name, or options that are a table"
        raise InputError(
            "deploy.invalid",
            f"a provider of `{key}` {what}",
            hint='`"cuda"`, or `{name = "cuda", options = {device_id = "0"}}`',
        )
    texts = {str(option): _text(value) for option, value in options.items()}
    return {"name": find_provider(name, key=key), "options": texts}


def parse_provider(text: str, *, key: str) -> dict[str, Any]:
    """`cuda` or `openvino:device_type=GPU,precision=FP16`, as in a table.

    Raises:
        InputError: `deploy.unknown-provider`; `usage.invalid` for an option without a value.
    """
    name, _, rest = text.partition(":")
    options: dict[str, str] = {}
    for pair in filter(None, rest.split(",")):
        option, equals, value = pair.partition("=")
        if not equals or not option.strip():
            raise InputError(
                "usage.invalid",
                f"`{key} {text}`: `{pair}` is no option with a value",
                hint=f"`{key} openvino:device_type=CPU,num_of_threads=2`",
            )
        options[option.strip()] = value.strip()
    return {"name": find_provider(name, key=key), "options": options}


def with_cpu(providers: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """The list with the CPU at its end, which every list falls back to; what stands behind it goes."""
    kept = []
    for provider in providers:
        if provider["name"] == CPU.name:
            break
        kept.append(provider)
    return [*kept, {"name": CPU.name, "options": {}}]


def short_name(name: str) -> str:
    """What people write for one of ONNX Runtime's names."""
    for provider in PROVIDERS:
        if provider.name == name:
            return provider.short
    return name


def _text(value: Any) -> str:
    """An option's value as ONNX Runtime takes it: TOML's `true` is `1`."""
    return str(int(value)) if isinstance(value, bool) else str(value)
