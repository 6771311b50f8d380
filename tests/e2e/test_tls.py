# SPDX-License-Identifier: Apache-2.0
"""Encryption and client certificates on both ports, and their exchange while the server runs."""
import shutil
import signal
import socket
import ssl
import subprocess

import grpc
import pytest
from cryptography import x509
from harness import api
from harness.api import Client, fails
from harness.security import Certificates
from harness.tools import millrace
from harness.wait import wait_until


@pytest.fixture
def certificates(tmp_path):
    """An authority with a server and the client 'app'."""
    return Certificates(tmp_path / "certificates", "--client", "app")


@pytest.fixture
def make_secure(make_server, certificates):
    """Makes encrypted servers whose test client has the certificate 'app'."""

    def make(mutual=False, **flags):
        server = make_server({**certificates.flags(mutual), **flags}, start=False)
        server.credentials = certificates.credentials("app" if mutual else None)
        server.ssl_context = certificates.ssl_context("app" if mutual else None)
        return server.start()

    return make


def handshake(port, context):
    """A TLS connection, proved to be of use: a client's certificate is judged only after the handshake in TLS 1.3. Returns the
    number of the server's certificate."""
    context.set_alpn_protocols(["h2", "http/1.1"])
    with socket.create_connection(("127.0.0.1", port), timeout=30) as raw, \
            context.wrap_socket(raw, server_hostname="localhost") as secure:
        if secure.selected_alpn_protocol() == "h2":
            secure.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0]))
        else:
            secure.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert secure.recv(100), "closed without a word"
        return x509.load_der_x509_certificate(secure.getpeercert(binary_form=True)).serial_number


def is_refused(port, context):
    try:
        handshake(port, context)
    except (ssl.SSLError, ConnectionError, AssertionError):
        return True
    return False


def ports(server):
    return server.ports["grpc"], server.ports["worker"]


def test_both_ports_are_encrypted(make_secure, make_worker, certificates):
    server = make_secure()
    job = server.client.create(queue="q")
    with make_worker(server, queues=["q"], handler=lambda delivery: '"done"') as worker:
        assert worker.registered.scheme == "wss"
        assert server.client.wait(job.id).result.json == '"done"'
        for port in ports(server):  # while the session stands: at its end the port is barred for a moment
            with socket.create_connection(("127.0.0.1", port), timeout=30) as plain:
                plain.sendall(b"GET /reports HTTP/1.1\r\nHost: x\r\n\r\n")
                assert b"HTTP" not in plain.recv(100)
    with fails("UNAVAILABLE"):
        Client(server.target).ListQueues(timeout_s=5)
    with fails("UNAVAILABLE"):  # an authority that the client does not know
        Client(server.target, credentials=grpc.ssl_channel_credentials()).ListQueues(timeout_s=5)
    assert certificates.file("server.key").stat().st_mode & 0o777 == 0o600


def test_the_tool_and_its_workers_use_encryption(make_secure, make_process_worker, certificates):
    server = make_secure()
    more = certificates.environment()
    job = millrace(server, "job", "create", "greet", **more).out.strip()
    make_process_worker(server, {"greet": "echo '\"hello\"'"}, environment_more=more)
    millrace(server, "job", "wait", job, **more)
    text = f"localhost:{server.ports['grpc']}"
    millrace(server, "queue", "list", "--address", text, **more)
    assert "MILLRACE_CA" in millrace(server, "queue", "list", MILLRACE_CA="/no/such", code=2).err
    assert millrace(server, "queue", "list", code=3, MILLRACE_CA="").err


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion")
@pytest.mark.parametrize("version,fits", [(ssl.TLSVersion.TLSv1, False), (ssl.TLSVersion.TLSv1_1, False), (ssl.TLSVersion.TLSv1_2, True)])
def test_nothing_older_than_tls_1_2(make_secure, certificates, version, fits):
    server = make_secure()
    context = certificates.ssl_context()
    context.minimum_version = context.maximum_version = version
    context.set_ciphers("ALL:@SECLEVEL=0")
    for port in ports(server):
        assert is_refused(port, context) != fits


