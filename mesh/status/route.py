"""Status of routes: does each parent take it, and is there all to which it refers (RouteParentStatus)?

A parent that is not there, or that is somebody else's, gets no answer: it may be another controller's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from mesh.assemble import Mesh
from mesh.model import (
    GATEWAY_CONTROLLER,
    Gateway,
    GatewayParent,
    Mirror,
    ObjectRef,
    Route,
    RouteBackend,
    ServiceName,
)
from mesh.routes.gateway_hosts import attaches, meets
from mesh.status.attachments import Attachments
from mesh.status.conditions import GROUP, Condition, Written, accepted, plain

Ref = Mapping[str, Any]


def route_status(mesh: Mesh, written: Written, attachments: Attachments) -> dict[str, Any]:
    """Parents are told as they are written."""
    ref = written.fragment.ref
    route = mesh.routes.all.get(ref)
    resolved = _references(mesh, route) if route else Condition("ResolvedRefs", True, "ResolvedRefs")
    parents = []
    for item in written.listed("parentRefs"):
        judged = _judge(mesh, route, ref, item, attachments)
        if judged is None:
            continue
        base = list(accepted(written, route is not None))
        if base[0].good and not judged.good:
            base[0] = judged
        first, *rest = base
        parents.append(
            {
                "parentRef": dict[str, Any]({"group": GROUP, "kind": "Gateway"}) | dict(item),
                "controllerName": GATEWAY_CONTROLLER,
                "conditions": plain((first, resolved, *rest), written, route is not None),
            }
        )
    return {"parents": parents}


def _judge(
    mesh: Mesh, route: Route | None, ref: ObjectRef, item: Ref, attachments: Attachments
) -> Condition | None:
    """What one parent says; None: not ours to say."""
    kind, name = item.get("kind", "Gateway"), str(item.get("name"))
    namespace = str(item.get("namespace") or ref.namespace)
    if kind == "Service":
        return _of_service(mesh, ServiceName(namespace, name), item.get("port"))
    gateway = mesh.gateways.all.get(ObjectRef("Gateway", namespace, name))
    if kind != "Gateway" or gateway is None or not mesh.gateways.is_ours(gateway):
        return None
    if route is None:
        return Condition("Accepted", True, "Accepted")
    return _of_gateway(mesh, route, gateway, GatewayParent(gateway.ref, *_place(item)), attachments)


def _place(item: Ref) -> tuple[str, int | None]:
    port = item.get("port")
    return str(item.get("sectionName") or ""), port if isinstance(port, int) else None


def _of_service(mesh: Mesh, name: ServiceName, port: object) -> Condition:
    found = mesh.services.get(name)
    if found is None:
        text = f"Service {name} is an ExternalName" if name in mesh.aliases else f"there is no Service {name}"
        return Condition("Accepted", False, "NoMatchingParent", text)
    if port is not None and all(p.port != port for p in found.ports):
        return Condition("Accepted", False, "NoMatchingParent", f"Service {name} has no port {port}")
    return Condition("Accepted", True, "Accepted")


def _of_gateway(
    mesh: Mesh, route: Route, gateway: Gateway, parent: GatewayParent, attachments: Attachments
) -> Condition:
    here = [listener for listener in gateway.listeners if attaches(parent, gateway, listener)]
    if not here:
        text = f"Gateway {gateway.ref.namespace}/{gateway.ref.name} has no such listener"
        return Condition("Accepted", False, "NoMatchingParent", text)
    fitting = [listener for listener in here if route.ref.kind in listener.kinds]
    if not fitting:
        kinds = sorted({kind for listener in here for kind in listener.kinds})
        text = f"what attaches there is {' or '.join(kinds) or 'nothing'}"
        return Condition("Accepted", False, "NotAllowedByListeners", text)
    allowed = [listener for listener in fitting if meets(mesh, route, listener, any_host=True)]
    if not allowed:
        text = f"no listener allows routes of namespace {route.ref.namespace}"
        return Condition("Accepted", False, "NotAllowedByListeners", text)
    meeting = [listener for listener in allowed if meets(mesh, route, listener)]
    if not meeting:
        text = "no hostname of it is one of the listeners'"
        return Condition("Accepted", False, "NoMatchingListenerHostname", text)
    if not any(route.ref in attachments.of(gateway, listener) for listener in meeting):
        other = "HTTPRoute" if route.ref.kind == "GRPCRoute" else "GRPCRoute"
        text = f"an older {other} has a hostname of it there, and no host has routes of both kinds"
        return Condition("Accepted", False, "HostnameConflict", text)
    return Condition("Accepted", True, "Accepted")


def _references(mesh: Mesh, route: Route) -> Condition:
    """The first that is wrong."""
    found = next(_wrong(mesh, route), None)
    if found is None:
        return Condition("ResolvedRefs", True, "ResolvedRefs")
    return Condition("ResolvedRefs", False, *found)


def _wrong(mesh: Mesh, route: Route) -> Iterator[tuple[str, str]]:
    for rule in route.all_rules:
        targets: tuple[RouteBackend | Mirror, ...] = rule.targets
        for target in targets:
            if target.service is None:
                yield "InvalidKind", f"{rule.field}: only a Service can be a backend"
                continue
            if not mesh.grants.service(route, target.service):
                text = f"no ReferenceGrant in {target.service.namespace} lets it use Service {target.service}"
                yield "RefNotPermitted", f"{rule.field}: {text}"
                continue
            service = mesh.services.get(mesh.entry_hosts.seen(target.service, route.ref.namespace))
            if target.service in mesh.aliases:
                text = f"Service {target.service} is an ExternalName, which cannot be a backend"
                yield "BackendNotFound", f"{rule.field}: {text}"
            elif service is None:
                yield "BackendNotFound", f"{rule.field}: there is no Service {target.service}"
            elif target.port and not service.has_port(target.port, route.protocol):
                text = f"{rule.field}: Service {target.service} has no {route.protocol} port {target.port}"
                yield "BackendNotFound", text
