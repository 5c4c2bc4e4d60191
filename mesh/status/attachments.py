"""Which routes attach to the listeners of a mesh that stands still, each asked for once."""

from __future__ import annotations

from collections.abc import Set

from mesh.assemble import Mesh
from mesh.model import Gateway, Listener, ObjectRef
from mesh.routes.gateway_hosts import attached


class Attachments:
    def __init__(self, mesh: Mesh) -> None:
        self._mesh = mesh
        self._known: dict[tuple[ObjectRef, str], Set[ObjectRef]] = {}

    def of(self, gateway: Gateway, listener: Listener) -> Set[ObjectRef]:
        key = gateway.ref, listener.name
        if key not in self._known:
            found = attached(self._mesh, gateway, listener)
            self._known[key] = frozenset(route.ref for route in found)
        return self._known[key]
