"""The `dukou` command: finds the noun, hands over, and turns every failure into two lines and a status.

Nothing is imported that the asked-for command does not need: `dukou --help` reads this file alone.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import NamedTuple, NoReturn

from dukou import __version__


class Command(NamedTuple):
    """A command: its module, with `add_arguments(parser)` and `run(arguments) -> int`, and its line of help."""

    module: str
    help: str


# The commands by the life of a model. One file and one line add a command.
GROUPS: dict[str, dict[str, Command]] = {
    "carry a model to the registry": {
        "init": Command("dukou.cli.init", "write a project file to begin from"),
        "ship": Command(
            "dukou.cli.ship", "run a project: train, evaluate, optimize, sign, publish"
        ),
        "convert": Command("dukou.cli.convert", "make ONNX of a model file, answers proved equal"),
        "split": Command("dukou.cli.split", "cut a model into stages for several processes"),
        "advise": Command(
            "dukou.cli.advise", "which way of deploying fits a model, by numbers measured here"
        ),
        "models": Command("dukou.cli.models", "what the registry holds: models, versions, aliases"),
        "push": Command("dukou.cli.push", "bring a version to an OCI registry or a shared folder"),
        "pull": Command("dukou.cli.pull", "fetch a version from there, verified"),
    },
    "serve it": {
        "serve": Command(
            "dukou.cli.serve", "answer requests with model files or registry versions"
        ),
        "tensorflow-model-server": Command(
            "dukou.cli.tensorflow_model_server",
            "the same, started by the flags and files of tensorflow_model_server",
        ),
        "image": Command("dukou.cli.image", "an image that holds a model and the engine alone"),
        "fleet": Command(
            "dukou.cli.fleet", "several replicas behind one address, here, by Ray or Kubernetes"
        ),
        "edge": Command("dukou.cli.edge", "a folder for a device that keeps itself up to date"),
        "predict": Command("dukou.cli.predict", "send rows to a server: CSV, JSON, NPY or stdin"),
        "migrate": Command(
            "dukou.cli.migrate", "stand in front of an old server, compare, and take over"
        ),
        "keys": Command("dukou.cli.keys", "who may ask a server off loopback: add, rotate, revoke"),
        "devices": Command(
            "dukou.cli.devices", "what this machine and its runtime offer a model to run on"
        ),
        "status": Command("dukou.cli.status", "what runs here, and how it does"),
    },
    "keep it right": {
        "promote": Command("dukou.cli.promote", "bring a version to all of the traffic, by canary"),
        "rollback": Command(
            "dukou.cli.rollback", "end a rollout, or go back to the version before"
        ),
        "rollout": Command("dukou.cli.rollout", "where rollouts stand, and on what evidence"),
        "labels": Command(
            "dukou.cli.labels", "join the truth to requests that were answered before"
        ),
        "drift": Command("dukou.cli.drift", "whether requests look like what was trained on"),
        "logs": Command("dukou.cli.logs", "what stands out in the logs, and what to do about it"),
        "encryption": Command(
            "dukou.cli.encryption", "a key for what lies here, and what it seals"
        ),
        "backup": Command("dukou.cli.backup", "keep this installation, and prove that it holds"),
        "restore": Command("dukou.cli.restore", "put a backup back"),
        "privacy": Command(
            "dukou.cli.privacy", "what is kept of a person, erasing it, columns that look personal"
        ),
        "maintain": Command("dukou.cli.maintain", "what is due again and again, and doing it"),
        "retrain": Command(
            "dukou.cli.retrain", "train again on what came since, through the gates"
        ),
    },
    "find out what is wrong": {
        "compliance": Command(
            "dukou.cli.compliance", "evidence for twelve controls of standards and laws"
        ),
        "doctor": Command("dukou.cli.doctor", "look at this installation, line by line"),
        "help": Command("dukou.cli.help", "this list, a command's help, an error code's page"),
        "clean": Command("dukou.cli.clean", "what takes space and is not needed any more"),
    },
}

_EXAMPLES = """\
  dukou serve model.onnx                a file, at once, no project needed
  dukou predict model rows.csv          ask it
  dukou init digits --example digits    a whole project on real data
  dukou ship digits                     train it, prove it, sign it, publish it
  dukou serve digits                    serve what was published, and follow what comes"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command line; returns the exit status: 0, or that of the error's family."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    _write_any_text()
    try:
        status = _run(words)
        # Here, where a reader that has gone is still answered for.
        sys.stdout.flush()
        return status
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # Whoever read our output (`| head`) has seen enough; and so that the interpreter's last
        # flush does not complain either.
        import os

        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 0
    except Exception as error:  # noqa: BLE001 (the door: nothing passes it but two lines)
        from dukou.cli.failure import report

        return report(error, words)


