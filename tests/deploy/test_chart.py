# SPDX-License-Identifier: Apache-2.0
"""What the rendered manifests and the compose file say, done by the real programs: the flags, probes and commands in them work."""
import json
import os
import pathlib
import re
import subprocess
import urllib.error
import urllib.request

import pytest
import yaml

from conftest import REPOSITORY
from harness.server import BIN
from harness.wait import wait_until

GOLDEN = REPOSITORY / "deploy/helm/golden"


def resources(case):
    """All of a golden file: kind -> those of it."""
    found = {}
    for document in filter(None, yaml.safe_load_all((GOLDEN / f"{case}.yaml").read_text(encoding="utf-8"))):
        found.setdefault(document["kind"], []).append(document)
    return found


def tool(*arguments, environment=None, **options):
    """Runs `millrace`."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("MILLRACE")}
    return subprocess.run([str(BIN / "millrace"), *map(str, arguments)], check=True, capture_output=True, text=True, timeout=60,
                          env={**clean, **(environment or {})}, **options)


@pytest.fixture(scope="module")
def secrets(tmp_path_factory):
    """What an operator puts into the secrets, as files where the manifests mount them, below a directory."""
    root = tmp_path_factory.mktemp("secrets")
    tool("tls", "make-dev", root / "dev", "--client", "backup-certificate")
    for mount, names in {"tls": {"tls.crt": "server.pem", "tls.key": "server.key"}, "client-ca": {"ca.crt": "ca.pem"},
                         "ca": {"ca.crt": "ca.pem"},
                         "certificate": {"tls.crt": "backup-certificate.pem", "tls.key": "backup-certificate.key"}}.items():
        (root / mount).mkdir()
        for name, source in names.items():
            (root / mount / name).write_bytes((root / "dev" / source).read_bytes())
    (root / "tokens").mkdir()
    (root / "token").mkdir()
    for name, flags in {"admin": ["--certificate", "backup-certificate"], "app": []}.items():
        made = tool("token", "create", "--name", name, "--role", "admin", "--file", root / "tokens" / "tokens", *flags)
        (root / "token" / "token").write_text(made.stdout.strip(), encoding="ascii")
    return root


def here(text, secrets, data):
    """A text of a manifest with this test's paths and ports."""
    text = text.replace("/etc/millrace/", f"{secrets}/").replace("/var/lib/millrace/data", str(data))
    return re.sub(r"0\.0\.0\.0:\d+", "127.0.0.1:0", text)


class Pod:
    """The container of a StatefulSet, run by its own command line."""

    def __init__(self, case, directory, secrets):
        self.container = resources(case)["StatefulSet"][0]["spec"]["template"]["spec"]["containers"][0]
        ports = directory / "ports"
        arguments = [here(argument, secrets, directory / "data") for argument in self.container["args"]]
        environment = {entry["name"]: entry["value"] for entry in self.container.get("env", [])}
        self._log = open(directory / "log", "w+b")  # pylint: disable=consider-using-with
        self.process = subprocess.Popen([str(BIN / self.container["command"][0]), *arguments, f"--port-file={ports}"], stdout=self._log,
                                        stderr=self._log, env={"PATH": os.environ["PATH"], **environment})
        try:
            wait_until(lambda: ports.exists() or self.process.poll() is not None, "it serves", 60)
            assert self.process.poll() is None, (directory / "log").read_text(encoding="utf-8")
            self.ports = json.loads(ports.read_text(encoding="utf-8"))
        except AssertionError:
            self.close()
            raise

    def probe(self, name):
        """The status that the kubelet would see."""
        path = self.container[name]["httpGet"]["path"]
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.ports['monitor']}{path}", timeout=30) as answer:
                return answer.status
        except urllib.error.HTTPError as error:
            return error.code

    def close(self):
        """SIGTERM."""
        self.process.terminate()
        self.process.wait(60)
        self._log.close()


@pytest.fixture(params=["minimal", "insecure", "full"])
def pod(request, tmp_path, secrets):
    """The server of each case."""
    made = Pod(request.param, tmp_path, secrets)
    yield made
    made.close()


def test_the_server_starts_with_its_flags_and_passes_its_probes(pod):
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert pod.probe(probe) == 200


def test_backups_are_whole_and_only_the_latest_are_kept(tmp_path, secrets):
    job = resources("full")["CronJob"][0]["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"][0]
    server = Pod("full", tmp_path, secrets)
    backup = tmp_path / "backup"
    backup.mkdir()
    old = [f"millrace-20200101T0000{n:02}Z.tar" for n in range(20)]
    for name in old:
        (backup / name).touch()
    (backup / "millrace-20200102T000000Z.tar.part").touch()  # left by a pod that was killed
    (backup / "millrace-20200102T000000Z.tar.part.check").mkdir()
    environment = {entry["name"]: here(entry["value"], secrets, None) for entry in job["env"]}
    environment.update(MILLRACE_ADDRESS=f"localhost:{server.ports['grpc']}", PATH=f"{BIN}:{os.environ['PATH']}")
    try:
        script = [argument.replace("/backup", str(backup)) for argument in job["args"]]
        done = subprocess.run([*job["command"], *script], env=environment, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done
    finally:
        server.close()
    kept = sorted(path.name for path in backup.iterdir())
    assert len(kept) == 14 and kept[:13] == old[-13:]
    tool("restore", backup / kept[13], tmp_path / "restored")
    # A backup that fails takes none of the others away.
    failed = subprocess.run([*job["command"], *script], env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert failed.returncode != 0 and sorted(path.name for path in backup.iterdir()) == kept


def test_the_worker_of_the_chart_knows_its_flags():
    worker = resources("insecure")["Deployment"][0]["spec"]["template"]["spec"]
    command = worker["containers"][0]["command"]
    known = tool(*command[1:3], "--help").stdout
    for argument in command[3:]:
        assert re.match(r"--[a-z-]+", argument)[0] in known
    # Its grace, 30 s unless told otherwise, ends before Kubernetes loses patience.
    assert "default: 30s" in known and worker["terminationGracePeriodSeconds"] > 30


def test_what_the_compose_file_names_is_there():
    folder = REPOSITORY / "deploy/docker"
    compose = yaml.safe_load((folder / "compose.yaml").read_text(encoding="utf-8"))
    flags = {program: subprocess.run([str(BIN / program), *words, "--help"], capture_output=True, text=True, check=True).stdout
             for program, words in (("millraced", []), ("millrace", ["worker", "run"]))}
    for name, service in compose["services"].items():
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            assert (folder / source).exists() if source.startswith(".") else source in compose["volumes"], f"{name}: {volume}"
        for argument in service.get("command", []):
            if argument.startswith("--"):
                assert argument.split("=")[0] in flags[service["command"][0]], f"{name}: {argument}"
    build = compose["services"]["server"]["build"]
    assert (folder / build["context"] / build["dockerfile"]).resolve() == pathlib.Path(folder / "Dockerfile").resolve()
