"""What Services call the ports behind them: HTTP, something else, or nothing (rule 21).

By `appProtocol`, else by the name's first word, as Istio's protocol selection has it. Where two
Services disagree about one port of a workload, nothing is declared and the bytes decide.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from mesh.model import ServicePort

PortKind = Literal["http", "plain"]
#: The version of HTTP in which a proxy speaks to a backend; "client" is what the client spoke.
Version = Literal["client", "http/1.1", "http/2"]

_HTTP = frozenset({"http", "http2", "grpc", "grpc-web"})
#: Istio's other names, and those of Kubernetes (KEP-3726) for HTTP.
_PLAIN = frozenset({"tcp", "tls", "https", "mongo", "mysql", "redis"})
_APP = {"kubernetes.io/h2c": "http2", "kubernetes.io/ws": "http", "kubernetes.io/wss": "tls"}


def declared(port: ServicePort) -> PortKind | None:
    """What a Service says of its port; None: nothing that we know."""
    return kind_of(selected(port))


def kind_of(protocol: str) -> PortKind | None:
    """What comes in a protocol, by Istio's word for it in whatever case."""
    word = protocol.lower()
    if word in _HTTP:
        return "http"
    return "plain" if word in _PLAIN else None


def selected(port: ServicePort) -> str:
    """The protocol that a port selects, in Istio's or Kubernetes' word; "" is none that we know."""
    word = _APP.get(port.app_protocol, port.app_protocol.lower())
    if not word:
        word = port.name if port.name in _HTTP else port.name.partition("-")[0]
    return word if word in _HTTP | _PLAIN else ""


def version(port: ServicePort) -> Version:
    """What a server behind a port understands for certain, whatever clients of a gateway may speak."""
    return "http/2" if selected(port) in ("http2", "grpc") else "http/1.1"


def joined(kinds: Iterable[PortKind | None]) -> PortKind | None:
    """What several Services together say of one port."""
    found = set(kinds)
    return found.pop() if len(found) == 1 else None
