"""`dukou tensorflow-model-server`: `dukou serve`, started by the flags and files of `tensorflow_model_server`.

  dukou tensorflow-model-server --port=8500 --rest_api_port=8501 --model_name=iris --model_base_path=/models/iris
  dukou tensorflow-model-server --rest_api_port=8501 --model_config_file=/models/models.config

The models are ONNX (`dukou convert` makes it of others), in the same folders of numbered versions; clients change
nothing. It listens on loopback, unless `--insecure` or TLS and keys are asked for: `--host 0.0.0.0`. What a flag
would do that is not done here is said at the start.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from dukou.deploy.dropin.like import FIRST

if TYPE_CHECKING:
    from dukou.deploy.dropin.tensorflow import BatchingParameters
    from dukou.serve.bare import Settings

_GRPC = "grpc"
# Flags that say what a server of ONNX files does anyhow, or has no use for.
_NEEDLESS = (
    "rest_api_num_threads",
    "flush_filesystem_caches",
    "num_load_threads",
    "num_unload_threads",
    "max_num_load_retries",
    "load_retry_interval_micros",
    "grpc_max_threads",
    "grpc_channel_arguments",
    "enable_model_warmup",
    "num_request_iterations_for_warmup",
    "enable_signature_method_name_check",
    "enable_profiler",
    "enable_grpc_healthcheck_service",
    "remove_unused_fields_from_bundle_metagraph",
    "saved_model_tags",
    "skip_initialize_tpu",
    "tensorflow_inter_op_parallelism",
)
# Flags whose effect is missed where they are said.
_NOT_HONOURED = {
    "grpc_socket_path": "no socket of Unix is listened on",
    "rest_api_timeout_in_ms": "a request's time is what its client says",
    "rest_api_enable_cors_support": "browsers of other sites are not answered",
    "model_config_file_poll_wait_seconds": "the file is read once, at the start",
    "enable_per_model_batching_parameters": "one file is for all models",
    "tensorflow_session_config_file": "no session of TensorFlow runs here",
    "platform_config_file": "no session of TensorFlow runs here",
    "per_process_gpu_memory_fraction": "`dukou serve --provider cuda:gpu_mem_limit=…` limits a GPU's memory",
    "use_alts_credentials": "TLS is what there is",
    "enable_serialization_as_tensor_content": "Predict answers one by one, as by default",
    "prefer_tflite_model": "no TensorFlow Lite model is read",
    "num_tflite_pools": "no TensorFlow Lite model is read",
    "num_tflite_interpreters_per_pool": "no TensorFlow Lite model is read",
    "xla_cpu_compilation_enabled": "no session of TensorFlow runs here",
    "xla_gpu_compilation_enabled": "no session of TensorFlow runs here",
    "thread_pool_factory_config_file": "no session of TensorFlow runs here",
    "mixed_precision": "`dukou ship` makes models smaller, and proves that they stay right",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    flags = parser.add_argument_group("of tensorflow_model_server")
    flags.add_argument("--port", type=int, default=8500, help="of gRPC (8500); 0: none")
    flags.add_argument("--rest_api_port", type=int, default=0, help="of REST (0: none)")
    flags.add_argument("--model_name", default="default", help="what it is served as (default)")
    flags.add_argument("--model_base_path", default="", help="the folder of its numbered versions")
    flags.add_argument("--model_config_file", default="", help="a list of models in its place")
    _add_switch(flags, "enable_batching", "requests ride together as its file says")
    flags.add_argument("--batching_parameters_file", default="", help="how they do")
    flags.add_argument(
        "--file_system_poll_wait_seconds",
        type=int,
        default=1,
        help="0: folders are read once; otherwise about once a second (1)",
    )
    _add_switch(
        flags,
        "allow_version_labels_for_unavailable_models",
        "pass over a label of a version that is not there",
    )
    flags.add_argument("--monitoring_config_file", default="", help="where metrics are read")
    flags.add_argument("--ssl_config_file", default="", help="not read: see --tls-certificate")
    for name in ("tensorflow_intra_op_parallelism", "tensorflow_session_parallelism"):
        flags.add_argument(f"--{name}", type=int, default=0, help="threads inside one run")
    _add_switch(flags, "version", "what this is")
    for name in _NEEDLESS:
        flags.add_argument(f"--{name}", nargs="?", help=argparse.SUPPRESS)
    for name in _NOT_HONOURED:
        flags.add_argument(f"--{name}", nargs="?", const="true", help=argparse.SUPPRESS)
    ours = parser.add_argument_group("of dukou serve")
    ours.add_argument("--host", default="127.0.0.1", help="the address to listen on (127.0.0.1)")
    ours.add_argument("--secure", action="store_true", help="TLS and keys on loopback too")
    ours.add_argument("--insecure", action="store_true", help="off loopback for anybody, in clear")
    ours.add_argument("--tls-certificate", metavar="PATH", help="PEM; the own one where absent")
    ours.add_argument("--tls-key", metavar="PATH", help="the certificate's private key")
    ours.add_argument("--free-ports", action="store_true", help="free ones in place of those said")
    ours.add_argument("--engine", metavar="PATH", help="another engine program")
    ours.add_argument("--runtime", metavar="PATH", help="another ONNX Runtime")
    ours.add_argument("--ready-file", metavar="PATH", help="write the address here, once ready")
    ours.add_argument("--json", action="store_true", help="print the address as one line of JSON")


def _add_switch(parser: argparse._ArgumentGroup, name: str, text: str) -> None:
    """A flag that is true where it is said, or as it says: `--f`, `--f=false`."""
    parser.add_argument(f"--{name}", nargs="?", const=True, default=False, type=_truth, help=text)


def _truth(word: str) -> bool:
    if word.lower() in ("true", "1"):
        return True
    if word.lower() in ("false", "0"):
        return False
    raise argparse.ArgumentTypeError(f"`{word}` is neither `true` nor `false`")


def run(arguments: argparse.Namespace) -> int:
    """Serves until told to end."""
    from dukou.cli import serve

    if arguments.version:
        from dukou import __version__

        print(f"dukou {__version__}, in the place of TensorFlow ModelServer")
        return 0
    words, ports, settings, notes = translate(arguments)
    for note in notes:
        print(f"note: {note}", file=sys.stderr, flush=True)
    parser = argparse.ArgumentParser()
    serve.add_arguments(parser)
    return serve.run(parser.parse_args(words), ports=ports, settings=settings)


def translate(
    arguments: argparse.Namespace,
) -> tuple[list[str], dict[str, int], Settings, list[str]]:
    """The words of `dukou serve` that do the same.

    Returns:
        The words, the ports by their names, what is said of every model, and what is not honoured.

    Raises:
        InputError: `usage.invalid`, `folder.invalid-config`, `formats.not-found`.
    """
    from dukou.serve.bare import Settings

    batching, notes = _batching(arguments)
    settings = Settings(
        lenient=arguments.allow_version_labels_for_unavailable_models,
        max_rows=batching.max_rows,
        delay_us=batching.delay_us,
        instances=batching.instances,
        threads=_threads(arguments),
    )
    words = ["--like", "tensorflow-serving", f"--host={arguments.host}"]
    if arguments.file_system_poll_wait_seconds == 0:
        words.append("--no-follow")
    switches = ("secure", "insecure", "json")
    words += [f"--{name}" for name in switches if getattr(arguments, name)]
    for name in ("tls_certificate", "tls_key", "engine", "runtime", "ready_file"):
        value = getattr(arguments, name)
        if value is not None:
            words += [f"--{name.replace('_', '-')}", value]
    notes += _missed(arguments)
    return [*words, *_models(arguments)], _ports(arguments), settings, notes


def _models(arguments: argparse.Namespace) -> list[str]:
    from dukou.base.errors import InputError

    if arguments.model_config_file:
        from dukou.deploy.dropin.tensorflow import is_server_config

        path = Path(arguments.model_config_file)
        if path.exists() and not is_server_config(path):
            raise InputError(
                "folder.invalid-config",
                f"`{path}` is not a list of models: it begins otherwise than with `model_config_list`, "
                "or is not called as text (`.config`, `.pbtxt`, `.txt`)",
            )
        if not path.exists():
            raise InputError("formats.not-found", f"there is nothing at `{path}`")
        return [str(path)]
    if not arguments.model_base_path:
        raise InputError(
            "usage.invalid",
            "neither `--model_base_path` nor `--model_config_file` says what is to be served",
        )
    path = Path(arguments.model_base_path)
    if "://" in arguments.model_base_path or not path.is_absolute():
        raise InputError(
            "usage.invalid",
            f"`--model_base_path={arguments.model_base_path}` is not an absolute path of this machine",
        )
    if not path.is_dir():
        raise InputError("formats.not-found", f"there is no folder at `{path}`")
    return [f"--name={arguments.model_name}", str(path)]


def _ports(arguments: argparse.Namespace) -> dict[str, int]:
    from dukou.base.errors import InputError

    calls, rest = arguments.port, arguments.rest_api_port
    if not calls and not rest:
        raise InputError(
            "usage.invalid", "`--port=0` and no `--rest_api_port`: there is nothing to listen on"
        )
    if calls == rest:
        raise InputError(
            "usage.invalid", f"`--port` and `--rest_api_port` are both {rest}, and each is its own"
        )
    # The first is what the server's address is of; each answers both, as every port here does.
    ports = {FIRST: rest, _GRPC: calls} if rest and calls else {FIRST: rest or calls}
    return dict.fromkeys(ports, 0) if arguments.free_ports else ports


def _threads(arguments: argparse.Namespace) -> int | None:
    from dukou.base.errors import InputError

    intra, session = (
        arguments.tensorflow_intra_op_parallelism,
        arguments.tensorflow_session_parallelism,
    )
    threads: int = intra or session
    if not 0 <= threads <= 256:
        raise InputError("usage.invalid", f"{threads} threads inside one run are not 0 to 256")
    return threads or None


def _batching(arguments: argparse.Namespace) -> tuple[BatchingParameters, list[str]]:
    from dukou.base.errors import InputError
    from dukou.deploy.dropin.tensorflow import BatchingParameters, load_batching

    if not arguments.batching_parameters_file:
        return BatchingParameters(), []
    if not arguments.enable_batching:
        raise InputError(
            "usage.invalid", "`--batching_parameters_file` without `--enable_batching` does nothing"
        )
    path = Path(arguments.batching_parameters_file)
    batching, left_out = load_batching(path)
    return batching, [f"`{path}`: not honoured here: {', '.join(left_out)}"] if left_out else []


def _missed(arguments: argparse.Namespace) -> list[str]:
    """Sentences of flags that were said and are not honoured."""
    from dukou.base.errors import InputError

    if arguments.ssl_config_file:
        raise InputError(
            "usage.invalid",
            "`--ssl_config_file` holds its keys in one file, which is not read",
            hint="put both into files of their own: `--tls-certificate`, `--tls-key`, and `--secure`",
        )
    notes = [
        f"`--{name}` is not honoured: {why}"
        for name, why in _NOT_HONOURED.items()
        if getattr(arguments, name) not in (None, "", "0", "false")
    ]
    if arguments.monitoring_config_file:
        notes += _monitoring(Path(arguments.monitoring_config_file))
    return notes


def _monitoring(path: Path) -> list[str]:
    from dukou.deploy.dropin.text_format import Fields, load_text

    usual = "/monitoring/prometheus/metrics"
    fields = Fields(str(path))
    said = load_text(path)
    for config in fields.messages(said, "prometheus_config"):
        place = fields.text(config, "path") or usual
        if place != usual:
            return [f"`{path}`: metrics are read at `{usual}`, and not at `{place}`"]
    return []