def test_clients_need_a_certificate_where_the_server_asks_for_it(make_secure, make_worker, make_process_worker, certificates, tmp_path):
    server = make_secure(mutual=True)
    certificates.issue("expired", "app", -10, -1)
    certificates.issue("early", "app", 1, 10)
    foreign = Certificates(tmp_path / "foreign", "--client", "app")
    strange = certificates.ssl_context()
    strange.load_cert_chain(foreign.file("app.pem"), foreign.file("app.key"))
    for port in ports(server):
        assert not is_refused(port, certificates.ssl_context("app"))
        for context in (certificates.ssl_context(), certificates.ssl_context("expired"), certificates.ssl_context("early"), strange):
            assert is_refused(port, context)
    for name in (None, "expired", "early"):
        with fails("UNAVAILABLE"):
            Client(server.target, credentials=certificates.credentials(name)).ListQueues(timeout_s=5)
    job = server.client.create("greet", queue="raw")
    with make_worker(server, queues=["raw"], handler=lambda delivery: None):
        server.client.wait(job.id)
    make_process_worker(server, {"greet": "true"}, environment_more=certificates.environment("app"))
    server.client.wait(server.client.create("greet").id)
    server.client.PauseQueue(name="raw")
    assert "who=app" in server.log() and "method=QueueService/PauseQueue" in server.log()


def test_a_certificate_has_the_roles_that_the_token_file_gives_it(make_secure, certificates, tmp_path):
    tokens = tmp_path / "tokens"
    for name, role in (("health", "admin"), ("app", "viewer"), ("keda", "scaler")):
        flags = ["--certificate", name] if name != "health" else []
        secret = millrace(None, "token", "create", "--name", f"grant-{name}", "--role", role, "--file", tokens, *flags).out.strip() or secret
    certificates.issue("keda", "keda")
    certificates.issue("stranger", "stranger")
    server = make_secure(mutual=True, **{"--token-file": tokens})
    server.client.ListQueues()
    with fails("PERMISSION_DENIED", reason="ROLE_MISSING", text="grant-app"):
        server.client.PauseQueue(name="q")
    with fails("PERMISSION_DENIED", text="grant-keda"):
        Client(server.target, credentials=certificates.credentials("keda")).ListQueues()
    stranger = certificates.credentials("stranger")
    with fails("UNAUTHENTICATED", reason="CERTIFICATE_UNKNOWN", text="stranger"):
        Client(server.target, credentials=stranger).ListQueues()
    Client(server.target, credentials=stranger, token=secret).PauseQueue(name="q")  # a token goes before a certificate
    assert Client(server.target, credentials=stranger).health() == "SERVING"


def renew(server, certificates, other, event="reloaded", count=1):
    """Puts the server's certificate of another folder in place and sends SIGHUP."""
    for suffix in (".pem", ".key"):
        shutil.copy(other.file("server" + suffix), certificates.file("server" + suffix))
    before = server.log().count(f" {event} ")
    server.process.send_signal(signal.SIGHUP)
    wait_until(lambda: server.log().count(f" {event} ") >= before + count, f"{event} after SIGHUP")


def test_certificates_are_exchanged_while_jobs_run(make_secure, make_process_worker, certificates, tmp_path):
    server = make_secure(**{"--reconnect-grace": "5s", "--session-timeout": "15s"})
    renewed = Certificates(tmp_path / "renewed")
    both = tmp_path / "both.pem"
    both.write_bytes(certificates.file("ca.pem").read_bytes() + renewed.file("ca.pem").read_bytes())
    certificates.file("ca.pem").write_bytes(both.read_bytes())
    done = tmp_path / "go"
    worker = make_process_worker(server, {"hold": f"while [ ! -e {done} ]; do sleep 0.05; done; echo 1"}, "--concurrency=3",
                                 environment_more=certificates.environment())
    attached = make_process_worker(server, {"hold": f"while [ ! -e {done} ]; do sleep 0.05; done; echo 1"}, "--transport=grpc",
                                   queues=("attached",), environment_more=certificates.environment())
    worker.wait_attached(server.client, sessions=2)
    jobs = [server.client.create("hold").id for _ in range(3)] + [server.client.create("hold", queue="attached").id]
    for job in jobs:
        server.wait_for_state(job, api.JobState.RUNNING)
    before = [handshake(port, certificates.ssl_context()) for port in ports(server)]
    sessions = {found.session_id for found in server.client.ListWorkers().workers}
    renew(server, certificates, renewed)
    after = [handshake(port, certificates.ssl_context()) for port in ports(server)]
    assert before[0] == before[1] != after[0] == after[1]
    worker.wait_attached(server.client, sessions=2)
    done.touch()
    for job in jobs:
        ended = server.client.wait(job)
        assert ended.state == api.JobState.SUCCEEDED and ended.deliveries == 1, ended
    assert {found.session_id for found in server.client.ListWorkers().workers} == sessions
    server.client.wait(server.client.create("hold").id)
    assert attached.process.poll() is None


