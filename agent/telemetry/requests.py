"""What an Envoy's access record says for metrics: reporter, both ends, the service that was meant.

The caller's Envoy reports as source, the destination's as destination, a Gateway's as source. Knows names, no
counters.
"""

from __future__ import annotations

from agent.access_log import LoggedRequest, Principals
from agent.names import Names, pack
from agent.telemetry.conversation import (
    UNKNOWN,
    Conversation,
    Host,
    Party,
    Protocol,
    Reporter,
    party,
)
from agent.telemetry.scrape import PORTS
from agent.telemetry.services import behind, meant, reporter
from mesh.model import Attribute

#: Codes of gRPC; any other is _INVALID.
_GRPC_STATUSES = frozenset(map(str, range(17)))
_INVALID = "-1"
#: What an answer without one means (https://github.com/grpc/grpc/blob/master/doc/http-grpc-status-mapping.md).
_OF_HTTP = {400: "13", 401: "16", 403: "7", 404: "12", 429: "14", 502: "14", 503: "14", 504: "14"}
_GRPC_UNKNOWN = "2"
#: A record tells of the client's connection, and nothing of TLS to the backend.
_UNSEEN = Principals()


def conversation(names: Names, addresses: tuple[str, ...], request: LoggedRequest) -> Conversation | None:
    """Of one request that the Envoy of the pod with these addresses has handled; None if it does not
    count."""
    own = party(names.workload(pack(addresses[0]))) if addresses else None
    side = reporter(names, addresses, request)
    if side == "source":
        reached = party(names.workload(pack(request.upstream.ip)))
        return _said(side, own, reached, meant(names, request.cluster, request.local), request, _UNSEEN)
    # What scrapes these goes past Istio's proxy.
    if side is None or request.local.port in PORTS:
        return None
    caller = party(names.workload(pack(request.remote.ip)))
    return _said(side, caller, own, behind(names, *request.local), request, request.principals)


def _said(
    side: Reporter,
    source: Party | None,
    destination: Party | None,
    service: Host,
    request: LoggedRequest,
    principals: Principals,
) -> Conversation:
    protocol: Protocol = "grpc" if request.is_grpc else "http"
    status, grpc_status, flags = str(request.status), _grpc_status(request), request.flags
    return Conversation(side, source, destination, service, protocol, status, grpc_status, flags, *principals)


def _grpc_status(request: LoggedRequest) -> str:
    """As Envoy's Grpc::Common::getGrpcStatus."""
    if not request.is_grpc:
        return ""
    if request.grpc_status:
        return request.grpc_status if request.grpc_status in _GRPC_STATUSES else _INVALID
    return _OF_HTTP.get(request.status, _GRPC_UNKNOWN) if request.status else ""


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
