# SPDX-License-Identifier: Apache-2.0
"""A worker that speaks the protocol in plain Python, so that a test can do right or wrong at any step.

It registers over gRPC, joins its session by two plain WebSockets (or by Attach), keeps the numbers and the set of held deliveries, beats,
keeps reports until they are accepted and sends them again after a reconnect. Without a handler it holds what it gets until the test says
what to report. `swallow`, `mute` and `cut()` make it misbehave.
"""
import asyncio
import collections
import queue
import threading
import time

import grpc
import websockets

from . import api
from .wait import SOON_S, wait_until

_loop = None
_loop_lock = threading.Lock()


def loop():
    """One event loop in a thread of its own for all workers of the test process."""
    global _loop
    with _loop_lock:
        if _loop is None:
            _loop = asyncio.new_event_loop()
            threading.Thread(target=_loop.run_forever, name="workers", daemon=True).start()
    return _loop


def run(coroutine, timeout_s=SOON_S):
    """Runs a coroutine there and waits for its result."""
    return asyncio.run_coroutine_threadsafe(coroutine, loop()).result(timeout_s)


class WebSocketPipe:
    """The two paths of a session, as a client without nng sees them."""

    def __init__(self, base, registered, token, on_message, ssl_context=None):
        self._on_message = on_message
        self._ssl = {"ssl": ssl_context} if ssl_context else {}
        self._header = {"Authorization": f"Bearer {token}"}
        self._fragment_bytes = registered.limits.fragment_bytes_max or 65536
        self._urls = (base + registered.jobs_path, base + registered.reports_path)
        self._sockets = ()
        self._reader = None
        self.closed = threading.Event()

    async def open(self):
        """Dials both."""
        self._sockets = []
        for url, protocol in zip(self._urls, ("push.sp.nanomsg.org", "pull.sp.nanomsg.org")):
            self._sockets.append(await self._dial(url, protocol))
        self._reader = asyncio.ensure_future(self._read())
        self._watcher = asyncio.ensure_future(self._watch())

    async def _dial(self, url, protocol):
        """Dials again when it is reset, as workers do: at a session's end the port takes nobody for a moment."""
        for tries_left in range(20, -1, -1):
            try:
                return await websockets.connect(url, subprotocols=[protocol], extra_headers=self._header, max_size=None, compression=None,
                                                ping_interval=None, open_timeout=SOON_S, close_timeout=1, **self._ssl)
            except (ConnectionResetError, websockets.InvalidMessage):
                if not tries_left:
                    raise
                await asyncio.sleep(0.1)

    async def _read(self):
        try:
            async for message in self._sockets[0]:
                await self._on_message(self, message)
        except websockets.ConnectionClosed:
            pass
        finally:
            self.closed.set()

    async def _watch(self):
        await self._sockets[1].wait_closed()
        self.closed.set()

    async def send(self, data):
        """Sends one message on the reports path, in fragments if it is big: the server takes no frame above 1 MiB."""
        size = self._fragment_bytes
        parts = [data[start:start + size] for start in range(0, len(data), size)]
        await self._sockets[1].send(parts if len(parts) > 1 else data)

    async def close(self, abort=False):
        """Closes politely, or as a cut cable that resets."""
        for socket in self._sockets:
            if abort:
                socket.transport.abort()
            else:
                await socket.close()
        self.closed.set()


