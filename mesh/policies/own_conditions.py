"""The conditions that are made for one workload, and no policy's: whom it may reach at all, where it takes
mutual TLS, and what its Sidecar has its Envoy take in its stead.
"""

from __future__ import annotations

from collections.abc import Iterator

from mesh.assemble import Mesh
from mesh.model import Registry, WorkloadName
from mesh.policies.references import AnyCondition


def own_conditions(mesh: Mesh, name: WorkloadName, registry: Registry | None) -> Iterator[AnyCondition]:
    """Those of a workload, of which the registry is known."""
    if registry:
        yield registry
    if mutual := mesh.peer_authentications.of(name):
        yield mutual
    if ingress := mesh.sidecar_ingress(name):
        yield ingress
