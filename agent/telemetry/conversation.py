"""Who talked to whom about what: the labels of Istio's standard metrics, in Istio's order.

https://istio.io/latest/docs/reference/config/metrics. A client cannot make labels up: a name of a service is
that of a Service the mesh knows, never the Host that was sent, and a principal that of a certificate.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Literal, NamedTuple

from mesh.model import CLUSTER_SUFFIX, ServiceName
from mesh.node import NOBODY, Canonical, WorkloadRecord

Reporter = Literal["source", "destination"]
Protocol = Literal["http", "grpc", "tcp"]

UNKNOWN = "unknown"
_UNCHANGED: Mapping[str, str | None] = {}
#: Istio's name for what comes in at a port of no Service.
_PASSED_IN = "InboundPassthroughCluster"
#: Istio's name of a cluster that has not been given one.
_CLUSTER = "Kubernetes"


class Party(NamedTuple):
    """One end; the pods of a workload are one party."""

    namespace: str
    canonical: Canonical


class Host(NamedTuple):
    """The three labels that name a service."""

    host: str = UNKNOWN
    name: str = UNKNOWN
    namespace: str = UNKNOWN


class Conversation(NamedTuple):
    """What one series counts. None: that end is no workload of the mesh. `code`, `grpc_status` and `flags`
    are those of requests. Principals are those that the reporter has seen the certificates of."""

    reporter: Reporter
    source: Party | None
    destination: Party | None
    service: Host
    protocol: Protocol
    code: str = ""
    grpc_status: str = ""
    flags: str = "-"
    source_principal: str = ""
    destination_principal: str = ""


def party(record: WorkloadRecord | None) -> Party | None:
    """Who a workload is in metrics."""
    return Party(record.name.namespace, record.telemetry) if record else None


@lru_cache(maxsize=4096)
def host(service: ServiceName) -> Host:
    """A service that the mesh knows."""
    return Host(service.host, service.name, service.namespace)


@lru_cache(maxsize=4096)
def host_of_cluster(name: str) -> Host | None:
    """The service that one of Envoy's clusters leads to, by its name such as `outbound|80||api.shop.svc...`;
    None for the clusters that lead wherever the client meant to go."""
    direction, _, rest = name.partition("|")
    found = rest.rpartition("|")[2]
    if direction != "outbound" or not found:
        return None
    short, _, namespace = found.removesuffix(f".{CLUSTER_SUFFIX}").partition(".")
    return Host(found, short, namespace) if found.endswith(CLUSTER_SUFFIX) else Host(found, found)


def labels(said: Conversation, changed: Mapping[str, str | None] = _UNCHANGED) -> str:
    """The series' labels as Prometheus reads them, without braces. Those that are `changed` have another
    value, or (None) are left out."""
    inbound, source, destination = said.reporter == "destination", said.source, said.destination
    service = said.service
    callee = _party("destination", destination, 1, said.destination_principal)
    # As Istio: who was reached is known even where no Service leads there.
    if inbound and destination and service.host == UNKNOWN:
        service = Host(destination.canonical.service, _PASSED_IN, destination.namespace)
    elif destination and service.namespace == UNKNOWN:
        service = service._replace(namespace=destination.namespace)
    pairs: list[tuple[str, str]] = [
        ("reporter", said.reporter),
        *_party("source", source, 0, said.source_principal, _namespace(said.source_principal)),
        *callee[:5],
        ("destination_service", service.host),
        *callee[5:7],
        ("destination_service_name", service.name),
        ("destination_service_namespace", service.namespace),
        *callee[7:],
        ("request_protocol", said.protocol),
    ]
    if said.protocol != "tcp":
        pairs += [("response_code", said.code), ("grpc_response_status", said.grpc_status)]
    pairs += [
        ("response_flags", said.flags),
        ("connection_security_policy", _security(said) if inbound else UNKNOWN),
    ]
    if changed:
        values = {**dict(pairs), **changed}
        pairs = [(name, value) for name, value in values.items() if value is not None]
    return text(pairs)


def _security(said: Conversation) -> str:
    """Who is asked has seen both certificates, or that there were none; with Istio who asks does not say."""
    return "mutual_tls" if said.source_principal and said.destination_principal else "none"


def _namespace(principal: str) -> str:
    """That of `spiffe://<trust domain>/ns/<namespace>/sa/<name>`."""
    return principal.partition("/ns/")[2].partition("/")[0]


def text(pairs: Iterable[tuple[str, str]]) -> str:
    """Labels in Prometheus' text format."""
    return ",".join(f'{name}="{_escaped(value)}"' for name, value in pairs)


def _party(
    end: str, found: Party | None, order: int, principal: str, proven: str = ""
) -> list[tuple[str, str]]:
    """The labels of one end. Istio orders them differently for source and destination, and takes the
    namespace that is `proven` before any other."""
    namespace, canonical = found if found else ("", NOBODY)
    named = {
        "workload": canonical.workload or UNKNOWN,
        "canonical_service": canonical.service or UNKNOWN,
        "canonical_revision": canonical.revision,
        "workload_namespace": proven or namespace or UNKNOWN,
        "principal": principal or UNKNOWN,
        "app": canonical.app or UNKNOWN,
        "version": canonical.version or UNKNOWN,
        "cluster": _CLUSTER if found else UNKNOWN,
    }
    return [(f"{end}_{name}", named[name]) for name in _ORDERS[order]]


_ORDERS = (
    (
        "workload", "canonical_service", "canonical_revision", "workload_namespace",
        "principal", "app", "version", "cluster",
    ),
    (
        "workload", "workload_namespace", "principal", "app", "version",
        "canonical_service", "canonical_revision", "cluster",
    ),
)  # fmt: skip


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