class AttachPipe:
    """The same over gRPC's Attach."""

    def __init__(self, target, registered, token, on_message):
        self._target = target
        self._hello = api.AttachRequest(hello=api.AttachHello(session_id=registered.session_id, session_token=token))
        self._on_message = on_message
        self._out = queue.Queue()
        self.closed = threading.Event()
        self.error = None

    async def open(self):
        """Says hello."""
        self._channel = grpc.insecure_channel(self._target, options=[("grpc.use_local_subchannel_pool", 1),
                                                                     ("grpc.max_receive_message_length", 16 << 20)])
        path, request, response, _, _ = api.METHODS["Attach"]
        self._out.put(self._hello)
        self._call = self._channel.stream_stream(path, request_serializer=request.SerializeToString,
                                                 response_deserializer=response.FromString)(iter(self._out.get, None))
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        try:
            for message in self._call:
                run(self._on_message(self, message.deliveries.SerializeToString()))
        except grpc.RpcError as error:
            self.error = api.Failure.of(error)
        finally:
            self.closed.set()

    async def send(self, data):
        """Sends one Reports message."""
        if self.closed.is_set():
            raise ConnectionError("the stream has ended")
        self._out.put(api.AttachRequest(reports=api.Reports.FromString(data)))

    async def close(self, abort=False):
        """Ends the stream."""
        del abort
        self._out.put(None)
        self._call.cancel()
        self._channel.close()
        self.closed.set()


