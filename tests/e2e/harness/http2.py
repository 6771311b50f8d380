# SPDX-License-Identifier: Apache-2.0
"""HTTP/2 by hand, so that a test can break any rule of it."""
import socket
import struct

import hpack

from .wait import SOON_S

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
END_STREAM, ACK, END_HEADERS = 1, 1, 4
FRAME_BYTES_MAX = 16384
CANCEL = struct.pack(">I", 8)


def frame(kind, flags=0, stream=0, body=b"", length=None):
    """One frame; `length` lies about its length."""
    return struct.pack(">I", len(body) if length is None else length)[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + body


def request(path, scheme="http", te="trailers", more=()):
    """The headers of a gRPC call."""
    return [(":method", "POST"), (":scheme", scheme), (":path", path), (":authority", "x"), ("content-type", "application/grpc"),
            ("te", te), *more]


def message(data=b""):
    """A gRPC message."""
    return b"\0" + struct.pack(">I", len(data)) + data


class Connection:
    """A connection that has greeted; sends what it is told and collects what comes back."""

    def __init__(self, port, source="127.0.0.1", greet=True):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=SOON_S, source_address=(source, 0))
        self.encoder = hpack.Encoder()
        self._buffer = b""
        self._next = 1
        if greet:
            self.send(PREFACE, frame(SETTINGS))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def send(self, *parts):
        """Sends bytes. False: the server has closed the connection."""
        try:
            self.socket.sendall(b"".join(parts))
            return True
        except (ConnectionError, socket.timeout):
            return False

    def open(self, headers, end=False, block=None):
        """Begins a stream; returns its number."""
        stream, self._next = self._next, self._next + 2
        block = self.encoder.encode(headers, huffman=False) if block is None else block
        chunks = [block[at:at + FRAME_BYTES_MAX] for at in range(0, len(block), FRAME_BYTES_MAX)] or [b""]
        for index, chunk in enumerate(chunks):
            flags = (END_HEADERS if index == len(chunks) - 1 else 0) | (END_STREAM if end and index == 0 else 0)
            self.send(frame(HEADERS if index == 0 else CONTINUATION, flags, stream, chunk))
        return stream

    def call(self, path, data=b"", **how):
        """A unary call; returns its stream's number."""
        stream = self.open(request(path, **how))
        self.send(frame(DATA, END_STREAM, stream, message(data)))
        return stream

    def read(self, timeout_s=SOON_S):
        """The next frame as (kind, flags, stream, body); None: the server has closed."""
        self.socket.settimeout(timeout_s)
        while True:
            if len(self._buffer) >= 9:
                length = int.from_bytes(self._buffer[:3], "big")
                if len(self._buffer) >= 9 + length:
                    head, body = self._buffer[:9], self._buffer[9:9 + length]
                    self._buffer = self._buffer[9 + length:]
                    kind, flags, stream = head[3], head[4], int.from_bytes(head[5:9], "big")
                    if kind == SETTINGS and not flags & ACK:
                        self.send(frame(SETTINGS, ACK))
                    elif kind == PING and not flags & ACK:
                        self.send(frame(PING, ACK, 0, body))
                    return kind, flags, stream, body
            try:
                data = self.socket.recv(65536)
            except ConnectionError:
                return None
            if not data:
                return None
            self._buffer += data

    def ends(self, stream):
        """Waits for the end of a stream: True; False: the connection has ended first."""
        while (seen := self.read()) is not None:
            kind, flags, number, _ = seen
            if number == stream and (kind == RST_STREAM or (kind in (DATA, HEADERS) and flags & END_STREAM)):
                return True
        return False
