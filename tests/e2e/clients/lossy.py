# SPDX-License-Identifier: Apache-2.0
"""A way to the server on which connections get lost, as a client sees it whose gRPC library calls that UNKNOWN."""
import itertools
import threading
from concurrent import futures

import grpc

from harness import api
from harness.wait import wait_until

CALLS_AT_A_TIME = 32
FOR_EVER_S = 86400
LOST = (grpc.StatusCode.UNKNOWN, "Stream removed")


class _Call:
    """A call on its way through."""

    def __init__(self, name, request, upstream):
        self.name = name
        self.request = request
        self.upstream = upstream
        self.is_cut = False
        self.swallows = None
        self.has_swallowed = False

    def answers(self):
        """What comes from the server, without the first message that is to be swallowed and all behind it."""
        for answer in self.upstream:
            self.has_swallowed = self.has_swallowed or bool(self.swallows and self.swallows(api.METHODS[self.name][2].FromString(answer)))
            if not self.has_swallowed:
                yield answer


class LossyProxy(grpc.GenericRpcHandler):
    """Passes every call on, except those that it was told to lose."""

    def __init__(self, target):
        self._channel = grpc.insecure_channel(target, options=[("grpc.use_local_subchannel_pool", 1)])
        self._lock = threading.Lock()
        self._to_lose = {}
        self._under_way = []
        self._server = grpc.server(futures.ThreadPoolExecutor(CALLS_AT_A_TIME), handlers=[self])
        self.target = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self._server.start()

    def lose(self, *names, times=1):
        """So many calls of each of these methods are lost before the server gets them."""
        with self._lock:
            for name in names:
                self._to_lose[name] = times

    def has_lost(self, name):
        """All calls of this method that were to be lost are."""
        with self._lock:
            return not self._to_lose.get(name, 0)

    def swallow(self, name, condition):
        """From the first answer on that meets the condition, the client of the call under way gets nothing more. Returns a function
        that tells whether it has begun."""
        call = self._find(name)
        call.swallows = condition
        return lambda: call.has_swallowed

    def _find(self, name, condition=lambda request: True):
        def look():
            with self._lock:
                return next((call for call in self._under_way if call.name == name and condition(call.request)), None)

        return wait_until(look, f"{name} is under way")

    def cut(self, name, condition=lambda request: True):
        """Waits for a call whose first message meets the condition, and loses it in its middle."""
        call = self._find(name, condition)
        call.is_cut = True
        call.upstream.cancel()

    def close(self):
        """Ends everything."""
        self._server.stop(None).wait()
        self._channel.close()

    # ---- gRPC's side ----

    def service(self, handler_call_details):
        """Unary calls look the same on the wire as streams."""
        path = handler_call_details.method
        return grpc.stream_stream_rpc_method_handler(lambda requests, context: self._pass_on(path, requests, context))

    def _pass_on(self, path, requests, context):
        name = path.rsplit("/", 1)[1]
        with self._lock:
            is_lost = self._to_lose.get(name, 0) > 0
            if is_lost:
                self._to_lose[name] -= 1
        first = next(requests)
        if is_lost:
            context.abort(*LOST)
        left_s = context.time_remaining()
        upstream = self._channel.stream_stream(path)(itertools.chain([first], requests), timeout=left_s if left_s < FOR_EVER_S else None)
        call = _Call(name, api.METHODS[name][1].FromString(first), upstream)
        context.add_callback(upstream.cancel)
        with self._lock:
            self._under_way.append(call)
        try:
            yield from call.answers()
        except grpc.RpcError as error:
            if call.is_cut:
                context.abort(*LOST)
            context.set_trailing_metadata(error.trailing_metadata() or ())
            context.abort(error.code(), error.details())
        finally:
            with self._lock:
                self._under_way.remove(call)
