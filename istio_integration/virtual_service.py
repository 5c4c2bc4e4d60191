"""VirtualService of networking.istio.io, v1, v1beta1 and v1alpha3 (istio/api, virtual_service.proto).

The validation is Istio's own, and what Istio accepts and leaves out is refused by name. One that cannot be
read has no effect. This file knows nothing of who is called, of delegates' contents, nor of Envoy.
"""

from __future__ import annotations

from ipaddress import ip_address

from istio_integration.callers import gateways
from istio_integration.connection_route import tcp_rule, tls_rule
from istio_integration.hosts import exported, host, is_address, refuse_doubles, service_of
from istio_integration.http_match import refuse_claims
from istio_integration.http_route import http_rule
from mesh.dialects.reading import OBJECT, Fields, Reader
from mesh.dialects.syntax import created
from mesh.model import MESH_GATEWAY, ObjectRef, Parent, Route

SPEC = Fields(("hosts", "gateways", "http", "tls", "tcp", "exportTo"))


def read_virtual_service(root: Reader, ref: ObjectRef) -> tuple[Route, ...]:
    """One without hosts is a delegate: it binds nobody until a route of another one names it."""
    root.fields(OBJECT)
    spec = root.at("spec").fields(SPEC)
    spec.require()
    bound = gateways(spec.at("gateways")) or (MESH_GATEWAY,)
    names = _hosts(spec.at("hosts"), mesh=MESH_GATEWAY in bound)
    written = [item.text().lower() for item in spec.at("hosts").items()]
    if not written:
        for field in ("gateways", "tls", "tcp"):
            if spec.at(field).present and spec.at(field).value != []:
                spec.at(field).refuse("cannot stand in a VirtualService without hosts, which is a delegate")
    rules = [http_rule(item, not written) for item in spec.at("http").items()]
    if written:
        for item in spec.at("http").items():
            refuse_claims(item, bound)
    connections = [tls_rule(item, [*dict.fromkeys([*written, *names])]) for item in spec.at("tls").items()]
    connections += [tcp_rule(item) for item in spec.at("tcp").items()]
    if not rules and not connections and spec.sound:
        spec.refuse("has no routes: write http, tls or tcp")
    services = [service_of(full, ref.namespace) for full in names if full[0] != "*" and not is_address(full)]
    return (
        Route(
            ref,
            created(root),
            tuple(Parent(service, None) for service in services),
            tuple(rules),
            tuple(connections),
            hosts=tuple(full for full in names if full[0] == "*"),
            names=names,
            exported=exported(spec.at("exportTo")),
            gateways=bound,
            in_order=True,
        ),
    )


def _hosts(reader: Reader, mesh: bool) -> tuple[str, ...]:
    """Full names, patterns and addresses. Only at a gateway may every host be meant."""
    found = []
    for item in reader.items():
        text = item.text()
        full = str(ip_address(text)) if is_address(text) else host(item, wildcard=True)
        if full == "*" and mesh:
            item.refuse("* is for gateways only: name the hosts that callers in the mesh ask for")
        if full:
            found.append(full)
    refuse_doubles(reader.items())
    return tuple(dict.fromkeys(found))
