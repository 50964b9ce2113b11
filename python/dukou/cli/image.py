"""`dukou image`: an OCI image that holds a model and the engine, and nothing else.

  dukou image build digits                     the registry's champion; podman, buildah or docker takes it
  dukou image build digits:3 --output d.tar    a file: `podman load --input d.tar`
  dukou image build model.onnx --tag team/model:1 --insecure

NAME is what `dukou serve` takes: a version, a deployment, a project's folder, a file. The image has no
shell, no Python and no base; it runs as user 65532, writes nothing, and takes threads and memory limits
from its container.

Off loopback it answers whoever holds a key, by TLS. What it needs for that is mounted at /run/dukou:

  dukou image access ./access                  this installation's keys, and a certificate

With --insecure it answers anybody, in clear.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dukou.fleet.image import Image

_ARCHIVE = ".tar"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    build = actions.add_parser("build", help="write an image")
    build.add_argument("models", nargs="+", metavar="NAME", help="versions, deployments, files")
    build.add_argument(
        "--name",
        action="append",
        default=[],
        help="what the model is served as; once a NAME, in their order",
    )
    build.add_argument("--tag", metavar="IMAGE", help="the image's name (the model's and version)")
    build.add_argument(
        "--output",
        type=Path,
        metavar="PATH",
        help="an OCI layout: a folder, or one file that ends in .tar",
    )
    build.add_argument(
        "--engine",
        metavar="TOOL",
        help="podman, buildah or docker takes it (the first that is there); none",
    )
    build.add_argument("--port", type=int, default=8000, help="on which it answers (8000)")
    build.add_argument(
        "--insecure", action="store_true", help="it answers anybody, in clear, without keys"
    )
    build.add_argument(
        "--access-log", action="store_true", help="a line on stdout for every request"
    )
    build.add_argument(
        "--trust-pickle",
        action="store_true",
        help="load pickles: this runs the code that they carry",
    )
    build.add_argument("--json", action="store_true", help="as one JSON document")
    access = actions.add_parser("access", help="write what a container has mounted to be asked")
    access.add_argument("folder", type=Path, metavar="DIR", help="to be mounted at /run/dukou")
    access.add_argument(
        "--host",
        default="127.0.0.1",
        help="the name or address that callers use, for the certificate",
    )


def run(arguments: argparse.Namespace) -> int:
    """Writes an image, or what one has mounted."""
    return _access(arguments) if arguments.action == "access" else _build(arguments)


def _access(arguments: argparse.Namespace) -> int:
    from dukou.base.settings import dukou_home
    from dukou.fleet.access import is_for_containers, write_access

    folder = arguments.folder
    first = write_access(dukou_home(), folder, arguments.host)
    print(f"{folder}: keys.json, tls.crt and tls.key, to be mounted at /run/dukou")
    if first is not None:
        print(f"  the first key, shown once: {first.text}")
        print("  `dukou keys add` makes others; then run this again")
    if not is_for_containers():
        print("  they are yours: run podman with `--userns keep-id:uid=65532,gid=65532`")
    return 0


def _build(arguments: argparse.Namespace) -> int:
    from dukou.base.errors import InputError
    from dukou.base.settings import dukou_home
    from dukou.deploy.standalone import write_folder
    from dukou.fleet.image import write_archive, write_image
    from dukou.fleet.reference import default_reference, parse_image
    from dukou.fleet.tools import find_tool, load_image
    from dukou.lifecycle.contents import choose_contents, runtime_version

    if not 1 <= arguments.port <= 65535:
        raise InputError("usage.invalid", f"`--port {arguments.port}` is not between 1 and 65535")
    output = arguments.output
    if output is not None and output.exists() and not _can_be_written(output):
        raise InputError("usage.invalid", f"`{output}` is there already")
    reference = None if arguments.tag is None else parse_image(arguments.tag, flag="--tag")
    # A file was asked for: nobody asked for more.
    tool = find_tool(
        "none" if output is not None and arguments.engine is None else arguments.engine
    )
    choice = choose_contents(
        arguments.models,
        names=arguments.name,
        home=dukou_home(),
        trust_pickle=arguments.trust_pickle,
        access_log=arguments.access_log,
    )
    first = choice.contents.models[0]
    if reference is None:
        reference = default_reference(
            choice.contents.name, first.version if first.is_packaged else None
        )
    if tool is None and arguments.output is None:
        output = Path(f"{reference.path.rpartition('/')[2]}-{reference.tag}.tar")
    # Beside the output, where there is one: the layout may be as large as the model.
    beside = None if output is None else output.absolute().parent
    with tempfile.TemporaryDirectory(prefix=".dukou-image-", dir=beside) as scratch:
        folder = write_folder(
            choice.contents,
            Path(scratch) / "folder",
            engine=choice.engine,
            runtime=choice.runtime,
            runtime_version=runtime_version(choice.engine, choice.runtime),
        )
        is_folder = output is not None and output.suffix != _ARCHIVE
        layout = output if output is not None and is_folder else Path(scratch) / "layout"
        image = write_image(
            folder,
            choice.contents,
            layout,
            reference=reference,
            insecure=arguments.insecure,
            port=arguments.port,
        )
        archive = output if output is not None and not is_folder else Path(scratch) / "image.tar"
        if not is_folder or tool is not None:
            write_archive(layout, archive)
        if tool is not None:
            load_image(tool, archive, reference)
    if arguments.json:
        print(json.dumps(_document(image, tool, output), indent=1))
    else:
        print(_shown(image, tool, output))
    return 0


def _can_be_written(output: Path) -> bool:
    if output.suffix == _ARCHIVE:
        return output.is_file()
    return output.is_dir() and not any(output.iterdir())


def _document(image: Image, tool: str | None, output: Path | None) -> dict[str, object]:
    return {
        "image": str(image.reference),
        "digest": image.digest,
        "tool": tool,
        "output": None if output is None else str(output),
        "unpacked_bytes": image.unpacked,
        "packed_bytes": image.packed,
        "bytes": dict(image.sizes),
        "insecure": image.insecure,
        "port": image.port,
    }


def _shown(image: Image, tool: str | None, output: Path | None) -> str:
    from dukou.cli.show import show_table

    names = {
        "engine": "engine",
        "runtime": "ONNX Runtime",
        "libraries": "C library",
        "models": "models",
        "other": "table and facts",
    }
    rows = [(names[part], _megabytes(size)) for part, size in image.sizes.items()]
    rows.append(("unpacked", _megabytes(image.unpacked)))
    rows.append(("to send, compressed", _megabytes(image.packed)))
    where = f"{tool} has it" if tool is not None else f"in `{output}`"
    if tool is not None and output is not None:
        where += f", and `{output}`"
    ask = f"curl http://127.0.0.1:{image.port}/v2/health/ready"
    return "\n".join(
        [
            show_table(["part", "MB"], rows),
            "",
            f"{image.reference}  {image.digest}",
            f"{where}; run it with:",
            *_ways_to_run(image, tool),
            *([] if not image.insecure else [f"  {ask}"]),
        ]
    )


def _ways_to_run(image: Image, tool: str | None) -> list[str]:
    program = tool if tool in ("podman", "docker") else "podman"
    port = image.port
    if image.insecure:
        return [
            "  (it answers anybody, in clear: keep it inside a network of your own)",
            f"  {program} run --rm --read-only -p 127.0.0.1:{port}:{port} {image.reference}",
        ]
    return [
        "  dukou image access ./access",
        f"  {program} run --rm --read-only -p {port}:{port} -v ./access:/run/dukou:ro {image.reference}",
        "or on this machine alone, without keys:",
        f"  {program} run --rm --read-only --network host {image.reference} --listen http=127.0.0.1:{port}",
    ]


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f}"
