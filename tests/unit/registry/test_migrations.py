"""A registry is made current when it is opened, once, by whoever comes first."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from dukou.base.errors import StateError
from dukou.registry import database
from dukou.registry.registry import Registry
from dukou.registry.tables import METADATA


def test_the_steps_lead_to_the_tables(tmp_path: Path) -> None:
    Registry.open(tmp_path).close()
    engine = sa.create_engine(f"sqlite:///{tmp_path / 'registry.db'}")
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, METADATA) == []
    engine.dispose()


def test_the_head_is_the_last_step() -> None:
    config = Config()
    folder = Path(database.__file__).parent / "migrations"
    config.set_main_option("script_location", str(folder))
    assert ScriptDirectory.from_config(config).get_heads() == [database.HEAD]


def test_a_current_registry_needs_no_alembic(tmp_path: Path) -> None:
    Registry.open(tmp_path).close()
    code = (
        "import sys; from pathlib import Path; from dukou.registry.registry import Registry;"
        "Registry.open(Path(sys.argv[1])).close();"
        "assert 'alembic' not in sys.modules; assert 'numpy' not in sys.modules"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True, env=environment)


def test_settings_of_the_connection(tmp_path: Path) -> None:
    with Registry.open(tmp_path) as registry, registry._database.read() as connection:
        for pragma, value in (("journal_mode", "wal"), ("foreign_keys", 1), ("synchronous", 2)):
            assert connection.exec_driver_sql(f"PRAGMA {pragma}").scalar_one() == value


def test_a_registry_of_a_newer_dukou_is_left_alone(tmp_path: Path) -> None:
    Registry.open(tmp_path).close()
    connection = sqlite3.connect(tmp_path / "registry.db")
    connection.execute("UPDATE alembic_version SET version_num='9999'")
    connection.commit()
    connection.close()
    before = (tmp_path / "registry.db").read_bytes()
    with pytest.raises(StateError) as caught:
        Registry.open(tmp_path)
    assert caught.value.code == "registry.unreadable"
    assert caught.value.hint == "update dukou"
    assert (tmp_path / "registry.db").read_bytes() == before


def test_a_migration_that_is_killed_leaves_nothing(tmp_path: Path) -> None:
    code = """
import os, signal, sys
from pathlib import Path
import alembic.op
real = alembic.op.create_table
def create_table(name, *arguments, **options):
    if name == "deployments":
        os.kill(os.getpid(), signal.SIGKILL)
    return real(name, *arguments, **options)
alembic.op.create_table = create_table
from dukou.registry.registry import Registry
Registry.open(Path(sys.argv[1]))
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], env=environment)
    assert done.returncode == -9
    connection = sqlite3.connect(tmp_path / "registry.db")
    assert connection.execute("SELECT name FROM sqlite_master").fetchall() == []
    connection.close()
    with Registry.open(tmp_path) as registry:
        assert registry.register_version("digits", "sha256:" + "0" * 64) == 1
