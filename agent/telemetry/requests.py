"""What an Envoy's access record says for metrics: reporter, both ends, the service that was meant.

The caller's Envoy reports as source, the destination's as destination. Knows names, no counters.
"""

from __future__ import annotations

from agent.access_log import LoggedRequest
from agent.names import Names, pack
from agent.telemetry.conversation import (
    UNKNOWN,
    Conversation,
    Host,
    Party,
    Protocol,
    Reporter,
    host,
    host_of_cluster,
    party,
)
from mesh.model import Attribute


def conversation(names: Names, addresses: tuple[str, ...], request: LoggedRequest) -> Conversation:
    """Of one request that the Envoy of the pod with these addresses has handled."""
    own = party(names.workload(pack(addresses[0]))) if addresses else None
    if request.local.ip in addresses:
        caller = party(names.workload(pack(request.remote.ip)))
        found = names.service_at(request.local.ip, request.local.port)
        return _said("destination", caller, own, host(found) if found else Host(), request)
    reached = party(names.workload(pack(request.upstream.ip)))
    return _said("source", own, reached, _meant(names, request), request)


def _said(
    reporter: Reporter, source: Party | None, destination: Party | None, service: Host, request: LoggedRequest
) -> Conversation:
    protocol: Protocol = "grpc" if request.is_grpc else "http"
    status, grpc_status = str(request.status), request.grpc_status
    return Conversation(reporter, source, destination, service, protocol, status, grpc_status, request.flags)


def _meant(names: Names, request: LoggedRequest) -> Host:
    """The service that the route chose; without one, the one that was dialled or that the backend is of."""
    if chosen := host_of_cluster(request.cluster):
        return chosen
    service = names.service(pack(request.local.ip)) or names.service_at(request.local.ip, request.local.port)
    if service is not None:
        return host(service)
    # Istio's name for what is passed on to where the client meant it to go.
    return Host(name=request.cluster) if request.cluster else Host()


def attribute(request: LoggedRequest, name: Attribute) -> str:
    """What a label made of an attribute says of a request."""
    match name:
        case "request.method":
            return request.method or UNKNOWN
        case "request.host":
            return request.authority or UNKNOWN
        case "request.path":
            return request.path or UNKNOWN
        case "request.url_path":
            return request.path.partition("?")[0] or UNKNOWN
        case "response.code":
            return str(request.status)
        case "response.flags":
            return request.flags