def _run(words: list[str]) -> int:
    if not words or words[0] in ("-h", "--help"):
        print(overview())
        return 0
    if words[0] in ("-V", "--version"):
        print(f"dukou {__version__}")
        return 0
    return _run_command(_find(words[0]), words[0], words[1:])


def command_names() -> list[str]:
    """Every command, in the order of the help."""
    return [name for group in GROUPS.values() for name in group]


def _find(name: str) -> Command:
    commands = {name: command for group in GROUPS.values() for name, command in group.items()}
    if name in commands:
        return commands[name]
    import difflib

    from dukou.base.errors import InputError

    near = difflib.get_close_matches(name, commands, n=1)
    if name.startswith("-"):
        message = f"`{name}` is not an option of `dukou` itself"
    else:
        message = f"`{name}` is not a command of dukou"
    raise InputError(
        "usage.invalid",
        message,
        hint=f"did you mean `dukou {near[0]}`?" if near else "`dukou --help` lists the commands",
    )


def _run_command(command: Command, name: str, words: list[str]) -> int:
    import argparse
    import importlib

    from dukou.base.errors import InputError

    class Parser(argparse.ArgumentParser):
        def error(self, message: str) -> NoReturn:
            raise InputError(
                "usage.invalid", message, hint=f"`dukou {name} --help` shows what it takes"
            )

    def formatter(prog: str) -> argparse.HelpFormatter:
        # Where no width is given argparse imports `shutil` to ask, for every option that is added.
        return argparse.RawDescriptionHelpFormatter(prog, width=_width())

    module = importlib.import_module(command.module)
    # The module's docstring is the command's page: its first line, then how it is used.
    summary, _, more = (module.__doc__ or "").partition("\n")
    parser = Parser(
        prog=f"dukou {name}",
        description=summary.partition(": ")[2] or summary,
        epilog=more.strip() or None,
        formatter_class=formatter,
        allow_abbrev=False,
    )
    module.add_arguments(parser)
    status: int = module.run(parser.parse_args(words))
    return status


def _write_any_text() -> None:
    """Has a terminal of another encoding than UTF-8 (GBK, Latin-1) show `?` for what it lacks."""
    for stream in (sys.stdout, sys.stderr):
        encoding = str(getattr(stream, "encoding", "") or "").lower()
        if encoding and encoding not in ("utf-8", "utf8") and hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")


def _width() -> int:
    import os

    try:
        return max(60, min(100, os.get_terminal_size().columns)) - 2
    except OSError:
        return 98


def overview() -> str:
    """What `dukou --help` prints."""
    width = max(len(name) for group in GROUPS.values() for name in group)
    lines = [
        "dukou carries a trained model across to production and keeps it healthy there.",
        "",
        "usage: dukou COMMAND [ARGUMENTS]      `dukou COMMAND --help` says what each takes",
    ]
    for title, commands in GROUPS.items():
        lines += ["", f"{title}:"]
        lines += [f"  {name:<{width}}  {command.help}" for name, command in commands.items()]
    lines += ["", "for example:", _EXAMPLES, ""]
    lines += [
        "every error carries a code in brackets: `dukou help CODE` says what it means and what to do.",
        "state is kept in DUKOU_HOME (~/.dukou). dukou --version prints the version.",
    ]
    return "\n".join(lines)
