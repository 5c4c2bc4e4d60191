"""The DNS records of the mesh's own names: Kubernetes DNS-Based Service Discovery, version 1.1.0.

A Service has its addresses; a headless one those of its ready backends, each of which has a name of its
own: the pod's hostname where its subdomain is the Service (a StatefulSet's pods), else its address with
dashes. Named ports have SRV records. Pure; `zone` looks at the whole mesh, `Records` at what changed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from ipaddress import ip_address

from mesh.assemble import Change, Mesh
from mesh.dns import CLUSTER_DOMAIN, Server, Zone
from mesh.model import Service, ServiceName, Workload


@dataclass(frozen=True, slots=True)
class _Own:
    """The records of one Service."""

    addresses: dict[str, tuple[str, ...]] = field(default_factory=dict)
    servers: dict[str, tuple[Server, ...]] = field(default_factory=dict)
    pointers: dict[str, str] = field(default_factory=dict)


class Records:
    """The zone of a mesh, kept up to date at the cost of what changes."""

    def __init__(self, mesh: Mesh) -> None:
        self._mesh = mesh
        self._own: dict[ServiceName, _Own] = {}
        for name in mesh.services:
            self._look(name)

    def update(self, change: Change) -> bool:
        """Follow a change of the mesh; has the zone changed?"""
        return bool({name for name in change.services if self._look(name)})

    def zone(self) -> Zone:
        """A Service's own address has its name, a pod's one that its namespace gives; an address behind
        several headless Services has the name of the first of them (threat N49)."""
        addresses: dict[str, tuple[str, ...]] = {}
        servers: dict[str, tuple[Server, ...]] = {}
        pointers: dict[str, str] = {}
        whole_first = sorted(self._own, key=lambda name: (self._mesh.services[name].headless, name))
        for name in whole_first:
            own = self._own[name]
            addresses |= own.addresses
            servers |= own.servers
            for address, target in own.pointers.items():
                owner = self._mesh.owners.get(address)
                if owner is None or owner.namespace == name.namespace:
                    pointers.setdefault(address, target)
        return Zone(addresses, servers, pointers)

    def _look(self, name: ServiceName) -> bool:
        before = self._own.pop(name, None)
        service = self._mesh.services.get(name)
        if service is not None:
            make = _headless if service.headless else _whole
            self._own[name] = make(self._mesh, service)
        return self._own.get(name) != before


def zone(mesh: Mesh) -> Zone:
    """The records of every Service of the mesh."""
    return Records(mesh).zone()


def service_host(name: ServiceName) -> str:
    """The full name of a Service."""
    return f"{name.name}.{name.namespace}.svc.{CLUSTER_DOMAIN}"


def _whole(mesh: Mesh, service: Service) -> _Own:
    host = service_host(service.name)
    vips = mesh.vips.get(service.name, ())
    if not vips:
        return _Own()
    return _Own(
        {host: vips},
        {
            _port_name(port.name, port.protocol, host): (Server(port.port, host),)
            for port in service.ports
            if port.name
        },
        dict.fromkeys(vips, host),
    )


def _headless(mesh: Mesh, service: Service) -> _Own:
    """Without a ready backend it exists and has no address."""
    host = service_host(service.name)
    own = _Own({host: ()})
    found: dict[str, dict[str, None]] = {}

    def endpoint(address: str, workload: Workload | None) -> str:
        target = f"{_hostname(service.name, address, workload)}.{host}"
        found.setdefault(target, {})[address] = None
        own.pointers[address] = target
        return target

    for port in service.ports:
        servers: dict[Server, None] = {}
        for backend in mesh.backends.get(service.name, {}).get((port.port, port.protocol), ()):
            workload = mesh.workloads.get(backend.workload) if backend.workload else None
            servers[Server(backend.port, endpoint(backend.address, workload))] = None
        if port.name and servers:
            own.servers[_port_name(port.name, port.protocol, host)] = tuple(servers)
    if not service.ports:
        for workload in _members(mesh, service):
            for address in workload.addresses:
                endpoint(address, workload)
    for target, addresses in found.items():
        own.addresses[target] = tuple(addresses)
    own.addresses[host] = tuple(sorted({a for addresses in found.values() for a in addresses}))
    return own


def _members(mesh: Mesh, service: Service) -> Iterator[Workload]:
    """Ready pods behind a Service that has no port, and therefore no backends."""
    wanted = dict(service.selector or ()).items()
    for name, workload in sorted(mesh.workloads.items()):
        if wanted and name.namespace == service.name.namespace and workload.ready:
            if wanted <= dict(workload.labels).items():
                yield workload


def _hostname(service: ServiceName, address: str, workload: Workload | None) -> str:
    """Pods of one hostname share it."""
    if workload and workload.hostname and workload.subdomain == service.name:
        if workload.name.namespace == service.namespace:
            return workload.hostname
    return ip_address(address).exploded.replace(".", "-").replace(":", "-")


def _port_name(port: str, protocol: str, host: str) -> str:
    return f"_{port}._{protocol.lower()}.{host}"
