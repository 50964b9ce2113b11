"""A process that takes backups and is killed while it does; run by the tests.

    backup_child.py HOME BACKUPS KILLS SEED

Everything is imported before the first child is forked: each child takes one backup, and is killed at a
moment of it that the seed chooses. A line of JSON says for each whether it had ended before.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from pathlib import Path

from dukou.registry.backup.folder import Backups
from dukou.registry.registry import Registry


def main(home: Path, folder: Path, kills: int, seed: int) -> None:
    chance = random.Random(seed)
    backups = Backups(folder)
    begun = time.monotonic()
    first = backups.take(home).snapshot.id
    lasts_s = time.monotonic() - begun
    print(json.dumps({"first": first}), flush=True)
    for number in range(kills):
        with Registry.open(home) as registry:
            # Something changes between backups, as it does.
            registry.chores.add(
                "installation", "test", outcome="done", began="", document={"n": number}
            )
        child = os.fork()
        if child == 0:
            backups.take(home)
            os._exit(0)
        time.sleep(chance.uniform(0, 1.1 * lasts_s))
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        print(json.dumps({"killed": os.WIFSIGNALED(status)}), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
