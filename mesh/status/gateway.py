"""Status of GatewayClasses and Gateways (GatewaySpec, ListenerStatus)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from mesh.assemble import Mesh
from mesh.model import GATEWAY_CONTROLLER, Gateway, GatewayClass, Listener, ObjectRef, Secret, WorkloadName
from mesh.routes.gateway_ports import answers
from mesh.routes.gateways import rival
from mesh.status.attachments import Attachments
from mesh.status.conditions import GROUP, Condition, Written, accepted, plain
from mesh.status.features import FEATURES


def gateway_class_status(noun: GatewayClass, written: Written) -> dict[str, Any] | None:
    """None of classes that are others'."""
    if noun.controller != GATEWAY_CONTROLLER:
        return None
    conditions = [*accepted(written, True), Condition("SupportedVersion", True, "SupportedVersion")]
    return {
        "conditions": plain(conditions, written),
        "supportedFeatures": [{"name": name} for name in sorted(FEATURES)],
    }


def gateway_status(
    mesh: Mesh, gateway: Gateway, written: Written, attachments: Attachments
) -> dict[str, Any] | None:
    """None of a class that is somebody else's."""
    if gateway.subject is not None or not mesh.gateways.is_ours(gateway):
        return None
    pods = serving(mesh, gateway)
    items = written.listed("listeners")
    raw = {str(item.get("name")): item for item in items}
    judged = [
        (listener, list(_of_listener(mesh, gateway, listener, pods, raw.get(listener.name, {}))))
        for listener in gateway.listeners
    ]
    addresses = _addresses(mesh, pods)
    return {
        "addresses": [{"type": "IPAddress", "value": address} for address in addresses],
        "conditions": plain(
            _of_gateway(gateway, written, [found for _, found in judged], pods, addresses), written
        ),
        "listeners": [
            {
                "name": listener.name,
                "attachedRoutes": len(attachments.of(gateway, listener)),
                "supportedKinds": [{"group": GROUP, "kind": kind} for kind in listener.kinds],
                "conditions": plain(found, written),
            }
            for listener, found in judged
        ],
    }


def serving(mesh: Mesh, gateway: Gateway) -> list[WorkloadName]:
    """The pods that serve a Gateway."""
    return sorted(pod for pod in mesh.identities.of if gateway in mesh.gateways.served_by(pod))


def _addresses(mesh: Mesh, pods: list[WorkloadName]) -> list[str]:
    """Those of the Services in front of the pods, without any their own."""
    workloads = [mesh.workloads[pod] for pod in pods]
    services = {service.name for pod in workloads for service in mesh.service_table.selecting(pod)}
    virtual = [vip for service in sorted(services) for vip in mesh.vips.get(service, ())]
    return virtual or [address for pod in workloads for address in pod.addresses]


def _of_gateway(
    gateway: Gateway,
    written: Written,
    listeners: list[list[Condition]],
    pods: list[WorkloadName],
    addresses: list[str],
) -> Iterator[Condition]:
    bad = [c for found in listeners for c in found if c.type == "Accepted" and not c.good]
    for condition in accepted(written, True):
        if condition.type == "Accepted" and bad:
            some = len(bad) < len(listeners)
            text = f"{len(bad)} of {len(listeners)} listeners are not accepted"
            condition = Condition("Accepted", some, "ListenersNotValid", text)
        yield condition
    missing = [address for address in gateway.addresses if address not in addresses]
    programmed = [c for found in listeners for c in found if c.type == "Programmed"]
    if not pods or all(c.reason == "Pending" for c in programmed):
        yield Condition("Programmed", False, "Pending", "no pod serves it yet")
    elif missing:
        text = f"{', '.join(missing)} is no address of who serves it"
        yield Condition("Programmed", False, "AddressNotUsable", text)
    elif written.refused or not any(c.good for c in programmed):
        text = written.refused or "no listener answers"
        yield Condition("Programmed", False, "Invalid", text)
    else:
        yield Condition("Programmed", True, "Programmed")


def _of_listener(
    mesh: Mesh, gateway: Gateway, listener: Listener, pods: list[WorkloadName], raw: Mapping[str, Any]
) -> Iterator[Condition]:
    other = rival(gateway, listener)
    if other:
        text = f"listener {other.name} has the same port"
        yield Condition("Accepted", False, "PortUnavailable", text)
    else:
        yield Condition("Accepted", True, "Accepted")
    if other:
        text = f"listener {other.name} has port {listener.port} for {other.protocol}"
        yield Condition("Conflicted", True, "ProtocolConflict", text)
    else:
        yield Condition("Conflicted", False, "NoConflicts")
    yield (references := _references(mesh, gateway, listener, raw))
    if other:
        yield Condition("Programmed", False, "Invalid", "it is not accepted")
    elif not any(mesh.workloads[pod].ready for pod in pods):
        yield Condition("Programmed", False, "Pending", "no pod serves it yet")
    elif not any(answers(mesh, pod, gateway, listener) for pod in pods):
        yield Condition("Programmed", False, "Invalid", references.message or "nobody is answered")
    else:
        yield Condition("Programmed", True, "Programmed")


def _references(mesh: Mesh, gateway: Gateway, listener: Listener, raw: Mapping[str, Any]) -> Condition:
    tls = listener.tls
    roles: list[tuple[str, tuple[ObjectRef, ...]]] = []
    if tls is not None:
        roles = [("InvalidCertificateRef", tls.certificates), ("InvalidCACertificateRef", tls.authorities)]
    for reason, refs in roles:
        for ref in refs:
            if not mesh.grants.secret(gateway.ref, ref):
                text = f"no ReferenceGrant in {ref.namespace} lets it use {ref}"
                return Condition("ResolvedRefs", False, "RefNotPermitted", text)
            found = mesh.credentials.get(ref)
            if reason == "InvalidCertificateRef":
                there = isinstance(found, Secret) and bool(found.certificate)
            else:
                there = found is not None and bool(found.authorities)
            if not there:
                what = "certificate" if reason == "InvalidCertificateRef" else "authority"
                return Condition("ResolvedRefs", False, reason, f"there is no {ref} with a {what}")
    allowed = raw.get("allowedRoutes")
    kinds = allowed.get("kinds") if isinstance(allowed, Mapping) else None
    named = [kind for kind in kinds if isinstance(kind, Mapping)] if isinstance(kinds, list) else []
    if any(kind.get("group", GROUP) != GROUP or kind.get("kind") not in listener.kinds for kind in named):
        text = f"of the kinds that it names only these attach: {', '.join(listener.kinds) or 'none'}"
        return Condition("ResolvedRefs", False, "InvalidRouteKinds", text)
    return Condition("ResolvedRefs", True, "ResolvedRefs")
