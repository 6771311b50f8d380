# SPDX-License-Identifier: Apache-2.0
"""What is shipped to machines, installed and run on one: a minimal Debian in a folder. Run as root: pytest tests/deploy"""
import os
import pathlib
import subprocess
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "e2e"))

from machine import Machine  # noqa: E402

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("MILLRACE_BIN", REPOSITORY / "build" / "bin")).parent


def pytest_collection_modifyitems(items):
    """They install packages and compile; and only root may make another root directory."""
    for item in items:
        item.add_marker(pytest.mark.timeout(1800))
        if os.geteuid() != 0:
            item.add_marker(pytest.mark.skip(reason="needs root"))


@pytest.fixture(scope="session")
def build():
    """The build directory."""
    return BUILD


@pytest.fixture(scope="session")
def base():
    """A tar archive of the smallest Debian 12; made once for a build directory, and kept."""
    archive = BUILD / "deploy" / "debian.tar"
    if not archive.exists():
        archive.parent.mkdir(exist_ok=True)
        part = archive.with_suffix(".part.tar")
        subprocess.run(["mmdebstrap", "--quiet", "--variant=minbase", "bookworm", str(part)], check=True)
        part.rename(archive)
    return archive


@pytest.fixture(scope="session")
def make_package():
    """Makes the Debian package, with another version if wanted."""
    targets = ("millraced", "millrace", "millrace_shared", "millrace_static", "manual")
    subprocess.run(["cmake", "--build", str(BUILD), "--target", *targets], check=True, stdout=subprocess.DEVNULL)

    def make(directory, version=None):
        command = ["cpack", "-G", "DEB", "-B", str(directory)] + (["-D", f"CPACK_PACKAGE_VERSION={version}"] if version else [])
        subprocess.run(command, cwd=BUILD, check=True, stdout=subprocess.DEVNULL)
        packages = [path for path in pathlib.Path(directory).glob("*.deb") if version is None or f"_{version}_" in path.name]
        assert len(packages) == 1, packages
        return packages[0]

    return make


@pytest.fixture(scope="module")
def machine(base, tmp_path_factory):
    """A fresh Debian of the module's own."""
    made = Machine(tmp_path_factory.mktemp("machine"), base)
    yield made
    made.close()
