"""What is wrong between objects, wherever a change may have made it otherwise.

What is wrong inside one object stands in its Fragment; what a pod, a Service or a policy lacks is told where
it is given out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from mesh.change import Change
from mesh.mesh_state import MeshState
from mesh.model import MESH_GATEWAY, RESOLVER, ObjectRef, Problem, Route
from mesh.observability.provider_problems import provider_problems
from mesh.routes.gateway_problems import gateway_problems, returning
from mesh.routes.route_problems import route_problems


def check(mesh: MeshState, change: Change) -> Iterator[tuple[ObjectRef, Iterable[Problem]]]:
    """The objects at which to look again, and all that is wrong with each."""
    for ref in _routes(mesh, change):
        yield ref, _of_route(mesh, mesh.routes.all[ref])
    yield from mesh.policy_table.resolver_problems(there=bool(mesh.identities.select(RESOLVER)))
    if change.callers:
        yield from mesh.scopes.problems()
    if change.gateways or change.workloads:
        for ref, gateway in mesh.gateways.all.items():
            yield ref, gateway_problems(gateway, mesh.gateways, mesh.credentials, mesh.grants)
    if change.telemetry or change.config:
        for ref, telemetry in mesh.telemetries.items():
            yield ref, provider_problems(telemetry, mesh.config)


def _routes(mesh: MeshState, change: Change) -> set[ObjectRef]:
    routes = mesh.routes
    found = {ref for service in change.services | change.routed for ref in routes.mentioning(service)}
    if change.gateways:
        found |= {
            ref for ref, route in routes.all.items() if route.attached or route.gateways != (MESH_GATEWAY,)
        }
    return found


def _of_route(mesh: MeshState, route: Route) -> Iterator[Problem]:
    root = mesh.config.root_namespace
    yield from route_problems(route, mesh.services, mesh.entry_hosts, mesh.destination_rules, root)
    yield from returning(route, mesh.backends, mesh.gateways)
