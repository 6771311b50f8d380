# SPDX-License-Identifier: Apache-2.0
"""What somebody might try who reaches the ports: the server refuses in words or hangs up, and goes on serving the others."""
import json
import os
import pathlib
import resource
import select
import signal
import socket
import ssl
import struct
import subprocess
import threading
import time

import pytest
import websockets
from harness import api, http2, monitor
from harness.api import Client, fails
from harness.http2 import Connection, frame
from harness.tools import millrace
from harness.wait import SANITIZED, SOON_S, wait_until
from harness.worker import run

# An attack keeps even a fast server busy for a while.
pytestmark = pytest.mark.timeout(900)

LIST_QUEUES = "/millrace.v1.QueueService/ListQueues"
ATTACH = "/millrace.v1.WorkerService/Attach"
GET_JOB = "/millrace.v1.JobService/GetJob"
WATCH_JOBS = "/millrace.v1.JobService/WatchJobs"
MIB = 1 << 20


@pytest.fixture
def attacked(shared):
    """A server that must serve its own client during and after the attack. Its memory may grow by what malloc keeps of a burst of
    20,000 streams, all of them open at once if the server is slow: about 27 KiB each; and no further."""
    shared.client.ListQueues()
    before = shared.memory_kib()
    yield shared
    assert shared.is_alive(), shared.log()
    shared.client.create()
    assert SANITIZED or shared.memory_kib() - before < 1024 * 1024, "the attack has left its mark in the memory"


def is_serving(server):
    """A call on a connection of its own."""
    client = Client(server.target)
    assert client.health(timeout_s=3 * SOON_S, wait=True) == "SERVING"
    client.ListQueues(timeout_s=3 * SOON_S)
    client.close()
    return True


# ---- HTTP/2, and the advisories of 2023 about gRPC's core ----


