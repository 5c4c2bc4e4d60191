"""TCPRoute, TLSRoute and UDPRoute of gateway.networking.k8s.io: where whole connections go.

What they share with other routes is in `gateway_route`. The hostnames of a TLSRoute count at gateways
only, as those of every route (GEP-1294). It knows nothing of Envoy or the kernel.
"""

from __future__ import annotations

from typing import Literal

from mesh.dialects import gateway_route
from mesh.dialects.reading import Fields, Reader
from mesh.dialects.syntax import name
from mesh.model import ConnectionRule, ObjectRef, Route, RouteBackend

SPEC = Fields(("parentRefs", "rules"), refused=("useDefaultGateways",))
TLS_SPEC = Fields(("parentRefs", "hostnames", "rules"), refused=("useDefaultGateways",))
RULE = Fields(("name", "backendRefs"))
BACKEND = Fields((*gateway_route.TARGET, "weight"))


def read_tcp_route(root: Reader, ref: ObjectRef) -> tuple[Route, ...]:
    spec = gateway_route.read_spec(root, SPEC)
    return gateway_route.routes(root, connections=_rules(spec.at("rules"), "tcp"))


def read_udp_route(root: Reader, ref: ObjectRef) -> tuple[Route, ...]:
    spec = gateway_route.read_spec(root, SPEC)
    return gateway_route.routes(root, connections=_rules(spec.at("rules"), "udp"))


def read_tls_route(root: Reader, ref: ObjectRef) -> tuple[Route, ...]:
    spec = gateway_route.read_spec(root, TLS_SPEC)
    names = gateway_route.hostnames(spec.at("hostnames"), 1024)
    if not names and spec.at("hostnames").sound:
        spec.at("hostnames").refuse("is required: name what a TLS hello asks for")
    return gateway_route.routes(root, names, connections=_rules(spec.at("rules"), "tls"))


def _rules(reader: Reader, kind: Literal["tcp", "tls", "udp"]) -> tuple[ConnectionRule, ...]:
    """Rules have no matches, so that a second one would never count."""
    items = reader.items(at_most=1)
    if not items and reader.sound:
        reader.refuse("is required: give one rule")
    return tuple(_rule(item, kind) for item in items)


def _rule(reader: Reader, kind: Literal["tcp", "tls", "udp"]) -> ConnectionRule:
    reader.fields(RULE)
    name(reader.at("name"))
    refs = reader.at("backendRefs")
    found = tuple(_backend(item) for item in refs.items(at_most=16))
    if not found and refs.sound:
        refs.refuse("is required: name a Service")
    return ConnectionRule(reader.rule_field, kind, backends=found)


def _backend(reader: Reader) -> RouteBackend:
    reader.fields(BACKEND)
    service, number = gateway_route.target(reader, "its share of the connections is refused")
    return RouteBackend(service, number, gateway_route.weight(reader))