def test_a_mistake_in_new_certificates_changes_nothing(make_secure, certificates, tmp_path):
    server = make_secure()
    renewed = Certificates(tmp_path / "renewed")
    before = [handshake(port, certificates.ssl_context()) for port in ports(server)]
    shutil.copy(certificates.file("server.pem"), renewed.file("server.pem"))
    renew(server, certificates, renewed, "reload_failed")
    assert "not the key of the certificate" in server.log()
    assert [handshake(port, certificates.ssl_context()) for port in ports(server)] == before
    server.client.create()


def test_wrong_settings_are_refused_with_a_sentence(make_server, certificates, tmp_path):
    certificates.issue("expired", "localhost", -10, -1)
    other = Certificates(tmp_path / "other")
    text = tmp_path / "text"
    text.write_text("hello", encoding="utf-8")
    cases = [
        ({"--tls-cert": certificates.file("expired.pem"), "--tls-key": certificates.file("expired.key")}, 1, "expired on"),
        ({"--tls-cert": certificates.file("server.pem"), "--tls-key": other.file("server.key")}, 1, "not the key of"),
        ({"--tls-cert": text, "--tls-key": other.file("server.key")}, 1, "no certificate in PEM form"),
        ({"--tls-cert": other.file("server.pem"), "--tls-key": text}, 1, "no key in PEM form"),
        ({"--tls-cert": "/no/such", "--tls-key": text}, 1, "/no/such"),
        ({**certificates.flags(), "--tls-client-ca": text}, 1, "no certificate in PEM form"),
        ({"--tls-cert": text}, 2, "--tls-key"),
        ({"--tls-client-ca": text}, 2, "--tls-cert"),
    ]
    for flags, code, says in cases:
        server = make_server(flags, start=False).spawn()
        assert server.process.wait(60) == code and says in server.log(), server.log()
        server.process = None


def test_with_encryption_and_tokens_other_machines_may_reach_it(make_server, certificates, tmp_path):
    tokens = tmp_path / "tokens"
    secret = millrace(None, "token", "create", "--name", "x", "--role", "admin", "--file", tokens).out.strip()
    server = make_server({**certificates.flags(), "--token-file": tokens}, start=False)
    server.credentials = certificates.credentials()
    server.flags.update({"--listen": "0.0.0.0:0", "--worker-listen": "0.0.0.0:0", "--monitor-listen": "0.0.0.0:0", "--monitor-public": ""})
    server.start()
    Client(server.target, credentials=server.credentials, token=secret).ListQueues()
    assert " insecure " not in server.log()


def test_a_unix_socket_is_not_encrypted(make_server, certificates, tmp_path):
    path = tmp_path / "m.sock"
    server = make_server(certificates.flags(), start=False)
    server.credentials = certificates.credentials()
    server.flags["--listen"] = f"unix:{path}"
    server.start()
    millrace(server, "queue", "list", "--address", f"unix:{path}", **certificates.environment())
    Client(f"unix:{path}").ListQueues()


def test_make_dev_keeps_what_is_there(certificates):
    before = {path.name: path.read_bytes() for path in certificates.directory.iterdir()}
    assert set(before) == {"ca.pem", "ca.key", "server.pem", "server.key", "app.pem", "app.key"}
    assert "File exists" in millrace(None, "tls", "make-dev", certificates.directory, code=1).err
    assert {path.name: path.read_bytes() for path in certificates.directory.iterdir()} == before
    for wrong in ("../evil", "a/b", "", "ca"):
        millrace(None, "tls", "make-dev", certificates.directory / "x", "--client", wrong, code=2)
    assert subprocess.run(["openssl", "verify", "-CAfile", certificates.file("ca.pem"), certificates.file("server.pem"),
                           certificates.file("app.pem")], capture_output=True, check=False).returncode == 0
