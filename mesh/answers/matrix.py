"""Who can reach whom on what: every group of callers against every port of every group of workloads.

Plain data, from `mesh.answers.reach` alone; how it is printed or drawn is for others. A column is one port
of one callee, so the question who can reach a port is a matrix of few columns.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from mesh.answers.called import UnknownName, split_target
from mesh.answers.groups import Group, outside_groups, workload_groups
from mesh.answers.reach import Access, Outside, Reachability
from mesh.assemble import Mesh
from mesh.model import Protocol, ServiceName, WorkloadName
from mesh.ports import Port, Ports


@dataclass(frozen=True, slots=True)
class Column:
    """One port of a callee, the Services that lead to it, and the access of each caller, in order."""

    callee: Group
    protocol: Protocol
    port: int
    services: tuple[str, ...]
    access: tuple[Access, ...]

    @property
    def label(self) -> str:
        return f"{self.callee.name} {self.protocol} {self.port}"


@dataclass(frozen=True, slots=True)
class Matrix:
    """`columns[j].access[i]` is what `callers[i]` gets there."""

    callers: tuple[Group, ...]
    columns: tuple[Column, ...]

    def plain(self) -> dict[str, Any]:
        """For JSON: in each column, the callers that get the same stand together."""
        return {
            "callers": [caller.plain() for caller in self.callers],
            "columns": [
                {
                    "to": column.callee.plain(),
                    "protocol": column.protocol,
                    "port": column.port,
                    "services": list(column.services),
                    "access": [
                        access.plain() | {"from": [self.callers[index].name for index in indexes]}
                        for access, indexes in by_access(column).items()
                    ],
                }
                for column in self.columns
            ],
        }

    @staticmethod
    def from_plain(value: Mapping[str, Any]) -> Matrix:
        callers = tuple(map(Group.from_plain, value["callers"]))
        columns = []
        for column in value["columns"]:
            found = {
                name: access
                for entry in column["access"]
                for access in [Access.from_plain(entry)]
                for name in entry["from"]
            }
            columns.append(
                Column(
                    Group.from_plain(column["to"]),
                    column["protocol"],
                    column["port"],
                    tuple(column["services"]),
                    tuple(found[caller.name] for caller in callers),
                )
            )
        return Matrix(callers, tuple(columns))


def by_access(column: Column) -> dict[Access, list[int]]:
    """The places of the callers in a column, by what they get."""
    found: defaultdict[Access, list[int]] = defaultdict(list)
    for index, access in enumerate(column.access):
        found[access].append(index)
    return found


def matrix(mesh: Mesh, namespaces: Iterable[str] = ()) -> Matrix:
    """The whole mesh, or the callees in `namespaces`. Callees without a known port have no column."""
    wanted = set(namespaces)
    ports = Ports(mesh)
    found = workload_groups(mesh)
    callers = (*found, *outside_groups(mesh))
    asked = [
        (group, port, {s for member in group.members for s in ports.services(member, port)})
        for group in found
        if not wanted or group.namespace in wanted
        for port in sorted({port for member in group.members for port in ports.of(member)})
    ]
    return Matrix(callers, _columns(mesh, callers, asked))


def who_can_reach(mesh: Mesh, target: str, protocol: Protocol) -> Matrix:
    """The columns of `namespace/service:port` (of all that is behind it), `namespace/pod:port` or
    `address:port`. A Service goes before a Pod of its name. Raises UnknownName."""
    host, number = split_target(target)
    found = workload_groups(mesh)
    callers: tuple[Group, ...] = (*found, *outside_groups(mesh))
    asked: list[tuple[Group, Port, set[str]]] = []
    service = _service(mesh, host)
    if service is not None:
        backends = mesh.backends[service].get((number, protocol))
        if backends is None:
            known = ", ".join(f"{p.protocol} {p.port}" for p in mesh.services[service].ports)
            raise UnknownName(f"Service {service} has no {protocol} port {number}; it has {known}")
        if not backends:
            raise UnknownName(f"Service {service} has no ready backend: nobody can reach it")
        label = {f"{service}:{number}"}
        for port in sorted({backend.port for backend in backends}):
            behind = {b.workload for b in backends if b.port == port}
            asked += [
                (group, (protocol, port), label) for group in found if not behind.isdisjoint(group.members)
            ]
            strangers = sorted({b.address for b in backends if b.port == port and b.workload is None})
            asked += [(_address(address), (protocol, port), label) for address in strangers]
    elif "/" in host:
        name = WorkloadName(*host.split("/", 1))
        group = next((group for group in found if name in group.members), None)
        if group is None:
            raise UnknownName(f"there is neither a Service nor a Pod with an address {host}")
        asked.append((group, (protocol, number), Ports(mesh).services(name, (protocol, number))))
    else:
        owner = mesh.owners.get(host)
        group = next((group for group in found if owner in group.members), _address(host))
        if not group.members:
            callers = found  # what is not the mesh's at either end is none of its business
        asked.append((group, (protocol, number), set()))
    return Matrix(callers, _columns(mesh, callers, asked))


def _columns(
    mesh: Mesh, callers: Iterable[Group], asked: Iterable[tuple[Group, Port, set[str]]]
) -> tuple[Column, ...]:
    reachability = Reachability(mesh)
    return tuple(
        Column(
            callee,
            protocol,
            port,
            tuple(sorted(services)),
            tuple(reachability.reach(c.caller_of(callee), callee.end, protocol, port) for c in callers),
        )
        for callee, (protocol, port), services in asked
    )


def _service(mesh: Mesh, host: str) -> ServiceName | None:
    if "/" in host:
        name = ServiceName(*host.split("/", 1))
        return name if name in mesh.services else None
    return next((name for name, vips in mesh.vips.items() if host in vips), None)


def _address(address: str) -> Group:
    return Group("world", address, outside=Outside((address,)))
