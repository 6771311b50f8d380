# SPDX-License-Identifier: Apache-2.0
"""The library that the package brings, and the README of the C client, whose programs are built and run as they stand there."""
import os
import re
import subprocess

import pytest

from conftest import REPOSITORY
from harness.server import Server
from harness.tools import environment

README = (REPOSITORY / "clients/c/README.md").read_text(encoding="utf-8")


def block(marker, language):
    """The code block after a text of the README."""
    found = re.search(rf"{re.escape(marker)}.*?```{language}\n(.*?)```", README, re.S)
    assert found, marker
    return found[1]


@pytest.fixture(scope="module")
def package(make_package, tmp_path_factory):
    """Its files, unpacked."""
    folder = tmp_path_factory.mktemp("package")
    subprocess.run(["dpkg-deb", "-x", str(make_package(folder)), str(folder / "files")], check=True)
    return folder / "files"


@pytest.fixture
def build(package):
    """The environment of somebody who has the package, and no development package of anything that the library is made with."""
    return {**os.environ, "PKG_CONFIG_LIBDIR": str(package / "usr/lib/pkgconfig"), "LD_LIBRARY_PATH": str(package / "usr/lib")}


def test_the_readme_leads_to_a_finished_job(build, tmp_path):
    (tmp_path / "create.c").write_text(block("`create.c`", "c"), encoding="utf-8")
    (tmp_path / "work.c").write_text(block("`work.c`", "c"), encoding="utf-8")
    subprocess.run(["sh", "-e", "-c", block("## Run both", "sh")], cwd=tmp_path, env=build, check=True, timeout=120)
    (tmp_path / "server").mkdir()
    server = Server(tmp_path / "server").start()
    try:
        ours = environment(server, LD_LIBRARY_PATH=build["LD_LIBRARY_PATH"])
        with subprocess.Popen([str(tmp_path / "work")], env=ours) as worker:
            said = subprocess.run([str(tmp_path / "create")], env=ours, check=True, capture_output=True, text=True, timeout=60).stdout
            worker.terminate()
            assert worker.wait(60) == 0, "SIGTERM stops it gracefully"
        assert re.fullmatch(r"[0-9a-f-]{36} succeeded\n", said)
    finally:
        server.finish()


def test_pkg_config_knows_what_a_static_link_needs(build, package, tmp_path):
    (tmp_path / "create.c").write_text(block("`create.c`", "c"), encoding="utf-8")
    libraries = subprocess.run(["pkg-config", "--static", "--libs-only-l", "--libs-only-other", "millrace"], env=build, check=True,
                               capture_output=True, text=True).stdout.split()
    archive = package / "usr/lib/libmillrace.a"
    others = [library for library in libraries if library != "-lmillrace"]
    subprocess.run(["cc", "-o", "create", "create.c", f"-I{package}/usr/include", str(archive), *others], cwd=tmp_path, check=True)
