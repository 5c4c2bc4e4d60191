"""What every node is told alike: workloads, address blocks, services and names, computed once for all nodes.

Only records that a `Change` can have touched are made anew; a table in which nothing differs is the same
mapping as before.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import TypeVar

from mesh.assemble import Mesh
from mesh.change import Change
from mesh.model import Backend, Protocol, Service, ServiceName, WorkloadName
from mesh.node import (
    HOST_ID,
    REMOTE_NODE_ID,
    UNRESTRICTED,
    WORLD_ID,
    BlockRecord,
    NamesRecord,
    PortVerdict,
    ServicePortRecord,
    ServiceRecord,
    WorkloadRecord,
)
from mesh.observability.canonical import canonical
from mesh.policies.cidr import contains, prefix_of
from mesh.policies.peers import PeerKey, Peers
from mesh.routes.bindings import Bindings
from mesh.routes.destinations import Destinations

K = TypeVar("K")
R = TypeVar("R")

#: Where IPv4 is inside IPv6 (RFC 4291, 2.5.5.2).
_MAPPED = prefix_of("::ffff:0:0/96")


class SharedRecords:
    """Kept current by `update`; `bindings` say what is routed for whom, and `peers` who may call or be
    called."""

    def __init__(self, mesh: Mesh) -> None:
        self._mesh = mesh
        self.bindings = Bindings(mesh)
        #: What targets are for callers whom no egress policy restricts.
        self.unjudged = Destinations(mesh, self.bindings, _unrestricted)
        self.workloads: Mapping[str, WorkloadRecord] = {}
        self.blocks: Mapping[str, BlockRecord] = {}
        self.services: Mapping[str, ServiceRecord] = {}
        self.names: Mapping[str, NamesRecord] = {}
        #: Services about which an answer may be another since the last change.
        self.touched: set[ServiceName] = set()
        #: Does some policy name single addresses, which may become a pod's?
        self._names_addresses = False
        #: Peer keys that occur, with how many workloads have them, and those that `peers` knows.
        self._known: Counter[PeerKey] = Counter()
        self._keys: dict[WorkloadName, set[PeerKey]] = {}
        self._compiled_for: set[PeerKey] = set()
        self.peers = self._all_peers()
        self._last = everything(mesh)
        self._take(self._last, self._last.services | self._last.routed)

    # --- reading -------------------------------------------------------------------------

    def peer_of(self, address: str) -> PeerKey:
        """The peer key that the kernel finds for an address."""
        owner = self._mesh.owners.get(address)
        if owner is not None:
            number = self._mesh.identities.of.get(owner, 0)
        else:
            number = self._outside(address)
        return number, self._mesh.cidrs.set_for(address, number)

    def _outside(self, address: str) -> int:
        if address in self._mesh.nodes.hosts:
            return HOST_ID
        return REMOTE_NODE_ID if address in self._mesh.nodes.remote else WORLD_ID

    # --- changing ------------------------------------------------------------------------

    def update(self, change: Change) -> None:
        """Take in how the mesh changed. Every node says so; the first counts."""
        if change is not self._last:
            self._last = change
            self._take(change, self.bindings.forget(change) | change.services)

    def _take(self, change: Change, touched: set[ServiceName]) -> None:
        self.touched = touched
        if change.config:
            self.unjudged.clear()
        self.unjudged.forget(touched)
        if change.callers:
            self.unjudged.forget_callers()
        if change.workloads:
            self.workloads = _patched(self.workloads, change.workloads, self._workload)
            for name in change.workloads:
                self._count(name)
        blocks = self.blocks
        if change.blocks or (change.peers and self._names_addresses):
            self.blocks = same(self.blocks, self._blocks())
        if touched:
            self.services = _patched(self.services, touched, self._service)
        if change.blocks or self.blocks is not blocks or self._known.keys() != self._compiled_for:
            self._compiled_for = set(self._known)
            self.peers = self._all_peers()
        if change.names:
            patterns = sorted(pattern.text for pattern in self._mesh.wanted_names())
            self.names = same(self.names, {"names": NamesRecord(tuple(patterns), self._mesh.learned)})

    def _count(self, name: WorkloadName) -> None:
        record = self.workloads.get(str(name))
        keys = {(record.security_id, cidr_set) for _, cidr_set in record.addresses} if record else set()
        for key in self._keys.pop(name, set()):
            self._known[key] -= 1
            if not self._known[key]:
                del self._known[key]
        if keys:
            self._keys[name] = keys
            self._known.update(keys)

    def _workload(self, name: WorkloadName) -> WorkloadRecord | None:
        mesh = self._mesh
        workload = mesh.workloads.get(name)
        number = mesh.identities.of.get(name)
        if workload is None or number is None:
            return None
        addresses = tuple(
            (address, mesh.cidrs.set_for(address, number))
            for address in workload.addresses
            if mesh.owners.get(address) == name
        )
        if not addresses:
            return None
        return WorkloadRecord(name, number, addresses, workload.node, canonical(workload))

    def _blocks(self) -> Mapping[str, BlockRecord]:
        mesh = self._mesh
        owners = {_block(address): self._outside(address) for address in mesh.nodes.addresses}
        owners = dict.fromkeys(mesh.cidrs.boundaries(), WORLD_ID) | owners
        # The kernel has IPv4 inside IPv6: without a block of its own it would be covered by ::/0, say.
        if any(contains(prefix_of(text), _MAPPED) for text in owners):
            owners.setdefault("0.0.0.0/0", WORLD_ID)
        single = {text for text in owners if text.endswith(("/32", "/128"))}
        self._names_addresses = bool(single)
        # Whose a pod's address is says its WorkloadRecord.
        for text in single:
            if text.partition("/")[0] in mesh.owners:
                del owners[text]
        known = self.blocks
        blocks: dict[str, BlockRecord] = {}
        for text, owner in owners.items():
            number = mesh.cidrs.set_for(text, owner)
            record = known.get(text)
            if record is None or (record.security_id, record.cidr_set) != (owner, number):
                record = BlockRecord(text, owner, number)
            blocks[text] = record
        return blocks

    def _service(self, name: ServiceName) -> ServiceRecord | None:
        mesh = self._mesh
        service = mesh.services.get(name)
        vips = mesh.vips.get(name)
        if service is not None and service.headless:
            return self._dialled(service)
        if service is None or not vips:
            return None
        ports = tuple(
            ServicePortRecord(
                port.port,
                port.protocol,
                tuple((b.address, b.port) for b in mesh.backends[name].get((port.port, port.protocol), ())),
                self.bindings.views(name, port.port) if port.protocol == "TCP" else (),
                self.bindings.balanced(name, port.port, port.protocol),
            )
            for port in service.ports
        )
        return ServiceRecord(name, vips, service.affinity_seconds, ports)

    def _dialled(self, service: Service) -> ServiceRecord | None:
        """A headless service at its backends, at which nothing is done unless a route steers somebody."""
        ports: dict[tuple[int, int], ServicePortRecord] = {}
        for port in service.ports:
            views = self.bindings.views(service.name, port.port) if port.protocol == "TCP" else ()
            for backend in self._mesh.service_table.dialled(service.name, port) if views else ():
                place = (backend.address, backend.port)
                key = (backend.port, port.port)
                known = ports.get(key) or ServicePortRecord(backend.port, "TCP", (), views)
                ports[key] = replace(known, backends=(*known.backends, place))
        addresses = sorted({address for port in ports.values() for address, _ in port.backends})
        found = tuple(port for _, port in sorted(ports.items()))
        return ServiceRecord(service.name, tuple(addresses), 0, found, headless=True) if found else None

    def _all_peers(self) -> Peers:
        keys = {(HOST_ID, 0), (WORLD_ID, 0), *self._known}
        keys.update((block.security_id, block.cidr_set) for block in self.blocks.values())
        identities = self._mesh.identities
        return Peers(keys, identities.all, identities.select, self._mesh.cidrs)


def _unrestricted(egress: int, backend: Backend, protocol: Protocol) -> PortVerdict:
    return UNRESTRICTED


def everything(mesh: Mesh) -> Change:
    """The change from nothing to the mesh as it is."""
    return Change(
        set(mesh.workloads),
        set(mesh.services),
        mesh.routed(),
        set(mesh.policies),
        peers=True,
        blocks=True,
        config=True,
        names=True,
        callers=True,
    )


def _block(address: str) -> str:
    return f"{address}/{128 if ':' in address else 32}"


def _patched(table: Mapping[str, R], names: Iterable[K], make: Callable[[K], R | None]) -> Mapping[str, R]:
    """The table with these records made anew; the same object if none of them differs."""
    changed = dict(table)
    for name in names:
        record = make(name)
        if record is None:
            changed.pop(str(name), None)
        else:
            changed[str(name)] = record
    return same(table, changed)


def same(old: Mapping[str, R], new: Mapping[str, R]) -> Mapping[str, R]:
    """The old mapping where the new one equals it: unchanged tables are recognised by identity."""
    return old if old == new else new
