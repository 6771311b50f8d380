# SPDX-License-Identifier: Apache-2.0
"""Every client against a server that encrypts, asks for client certificates and for tokens: who is let in, and what the others hear."""
import contextlib
import socket
import ssl
import subprocess
import threading
import time

import pytest
from agent import CLIENTS, TEST_S, AgentError

from harness import api
from harness.security import Certificates, Tokens
from harness.server import Server
from harness.wait import SOON_S, wait_until

pytestmark = pytest.mark.timeout(TEST_S)

TRANSPORTS = ("nng", "grpc")
# More than the fragments in which reports go out, so that encryption meets them too.
BIG = 300_000
ENCRYPTION = ("certificate", "hostname", "handshake", "ssl", "tls", "peer", "crypt")
# With TLS 1.3 a server hears of the missing certificate last, when for the client all is well: it sees that it is hung up on.
HUNG_UP = (*ENCRYPTION, "closed", "reset", "broken pipe", "eof", "lost")
OF_ANOTHER = "of another"
MISTAKES = {
    "another authority": ({"MILLRACE_CA": OF_ANOTHER}, "unavailable", ENCRYPTION),
    "an authority that the machine does not know": ({"MILLRACE_CA": "system"}, "unavailable", ENCRYPTION),
    "no certificate": ({"MILLRACE_CERTIFICATE": None, "MILLRACE_KEY": None}, "unavailable", HUNG_UP),
    "no token": ({"MILLRACE_TOKEN": None}, "unauthenticated", ("token",)),
    "a wrong token": ({"MILLRACE_TOKEN": "mr_guessed"}, "unauthenticated", ("token",)),
}


class Secured:
    """A server, and how its clients get in."""

    def __init__(self, directory):
        self.directory = directory
        self.certificates = Certificates(directory / "certificates", "--client", "app", "--client", "ops")
        self.tokens = Tokens(directory)
        self.tokens.create("ops", "admin", certificate="ops")
        self.secrets = {role: self.tokens.create(role, role) for role in ("producer", "worker")}
        self.socket = directory / "socket"
        flags = {**self.certificates.flags(mutual=True), "--token-file": self.tokens.file, "--session-timeout": "5s"}
        (directory / "server").mkdir()
        self.server = Server(directory / "server", {**flags, "--listen": f"unix:{self.socket}"})
        self.server.credentials = self.certificates.credentials("ops")

    def environment(self, role, **changes):
        """A client's, with a token of this role; None takes a variable away."""
        variables = {**self.certificates.environment("app"), "MILLRACE_TOKEN": self.secrets[role], **changes}
        return {name: str(value) for name, value in variables.items() if value is not None}


@pytest.fixture(scope="module")
def secured(tmp_path_factory):
    made = Secured(tmp_path_factory.mktemp("secured"))
    made.server.start()
    yield made
    made.server.finish()


@pytest.fixture
def start(agents):
    """Starts an agent with an environment of its own."""
    started = []

    def start_one(client, transport, address, environment):
        started.append(agents.start(client, transport, address, environment=environment))
        return started[-1]

    yield start_one
    for agent in started:
        agent.kill()


def refused(call):
    with pytest.raises(AgentError) as error:
        call()
    return error.value.error


def says(text, words):
    """One of these words is in it."""
    return any(word in text.lower() for word in words)


def attached(server, queue):
    workers = server.client.ListWorkers(queue=queue).workers
    return [worker for worker in workers if worker.state == api.WorkerState.ACTIVE]


def runs_jobs(secured, producer, worker, transport, queue):
    worker.call("worker_start", queues={queue: 1}, concurrency=2)
    session = wait_until(lambda: attached(secured.server, queue), "a worker is attached", 3 * SOON_S)[0].session_id
    job = producer.call("create", task="big_result", queue=queue, payload={"json": {"length": BIG}})
    ended = producer.call("wait", id=job["id"], timeout=60, timeout_s=90)
    assert ended["state"] == "succeeded" and ended["result"] == {"json": "x" * BIG}
    assert f"worker connected session={session} transport={transport}" in secured.server.log()


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("client", CLIENTS)
def test_producer_and_worker_with_certificate_and_token(client, transport, secured, start, queue, tmp_path):
    file = tmp_path / "token"
    file.write_text(secured.secrets["worker"] + "\n", encoding="ascii")
    producer = start(client, transport, secured.server.target, secured.environment("producer"))
    worker = start(client, transport, secured.server.target, secured.environment("worker", MILLRACE_TOKEN=None, MILLRACE_TOKEN_FILE=file))
    runs_jobs(secured, producer, worker, transport, queue)
    for call in (lambda: worker.call("create", task="echo", queue=queue), lambda: producer.call("queue_pause", name=queue)):
        error = refused(call)
        assert error["kind"] == "permission_denied" and "role" in error["message"], error


def machine_trusts(client, authority, directory):
    """The environment in which the machine trusts this authority, too: Java has a store of its own."""
    store = directory / "store"
    if client == "java":
        subprocess.run(["keytool", "-importcert", "-noprompt", "-alias", "ours", "-file", authority, "-keystore", store, "-storepass",
                        "changeit"], check=True, capture_output=True)
        return {"JAVA_TOOL_OPTIONS": f"-Djavax.net.ssl.trustStore={store} -Djavax.net.ssl.trustStorePassword=changeit"}
    known = ssl.create_default_context().get_ca_certs(binary_form=True)
    store.write_text("".join(map(ssl.DER_cert_to_PEM_cert, known)) + authority.read_text("ascii"), encoding="ascii")
    return {"SSL_CERT_FILE": store}


