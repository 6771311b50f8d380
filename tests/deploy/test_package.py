# SPDX-License-Identifier: Apache-2.0
"""The Debian package, from installation to purge, and its service run as systemd would run it. One story, in order."""
import configparser
import json
import re
import shlex
import subprocess

import pytest

from conftest import REPOSITORY

UNIT = REPOSITORY / "deploy/systemd/millraced.service"


def unit():
    """The unit's [Service] section: key -> all its values."""
    values = {}
    for line in UNIT.read_text(encoding="utf-8").split("[Service]")[1].split("[Install]")[0].splitlines():
        if "=" in line and not line.startswith("#"):
            key, value = line.split("=", 1)
            values.setdefault(key, []).append(value)
    return values


def system_calls():
    """Those that the unit's SystemCallFilter lets through."""
    def expand(name):
        if not name.startswith("@"):
            return {name}
        listed = subprocess.run(["systemd-analyze", "syscall-filter", name], capture_output=True, text=True, check=True).stdout
        words = [line.strip() for line in listed.splitlines() if re.match(r"\s+[@a-z]", line)]
        return set().union(*(expand(word) for word in words))

    allowed = set()
    for words in unit()["SystemCallFilter"]:
        names = set().union(*(expand(word) for word in words.lstrip("~").split()))
        allowed = allowed - names if words.startswith("~") else allowed | names
    return sorted(allowed)


@pytest.fixture(scope="module")
def packages(make_package, tmp_path_factory):
    """Two versions of it."""
    directory = tmp_path_factory.mktemp("packages")
    return make_package(directory / "now"), make_package(directory / "next", "99.0.0")


@pytest.fixture(scope="module")
def installed(machine, packages):
    """A machine on which it was installed."""
    machine.install(packages[0])
    return machine


@pytest.fixture
def service(installed):
    """The service, as its unit says; systemd itself does not run here."""
    values = unit()
    started = installed.start(shlex.split(values["ExecStart"][0]), user=values["User"][0],
                              writable=["/var/lib/" + values["StateDirectory"][0]], system_calls=system_calls())
    yield started
    started.close()


def test_contents(packages):
    listed = subprocess.run(["dpkg-deb", "--contents", str(packages[0])], capture_output=True, text=True, check=True).stdout
    files = {line.split()[5].lstrip(".") for line in listed.splitlines()}
    assert {"/usr/bin/millraced", "/usr/bin/millrace", "/usr/lib/libmillrace.so.0", "/usr/lib/libmillrace.a", "/usr/include/millrace.h",
            "/usr/lib/pkgconfig/millrace.pc", "/usr/lib/systemd/system/millraced.service", "/etc/millrace/millraced.conf",
            "/usr/share/man/man1/millraced.1.gz", "/usr/share/man/man1/millrace.1.gz", "/usr/share/doc/millrace/copyright",
            "/usr/share/doc/millrace/jobs.md"} <= files
    assert all(line.split()[1] == "root/root" for line in listed.splitlines())


def test_user_directory_and_service_are_there(installed):
    name, _, uid, _, _, home, shell = installed.run("getent", "passwd", "millrace").strip().split(":")
    assert name == "millrace" and 100 <= int(uid) < 1000 and home == "/var/lib/millrace" and shell.endswith("nologin")
    assert installed.owner("/var/lib/millrace") == ("millrace", "700")
    assert (installed.root / "etc/systemd/system/multi-user.target.wants/millraced.service").is_symlink()
    assert installed.run("millraced", "--version").startswith("millraced 0.")
    assert "ok installed" in installed.run("dpkg", "--status", "millrace")
    assert installed.run("dpkg", "--verify", "millrace") == ""


def test_the_service_works_as_its_user(installed, service):
    service.wait_until_it_says(" serving ")
    job_id = service.run("millrace", "job", "create", "greet", "name=world").strip()
    assert json.loads(service.run("millrace", "job", "get", job_id, "--output", "json"))["task"] == "greet"
    # A worker, in the same place, runs it.
    worker = service.run("timeout", "--preserve-status", "--signal=TERM", "5", "millrace", "worker", "run", "--queue", "default",
                         "--handler", "greet=/bin/cat", code=None)
    assert worker.returncode == 0, worker
    service.run("millrace", "job", "wait", job_id, "--timeout", "30s")
    for page in ("livez", "readyz", "metrics"):
        assert " 200 " in service.run("bash", "-c", f"exec 3<>/dev/tcp/127.0.0.1/7090; printf 'GET /{page} HTTP/1.0\\r\\n\\r\\n' >&3; head -1 <&3")
    assert service.stop() == 0, service.said()
    assert "denied" not in service.said() and "not permitted" not in service.said()
    assert installed.owner("/var/lib/millrace/CURRENT")[0] == "millrace"
    assert installed.owner("/var/lib/millrace/CURRENT")[1] == "600"
    assert installed.run("millrace", "check", "/var/lib/millrace")


def test_settings_and_data_survive_an_upgrade(installed, packages):
    settings = installed.root / "etc/millrace/millraced.conf"
    settings.write_text(settings.read_text(encoding="utf-8") + "log-format=json\n", encoding="utf-8")
    before = (installed.run("getent", "passwd", "millrace"), sorted(p.name for p in (installed.root / "var/lib/millrace").iterdir()))
    installed.install(packages[1])
    assert "Version: 99.0.0" in installed.run("dpkg", "--status", "millrace")
    assert "log-format=json" in settings.read_text(encoding="utf-8")
    after = (installed.run("getent", "passwd", "millrace"), sorted(p.name for p in (installed.root / "var/lib/millrace").iterdir()))
    assert after == before
    values = unit()
    service = installed.start(shlex.split(values["ExecStart"][0]), user="millrace", writable=["/var/lib/millrace"])
    try:
        service.wait_until_it_says('"event":"serving"')
        assert json.loads(service.run("millrace", "queue", "get", "default", "--output", "json"))
    finally:
        service.close()


def test_removal_keeps_settings_and_data_and_purge_keeps_data(installed):
    installed.run("apt-get", "remove", "-q", "-y", "millrace")
    assert not installed.exists("/usr/bin/millraced") and not installed.exists("/usr/lib/systemd/system/millraced.service")
    assert installed.exists("/etc/millrace/millraced.conf") and installed.exists("/var/lib/millrace/CURRENT")
    said = installed.run("apt-get", "purge", "-q", "-y", "millrace")
    assert not installed.exists("/etc/millrace") and "still in /var/lib/millrace" in said
    assert installed.exists("/var/lib/millrace/CURRENT")
    assert not list((installed.root / "etc/systemd/system").rglob("millraced*")), "left-overs of the service"


def test_the_settings_file_names_flags_that_there_are(build):
    known = subprocess.run([str(build / "bin/millraced"), "--help"], capture_output=True, text=True, check=True).stdout
    parser = configparser.ConfigParser()
    parser.read(REPOSITORY / "deploy/systemd/millraced.conf")
    assert parser.sections() == ["millraced"]
    for key in parser["millraced"]:
        assert f"--{key}" in known