@pytest.mark.parametrize("headers", [
    http2.request(LIST_QUEUES, te="x"),
    http2.request(LIST_QUEUES, scheme="x"),
    http2.request(LIST_QUEUES, more=[("grpclb_client_stats", "x")]),
])
@pytest.mark.parametrize("size", [0, 9000, 20000, 100000])
def test_cve_2023_1428_odd_headers_and_then_big_ones(attacked, headers, size):
    with Connection(attacked.ports["grpc"]) as connection:
        more = [(f"x-{at}", "v" * 3000) for at in range(size // 3000)]
        connection.ends(connection.open(headers + more, end=True))
    assert is_serving(attacked)


@pytest.mark.parametrize("value", ["@@@", "=", "a", "AAAA=AAAA", "\x7f"])
def test_cve_2023_32732_an_invalid_binary_header(attacked, value):
    with Connection(attacked.ports["grpc"]) as connection:
        connection.ends(connection.call(LIST_QUEUES, more=[("x-bin", value)]))
    assert is_serving(attacked)


def integer(prefix_bits, first, padding):
    """An HPACK integer that goes on for `padding` bytes without growing."""
    return bytes([first | (1 << prefix_bits) - 1]) + b"\x80" * padding + b"\x00"


@pytest.mark.parametrize("block", [
    integer(7, 0x80, 16000),                                  # an index
    b"\x40" + integer(7, 0x00, 16000),                        # length of a name
    b"\x40\x01a" + integer(7, 0x00, 16000),                   # length of a value
    b"\x3f" + b"\xff" * 8 + b"\x7f",                          # a table of 2^63 bytes
    b"\x3f\xe1\x1f" * 5000,                                   # its size changed 5,000 times
    b"\xff" * 16000,
    b"\x40\x7f\xff\xff\xff\x7f" + b"a" * 15000,               # a name of 256 MiB
])
def test_cve_2023_33953_broken_header_compression(attacked, block):
    for _ in range(20):
        with Connection(attacked.ports["grpc"]) as connection:
            stream = connection.open([], block=block)
            connection.send(frame(http2.RST_STREAM, 0, stream, http2.CANCEL))
    assert is_serving(attacked)


def test_cve_2023_33953_a_small_block_that_unpacks_to_much(attacked):
    """One table entry of 4 kB, then thousands of references to it: 16 kB on the wire, 64 MB as headers."""
    bomb = b"\x40\x01a\x7f" + b"\xa1\x1e" + b"v" * 4000 + b"\xbe" * 12000
    for _ in range(10):
        with Connection(attacked.ports["grpc"]) as connection:
            stream = connection.open([], block=connection.encoder.encode(http2.request(LIST_QUEUES), huffman=False) + bomb)
            connection.ends(stream)
    assert is_serving(attacked)


def test_headers_that_go_on_for_ever_are_not_kept(attacked):
    """CONTINUATION frames without an end: 64 MiB of them."""
    with Connection(attacked.ports["grpc"]) as connection:
        connection.send(frame(http2.HEADERS, 0, 1, b""))
        part = frame(http2.CONTINUATION, 0, 1, b"\x00\x01a\x7f\xfb\x7e" + b"v" * 16378)
        for _ in range(4096):
            if not connection.send(part):
                break
        assert is_serving(attacked)


def test_cve_2023_44487_rapid_reset(attacked):
    """20,000 streams opened and reset at once, on one connection: of a unary method, of a stream, of one that does not exist."""
    for path in (LIST_QUEUES, ATTACH, "/x/y"):
        with Connection(attacked.ports["grpc"]) as connection:
            for _ in range(200):
                burst = []
                for _ in range(100):
                    stream, connection._next = connection._next, connection._next + 2
                    block = connection.encoder.encode(http2.request(path), huffman=False)
                    burst += [frame(http2.HEADERS, http2.END_HEADERS, stream, block),
                              frame(http2.RST_STREAM, 0, stream, http2.CANCEL)]
                if not connection.send(*burst):
                    break
            assert is_serving(attacked)


def test_streams_of_a_connection_are_limited(attacked):
    """1,000 at a time: who opens more, having confirmed the limit, is hung up on."""
    with Connection(attacked.ports["grpc"]) as connection:
        while connection.read()[0] != http2.SETTINGS:
            pass
        for _ in range(1500):
            connection.open(http2.request(ATTACH))
        while connection.read() is not None:
            pass
        assert is_serving(attacked)


@pytest.mark.parametrize("data", [
    frame(http2.DATA, 0, 0, b"x"), frame(http2.HEADERS, 4, 0, b""), frame(http2.HEADERS, 4, 2, b"\x82"),
    frame(http2.SETTINGS, 0, 0, b"12345"), frame(http2.SETTINGS, 0, 0, struct.pack(">HI", 4, 0xFFFFFFFF)),
    frame(http2.SETTINGS, 0, 0, struct.pack(">HI", 5, 1)), frame(http2.WINDOW_UPDATE, 0, 0, struct.pack(">I", 0)),
    frame(http2.WINDOW_UPDATE, 0, 0, struct.pack(">I", 0x7FFFFFFF)) * 3, frame(http2.PING, 0, 0, b"short"),
    frame(http2.PUSH_PROMISE, 4, 1, b"\0\0\0\2\x82"), frame(http2.CONTINUATION, 4, 1, b"\x82"), frame(http2.GOAWAY, 0, 0, b"x"),
    frame(http2.DATA, 0, 1, b"", length=0xFFFFFF), frame(http2.RST_STREAM, 0, 1, b""), frame(99, 255, 77, b"x" * 100),
    frame(http2.SETTINGS) * 20000, frame(http2.PING, 0, 0, b"12345678") * 20000, frame(http2.PRIORITY, 0, 1, b"\0\0\0\1\0") * 20000,
], ids=range(18))
def test_malformed_and_needless_frames(attacked, data):
    with Connection(attacked.ports["grpc"]) as connection:
        connection.send(data)
        assert is_serving(attacked)


def test_messages_that_lie_about_their_length(attacked):
    for head in (b"\0\xff\xff\xff\xff", b"\1\0\0\0\5hello", b"\2\0\0\0\0", b"\0\0\0"):
        with Connection(attacked.ports["grpc"]) as connection:
            stream = connection.open(http2.request(LIST_QUEUES))
            connection.send(frame(http2.DATA, http2.END_STREAM, stream, head))
            connection.ends(stream)
    assert is_serving(attacked)


# ---- the workers' port ----


def http_request(port, path, headers=(), raw=None):
    """What an HTTP server answers to whatever bytes."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        lines = [f"GET {path} HTTP/1.1", "Host: x", *headers, "Connection: close", "", ""]
        answer = b""
        try:
            connection.sendall(raw if raw is not None else "\r\n".join(lines).encode("latin-1"))
            connection.shutdown(socket.SHUT_WR)
            while part := connection.recv(65536):
                answer += part
        except OSError:
            pass
        return answer


TRAVERSALS = ["/../../../../etc/passwd", "/..%2f..%2f..%2fetc/passwd", "/%2e%2e/%2e%2e/etc/passwd", "//etc/passwd", "/metrics/../../etc/passwd",
              "/sessions/../../etc/passwd", "/sessions/%00/jobs", "/reports/..", "/livez/%2e%2e/%2e%2e/etc/passwd", "/" + "a" * 5000, "file:///etc/passwd",
              "/./././etc/passwd", "\\..\\etc\\passwd", "/sessions/" + "../" * 300]


@pytest.mark.parametrize("port", ["worker", "monitor"])
@pytest.mark.parametrize("path", TRAVERSALS, ids=range(len(TRAVERSALS)))
def test_no_path_leads_out(attacked, port, path):
    answer = http_request(attacked.ports[port], path)
    assert b"root:" not in answer
    assert not answer or answer.startswith(b"HTTP/1.1 4"), answer[:200]


@pytest.mark.parametrize("port", ["worker", "monitor"])
@pytest.mark.parametrize("path", ["/livez%0d%0aX-Evil:%201", "/reports%0d%0aX-Evil:%201", "/x\rX-Evil: 1", "/x\nX-Evil: 1",
                                  "/livez?a=%0d%0aX-Evil:%201"])
def test_no_header_is_split(attacked, port, path):
    head = http_request(attacked.ports[port], path).split(b"\r\n\r\n")[0]
    assert not any(line.lower().startswith(b"x-evil") for line in head.replace(b"\r", b"\n").split(b"\n")), head


@pytest.mark.parametrize("port", ["worker", "monitor"])
@pytest.mark.parametrize("raw", [b"GET " + b"a" * 100000, b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 50000 + b"\r\n", b"\0" * 10000,
                                 b"POST / HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n",
                                 b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\nx", b"GET / HTTP/9.9\r\n\r\n", b"\r\n" * 10000,
                                 b"GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\nffffffffffff\r\n"], ids=range(8))
def test_malformed_requests(attacked, port, raw):
    http_request(attacked.ports[port], "/", raw=raw)
    assert http_request(attacked.ports["monitor"], "/livez").startswith(b"HTTP/1.1 200")
    assert is_serving(attacked)


def trusting():
    """Of whoever answers."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def dial(port, encrypted=False):
    """A connection to whatever port, as anybody makes it."""
    connection = socket.create_connection(("127.0.0.1", port), timeout=SOON_S)
    return trusting().wrap_socket(connection) if encrypted else connection


def upgrade(port, path, protocol, token, encrypted=False):
    """A WebSocket by hand, upgraded."""
    connection = dial(port, encrypted)
    connection.sendall((f"GET {path} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: "
                        f"dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: {protocol}\r\n"
                        f"Authorization: Bearer {token}\r\n\r\n").encode())
    head = b""
    while b"\r\n\r\n" not in head and (part := connection.recv(4096)):
        head += part
    return connection, head


@pytest.mark.parametrize("data", [
    b"\x82\x05hello",                                          # not masked
    b"\x82\xff" + struct.pack(">Q", 1 << 40) + b"\0" * 4,      # a frame of a terabyte
    b"\x82\xff" + b"\xff" * 8 + b"\0" * 4,                     # of a negative length
    b"\x82\xfe\x00\x05" + b"\0" * 9,                           # its length written too long
    b"\xf2\x80\0\0\0\0", b"\x8f\x80\0\0\0\0", b"\x81\x85\0\0\0\0hello", b"\x80\x80\0\0\0\0",
    b"\x89\xfe\x10\x00" + b"\0" * 5000,                        # a ping of 4 kB
    b"\x88\x81\0\0\0\0x", b"\x82\x85\0\0\0\0\xff\xff\xff\xff\xff",
    (b"\x02\xff" + struct.pack(">Q", 65536) + b"\0" * (4 + 65536)) + (b"\x00\xff" + struct.pack(">Q", 65536) + b"\0" * (4 + 65536)) * 300,
], ids=range(12))
@pytest.mark.parametrize("kind", ["jobs", "reports"])
def test_malformed_websocket_frames_cost_their_sender_the_connection_only(attacked, make_worker, data, kind):
    worker = make_worker(attacked, queues=["frames"], connect=False)
    path, protocol = ((worker.registered.jobs_path, "push.sp.nanomsg.org") if kind == "jobs"
                      else (worker.registered.reports_path, "pull.sp.nanomsg.org"))
    connection, head = upgrade(attacked.ports["worker"], path, protocol, worker.token)
    assert head.startswith(b"HTTP/1.1 101"), head
    with connection:
        try:
            connection.sendall(data)
        except ConnectionError:
            pass
        other = make_worker(attacked, queues=[f"ok-{kind}"], handler=lambda delivery: None)
        attacked.client.wait(attacked.client.create(queue=f"ok-{kind}").id)
        other.close()


# Not their end, but the guard, has to end their connections.
SESSIONS_STAY = {"--session-timeout": "10m", "--reconnect-grace": "10m"}


@pytest.fixture(params=["plain", "encrypted"])
def flooded(request, make_server, tmp_path):
    """A server in both ways that workers come to it; may take little processor time and memory for what is done to it."""
    import grpc
    if request.param == "plain":
        server = make_server(SESSIONS_STAY)
    else:
        millrace(None, "tls", "make-dev", tmp_path / "tls")
        server = make_server({**SESSIONS_STAY, "--tls-cert": tmp_path / "tls/server.pem", "--tls-key": tmp_path / "tls/server.key"}, start=False)
        server.credentials = grpc.ssl_channel_credentials((tmp_path / "tls/ca.pem").read_bytes())
        server.ssl_context = ssl.create_default_context(cafile=tmp_path / "tls/ca.pem")
        server.start()
    server.encrypted = request.param == "encrypted"
    server.client.ListQueues()
    cpu_s, memory_kib = server.cpu_s(), server.memory_kib()
    yield server
    assert server.is_alive(), server.log()
    assert SANITIZED or server.cpu_s() - cpu_s < 10, "the flood has kept the processor busy"
    assert SANITIZED or server.memory_kib() - memory_kib < 100 * 1024, "the flood has left its mark in the memory"


def sends_all(connection, data, times=1):
    """False: the server has hung up."""
    try:
        for _ in range(times):
            connection.sendall(data)
        return True
    except OSError:
        return False


@pytest.mark.parametrize("port", ["worker", "monitor"])
def test_headers_without_end_slow_nobody_down(flooded, make_worker, port):
    """Each with a name of its own, and all pieces that the server reads end with a line: 300 kB on each of 40 connections."""
    worker = make_worker(flooded, queues=["on"], handler=lambda delivery: None)
    head = b"GET / HTTP/1.1\r\n" + b"".join(b"%05x:\r\n" % number for number in range(40000))
    encrypted = flooded.encrypted and port == "worker"

    def attack():
        try:
            with dial(flooded.ports[port], encrypted) as connection:
                sends_all(connection, head)
                closes_within(connection, SOON_S)
        except OSError:
            pass

    attackers = [threading.Thread(target=attack) for _ in range(40)]
    for attacker in attackers:
        attacker.start()
    while any(attacker.is_alive() for attacker in attackers):
        begin = time.monotonic()
        flooded.client.wait(flooded.client.create(queue="on").id)
        assert time.monotonic() - begin < SOON_S / 6
    for attacker in attackers:
        attacker.join()
    assert not worker.is_closed()


@pytest.mark.parametrize("port", ["worker", "monitor"])
def test_paths_are_not_decoded(flooded, port):
    """nng would go on behind the end of one that ends in %41, and overwrite what is there."""
    encrypted = flooded.encrypted and port == "worker"
    ends = ("/" + "a" * size + "%41" for size in range(0, 7000, 100))
    for path in ("/livez%00x", "/reports%00x", "/%41%", "/%4", "/livez%2", *ends):
        with dial(flooded.ports[port], encrypted) as connection:
            connection.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            assert connection.recv(4096).startswith(b"HTTP/1.1 404"), path[:20]
    flooded.client.ListQueues()


def answer_to_records(port, data, record_bytes):
    """Sends the data in TLS records of that size, all of them in one piece."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = trusting().wrap_bio(incoming, outgoing)
    with dial(port) as connection:
        def go_on(step):
            while True:
                try:
                    return step()
                except ssl.SSLWantReadError:
                    connection.sendall(outgoing.read())
                    incoming.write(connection.recv(65536))

        go_on(tls.do_handshake)
        for at in range(0, len(data), record_bytes):
            tls.write(data[at:at + record_bytes])
        return go_on(lambda: tls.read(4096))


def test_paths_are_not_decoded_however_they_are_cut(flooded):
    """Nor when the head comes together with what follows it."""
    head = b"GET /reports%00x HTTP/1.1\r\nHost: x\r\n\r\n"
    for piece_bytes in (1, 10, len(head), 8000):
        if flooded.encrypted:
            answer = answer_to_records(flooded.ports["worker"], head * 3, piece_bytes)
        else:
            with dial(flooded.ports["worker"]) as connection:
                for at in range(0, len(head), piece_bytes):
                    connection.sendall(head[at:at + piece_bytes])
                answer = connection.recv(4096)
        assert answer.startswith(b"HTTP/1.1 404"), piece_bytes


def test_one_request_is_answered_on_the_workers_port(flooded):
    """Each is compared with the paths of all sessions, under one lock."""
    with dial(flooded.ports["worker"], flooded.encrypted) as connection:
        answers = b""
        try:
            connection.sendall(b"GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n" * 100)
            while part := connection.recv(65536):
                answers += part
        except OSError:
            pass
        assert answers.count(b"HTTP/1.1 404") == 1


PING, FIRST, EMPTY, TINY = b"\x89\x80\0\0\0\0", b"\x02\x80\0\0\0\0", b"\0\x80\0\0\0\0", b"\0\x81\0\0\0\0x"


def assert_cut_off(server, worker, kind, first, frame_bytes):
    """Who sends 6 MB of small frames and never reads loses the connection."""
    path, protocol = ((worker.registered.jobs_path, "push.sp.nanomsg.org") if kind == "jobs"
                      else (worker.registered.reports_path, "pull.sp.nanomsg.org"))
    connection, head = upgrade(server.ports["worker"], path, protocol, worker.token, server.encrypted)
    assert head.startswith(b"HTTP/1.1 101"), head
    hung_up = select.poll()
    hung_up.register(connection, 0)
    with connection:
        if sends_all(connection, first) and sends_all(connection, frame_bytes * 10000, 6_000_000 // 10000 // len(frame_bytes)):
            wait_until(lambda: hung_up.poll(0), "the connection is cut off")


@pytest.mark.parametrize("kind", ["jobs", "reports"])
def test_a_flood_of_pings_costs_the_connection(flooded, make_worker, kind):
    """Each answer to one would be kept until it is read."""
    worker = make_worker(flooded, queues=["pings"], connect=False)
    for _ in range(3):
        assert_cut_off(flooded, worker, kind, b"", PING)


@pytest.mark.parametrize("kind", ["jobs", "reports"])
@pytest.mark.parametrize("fragment", [EMPTY, TINY], ids=["empty", "tiny"])
def test_fragments_without_end_cost_the_connection(flooded, make_worker, kind, fragment):
    """Each would be kept until the message is whole."""
    worker = make_worker(flooded, queues=["fragments"], connect=False)
    for _ in range(3):
        assert_cut_off(flooded, worker, kind, FIRST, fragment)


def test_many_big_reports_in_small_pieces_are_no_attack(flooded, make_worker):
    """Nor are the pings of a client that sends many."""
    text = json.dumps("x" * 1_000_000)
    worker = make_worker(flooded, queues=["big"], concurrency=3, connect=False, handler=lambda delivery: text)
    worker.registered.limits.fragment_bytes_max = 2048
    worker.connect()

    async def pings():
        for _ in range(50):
            for end in worker._pipe._sockets:
                await (await end.ping())

    jobs = flooded.client.CreateJobs(jobs=[api.JobSpec(task="t", queue="big") for _ in range(30)])
    run(pings())
    for outcome in jobs.outcomes:
        flooded.client.wait(outcome.id)
    assert not worker.is_closed()


def test_foreign_session_ids_and_tokens(attacked, make_worker):
    mine, theirs = (make_worker(attacked, queues=[f"s{at}"], connect=False) for at in range(2))
    path = theirs.registered.jobs_path
    for token in (mine.token, "", "x" * 5000, theirs.token[:-1], theirs.token.upper() if theirs.token.islower() else theirs.token.lower()):
        connection, head = upgrade(attacked.ports["worker"], path, "push.sp.nanomsg.org", token)
        with connection:
            connection.settimeout(30)
            assert not head.startswith(b"HTTP/1.1 101") or connection.recv(100)[:1] in (b"", b"\x88")
    for session, token in ((theirs.session_id, mine.token), (theirs.session_id, "x"), (api.new_id(), theirs.token)):
        with fails("NOT_FOUND", text="register anew"):
            attacked.client.Register(api.RegisterRequest(resume_session_id=session, resume_session_token=token, concurrency=1,
                                                         queues=[api.WorkerQueue(name="q")], tasks=[api.WorkerTask(name="*")]))
        with fails("NOT_FOUND"):
            attacked.client.Deregister(session_id=session, session_token=token)
        stream = attacked.client.Attach(iter([api.AttachRequest(hello=api.AttachHello(session_id=session, session_token=token))]))
        with fails("NOT_FOUND", reason="SESSION_NOT_FOUND"):
            list(stream)
    theirs.connect()  # it is still theirs
    job = attacked.client.create(queue="s1")
    assert theirs.deliveries.get(timeout=SOON_S).job_id == job.id


def closes_within(connection, limit_s):
    """The server closes it."""
    connection.settimeout(limit_s)
    try:
        while connection.recv(65536):
            pass
    except ConnectionError:
        pass
    return True


@pytest.mark.parametrize("port", ["grpc", "worker", "monitor"])
def test_a_silent_connection_is_closed(attacked, port):
    begin = time.monotonic()
    with socket.create_connection(("127.0.0.1", attacked.ports[port])) as connection:
        assert closes_within(connection, SOON_S)
    assert time.monotonic() - begin > 3


def test_on_the_workers_port_only_workers_may_stay(attacked, make_worker):
    worker = make_worker(attacked, queues=["stay"])
    begin = time.monotonic()
    with socket.create_connection(("127.0.0.1", attacked.ports["worker"])) as connection:
        connection.sendall(b"GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n")
        assert connection.recv(4096).startswith(b"HTTP/1.1 404")
        assert closes_within(connection, SOON_S)
    wait_until(lambda: time.monotonic() - begin > 8, "longer than anybody else may stay")
    assert not worker._pipe.closed.is_set()
    job = attacked.client.create(queue="stay")
    assert worker.deliveries.get(timeout=SOON_S).job_id == job.id


# ---- too much ----


def calls_at_once(server, count):
    """So many calls, none of which waits for another; how some failed."""
    call = server.client._channel.unary_unary(LIST_QUEUES)  # pylint: disable=protected-access
    futures = [call.future(b"", timeout=SOON_S) for _ in range(count)]
    return [api.Failure.of(future.exception()) for future in futures if future.exception()]


def test_messages_a_second_are_limited_by_address(make_server, make_worker):
    server = make_server({"--max-messages-per-second": "50"})
    failures = calls_at_once(server, 1000)
    for failure in failures:
        assert failure.code == "RESOURCE_EXHAUSTED" and failure.reason == "TOO_MANY_MESSAGES" and failure.retry_after_s > 0
        assert "--max-messages-per-second" in failure.message
    assert len(failures) > 50
    with Connection(server.ports["grpc"], source="127.0.0.2") as other:  # another address has its own
        assert other.ends(other.call(LIST_QUEUES))
    assert calls_at_once(server, 1000)

    def is_served_again():
        try:
            return is_serving(server)
        except api.Failure:
            return False

    wait_until(is_served_again, "served again", every_s=0.5)
    with fails("RESOURCE_EXHAUSTED", reason="TOO_MANY_MESSAGES"):
        list(server.client.CreateJobsStream(iter([api.CreateJobsStreamRequest(jobs=[api.JobSpec(task="t")])] * 300)))


def test_reports_a_second_are_limited_by_session(make_server, make_worker):
    server = make_server({"--max-messages-per-second": "50", "--session-timeout": "15s"})
    worker = make_worker(server, queues=["q"])

    async def flood():
        try:
            for _ in range(2000):
                await worker._pipe.send(worker._heartbeat())
        except websockets.ConnectionClosed:
            pass

    pipe = worker._pipe
    run(flood())
    wait_until(pipe.closed.is_set, "the connection of the worker that floods is closed")


def test_one_address_can_not_take_all_connections(make_server):
    server = make_server({"--max-connections-per-address": "20"})
    held = []
    try:
        for port in ("grpc", "worker", "monitor"):
            for _ in range(30):
                held.append(socket.create_connection(("127.0.0.1", server.ports[port]), source_address=("127.0.0.9", 0)))
        assert is_serving(server)
        assert http_request(server.ports["monitor"], "/livez").startswith(b"HTTP/1.1 200")
    finally:
        for connection in held:
            connection.close()


def test_one_address_can_not_open_connections_without_end(make_server):
    server = make_server({"--max-new-connections-per-second": "5"})
    answered = 0
    for _ in range(200):
        try:
            with socket.create_connection(("127.0.0.1", server.ports["monitor"]), source_address=("127.0.0.9", 0)) as connection:
                connection.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                answered += connection.recv(100).startswith(b"HTTP/1.1 200")
        except ConnectionError:
            pass
    assert 100 <= answered < 190
    assert is_serving(server)
    metrics = http_request(server.ports["monitor"], "/metrics").decode()
    assert f'millrace_connections_refused_total{{reason="rate"}} {200 - answered}\n' in metrics
    assert 'millrace_connections_refused_total{reason="total"} 0\n' in metrics
    wait_until(lambda: 'connections_refused reason="rate=' in server.log(), "the log tells of those refused")


# ---- what is written down ----


@pytest.mark.parametrize("style", ["text", "json"])
def test_no_name_can_forge_a_log_line(make_server, style):
    server = make_server({"--log-format": style})
    forged = "2026-01-01T00:00:00.000Z error store_failed reason=forged"
    for name in (f"a\n{forged}", f"a\r\n{forged}", f"a\u2028{forged}", f"a\x1b[2J\x9b2J{forged}", f'a" result=OK who=root\n{forged}', "a\u202egnp"):
        with fails("INVALID_ARGUMENT"):
            server.client.PauseQueue(name=name)
        with fails("INVALID_ARGUMENT"):
            server.client.create(task=name)
    server.client.PauseQueue(name="last")
    text = server.log_path.read_bytes().decode("utf-8")
    lines = text.split("\n")
    assert sum("PauseQueue" in line for line in lines) == 7
    for line in lines:
        assert not line.startswith(forged) and not set(line) & set("\r\x1b\x9b\u2028\u202e"), line
    if style == "json":
        assert all(json.loads(line)["event"] != "store_failed" for line in lines if line)


def secrets_of(server, tmp_path):
    """A server with all kinds of secrets, used rightly and wrongly; returns them."""
    token = (tmp_path / "token").read_text(encoding="utf-8").strip()
    client = Client(server.target, credentials=server.credentials, token=token)
    registered = client.Register(queues=[api.WorkerQueue(name="q")], tasks=[api.WorkerTask(name="*")], concurrency=1)
    wrong = "mrt_wrong_but_still_private_0123456789"
    with fails("UNAUTHENTICATED"):
        Client(server.target, credentials=server.credentials, token=wrong).ListQueues()
    with fails("NOT_FOUND"):
        client.Deregister(session_id=registered.session_id, session_token=wrong)
    client.create(payload=api.json_payload('{"password": "payload-secret-42"}'))
    millrace(server, "queue", "pause", "q", MILLRACE_TOKEN=token, MILLRACE_CA=str(tmp_path / "tls" / "ca.pem"))
    key = (tmp_path / "tls" / "server.key").read_text(encoding="ascii").splitlines()[1]
    return [token, registered.session_token, wrong, key, "payload-secret-42"]


@pytest.fixture
def secretive(make_server, tmp_path):
    """A server with tokens and encryption that logs all it can."""
    import grpc
    millrace(None, "tls", "make-dev", tmp_path / "tls")
    token = millrace(None, "token", "create", "--name", "all", "--role", "admin", "--file", tmp_path / "tokens").out
    (tmp_path / "token").write_text(token, encoding="utf-8")
    server = make_server({"--token-file": tmp_path / "tokens", "--tls-cert": tmp_path / "tls/server.pem", "--tls-key": tmp_path / "tls/server.key",
                          "--log-level": "debug"}, start=False)
    server.credentials = grpc.ssl_channel_credentials((tmp_path / "tls/ca.pem").read_bytes())
    return server.start()


def test_secrets_stay_out_of_logs_metrics_help_and_the_process_list(secretive, tmp_path):
    secrets = secrets_of(secretive, tmp_path)
    places = {
        "log": secretive.log_path.read_text(encoding="utf-8"),
        "metrics": http_request(secretive.ports["monitor"], "/metrics").decode(),
        "help": millrace(None, "server", "info", "--help", MILLRACE_TOKEN=secrets[0]).out,
        "command line": pathlib.Path(f"/proc/{secretive.pid}/cmdline").read_text(encoding="utf-8"),
        "title": pathlib.Path(f"/proc/{secretive.pid}/comm").read_text(encoding="utf-8"),
    }
    for place, text in places.items():
        assert text
        for secret in secrets:
            assert secret not in text, f"{secret} is in the {place}"


def dumps_core(pid):
    """Crashes it; did the kernel write its memory down?"""
    resource.prlimit(pid, resource.RLIMIT_CORE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    os.kill(pid, signal.SIGABRT)  # as a failed assertion does
    _, status = os.waitpid(pid, 0)
    assert os.WIFSIGNALED(status)
    return os.WCOREDUMP(status)


def test_secrets_stay_out_of_core_dumps(secretive, tmp_path):
    other = subprocess.Popen(["sleep", "60"], cwd=tmp_path)  # pylint: disable=consider-using-with
    assert dumps_core(other.pid), "this machine writes no core dumps at all, so that nothing is shown"
    other.returncode = 0
    secrets_of(secretive, tmp_path)
    assert not dumps_core(secretive.pid)
    secretive.process = None


def test_an_idle_attacker_who_answers_nothing_is_no_burden(attacked):
    """Greets, opens calls and never reads: what is sent to it is bounded."""
    with Connection(attacked.ports["grpc"]) as connection:
        for _ in range(500):
            connection.call(LIST_QUEUES)
        assert is_serving(attacked)


def open_unread(server, path, requests, count):
    """A connection with so many calls, of each request in turn, on which no answer may be sent: the window is 0."""
    connection = Connection(server.ports["grpc"], greet=False)
    connection.send(http2.PREFACE, frame(http2.SETTINGS, 0, 0, struct.pack(">HI", 4, 0)))
    for at in range(count):
        connection.call(path, requests[at % len(requests)].SerializeToString())
    return connection


def wait_for_ends(connection, count):
    """So many streams have ended: with nothing but headers, which need no window, or by a reset."""
    ended, last = set(), time.monotonic() + 2 * SOON_S
    while len(ended) < count:
        seen = connection.read()
        assert seen, "the connection has ended"
        assert time.monotonic() < last, f"only {len(ended)} streams have ended"
        kind, flags, stream, _ = seen
        if kind == http2.RST_STREAM or (kind == http2.HEADERS and flags & http2.END_STREAM):
            ended.add(stream)


def test_answers_that_nobody_reads_are_bounded(make_server):
    """900 of 2 MiB each: beyond 256 MiB they are refused, and everybody else is served. What the engine fetches for those that are
    refused takes some memory for a moment, too."""
    server = make_server()
    jobs = [server.client.create(payload=api.Payload(data=b"x" * (2 * MIB - 1000))) for _ in range(16)]
    requests = [api.GetJobRequest(id=job.id) for job in jobs]
    before = server.memory_kib()
    with open_unread(server, GET_JOB, requests, 900) as connection:
        wait_for_ends(connection, 900 - 128)
        assert SANITIZED or server.memory_kib() - before < 640 * 1024
        assert is_serving(server)
        server.client.create()
        with fails("RESOURCE_EXHAUSTED", text="not read"):
            server.client.GetJob(requests[0])

    def is_answered():
        try:
            return server.client.job(jobs[0].id).id == jobs[0].id
        except api.Failure as failure:
            assert failure.code == "RESOURCE_EXHAUSTED"
            return False

    wait_until(is_answered, "there is room again")


def test_watches_that_nobody_reads_are_bounded(make_server):
    """700 of them, and 200 jobs whose events take 5 kB: beyond 256 MiB of all, whoever is behind is ended."""
    server = make_server()
    before = server.memory_kib()
    labels = {f"key-{at}": "v" * 250 for at in range(16)}
    with open_unread(server, WATCH_JOBS, [api.WatchJobsRequest(filter=api.JobFilter(tasks=["t"]))], 700) as connection:
        wait_until(lambda: monitor.metrics(server)["millrace_watches"] == 700, "all of them watch")
        for _ in range(20):
            server.client.create_many([api.JobSpec(task="t", labels=labels)] * 10)
        wait_for_ends(connection, 100)
        assert SANITIZED or server.memory_kib() - before < 1024 * 1024
        assert is_serving(server)
