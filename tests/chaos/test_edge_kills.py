"""A device whose power fails a hundred times while it updates: it always comes back with a whole model."""

from __future__ import annotations

import random
import time
from pathlib import Path

import numpy as np
import pytest
from tests import serving
from tests.artifacts import make_layers
from tests.edge import answer, publish, start, status, until
from tests.oci_registry import oci_registry

from dukou.package.descriptor import MANIFEST_MEDIA_TYPE, Descriptor
from dukou.package.layout import ARTIFACT_TYPE
from dukou.package.remotes.address import parse_address
from dukou.package.remotes.carry import push_version
from dukou.package.remotes.oci import OciRemote
from dukou.package.store import Store

KILLS, VERSIONS, SEED = 100, 4, 20261125
# Chunks of 1 MiB each, of which every version has its own.
WIDTHS = (8, *[512] * 5, 4)
ROW = [1.0, -0.5, 0.25, 2.0, 0.0, 1.5, -1.0, 0.125]


@pytest.mark.timeout(300)
def test_a_hundred_kills_within_updates(tmp_path: Path) -> None:
    chance = random.Random(SEED)
    folder = tmp_path / "device"
    chains = [
        [layer / np.float32(16) for layer in make_layers(*WIDTHS, seed=seed)]
        for seed in range(VERSIONS)
    ]
    with serving.house() as house, oci_registry(tmp_path / "registry") as registry:
        packaged = []
        remote = OciRemote(parse_address(f"{registry.host}/devices/chain"))
        store = Store(house.home / "store")
        for seed, chain in enumerate(chains):
            number, version = publish(house, tmp_path / str(seed), chain)
            push_version(store, version.digest, remote, [str(number)])
            packaged.append(version.digest)
        contents = [store.read_blob(digest) for digest in packaged]

        def follow(version: int) -> None:
            """Moves the tag."""
            digest = store.find_version(packaged[version])
            named = Descriptor(MANIFEST_MEDIA_TYPE, digest.digest, digest.size, (), ARTIFACT_TYPE)
            remote.write_manifest(named, contents[version], ["live"])

        follow(0)
        words = ("--from", f"{registry.host}/devices/:live", "--listen", "127.0.0.1:0")
        done = house.dukou("edge", "build", "chain:1", "--output", folder, "--every", "1", *words)
        assert done.returncode == 0, done.stderr

        # How long an update takes here, from the start of the process: kills fall within it.
        goal = 1
        follow(goal)
        begun = time.monotonic()
        device = start(folder)
        until(lambda: status(folder)["installed"] == 1, "the first update does not come")
        whole = time.monotonic() - begun
        device.kill()

        installed, served, idle = 1, set(), 0
        for kill in range(KILLS):
            said = status(folder)
            idle = idle + 1 if said["installed"] == installed else 0
            if idle == 10:
                # The machine is busier than it was: an update takes longer, and none comes to its end.
                whole, idle = whole * 1.5, 0
            installed = said["installed"]
            current = said["slots"][said["current"]]
            if current["digest"] == packaged[goal]:
                goal = (goal + 1) % VERSIONS
                follow(goal)
            device = start(folder)
            if kill % 5:
                version, got = device.ask(ROW)
                served.add(version)
                expected = answer(chains[int(version) - 1], ROW)
                np.testing.assert_allclose(got, expected, rtol=1e-3, err_msg=f"kill {kill}")
            time.sleep(chance.uniform(0, whole))
            device.kill()
        remote.close()
        # Kills fell within updates, and updates were made all the same.
        assert installed > 5
        assert len(served) == VERSIONS
        device = start(folder)
        version, got = device.ask(ROW)
        np.testing.assert_allclose(got, answer(chains[int(version) - 1], ROW), rtol=1e-3)
        until(
            lambda: device.ask(ROW)[0] == str(goal + 1), "what is followed does not come in the end"
        )
        # What no slot names is gone, half-received blobs too.
        until(lambda: status(folder)["disk"]["store_bytes"] < 2.2 * 4.3e6, "the store has grown")
        device.kill()
