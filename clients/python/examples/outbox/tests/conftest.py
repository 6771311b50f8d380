# SPDX-License-Identifier: Apache-2.0
"""A PostgreSQL of the tests' own, and a service."""

import glob
import os
import pathlib
import subprocess
import sys
import tempfile
from collections.abc import Iterator

import psycopg
import pytest

OUTBOX = pathlib.Path(__file__).resolve().parents[1]
sys.path[:0] = [str(OUTBOX), str(OUTBOX.parents[1] / "tests" / "app")]

from processes import Program, start_millraced  # noqa: E402


def as_postgres() -> list[str]:
    """PostgreSQL refuses to run as root."""
    return ["setpriv", "--reuid", "postgres", "--regid", "postgres", "--clear-groups"] if os.geteuid() == 0 else []


@pytest.fixture(scope="session")
def cluster() -> Iterator[str]:
    """How to connect to an empty database, through a socket in a folder of its own."""
    programs = sorted(glob.glob("/usr/lib/postgresql/*/bin"))
    if not programs:
        pytest.skip("PostgreSQL is not installed")
    with tempfile.TemporaryDirectory() as name:  # a short path: it has to fit into a socket's address
        folder = pathlib.Path(name)
        os.chmod(folder, 0o777)
        data = folder / "data"
        initdb = [*as_postgres(), f"{programs[-1]}/initdb", "-D", str(data), "-A", "trust", "-U", "postgres", "--no-sync"]
        subprocess.run(initdb, check=True, capture_output=True, cwd="/")
        command = [*as_postgres(), f"{programs[-1]}/postgres", "-D", str(data), "-k", name, "-h", "", "-F"]
        program = Program("postgres", folder, command)
        conninfo = f"host={name} user=postgres dbname=postgres"
        program.wait_for(lambda: accepts(conninfo))
        yield conninfo
        program.stop()


def accepts(conninfo: str) -> bool:
    try:
        psycopg.connect(conninfo).close()
    except psycopg.OperationalError:
        return False
    return True


@pytest.fixture
def database(cluster: str) -> str:
    """The same, with the tables and nothing in them."""
    with psycopg.connect(cluster, autocommit=True) as connection:
        connection.execute("DROP TABLE IF EXISTS orders, outbox")
        connection.execute((OUTBOX / "schema.sql").read_text(encoding="utf-8").encode())
    return cluster


@pytest.fixture(scope="session")
def millraced(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a service."""
    program, address = start_millraced(tmp_path_factory.mktemp("millraced"))
    yield address
    assert program.stop() == 0, program.log
