"""The `status` of objects of the Gateway API: what the mesh makes of them, as their specification words it.

Pure, and without a clock: when a condition last changed is for who writes or shows it. The reasons are
those of the API (v1.3); what none of them fits is `Invalid`.
"""

from __future__ import annotations

from typing import Any

from mesh.assemble import Mesh
from mesh.model import BackendTls, Gateway, GatewayClass
from mesh.status.attachments import Attachments
from mesh.status.backend_tls import backend_tls_status
from mesh.status.conditions import Written
from mesh.status.gateway import gateway_class_status, gateway_status
from mesh.status.route import route_status

#: Which kinds have one.
ROUTES = frozenset({"HTTPRoute", "GRPCRoute", "TCPRoute", "TLSRoute", "UDPRoute"})
KINDS = frozenset({"GatewayClass", "Gateway", "BackendTLSPolicy"}) | ROUTES


def status_of(mesh: Mesh, written: Written, attachments: Attachments | None = None) -> dict[str, Any] | None:
    """None for kinds without a status of ours, and for what is left to other controllers. Who asks about many
    objects of a mesh that stands still brings its `attachments`."""
    attachments = attachments or Attachments(mesh)
    kind = written.fragment.ref.kind
    if kind not in KINDS:
        return None
    if kind in ROUTES:
        return route_status(mesh, written, attachments)
    for noun in written.nouns(mesh):
        match noun:
            case GatewayClass():
                return gateway_class_status(noun, written)
            case Gateway():
                return gateway_status(mesh, noun, written, attachments)
            case BackendTls():
                return backend_tls_status(mesh, noun, written)
    return None


__all__ = ["KINDS", "Attachments", "Written", "status_of"]
