"""The names in a question about a connection: who calls, and what is called.

Knows no rule. What the mesh does not know is an error that says what would do.
"""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import ip_address

from mesh.assemble import Mesh
from mesh.model import CLUSTER_SUFFIX, Protocol, ServiceName, Workload, WorkloadName
from mesh.policies.policy import Party


class UnknownName(Exception):
    """A name in the question that the mesh does not know; the message says which and what is known."""


def caller_at(mesh: Mesh, source: str) -> tuple[Workload | None, Sequence[str]]:
    """The pod that is named by name or address (None: the address is nobody's of the mesh), and its
    addresses."""
    try:
        address = str(ip_address(source))
    except ValueError:
        name: WorkloadName | None = _name_of(source)
    else:
        name = mesh.owners.get(address)
        if name is None:
            return None, (address,)
    caller = mesh.workloads.get(name) if name else None
    if caller is None or not caller.addresses:
        raise UnknownName(f"there is no Pod {source} with an address")
    return caller, caller.addresses


def party(mesh: Mesh, address: str) -> Party:
    """Who an address is."""
    owner = mesh.owners.get(address)
    number = mesh.identities.of.get(owner) if owner else None
    if owner is None or number is None:
        return Party(address, host=address in mesh.nodes.hosts, remote_node=address in mesh.nodes.remote)
    return Party(address, owner, mesh.identities.all[number].mapping, declared=mesh.declared(owner))


def split_target(target: str) -> tuple[str, int]:
    host, colon, port = target.rpartition(":")
    if not colon or not port.isdigit() or not 0 < int(port) < 65536:
        raise UnknownName(f"{target!r}: want namespace/service:port or address:port")
    return host.strip("[]"), int(port)


def meant(mesh: Mesh, host: str, caller: Workload | None) -> str:
    """A host as its caller's resolver takes it: as `namespace/service`. An address, or what is that already,
    stays as it is. Raises UnknownName."""
    if "/" in host:
        return host
    try:
        return str(ip_address(host))
    except ValueError:
        own = caller.name.namespace if caller else "default"
    for full in (host, f"{host}.{own}.{CLUSTER_SUFFIX}", f"{host}.{CLUSTER_SUFFIX}", f"{host}.cluster.local"):
        if found := sorted(name for name in mesh.services if name.host == full):
            return str(next((name for name in found if name.namespace == own), found[0]))
    raise UnknownName(
        f"there is no Service or ServiceEntry {host}: want namespace/service:port, host:port or address:port"
    )


def service_at(mesh: Mesh, host: str, port: int, protocol: Protocol) -> ServiceName | None:
    """The Service that a name or an address means; None for any other address. Raises UnknownName."""
    if "/" in host:
        name = ServiceName(*host.split("/", 1))
        service = mesh.services.get(name)
        if end := mesh.aliases.target(name):
            raise UnknownName(f"Service {name} is an ExternalName, which has no address: ask about {end}")
        if service is None:
            raise UnknownName(f"there is no Service {name}")
        if all((p.port, p.protocol) != (port, protocol) for p in service.ports):
            known = ", ".join(f"{p.protocol} {p.port}" for p in service.ports)
            raise UnknownName(f"Service {name} has no {protocol} port {port}; it has {known}")
        return name
    found = next((name for name, vips in mesh.vips.items() if host in vips), None)
    return found or _headless_at(mesh, host, port)


def _headless_at(mesh: Mesh, host: str, port: int) -> ServiceName | None:
    meant = mesh.service_table.dialled_at(host, port)
    return meant[0] if meant else None


def _name_of(text: str) -> WorkloadName:
    namespace, slash, name = text.partition("/")
    return WorkloadName(namespace, name) if slash else WorkloadName("default", namespace)
