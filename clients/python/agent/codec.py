# SPDX-License-Identifier: Apache-2.0
"""The agent's codec."""

from millrace import Payload


class ReverseCodec:
    """Sends everything backwards, which hides it from nobody but a test."""

    TYPE = "application/x-reverse"

    def encode(self, payload: Payload) -> Payload:
        data = payload.json.encode() if payload.json is not None else payload.data or b""
        kind = "json" if payload.json is not None else "data"
        return Payload(data=data[::-1], content_type=f"{self.TYPE}; kind={kind}; was={payload.content_type}")

    def decode(self, payload: Payload) -> Payload:
        if payload.data is None or not payload.content_type.startswith(self.TYPE):
            return payload
        data = payload.data[::-1]
        _, kind, was = (part.partition("=")[2] for part in payload.content_type.split("; "))
        if kind == "json":
            return Payload(json=data.decode(), content_type=was)
        return Payload(data=data, content_type=was)
