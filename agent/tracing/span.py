"""A span before anything of OpenTelemetry is loaded, and what it says of a connection.

Names are those of OpenTelemetry's semantic conventions where they have one, else of Envoys' spans
(`sluice.verdict`, `sluice.policy`) or the flow record's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from agent.number import number
from agent.telemetry.conversation import UNKNOWN, host_of_cluster
from bpf.layout import Event
from mesh.answers.flow import Flow
from mesh.model import ServiceName
from mesh.node import TracingRecord

Attributes = dict[str, str | int | bool]


class Context(NamedTuple):
    """Which span: 128 and 64 bits."""

    trace: int
    span: int

    @classmethod
    def sampled(cls, traceparent: str) -> Context | None:
        """Of a header of W3C Trace Context; None if it is none, or its trace is not recorded."""
        parts = traceparent.split("-")
        if [len(part) for part in parts[:4]] != [2, 32, 16, 2]:
            return None
        try:
            _, trace, span, flags = (int(part, 16) for part in parts[:4])
        except ValueError:
            return None
        return cls(trace, span) if trace and span and flags & 1 else None


@dataclass(frozen=True, slots=True)
class Span:
    """Times are nanoseconds since the epoch; `error` is why it was not to be, "" for none."""

    record: TracingRecord
    name: str
    start: int
    end: int
    attributes: Attributes
    error: str = ""
    parent: Context | None = None
    links: tuple[Context, ...] = ()


def name(said: Attributes) -> str:
    """Few different ones: addresses outside the mesh are no part of it."""
    host, port = said["server.address"], said["server.port"]
    return f"TCP {host}:{port}" if "sluice.service" in said else f"TCP :{port}"


def serving(cluster: str) -> Attributes:
    """What Envoy's choice of a cluster adds: it dials backends, and the kernel cannot know of what."""
    found, port = host_of_cluster(cluster), number(cluster.split("|")[1]) if "|" in cluster else None
    if found is None or port is None:
        return {}
    said: Attributes = {"server.address": found.host, "server.port": port}
    if found.namespace != UNKNOWN:
        said["sluice.service"] = f"{found.namespace}/{found.name}"
    return said


def attributes(event: Event, flow: Flow) -> Attributes:
    """What the kernel knows of a connection."""
    source, destination = flow.source, flow.destination
    found: Attributes = {
        "network.transport": flow.protocol.lower(),
        "network.type": "ipv6" if ":" in destination.ip else "ipv4",
        "network.local.address": source.ip,
        "network.local.port": source.port,
        "network.peer.address": destination.ip,
        "network.peer.port": destination.port,
        "server.address": _host(destination.service) or destination.ip,
        "server.port": event.vip_port or destination.port,
        "sluice.path": "kernel",
        "sluice.verdict": "denied" if flow.verdict == "DROPPED" else "allowed",
        "sluice.policy": "; ".join(flow.policies),
        "sluice.source": f"{source.namespace}/{source.pod}",
        "sluice.destination": f"{destination.namespace}/{destination.pod}" if destination.pod else "",
        "sluice.service": destination.service,
        "sluice.kernel.generation": event.generation,
        "error.type": flow.drop_reason,
    }
    return {key: value for key, value in found.items() if value not in ("", 0)}


def _host(service: str) -> str:
    namespace, _, short = service.partition("/")
    return ServiceName(namespace, short).host if short else ""