class Worker:
    """One session. Use as a context manager; `handler(delivery)` answers a result (JSON text or None) or a Report event message."""

    def __init__(self, server, queues=("default",), tasks=("*",), concurrency=10, handler=None, transport="ws", connect=True, **register):
        self.server = server
        self.transport = transport
        self.handler = handler
        self.swallow = False    # messages are read and forgotten, as by a program that is stopped or broken
        self.mute = False       # no heartbeats
        self.obeys = True       # False: goes on with deliveries that it was told are lost
        self.deliveries = queue.Queue()
        self.commands = []
        self.received = []      # every Deliveries message, as it came
        self.received_up_to = 0
        self.held = {}          # (job, delivery) -> Delivery
        self.accepted = 0
        self.taken = collections.Counter()
        self._final = {}        # report_seq -> [(job, delivery)]
        self._unaccepted = {}   # report_seq -> bytes
        self._report_seq = 0
        self._last_ping = 0
        self._pipe = None
        self._beat = None
        self._lock = None
        self.host = None
        self.client = api.Client(server.target, credentials=server.credentials)
        self.request = api.RegisterRequest(
            queues=[q if not isinstance(q, (str, tuple)) else api.WorkerQueue(name=q) if isinstance(q, str)
                    else api.WorkerQueue(name=q[0], weight=q[1]) for q in queues],
            tasks=[api.WorkerTask(name=t) if isinstance(t, str) else t for t in tasks], concurrency=concurrency,
            hostname="test", pid=1, sdk="e2e", **register)
        self.registered = self.client.Register(self.request)
        self.session_id = self.registered.session_id
        self.token = self.registered.session_token
        if connect:
            self.connect()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    # ---- connection ----

    def base_url(self):
        """Where the WebSockets are."""
        return f"{self.registered.scheme}://{self.host or f'127.0.0.1:{self.registered.port}'}"

    def connect(self, token=None):
        """Joins the session: the first message is a heartbeat, then all reports that were not accepted."""
        run(self._connect(token or self.token))
        return self

    async def _connect(self, token):
        if self._lock is None:
            self._lock = asyncio.Lock()
        if self.transport == "ws":
            pipe = WebSocketPipe(self.base_url(), self.registered, token, self._message, self.server.ssl_context)
        else:
            pipe = AttachPipe(self.server.target, self.registered, token, self._message)
        self._pipe = pipe
        try:
            await pipe.open()
            async with self._lock:
                if not self.mute:
                    await pipe.send(self._heartbeat())
                for seq in sorted(self._unaccepted):
                    await pipe.send(self._unaccepted[seq])
        except BaseException:
            await pipe.close(abort=True)
            raise
        if self._beat:
            self._beat.cancel()
        self._beat = asyncio.ensure_future(self._beats(pipe))

    def wait_attached(self):
        """Waits until the server counts on it: nothing comes before its first heartbeat has, and then an answer does."""
        wait_until(lambda: self.received, "the answer to the first heartbeat")
        return self

    def reconnect(self, timeout_s=SOON_S):
        """Dials until it works, as clients do after a restart of the server."""
        def attempt():
            try:
                self.connect()
                return not self._pipe.closed.wait(0.05)
            except (OSError, websockets.WebSocketException, api.Failure, ConnectionError, asyncio.TimeoutError) as error:
                raise AssertionError(error) from None
        wait_until(attempt, "reconnect", timeout_s, 0.05)
        return self

    def resume(self):
        """Registers with the old session, as a refused worker does. Failure NOT_FOUND when it is gone."""
        request = api.RegisterRequest()
        request.CopyFrom(self.request)
        request.resume_session_id = self.session_id
        request.resume_session_token = self.token
        return self.client.Register(request)

    def cut(self):
        """The connection breaks; the worker does not know of anything else."""
        if self._beat:
            loop().call_soon_threadsafe(self._beat.cancel)
        if self._pipe:
            try:
                run(self._pipe.close(abort=True))
            except (websockets.WebSocketException, OSError):
                pass

    def close(self):
        """Ends the session, as far as the server is there."""
        self.cut()
        if self.client.is_open() and self.server.is_alive():
            try:
                self.client.Deregister(session_id=self.session_id, session_token=self.token)
            except api.Failure:
                pass
        self.client.close()

    def vanish(self):
        """What kill -9 does: connections gone, nobody deregisters."""
        self.cut()
        self.client.close()

    def is_closed(self):
        """The server (or cut) has closed the connection."""
        return self._pipe.closed.is_set()

    # ---- incoming ----

    async def _message(self, pipe, data):
        if self.swallow:
            return
        message = api.Deliveries.FromString(data)
        if pipe is not self._pipe:
            return
        self.received.append(message)
        if message.ping:
            self._last_ping = message.ping
        if message.accepted_report_seq > self.accepted:
            self.accepted = message.accepted_report_seq
            for seq in [s for s in self._unaccepted if s <= self.accepted]:
                del self._unaccepted[seq]
                for key in self._final.pop(seq, ()):
                    self.held.pop(key, None)
        for command in message.commands:
            self.commands.append(command)
            if command.kind == api.CommandKind.LOST and self.obeys:
                self.held.pop((command.job_id, command.delivery), None)
        if not message.delivery_seq or message.delivery_seq <= self.received_up_to:
            return
        self.received_up_to = message.delivery_seq
        events = []
        for delivery in message.deliveries:
            self.held[(delivery.job_id, delivery.delivery)] = delivery
            self.taken[delivery.job_id] += 1
            if self.handler is None:
                self.deliveries.put(delivery)
            else:
                event = self._handle(delivery)
                if event is not None:
                    events.append(event)
        if events:
            await self._report(events)

    def _handle(self, delivery):
        result = self.handler(delivery)
        if result is HOLD:
            self.deliveries.put(delivery)
            return None
        return _event(delivery, result)

    # ---- outgoing ----

    def _heartbeat(self):
        held = [api.HeldDelivery(job_id=job, delivery=number) for job, number in self.held]
        return api.Reports(heartbeat=api.Heartbeat(received_up_to=self.received_up_to, held=held, ping=self._last_ping)).SerializeToString()

    async def _beats(self, pipe):
        interval_s = api.unix(self.registered.heartbeat_interval) or 5
        try:
            while not pipe.closed.is_set():
                await asyncio.sleep(interval_s)
                if not self.mute and not self.swallow:
                    await pipe.send(self._heartbeat())
        except (websockets.WebSocketException, ConnectionError):
            pass

    def beat(self):
        """A heartbeat now."""
        run(self._pipe.send(self._heartbeat()))

    async def _report(self, events, send=True):
        async with self._lock:
            self._report_seq += 1
            seq = self._report_seq
            data = api.Reports(report_seq=seq, reports=events).SerializeToString()
            self._unaccepted[seq] = data
            self._final[seq] = [(e.job_id, e.delivery) for e in events
                                if e.WhichOneof("event") in ("succeeded", "failed", "snoozed", "released")]
            if send:
                try:
                    await self._pipe.send(data)
                except (websockets.WebSocketException, ConnectionError):
                    pass  # it stays unaccepted and goes out with the next connection
        return seq

    def report(self, *events, wait=True, send=True):
        """Sends reports in one message; waits until the server says that they are durable."""
        seq = run(self._report(list(events), send))
        if wait and send:
            self.wait_accepted(seq)
        return seq

    def wait_accepted(self, seq):
        """Waits until reports up to `seq` are durable."""
        wait_until(lambda: self.accepted >= seq, f"report {seq} accepted (so far {self.accepted})")

    def send_raw(self, data):
        """Any bytes on the reports path."""
        run(self._pipe.send(data))

    def succeed(self, delivery, result=None, **options):
        """Reports success, with JSON text as the result."""
        return self.report(_event(delivery, result), **options)

    def fail(self, delivery, type="Boom", message="it broke", trace="", wait=True, **advice):
        """Reports a failure."""
        failed = api.Failed(error=api.JobError(type=type, message=message, trace=trace), **advice)
        return self.report(_event(delivery, failed), wait=wait)

    def snooze(self, delivery, delay_s):
        """Asks to be called again later."""
        return self.report(_event(delivery, api.Snoozed(delay=api.seconds(delay_s))))

    def release(self, delivery, reason=1):
        """Gives it back."""
        return self.report(_event(delivery, api.Released(reason=reason)))

    def started(self, delivery, at=None):
        """Says that the handler started."""
        return self.report(_event(delivery, api.Started(started_at=api.timestamp(at if at is not None else time.time()))))

    def progress(self, delivery, fraction, message=""):
        """Says how far it is."""
        return self.report(_event(delivery, api.Progress(fraction=fraction, message=message)))

    def log(self, delivery, *lines):
        """Writes to the job's log."""
        now_ms = int(time.time() * 1000)
        return self.report(_event(delivery, api.LogLines(lines=[api.LogLine(time_unix_ms=now_ms, text=line) for line in lines])))

    def take(self, timeout_s=SOON_S):
        """The next delivery, held from now on."""
        try:
            return self.deliveries.get(timeout=timeout_s)
        except queue.Empty:
            raise AssertionError(f"no delivery within {timeout_s:.0f} s") from None

    def take_many(self, count):
        """The next `count` deliveries."""
        return [self.take() for _ in range(count)]

    def wait_for_command(self, kind, job_id=""):
        """Waits for a command about a job."""
        return wait_until(lambda: next((c for c in self.commands if c.kind == kind and c.job_id == job_id), None),
                          f"command {api.CommandKind(kind).name} (got {[api.CommandKind(c.kind).name for c in self.commands]})")


HOLD = object()  # a handler's answer: the test will report later

_EVENT_FIELDS = {"Started": "started", "Succeeded": "succeeded", "Failed": "failed", "Snoozed": "snoozed", "Released": "released",
                 "Progress": "progress", "LogLines": "log"}


def _event(delivery, what):
    """A Report about a delivery: JSON text or None is success, a message is that event."""
    report = api.Report(job_id=delivery.job_id, delivery=delivery.delivery)
    if what is None:
        report.succeeded.SetInParent()
    elif isinstance(what, str):
        report.succeeded.result.json = what
    elif isinstance(what, api.Payload):
        report.succeeded.result.CopyFrom(what)
    else:
        getattr(report, _EVENT_FIELDS[type(what).__name__]).CopyFrom(what)
    return report


def echo(delivery):
    """A handler that returns its payload."""
    return delivery.payload.json or "null"


def failing(type="Boom", message="it broke", **advice):
    """A handler that always fails."""
    return lambda delivery: api.Failed(error=api.JobError(type=type, message=message), **advice)
