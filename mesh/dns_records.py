"""The DNS records of the mesh's own names: Kubernetes DNS-Based Service Discovery, version 1.1.0.

A Service has its addresses; a headless one those of its ready backends, each of which has a name of its
own: the pod's hostname where its subdomain is the Service (a StatefulSet's pods), else its address with
dashes. Named ports have SRV records. An ExternalName is an alias (CNAME). Hosts of ServiceEntries have the
addresses of the services that stand for them, where they are exported to. Pure; `zone` looks at the whole
mesh, `Records` at what changed.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from ipaddress import ip_address

from mesh.assemble import Mesh
from mesh.change import Change
from mesh.dns import CLUSTER_DOMAIN, Server, Zone
from mesh.entry_hosts import is_entry
from mesh.model import Service, ServiceName, Workload
from mesh.routes.host_pattern import is_pattern


@dataclass(frozen=True, slots=True)
class _Own:
    """The records of one Service. `rank` decides who means it by its host; `upstream` are names that it leads
    to, `alias` the name that it stands for if it is an ExternalName."""

    addresses: dict[str, tuple[str, ...]] = field(default_factory=dict)
    servers: dict[str, tuple[Server, ...]] = field(default_factory=dict)
    pointers: dict[str, str] = field(default_factory=dict)
    rank: tuple[str, ...] = ()
    upstream: frozenset[str] = frozenset()
    alias: str = ""


class Records:
    """The zone of a mesh, kept up to date at the cost of what changes."""

    def __init__(self, mesh: Mesh) -> None:
        self._mesh = mesh
        self._own: dict[ServiceName, _Own] = {}
        self._asking = self._asked()
        for name in (*mesh.services, *mesh.aliases):
            self._look(name)

    def update(self, change: Change) -> bool:
        """Follow a change of the mesh; has the zone changed?"""
        before, self._asking = self._asking, self._asked()
        return bool({name for name in change.services if self._look(name)}) or self._asking != before

    def _asked(self) -> tuple[dict[str, tuple[str, ...]], tuple[str, ...]]:
        """What look-ups change: the patterns, and the namespaces whose scope they widen."""
        mesh = self._mesh
        return mesh.service_table.patterns(), mesh.scopes.widening(mesh.config)

    def zone(self) -> Zone:
        """A Service's own address has its name, a pod's one that its namespace gives, a node's none; an
        address behind several headless Services has the name of the first of them (threat N49)."""
        addresses: dict[str, tuple[str, ...]] = {}
        servers: dict[str, tuple[Server, ...]] = {}
        pointers: dict[str, str] = {}
        services = (name for name, own in self._own.items() if not (own.alias or is_entry(name)))
        for name in sorted(services, key=lambda name: (self._mesh.services[name].headless, name)):
            own = self._own[name]
            addresses |= own.addresses
            servers |= own.servers
            for address, target in own.pointers.items():
                owner = self._mesh.owners.get(address)
                if address in self._mesh.nodes.addresses:
                    continue
                if owner is None or owner.namespace == name.namespace:
                    pointers.setdefault(address, target)
        scoped: defaultdict[str, dict[str, tuple[str, ...]]] = defaultdict(dict)
        for host in sorted(self._mesh.entry_hosts):
            for namespace in ("", *sorted(self._mesh.entry_hosts.namespaces(host))):
                self._entry(host, namespace, addresses, scoped, pointers)
        patterns, widening = self._asking
        upstream = {name for own in self._own.values() for name in own.upstream}
        aliases = {service_host(name): own.alias for name, own in sorted(self._own.items()) if own.alias}
        return Zone(
            addresses, servers, pointers, scoped, tuple(sorted(upstream)), patterns, aliases, widening
        )

    def _entry(
        self,
        host: str,
        namespace: str,
        addresses: dict[str, tuple[str, ...]],
        scoped: defaultdict[str, dict[str, tuple[str, ...]]],
        pointers: dict[str, str],
    ) -> None:
        """What a host of ServiceEntries is in one namespace, or ("") where nothing else is said."""
        meant = self._mesh.entry_hosts.seen(ServiceName(namespace, host), namespace)
        own = self._own.get(meant)
        found = own.addresses.get(host) if own and self._mesh.entry_hosts.sees(namespace, meant) else None
        if found is None or found == addresses.get(host):
            return
        if namespace:
            scoped[namespace][host] = found
        else:
            addresses[host] = found
            for address in found:
                pointers.setdefault(address, host)

    def _look(self, name: ServiceName) -> bool:
        before = self._own.pop(name, None)
        service = self._mesh.services.get(name)
        if target := self._mesh.aliases.target(name):
            self._own[name] = _Own(alias=target)
        elif service is not None:
            make = _headless if service.headless else _of_entry if is_entry(name) else _whole
            own = make(self._mesh, service)
            self._own[name] = replace(own, upstream=self._mesh.service_table.leads.get(name, frozenset()))
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


def _of_entry(mesh: Mesh, service: Service) -> _Own:
    """Addresses of families in which something stands behind them, so that nobody tries the others in vain. A
    pattern has none: what its names are the world says."""
    vips, host = mesh.vips.get(service.name, ()), service.name.host
    ready = {":" in b.address for found in mesh.backends.get(service.name, {}).values() for b in found}
    own = tuple(vip for vip in vips if (":" in vip) in ready) or vips
    addresses = {host: own} if own and not is_pattern(host) else {}
    return _Own(addresses, rank=(service.pattern, service.created, *service.exported))


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
