"""Services, their addresses and what stands behind them, kept current. An address that several ask for
belongs to one of them, and a host of several ServiceEntries of a namespace to one that names it, the oldest.

Knows pods by their labels, ports and addresses, and no route, policy or identity.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from mesh.age import since
from mesh.asked_hosts import AskedHosts, Offer
from mesh.backends import WorkloadEntries, each_once, selected, target_port
from mesh.entry_hosts import EntryHosts, is_entry, named_by
from mesh.identity import Allocations, Exhausted
from mesh.index import discard
from mesh.model import (
    NAMESPACE_KEY,
    Backend,
    CidrPeer,
    Endpoint,
    EndpointSlice,
    HostPattern,
    Locality,
    ObjectRef,
    Problem,
    Protocol,
    Requirement,
    Selector,
    Service,
    ServiceName,
    ServicePort,
    SliceEndpoint,
    Workload,
    WorkloadEntry,
    WorkloadName,
)
from mesh.node_table import NodeTable
from mesh.policies.cidr import can_serve
from mesh.protocols import PortKind, declared, joined

Labels = tuple[tuple[str, str], ...]


#: An address and a port.
Place = tuple[str, int]


class _Meant(NamedTuple):
    """A port of a headless service, in the order in which they are meant: is its target another number?"""

    service: ServiceName
    other: bool
    port: int


class ServiceTable:
    """Its dictionaries are for reading. What `put` and `remove` return are the services to be resolved."""

    def __init__(
        self,
        allocations: Allocations,
        hosts: EntryHosts,
        workloads: Mapping[WorkloadName, Workload],
        owners: Mapping[str, WorkloadName],
        nodes: NodeTable,
    ) -> None:
        """`owners` says which pod has an address; those of `nodes` are no service's."""
        self._allocations = allocations
        self._hosts = hosts
        self._workloads = workloads
        self._owners = owners
        self._nodes = nodes
        self.all: dict[ServiceName, Service] = {}
        self.vips: dict[ServiceName, tuple[str, ...]] = {}
        #: Service -> (port, protocol) -> its ready backends.
        self.backends: dict[ServiceName, dict[tuple[int, Protocol], tuple[Backend, ...]]] = {}
        self.slices: defaultdict[ServiceName, dict[ObjectRef, EndpointSlice]] = defaultdict(dict)
        #: Service -> the DNS names whose addresses stand behind it -> those by the last answer.
        self.leads: dict[ServiceName, frozenset[str]] = {}
        self.current: dict[str, tuple[str, ...]] = {}
        #: DNS name -> the addresses that are still good.
        self.names: Mapping[str, frozenset[str]] = {}
        #: Who would be a service, the same by object, and what is wrong with each.
        self._offers: defaultdict[ServiceName, dict[ObjectRef, Service]] = defaultdict(dict)
        self._offered: defaultdict[ObjectRef, set[ServiceName]] = defaultdict(set)
        self._problems: dict[ServiceName, dict[ObjectRef, list[Problem]]] = {}
        #: DNS name -> the services behind which its addresses stand.
        self._resolving: defaultdict[str, set[ServiceName]] = defaultdict(set)
        self._labelled: defaultdict[tuple[str, str, str], set[WorkloadName]] = defaultdict(set)
        self.entries = WorkloadEntries()
        self._asked = AskedHosts()
        self._selecting: defaultdict[tuple[str, str, str], set[ServiceName]] = defaultdict(set)
        self._claims: defaultdict[str, set[ServiceName]] = defaultdict(set)
        self._allocated: dict[str, ServiceName] = {}
        self._standing: defaultdict[str, set[ServiceName]] = defaultdict(set)
        self._named: dict[ServiceName, set[str]] = {}
        #: Address and port of a pod -> the ports of headless services that callers may mean there, and the
        #: services that may have got or lost such a place.
        self._dialled: defaultdict[Place, set[_Meant]] = defaultdict(set)
        self._stands: dict[ServiceName, set[tuple[Place, _Meant]]] = {}
        self._contested: set[ServiceName] = set()

    # --- reading -----------------------------------------------------------------------------

    def claiming(self, address: str) -> set[ServiceName]:
        """The services that ask for an address."""
        return self._claims.get(address, set())

    def patterns(self) -> dict[str, tuple[str, ...]]:
        """Whose names are services once they are asked for, with the namespaces that each pattern is for."""
        return self._asked.patterns()

    def standing_at(self, address: str) -> set[ServiceName]:
        """The services behind which an address stands that they name themselves, a pod's or not."""
        return self._standing.get(address, set())

    def dialled(self, name: ServiceName, port: ServicePort) -> tuple[Backend, ...]:
        """The backends of a port of a headless service that callers mean when they dial a pod: pods of its
        namespace, where no other port goes before it."""
        found = self.backends[name].get((port.port, port.protocol), ())
        return tuple(b for b in found if self.dialled_at(b.address, b.port) == (name, port.port))

    def dialled_at(self, address: str, port: int) -> tuple[ServiceName, int] | None:
        """The headless service, and its port, that callers mean when they dial a pod."""
        meant = min(self._dialled.get((address, port), ()), default=None)
        return (meant.service, meant.port) if meant else None

    def reaching(self, workload: Workload) -> set[ServiceName]:
        """The services behind which a pod stands, or may, selected or by its address."""
        return self.touched_by(workload).union(*map(self.standing_at, workload.addresses))

    def selecting(self, workload: Workload) -> Iterator[Service]:
        """The Services whose selector matches a pod, by name."""
        labels = dict(workload.labels)
        for name in sorted(self._asking_for(workload.name.namespace, workload.labels)):
            service = self.all[name]
            if service.selector and dict(service.selector).items() <= labels.items():
                yield service

    def ports_behind(self, name: WorkloadName) -> Iterator[tuple[Service, ServicePort, int]]:
        """The ports of all services behind which a pod stands: selected, or named by its address."""
        yield from self.target_ports(name)
        own = self._workloads[name].addresses
        for service in sorted(set[ServiceName]().union(*map(self.standing_at, own))):
            for port in self.all[service].ports:
                found = self.backends[service].get((port.port, port.protocol), ())
                for number in sorted({b.port for b in found if b.address in own}):
                    yield self.all[service], port, number

    def target_ports(self, name: WorkloadName) -> Iterator[tuple[Service, ServicePort, int]]:
        """The ports of the Services that select a pod, each with the pod's own behind it."""
        workload = self._workloads[name]
        for service in self.selecting(workload):
            for port in service.ports:
                if target := target_port(workload, port):
                    yield service, port, target

    def declared(self, name: WorkloadName) -> dict[int, PortKind]:
        """What Services call the TCP ports of a pod."""
        found: defaultdict[int, list[PortKind | None]] = defaultdict(list)
        for _, port, target in self.target_ports(name):
            if port.protocol == "TCP":
                found[target].append(declared(port))
        return {port: kind for port, kinds in sorted(found.items()) if (kind := joined(kinds))}

    def by_labels(self, name: ServiceName) -> Selector | None:
        """The identities of the pods that a service selects; None where labels do not tell: it selects none,
        or by one that no identity has."""
        service = self.all[name]
        if not service.selector:
            return None
        own = Requirement(NAMESPACE_KEY, "In", (name.namespace,))
        labels = (Requirement(key, "In", (value,)) for key, value in service.selector)
        found = Selector(tuple(sorted((own, *labels))))
        return None if self._allocations.relevant.forgotten(found) else found

    def by_address(self, name: ServiceName, port: ServicePort) -> Iterator[tuple[CidrPeer, int]]:
        """All else that stands behind a service port, ready or not, with the port that it is called at there.
        Of a DNS name every address that is still good, so that connections outlive the next answer."""
        for address, number in set(self._elsewhere(self.all[name], port)):
            if number:
                block = CidrPeer(f"{address}/{128 if ':' in address else 32}", (), "anyone")
                yield block, number

    def _elsewhere(self, service: Service, port: ServicePort) -> Iterator[tuple[str, int]]:
        labelled = self.by_labels(service.name) is not None
        if not labelled:
            for name in selected(service, self._labelled):
                workload = self._workloads[name]
                own = (a for a in workload.addresses if self._owners.get(a) == name)
                yield from ((address, target_port(workload, port)) for address in own)
        if slices := self.slices.get(service.name):
            for number, found in _of_slices(slices.values(), port):
                if found.workload is None or not labelled:
                    yield from ((address, number) for address in found.addresses)
            return
        for place in (*service.endpoints, *self.entries.behind(service, healthy=False)):
            known = self.names.get(place.name, frozenset()) if place.name else (place.address,)
            yield from ((address, place.port(port)) for address in known if can_serve(address))

    # --- changing ----------------------------------------------------------------------------

    def put(self, ref: ObjectRef, service: Service) -> set[ServiceName]:
        self._offers[service.name][ref] = service
        self._offered[ref].add(service.name)
        return self._elect(service.name)

    def remove(self, ref: ObjectRef, name: ServiceName) -> set[ServiceName]:
        del self._offers[name][ref]
        discard(self._offered, ref, name)
        return self._elect(name)

    def put_pattern(self, ref: ObjectRef, pattern: HostPattern) -> set[ServiceName]:
        return self._offer(self._asked.put(ref, pattern))

    def remove_pattern(self, ref: ObjectRef, pattern: HostPattern) -> set[ServiceName]:
        return self._take_back(self._asked.remove(ref, pattern))

    def ask(self, asker: ObjectRef, hosts: Iterable[str]) -> set[ServiceName]:
        """All the hosts that an object asks for, under whatever pattern."""
        gone, new = self._asked.ask(asker, hosts)
        return self._take_back(gone) | self._offer(new)

    def put_workload(self, workload: Workload) -> None:
        for pair in workload.labels:
            self._labelled[workload.name.namespace, *pair].add(workload.name)

    def remove_workload(self, workload: Workload) -> None:
        for pair in workload.labels:
            discard(self._labelled, (workload.name.namespace, *pair), workload.name)

    def touched_by(self, workload: Workload) -> set[ServiceName]:
        """The services behind which a pod may stand now, or may no more."""
        return self._asking_for(workload.name.namespace, workload.labels)

    def put_entry(self, entry: WorkloadEntry) -> set[ServiceName]:
        self.entries.put(entry)
        return self._asking_for(entry.name.namespace, entry.endpoint.labels)

    def remove_entry(self, entry: WorkloadEntry) -> set[ServiceName]:
        self.entries.remove(entry)
        return self._asking_for(entry.name.namespace, entry.endpoint.labels)

    def learn(self, current: Iterable[tuple[str, tuple[str, ...]]]) -> set[ServiceName]:
        """The last answers of DNS, whole."""
        before = self.current
        self.current = {name: tuple(filter(can_serve, found)) for name, found in current}
        touched: set[ServiceName] = set()
        for name, services in self._resolving.items():
            if self.current.get(name) != before.get(name):
                touched |= services
        return touched

    def _offer(self, offers: Iterable[Offer]) -> set[ServiceName]:
        return {touched for ref, service in offers for touched in self.put(ref, service)}

    def _take_back(self, offers: Iterable[Offer]) -> set[ServiceName]:
        return {touched for ref, service in offers for touched in self.remove(ref, service.name)}

    def _elect(self, name: ServiceName) -> set[ServiceName]:
        touched = {name}
        if name in self.all:
            touched |= self._withdraw(self.all[name])
        if offers := self._offers[name]:
            touched |= self._install(offers[self._elected(name)])
        else:
            del self._offers[name]
        return touched | set(self._hosts.of(name))

    def _elected(self, name: ServiceName) -> ObjectRef:
        """Who names it before who has a pattern, then the oldest."""
        offers = self._offers[name]
        return min(offers, key=lambda ref: (named_by(offers[ref]), since(offers[ref].created), ref))

    def _install(self, service: Service) -> set[ServiceName]:
        touched: set[ServiceName] = set()
        self.all[service.name] = service
        self._hosts.put(service)
        for pair in service.selector or ():
            self._selecting[service.name.namespace, *pair].add(service.name)
        for vip in service.vips:
            self._claims[vip].add(service.name)
            touched |= self._claims[vip]
            if vip in self._allocated:
                touched.add(self._allocated[vip])
        if service.vips or service.headless:
            self._allocations.release(service.name)
        return touched

    def _withdraw(self, service: Service) -> set[ServiceName]:
        del self.all[service.name]
        self._hosts.remove(service.name)
        for pair in service.selector or ():
            discard(self._selecting, (service.name.namespace, *pair), service.name)
        for vip in service.vips:
            discard(self._claims, vip, service.name)
        had = {*service.vips, *self.vips.get(service.name, ())}
        return {name for vip in had for name in self.claiming(vip)}

    def contested(self) -> set[ServiceName]:
        """The headless services that may have got or lost an address since the last call."""
        found, self._contested = self._contested, set()
        return found

    def _asking_for(self, namespace: str, labels: Labels) -> set[ServiceName]:
        """Those that select one of the labels."""
        return {name for pair in labels for name in self._selecting.get((namespace, *pair), ())}

    # --- resolving ---------------------------------------------------------------------------

    def resolve(self, name: ServiceName) -> list[tuple[ObjectRef, list[Problem]]]:
        """Give a service its addresses and backends. Returns all that is wrong with each object that would be
        it, or would have been."""
        service = self.all.get(name)
        for vip in self.vips.pop(name, ()):
            if self._allocated.get(vip) == name:
                del self._allocated[vip]
            if service is None or vip not in service.vips:
                self._allocations.let_go(vip, name)
        self._look_up(name, service)
        for address in self._named.pop(name, ()):
            discard(self._standing, address, name)
        self._leave(name)
        if service is None:
            self.backends.pop(name, None)
            self._allocations.release(name)
            return self._told(name, {})
        self.vips[name], wrong = self._addresses(service)
        self.backends[name] = {
            (port.port, port.protocol): each_once(self._backends(service, port)) for port in service.ports
        }
        self._named[name] = self._names(name)
        for address in self._named[name]:
            self._standing[address].add(name)
        if service.headless:
            self._stand(service)
        ref = self._elected(name)
        field = "spec.addresses" if is_entry(name) else "spec.clusterIP"
        found = {ref: [Problem(ref, field, text) for text in wrong]}
        for other in (of for of, offer in self._offers[name].items() if of != ref and not offer.pattern):
            found[other] = [Problem(other, "spec.hosts", f"{name.host} already belongs to {ref}")]
        return self._told(name, found)

    def _leave(self, name: ServiceName) -> None:
        for place, meant in self._stands.pop(name, ()):
            discard(self._dialled, place, meant)
            self._contested.update(other.service for other in self._dialled.get(place, ()))

    def _stand(self, service: Service) -> None:
        """Of what stands behind a headless service the pods of its namespace are dialled by its leave: nobody
        gets another's by naming it (threat N49). A port that is its own target goes before others."""
        found = self._stands[service.name] = set()
        for port in service.ports:
            for backend in self.backends[service.name][port.port, port.protocol]:
                owner = self._owners.get(backend.address)
                if port.protocol == "TCP" and owner and owner.namespace == service.name.namespace:
                    other = backend.port != port.port
                    found.add(((backend.address, backend.port), _Meant(service.name, other, port.port)))
        for place, meant in found:
            self._contested.update(other.service for other in self._dialled[place])
            self._dialled[place].add(meant)

    def _names(self, name: ServiceName) -> set[str]:
        """The addresses behind a service that it names itself, or that slices name for it."""
        ports, sliced = self.backends.get(name, {}).values(), bool(self.slices.get(name))
        return {b.address for found in ports for b in found if sliced or b.workload is None}

    def _addresses(self, service: Service) -> tuple[tuple[str, ...], list[str]]:
        """Those that it has, and why it has not got others."""
        wrong: list[str] = []
        vips: list[str] = []
        for vip in service.vips:
            if owner := self._owner_of(vip, service.name):
                wrong.append(f"{vip} already belongs to {owner}")
            else:
                vips.append(vip)
        if not service.vips and not service.headless:
            try:
                vips.extend(self._allocations.vips(service.name, service.families, self._claims))
                self._allocated.update(dict.fromkeys(vips, service.name))
            except Exhausted as error:
                wrong.append(str(error))
        return tuple(vips), wrong

    def _owner_of(self, vip: str, name: ServiceName) -> str:
        """Who else has an address that a Service asks for; empty if it may have it."""
        if vip in self._owners:
            return f"Pod {self._owners[vip]}"
        if vip in self._nodes.addresses:
            return "a node"
        holder = self._allocations.holder(vip, self._claims[vip])
        return "" if holder == name else f"Service {holder}"

    def _told(
        self, name: ServiceName, found: dict[ObjectRef, list[Problem]]
    ) -> list[tuple[ObjectRef, list[Problem]]]:
        told = {**self._problems.pop(name, {}), **found}
        if found:
            self._problems[name] = found
        return [(ref, self._problems_of(ref)) for ref in told]

    def _problems_of(self, ref: ObjectRef) -> list[Problem]:
        """One object may bring several services."""
        names = sorted(self._offered.get(ref, ()))
        return [problem for name in names for problem in self._problems.get(name, {}).get(ref, ())]

    def _look_up(self, name: ServiceName, service: Service | None) -> None:
        """Keep the names that a service leads to."""
        for host in self.leads.pop(name, ()):
            discard(self._resolving, host, name)
        if found := {e.name for e in self._endpoints(service) if e.name} if service else set():
            self.leads[name] = frozenset(found)
            for host in found:
                self._resolving[host].add(name)

    def _endpoints(self, service: Service) -> Iterator[Endpoint]:
        """What stands behind a service and is no pod."""
        yield from service.endpoints
        yield from self.entries.behind(service)

    def _backends(self, service: Service, port: ServicePort) -> Iterator[Backend]:
        if slices := self.slices.get(service.name):
            yield from _in_slices(slices.values(), port)
            return
        for place in self._endpoints(service):
            if number := place.port(port):
                for address in self.current.get(place.name, ()) if place.name else (place.address,):
                    yield Backend(address, number, None, place.labels, place.weight, place.locality)
        for name in selected(service, self._labelled):
            workload = self._workloads[name]
            if workload.ready and (target := target_port(workload, port)):
                for address in workload.addresses:
                    if self._owners.get(address) == name:
                        yield Backend(address, target, name)


def _in_slices(slices: Iterable[EndpointSlice], port: ServicePort) -> Iterator[Backend]:
    for number, endpoint in _of_slices(slices, port):
        if endpoint.ready:
            for address in endpoint.addresses:
                zone = Locality(zone=endpoint.zone)
                yield Backend(address, number, endpoint.workload, locality=zone)


def _of_slices(slices: Iterable[EndpointSlice], port: ServicePort) -> Iterator[tuple[int, SliceEndpoint]]:
    """What stands behind a service port, with the port that it is called at there."""
    for entry in slices:
        for name, number, protocol in entry.ports:
            if (name, protocol) == (port.name, port.protocol):
                yield from ((number, endpoint) for endpoint in entry.endpoints)
