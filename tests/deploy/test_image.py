# SPDX-License-Identifier: Apache-2.0
"""The container image: its Dockerfile really built (by buildah, on a Debian made here), then run as a runtime would run it: as its
user, with nothing writable but the volume."""
import json
import os
import shlex
import subprocess

import pytest

from conftest import BUILD, REPOSITORY
from machine import Place

BASE = "localhost/debian:bookworm-slim"
IMAGE = "localhost/millrace:test"


class Builder:
    """buildah with a store of its own."""

    def __init__(self, directory):
        self.options = ["--root", str(directory / "store"), "--runroot", str(directory / "run")]
        # Also where mounts of type=cache are kept.
        self.environment = {**os.environ, "TMPDIR": str(directory / "tmp"), "BUILDAH_ISOLATION": "chroot"}
        (directory / "tmp").mkdir(parents=True, exist_ok=True)

    def __call__(self, command, *arguments):
        done = subprocess.run(["buildah", *self.options, command, *map(str, arguments)], env=self.environment, text=True, check=False,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=REPOSITORY)
        assert done.returncode == 0, f"buildah {command}: {done.stdout[-6000:]}"
        return done.stdout.strip()


@pytest.fixture(scope="module")
def buildah(base):
    """With the image built."""
    build = Builder(BUILD / "deploy" / "containers")
    container = build("from", "scratch")
    build("add", "--quiet", container, base, "/")
    build("commit", "--quiet", "--rm", container, BASE)
    build("bud", "--format", "docker", "--build-arg", f"BASE={BASE}", "--file", "deploy/docker/Dockerfile", "--tag", IMAGE, ".")
    yield build
    build("rm", "--all")
    build("rmi", "--all", "--force")


@pytest.fixture(scope="module")
def config(buildah):
    """What a runtime reads in it."""
    return json.loads(buildah("inspect", "--type", "image", IMAGE))["Docker"]["config"]


@pytest.fixture
def container(buildah, tmp_path):
    """Its files."""
    name = buildah("from", IMAGE)
    yield Place(tmp_path, buildah("mount", name))
    buildah("rm", name)


def test_it_runs_as_a_number_that_is_not_root(config):
    assert config["User"] == "10001:10001"
    assert set(config["ExposedPorts"]) == {"7070/tcp", "7080/tcp", "7090/tcp"}
    assert "/var/lib/millrace" in config["Volumes"]
    assert config["Healthcheck"]["Test"] == ["CMD", "healthcheck"]


def test_it_works_with_a_read_only_root(config, container):
    environment = dict(entry.split("=", 1) for entry in config["Env"])
    service = container.start(["/usr/bin/env", *config["Cmd"]], user=config["User"], writable=["/var/lib/millrace"], environment=environment)
    try:
        service.wait_until_it_says(" serving ")
        service.run("healthcheck")
        job_id = service.run("millrace", "job", "create", "greet").strip()
        worker = service.run(*shlex.split("timeout --preserve-status --signal=TERM 5 millrace worker run --queue default --handler greet=/bin/cat"),
                             code=None)
        assert worker.returncode == 0, worker
        service.run("millrace", "job", "wait", job_id, "--timeout", "30s")
        assert "Read-only" not in service.said()
        assert service.stop() == 0, service.said()
    finally:
        service.close()


def test_the_health_check_fails_when_nothing_answers(container, config):
    service = container.start(["/bin/sleep", "60"], user=config["User"])
    try:
        assert service.run("healthcheck", code=None).returncode != 0
    finally:
        service.close()


def test_it_has_the_programs_and_no_compiler(container):
    for program in ("millraced", "millrace"):
        assert (container.root / "usr/bin" / program).exists()
    assert not (container.root / "usr/bin/cc").exists() and not (container.root / "src").exists()