# By what they are told, and by what they do with a certificate of their own when they are told nothing.
@pytest.mark.parametrize("ca", ["system", None])
@pytest.mark.parametrize("client", CLIENTS)
def test_what_the_machine_trusts(client, ca, secured, start, queue, tmp_path):
    changes = {"MILLRACE_CA": ca, **machine_trusts(client, secured.certificates.file("ca.pem"), tmp_path)}
    producer = start(client, "nng", secured.server.target, secured.environment("producer", **changes))
    worker = start(client, "nng", secured.server.target, secured.environment("worker", **changes))
    runs_jobs(secured, producer, worker, "nng", queue)


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("client", CLIENTS)
def test_a_unix_socket_is_not_encrypted_the_worker_port_is(client, transport, secured, start, queue):
    address = f"unix:{secured.socket}"
    producer = start(client, transport, address, secured.environment("producer"))
    worker = start(client, transport, address, secured.environment("worker"))
    runs_jobs(secured, producer, worker, transport, queue)


def hears_why(agent, kind, words, queue):
    """A call fails in words, and a worker says the same in its log instead of trying for ever in silence."""
    error = refused(lambda: agent.call("create", task="echo", queue=queue))
    assert error["kind"] == kind and says(error["message"], words), error
    agent.call("worker_start", queues={queue: 1}, concurrency=1)
    wait_until(lambda: says(agent.log(), words), "the worker says why", 3 * SOON_S)


@pytest.mark.parametrize("mistake", MISTAKES)
@pytest.mark.parametrize("client", CLIENTS)
def test_who_is_not_let_in_hears_why(client, mistake, secured, start, queue, tmp_path):
    changes, kind, words = MISTAKES[mistake]
    if changes.get("MILLRACE_CA") == OF_ANOTHER:
        changes = {"MILLRACE_CA": Certificates(tmp_path / "another").file("ca.pem")}
    agent = start(client, "nng", secured.server.target, secured.environment("worker", **changes))
    hears_why(agent, kind, words, queue)
    assert not attached(secured.server, queue)


class NamedServer(Server):
    """Its certificate has a name and no address."""

    def __init__(self, directory):
        certificates = Certificates(directory / "certificates")
        certificates.issue("named", "named", hosts=["localhost"])
        super().__init__(directory, {"--tls-cert": certificates.file("named.pem"), "--tls-key": certificates.file("named.key")})
        self.credentials = certificates.credentials()
        self.environment_of_clients = certificates.environment()

    @property
    def target(self):
        return f"localhost:{self.ports['grpc']}"


@pytest.fixture(scope="module")
def named(tmp_path_factory):
    server = NamedServer(tmp_path_factory.mktemp("named"))
    yield server.start()
    server.finish()


@pytest.mark.parametrize("client", CLIENTS)
def test_the_worker_port_is_found_by_the_name_that_was_dialled(client, named, start, queue):
    agent = start(client, "nng", named.target, named.environment_of_clients)
    job = agent.call("create", task="echo", queue=queue)
    agent.call("worker_start", queues={queue: 1}, concurrency=1)
    named.wait_for_state(job["id"], api.JobState.SUCCEEDED, timeout_s=3 * SOON_S)


class Impostor:
    """Somebody at another address, with a certificate of the right authority for another name."""

    def __init__(self, certificates):
        certificates.issue("elsewhere", "elsewhere.example")
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(certificates.file("elsewhere.pem"), certificates.file("elsewhere.key"))
        self._context.set_alpn_protocols(["h2", "http/1.1"])
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self.calls = []  # when
        self.was_spoken_to = False
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        while True:
            try:
                raw, _ = self._listener.accept()
            except OSError:  # closed
                return
            self.calls.append(time.monotonic())
            raw.settimeout(SOON_S)
            with raw, contextlib.suppress(OSError), self._context.wrap_socket(raw, server_side=True) as secure:
                self.was_spoken_to |= bool(secure.recv(1))

    def close(self):
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


@pytest.fixture
def impostor(secured):
    made = Impostor(secured.certificates)
    yield made
    assert not made.was_spoken_to
    made.close()


@pytest.mark.parametrize("client", CLIENTS)
def test_a_server_of_another_name_is_not_trusted(client, secured, impostor, start, queue):
    agent = start(client, "nng", impostor.address, secured.environment("worker"))
    hears_why(agent, "unavailable", ENCRYPTION, queue)


@pytest.mark.parametrize("client", CLIENTS)
def test_a_worker_port_of_another_name_is_not_trusted(client, secured, impostor, start, queue):
    environment = secured.environment("worker", MILLRACE_WORKER_URL=f"wss://{impostor.address}")
    agent = start(client, "nng", secured.server.target, environment)
    agent.call("worker_start", queues={queue: 1}, concurrency=1)
    wait_until(lambda: len(impostor.calls) >= 5, "the worker tries again", 3 * SOON_S)
    assert impostor.calls[4] - impostor.calls[0] > 2, "it waits longer and longer between"
    assert f"wss://{impostor.address}" in agent.log() and says(agent.log(), ENCRYPTION), agent.log()
