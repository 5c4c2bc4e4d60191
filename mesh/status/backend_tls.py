"""Status of BackendTLSPolicies (PolicyAncestorStatus): the Gateways behind which one secures something."""

from __future__ import annotations

from typing import Any

from mesh.age import age
from mesh.assemble import Mesh
from mesh.model import GATEWAY_CONTROLLER, BackendTls, Gateway, ServiceName
from mesh.routes.gateway_hosts import attached
from mesh.status.conditions import GROUP, Condition, Written, accepted, plain


def backend_tls_status(mesh: Mesh, policy: BackendTls, written: Written) -> dict[str, Any]:
    """No ancestor where no Gateway sends to a target."""
    first, *rest = accepted(written, True)
    resolved = _authorities(mesh, policy)
    if first.good:
        first = _counts(mesh, policy) or first
    if first.good and not resolved.good:
        first = Condition("Accepted", False, "NoValidCACertificate", resolved.message)
    conditions = plain((first, resolved, *rest), written)
    return {
        "ancestors": [
            {
                "ancestorRef": {
                    "group": GROUP,
                    "kind": "Gateway",
                    "namespace": gateway.ref.namespace,
                    "name": gateway.ref.name,
                },
                "controllerName": GATEWAY_CONTROLLER,
                "conditions": conditions,
            }
            for gateway in _before(mesh, {target.service for target in policy.targets})
        ]
    }


def _before(mesh: Mesh, services: set[ServiceName]) -> list[Gateway]:
    """The Gateways that send to some of these, sorted."""
    found = []
    for ref, gateway in sorted(mesh.gateways.all.items()):
        if gateway.subject is None and mesh.gateways.is_ours(gateway):
            routes = (route for listener in gateway.listeners for route in attached(mesh, gateway, listener))
            named = {
                target.service for route in routes for rule in route.all_rules for target in rule.targets
            }
            if named & services:
                found.append(mesh.gateways.all[ref])
    return found


def _counts(mesh: Mesh, policy: BackendTls) -> Condition | None:
    """None if it counts for some target: of several policies for one the oldest does."""
    lost = []
    for target in policy.targets:
        service = mesh.services.get(target.service)
        if service is None or (target.port and all(port.name != target.port for port in service.ports)):
            text = f"there is no Service {target.service}" + (f" with port {target.port}" if service else "")
            lost.append(Condition("Accepted", False, "TargetNotFound", text))
            continue
        rivals = (other for other in mesh.backend_tls.values() if target in other.targets)
        oldest = min(rivals, key=age)
        if oldest.ref == policy.ref:
            return None
        lost.append(Condition("Accepted", False, "Conflicted", f"{oldest.ref} has {target.service} already"))
    return lost[0] if lost else None


def _authorities(mesh: Mesh, policy: BackendTls) -> Condition:
    """One that is there is enough; () are the system's."""
    there = [ref for ref in policy.authorities if (c := mesh.credentials.get(ref)) and c.authorities]
    if policy.authorities and not there:
        text = f"there is no {policy.authorities[0]} with an authority; nothing is sent"
        return Condition("ResolvedRefs", False, "InvalidCACertificateRef", text)
    return Condition("ResolvedRefs", True, "ResolvedRefs")
