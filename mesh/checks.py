"""What is wrong between objects, wherever a change may have made it otherwise.

What is wrong inside one stands in its Fragment, and what a Service or a policy lacks its table tells.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from mesh.change import Change
from mesh.mesh_state import MeshState
from mesh.model import MESH_GATEWAY, RESOLVER, ObjectRef, Problem, Route, Workload, WorkloadName
from mesh.observability.provider_problems import provider_problems
from mesh.routes.gateway_problems import gateway_problems, returning
from mesh.routes.route_problems import route_problems, rule_problems

#: An object, and all that is wrong with it.
Checked = tuple[ObjectRef, Iterable[Problem]]


def check(mesh: MeshState, change: Change) -> Iterator[Checked]:
    """The objects at which to look again, pods aside."""
    for ref in _routes(mesh, change):
        yield ref, _of_route(mesh, mesh.routes.all[ref])
    for name in change.services | change.routed:
        if name in mesh.aliases:
            yield ObjectRef("Service", *name), mesh.aliases.problems(name)
    for ref in _destination_rules(mesh, change):
        rule = mesh.destination_rules.all[ref]
        yield ref, rule_problems(rule, mesh.aliases, mesh.credentials)
    yield from mesh.policy_table.resolver_problems(there=bool(mesh.identities.select(RESOLVER)))
    if change.callers:
        yield from mesh.scopes.problems()
    if change.gateways or change.workloads:
        for ref, gateway in mesh.gateways.all.items():
            yield ref, gateway_problems(gateway, mesh.gateways, mesh.credentials, mesh.grants)
    if change.entries:
        yield from mesh.service_table.entries.problems()
    if change.telemetry or change.config:
        for ref, telemetry in mesh.telemetries.items():
            yield ref, provider_problems(telemetry, mesh.config)


def check_pods(mesh: MeshState, names: Iterable[WorkloadName]) -> Iterator[Checked]:
    """The pods of these names, as far as they are there."""
    for name in names:
        if name in mesh.workloads:
            ref = ObjectRef("Pod", *name)
            yield ref, _of_pod(mesh, ref, mesh.workloads[name])


def _of_pod(mesh: MeshState, ref: ObjectRef, pod: Workload) -> Iterator[Problem]:
    for address in pod.addresses:
        owner = mesh.owners[address]
        if owner != pod.name:
            yield Problem(ref, "status.podIPs", f"{address} already belongs to Pod {owner}")
    if pod.name not in mesh.identities.of:
        # It is nobody then: no policy allows it (fail closed).
        yield Problem(ref, "metadata.labels", "no security id is left; the pod stays cut off")


def _routes(mesh: MeshState, change: Change) -> set[ObjectRef]:
    routes = mesh.routes
    if change.config:  # another namespace may be the root
        return set(routes.all)
    found = {ref for service in change.services | change.routed for ref in routes.mentioning(service)}
    found |= change.routes & routes.all.keys()
    if change.gateways:
        found |= {
            ref for ref, route in routes.all.items() if route.attached or route.gateways != (MESH_GATEWAY,)
        }
    return found


def _destination_rules(mesh: MeshState, change: Change) -> set[ObjectRef]:
    rules = mesh.destination_rules
    found = set[ObjectRef]().union(*map(rules.naming, change.services | change.routed))
    return found | rules.credentialed if change.gateways or change.routed else found


def _of_route(mesh: MeshState, route: Route) -> Iterator[Problem]:
    root = mesh.config.root_namespace
    services, rules, routes = mesh.services, mesh.destination_rules, mesh.routes.all
    yield from route_problems(route, services, mesh.aliases, mesh.entry_hosts, rules, routes, root)
    yield from returning(route, mesh.backends, mesh.aliases, mesh.gateways)
