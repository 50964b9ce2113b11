"""Ships a project into homes on disks that are nearly full. Run in mounts of its own: see `test_bad_input`.

    python full_disk_child.py PROJECT HOME WORK KILOBYTES...

HOME holds the stages before `package`; each disk has so many kilobytes more than it needs for them.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path


def used_kilobytes(folder: Path) -> int:
    files = (path for path in folder.rglob("*") if path.is_file())
    return sum(4 * ((path.stat().st_size + 4095) // 4096) for path in files)


def dukou(home: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "dukou", *words],
        env={**os.environ, "DUKOU_HOME": str(home)},
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )


def main(project: str, prepared: Path, work: Path, *kilobytes: str) -> None:
    for more in kilobytes:
        disk = work / f"disk-{more}"
        disk.mkdir()
        size = f"size={used_kilobytes(prepared) + int(more)}k"
        subprocess.run(["mount", "-t", "tmpfs", "-o", size, "none", str(disk)], check=True)
        home = disk / "home"
        shutil.copytree(prepared, home)
        full = dukou(home, "ship", project)
        subprocess.run(["mount", "-o", "remount,size=16m", str(disk)], check=True)
        again = dukou(home, "ship", project)
        models = dukou(home, "models", "iris", "--json")
        half_written = [str(p) for p in (home / "store" / ".incoming").glob("*")]
        facts = {
            "kilobytes": int(more),
            "status": full.returncode,
            "stderr": full.stderr,
            "again": again.returncode,
            "versions": json.loads(models.stdout)["versions"],
            "half_written": half_written,
        }
        print(json.dumps(facts), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), *sys.argv[4:])
