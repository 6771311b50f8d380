# SPDX-License-Identifier: Apache-2.0
"""Two processes attack each port as fast as they are let, and everybody else is served as before."""
import contextlib
import multiprocessing
import socket
import statistics
import time

import pytest

from harness import api, http2
from harness.http2 import Connection, frame

ATTEMPTS_PER_S = 1000  # of each attacker
ATTACKERS = ("127.0.0.2", "127.0.0.3")
PER_ADDRESS_MAX = 200  # connections
CALLS_PER_S = 100      # of the honest caller: what the attack may cost is seen, not who has the faster processor
WINDOW_S = 1.0
WINDOWS = 8


def slow_heads(port, source, held):
    """Opens a connection, sends half a request, and keeps as many as it can."""
    connection = socket.create_connection(("127.0.0.1", port), timeout=5, source_address=(source, 0))
    held.append(connection)
    connection.sendall(b"GET /reports HTTP/1.1\r\nHost: x\r\nX-Slow: ")
    if len(held) > 2 * PER_ADDRESS_MAX:
        held.pop(0).close()


def idle(port, source, held):
    """Opens a connection and says nothing."""
    held.append(socket.create_connection(("127.0.0.1", port), timeout=5, source_address=(source, 0)))
    if len(held) > 2 * PER_ADDRESS_MAX:
        held.pop(0).close()


def rapid_reset(port, source, held):
    """Opens a stream and resets it."""
    if not held or held[0]._next > 100000:
        held[:] = [Connection(port, source)]
    connection = held[0]
    stream = connection.open(http2.request("/millrace.v1.JobService/CreateJobsStream"))
    if not connection.send(frame(http2.RST_STREAM, 0, stream, http2.CANCEL)):
        held.clear()


def refused_calls(port, source, held):
    """Calls without a right to: an unknown token."""
    if not held or held[0]._next > 100000:
        held[:] = [Connection(port, source)]
    connection = held[0]
    connection.call("/millrace.v1.QueueService/PurgeQueue", more=[("authorization", "Bearer guess")])
    connection.socket.setblocking(False)
    with contextlib.suppress(BlockingIOError, ConnectionError):
        connection.socket.recv(1 << 20)
    connection.socket.settimeout(5)


def attack(kind, port, source, on, off, attempts):
    """One attacking process: at it while `on` is set, until `off` is."""
    held, begin, made, paced = [], time.monotonic(), 0, 0
    while not off.is_set():
        if not on.is_set():
            on.wait(0.1)
            begin, paced = time.monotonic(), 0
        elif paced >= (time.monotonic() - begin) * ATTEMPTS_PER_S:
            time.sleep(0.001)
        else:
            paced += 1
            made += 1
            try:
                kind(port, source, held)
            except OSError:
                held[:] = held[-PER_ADDRESS_MAX:]
    attempts.put(made)


def served_per_s(client):
    """What the honest caller gets done in a window, at most CALLS_PER_S."""
    begin, done = time.monotonic(), 0
    while (now := time.monotonic()) < begin + WINDOW_S:
        if done >= (now - begin) * CALLS_PER_S:
            time.sleep(0.0005)
            continue
        client.create(queue="honest")
        done += 1
    return done / (time.monotonic() - begin)


def crowd():
    """How many want each processor, beside the attackers: so much longer does what needs one for a while take."""
    needed_s, begin, used = 0.02, time.monotonic(), time.thread_time()
    while time.thread_time() - used < needed_s:
        pass
    return max(1.0, (time.monotonic() - begin) / needed_s)


@contextlib.contextmanager
def attackers(kind, port):
    """Two processes that wait for the word. Gives the word, and what they will have tried at the end."""
    context = multiprocessing.get_context("spawn")
    on, off, attempts = context.Event(), context.Event(), context.Queue()
    processes = [context.Process(target=attack, args=(kind, port, source, on, off, attempts)) for source in ATTACKERS]
    tried = []
    for process in processes:
        process.start()
    try:
        yield on, tried
    finally:
        on.clear()
        off.set()
        tried += [attempts.get(timeout=60) for _ in processes]
        for process in processes:
            process.join(60)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("kind,port", [(slow_heads, "grpc"), (slow_heads, "worker"), (slow_heads, "monitor"), (idle, "grpc"), (idle, "worker"),
                                       (idle, "monitor"), (rapid_reset, "grpc"), (refused_calls, "grpc")])
def test_others_are_served_while_two_attack(make_server, record_property, kind, port):
    server = make_server({"--max-connections-per-address": str(PER_ADDRESS_MAX)})
    quiet, attacked, crowds = [], [], []
    with attackers(kind, server.ports[port]) as (on, tried):
        for _ in range(WINDOWS):  # by turns, as the machine has other things to do too
            on.clear()
            quiet.append(served_per_s(server.client))
            crowds.append(crowd())
            on.set()
            attacked.append(served_per_s(server.client))
    share = statistics.median(attacked) / statistics.median(quiet)
    crowded = statistics.median(crowds)
    record_property("share", share)
    print(f"{kind.__name__} on {port}: {statistics.median(quiet):.0f} calls/s, attacked {statistics.median(attacked):.0f} = {share:.0%}; "
          f"{sum(tried) / WINDOWS / WINDOW_S:.0f} attempts/s; lowest {min(quiet):.0f} and {min(attacked):.0f}; "
          f"{crowded:.1f} at work for each processor")
    assert min(tried) > 100, tried
    # Where others are at work too, they all give way to what the attack costs: the promise shrinks in proportion.
    assert share >= 0.8 / crowded, f"{quiet} quiet, {attacked} attacked, {crowded:.1f} at work for each processor"
    assert api.Client(server.target).health(wait=True) == "SERVING"
