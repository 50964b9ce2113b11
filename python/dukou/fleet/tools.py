"""podman, buildah and docker: whichever is there takes an image that was written.

They are asked by their ordinary commands and configured by their own files and variables
(`STORAGE_DRIVER`, `CONTAINER_HOST`, `DOCKER_HOST`): what a person's shell uses is what is used here.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from dukou.base.errors import InputError, RemoteError
from dukou.fleet.reference import ImageReference

# The order in which they are looked for.
TOOLS = ("podman", "buildah", "docker")
NONE = "none"


def find_tool(asked: str | None) -> str | None:
    """The tool to give the image to; None where there is none, or `none` was asked for.

    Raises:
        InputError: `usage.invalid`: no such tool is known.
        RemoteError: `image.tool-missing`: the one that was asked for is not there.
    """
    if asked == NONE:
        return None
    if asked is None:
        return next((tool for tool in TOOLS if shutil.which(tool)), None)
    if asked not in TOOLS:
        raise InputError(
            "usage.invalid", f"`--engine {asked}` is none of {', '.join(TOOLS)}, {NONE}"
        )
    if shutil.which(asked) is None:
        raise RemoteError("image.tool-missing", f"`{asked}` is not on this machine's PATH")
    return asked


def load_image(tool: str, archive: Path, reference: ImageReference) -> None:
    """Has a tool take an image.

    Args:
        tool: of `TOOLS`.
        archive: an OCI layout in one file.
        reference: the image's name.

    Raises:
        RemoteError: `image.tool-failed`, with its last words.
    """
    match tool:
        case "buildah":
            command = [tool, "pull", "--quiet", f"oci-archive:{archive}:{reference}"]
        case _:
            command = [tool, "load", "--quiet", "--input", str(archive)]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
    )
    if done.returncode != 0:
        words = [line for line in (done.stderr or done.stdout).splitlines() if line.strip()]
        raise RemoteError(
            "image.tool-failed",
            f"`{' '.join(command[:2])}` ended with status {done.returncode}: "
            f"{words[-1] if words else 'it said nothing'}",
        )
