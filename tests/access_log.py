"""What the agent reads of Envoy's access records, one kind of them."""

from __future__ import annotations

from collections.abc import Iterator

from agent.access_log import LoggedConnection, LoggedRequest, Refusal, entries
from mesh.discovery.wire import bytes_field, text_field


def requests(message: bytes) -> Iterator[LoggedRequest]:
    return (found for found in entries(message) if isinstance(found, LoggedRequest))


def connections(message: bytes) -> Iterator[LoggedConnection]:
    return (found for found in entries(message) if isinstance(found, LoggedConnection))


def refusals(message: bytes) -> Iterator[Refusal]:
    return (found for found in entries(message) if isinstance(found, Refusal))


def tls(peer: str, local: str) -> bytes:
    """What AccessLogCommon says of a connection that Envoy ended TLS of; "": a certificate without URIs."""

    def certificate(uri: str) -> bytes:
        return bytes_field(1, text_field(1, uri)) if uri else text_field(3, "CN=issuer")

    return bytes_field(4, bytes_field(4, certificate(local)) + bytes_field(5, certificate(peer)))
