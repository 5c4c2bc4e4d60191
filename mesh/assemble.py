"""Joins what the dialects understood into one mesh, change by change.

`Mesh.apply` costs about what changed costs: everything is found through indexes, and an index is
kept by exactly one class here. Applying objects one by one, in any order, gives the same mesh as
applying them all at once; a property test holds that. Nothing here knows a node, Envoy or a kernel.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields, replace

from mesh.backends import WorkloadEntries, each_once, selected
from mesh.caller import CallerIndex
from mesh.cidr import CidrIndex, can_serve
from mesh.destination_rules import DestinationRules
from mesh.entry_hosts import EntryHosts, is_entry
from mesh.gateway_problems import gateway_problems
from mesh.gateways import Gateways
from mesh.grants import Grants
from mesh.identities import Identities
from mesh.identity import Allocations, Exhausted
from mesh.index import discard
from mesh.model import (
    RESOLVER,
    Authorization,
    Backend,
    BackendTls,
    CidrGroup,
    DestinationRule,
    Endpoint,
    EndpointSlice,
    Fragment,
    Gateway,
    GatewayClass,
    KeySet,
    KeySource,
    LearnedNames,
    MeshConfig,
    NamePattern,
    Namespace,
    Node,
    ObjectRef,
    Policy,
    Problem,
    Protocol,
    RateLimit,
    ReferenceGrant,
    RequestAuthentication,
    Route,
    Secret,
    Service,
    ServiceName,
    ServicePort,
    Sidecar,
    Telemetry,
    TierPolicy,
    TrustBundle,
    Workload,
    WorkloadEntry,
    WorkloadName,
)
from mesh.protocols import PortKind, declared, joined
from mesh.references import (
    AnyPolicy,
    Directory,
    Source,
    cidrs_of,
    field_of_names,
    fields_of_keys,
    key_sources_of,
    patterns_of,
    resolve,
    sources_of,
)
from mesh.route_problems import route_problems
from mesh.route_table import RouteTable
from mesh.scope import Scopes
from mesh.telemetry import unknown_providers


@dataclass(slots=True)
class Change:
    """What an `apply` touched. `peers`: some workload's identity or address is another's now, or
    policies name other CIDRs; `config`: what the whole mesh is told; `names`: what DNS said, or which
    names policies want to know of; `routed`: services that other routes or DestinationRules bind now;
    `callers`: there are others, they are told apart by other labels, or told of other services; `gateways`:
    they, or what they may use; `keys`: where policies want keys from; `telemetry`: what is to be traced."""

    workloads: set[WorkloadName] = field(default_factory=set)
    services: set[ServiceName] = field(default_factory=set)
    routed: set[ServiceName] = field(default_factory=set)
    policies: set[ObjectRef] = field(default_factory=set)
    peers: bool = False
    blocks: bool = False
    config: bool = False
    names: bool = False
    callers: bool = False
    gateways: bool = False
    keys: bool = False
    telemetry: bool = False

    def __bool__(self) -> bool:
        return any(getattr(self, found.name) for found in fields(self))


class Mesh:
    """The assembled truth. Its dictionaries are for reading; only `apply` changes them."""

    def __init__(self, allocations: Allocations, hosts: Iterable[str] = ()) -> None:
        """`hosts` are the addresses of the nodes themselves."""
        self.allocations = allocations
        self.hosts = frozenset(hosts)
        self.identities = Identities(allocations)
        self.cidrs = CidrIndex()
        self.namespaces: dict[str, Namespace] = {}
        self.workloads: dict[WorkloadName, Workload] = {}
        self.owners: dict[str, WorkloadName] = {}
        self.services: dict[ServiceName, Service] = {}
        self.vips: dict[ServiceName, tuple[str, ...]] = {}
        #: Service -> (port, protocol) -> its ready backends.
        self.backends: dict[ServiceName, dict[tuple[int, Protocol], tuple[Backend, ...]]] = {}
        #: Policies of every kind with their references resolved.
        self.policies: dict[ObjectRef, tuple[AnyPolicy, ...]] = {}
        self.config = MeshConfig()
        self.nodes: dict[str, Node] = {}
        self.groups: dict[str, CidrGroup] = {}
        #: DNS name -> the addresses that answers gave.
        self.names: dict[str, frozenset[str]] = {}
        #: Service -> the DNS names whose addresses stand behind it -> those by the last answer.
        self.leads: dict[ServiceName, frozenset[str]] = {}
        self.current: dict[str, tuple[str, ...]] = {}
        #: Which report of the resolver that is.
        self.learned = 0
        self.keys: dict[KeySource, KeySet] = {}
        #: Addresses of nodes other than `hosts`.
        self.remote_nodes: frozenset[str] = frozenset()
        self.entry_hosts = EntryHosts()
        self.routes = RouteTable(self.entry_hosts)
        self.destination_rules = DestinationRules()
        self.scopes = Scopes()
        self.callers = CallerIndex()
        self.gateways = Gateways()
        self.grants = Grants()
        self.credentials: dict[ObjectRef, Secret | TrustBundle] = {}
        self.backend_tls: dict[ObjectRef, BackendTls] = {}
        self.telemetries: dict[ObjectRef, Telemetry] = {}
        self._fragments: dict[ObjectRef, Fragment] = {}
        self._problems: dict[ObjectRef, tuple[Problem, ...]] = {}
        # Two, for a Pod and a Service of one name are equal as keys.
        self._pod_refs: dict[WorkloadName, ObjectRef] = {}
        self._service_refs: dict[ServiceName, ObjectRef] = {}
        #: Who would be a service: of a host several ServiceEntries may.
        self._offers: defaultdict[ServiceName, dict[ObjectRef, Service]] = defaultdict(dict)
        self._service_problems: dict[ServiceName, dict[ObjectRef, tuple[Problem, ...]]] = {}
        #: DNS name -> the services behind which its addresses stand.
        self._resolving: defaultdict[str, set[ServiceName]] = defaultdict(set)
        self._slices: defaultdict[ServiceName, dict[ObjectRef, EndpointSlice]] = defaultdict(dict)
        self._residents: defaultdict[str, set[WorkloadName]] = defaultdict(set)
        self._labelled: defaultdict[tuple[str, str, str], set[WorkloadName]] = defaultdict(set)
        self._workload_entries = WorkloadEntries()
        self._selecting: defaultdict[tuple[str, str, str], set[ServiceName]] = defaultdict(set)
        self._claims: defaultdict[str, set[ServiceName]] = defaultdict(set)
        self._addressed: defaultdict[str, set[WorkloadName]] = defaultdict(set)
        self._allocated: dict[str, ServiceName] = {}
        self._configs: dict[ObjectRef, MeshConfig] = {}
        self._written: dict[ObjectRef, tuple[AnyPolicy, ...]] = {}
        #: Policies that speak of DNS names, and where they do first.
        self._asked_names: dict[ObjectRef, str] = {}
        #: What policies refer to -> who does.
        self._referring: defaultdict[Source, set[ObjectRef]] = defaultdict(set)
        self._directory = Directory(
            self.nodes, self.groups, self.services, self._slices, self.names, self.keys, self.config
        )

    # --- reading -------------------------------------------------------------------------

    @property
    def problems(self) -> tuple[Problem, ...]:
        """What is wrong between objects; what is wrong inside one stands in its Fragment."""
        return tuple(problem for ref in sorted(self._problems) for problem in self._problems[ref])

    def fragment(self, ref: ObjectRef) -> Fragment | None:
        return self._fragments.get(ref)

    def fragments(self) -> dict[ObjectRef, Fragment]:
        """What is known of every object now; a copy."""
        return dict(self._fragments)

    def all_policies(self) -> Iterator[AnyPolicy]:
        for policies in self.policies.values():
            yield from policies

    def wanted_names(self) -> frozenset[NamePattern]:
        """The patterns of names whose addresses some policy speaks of."""
        return frozenset(
            pattern
            for ref in self._referring["names"]
            for policy in self._written[ref]
            for pattern in patterns_of(policy)
        )

    def wanted_keys(self) -> frozenset[KeySource]:
        """Where the keys come from that policies do not bring themselves."""
        return frozenset(
            source
            for ref in self._referring["keys"]
            for policy in self._written[ref]
            for source in key_sources_of(policy)
        )

    def declared(self, name: WorkloadName) -> dict[int, PortKind]:
        """What Services call the TCP ports of a workload."""
        workload = self.workloads[name]
        found: defaultdict[int, list[PortKind | None]] = defaultdict(list)
        for service in self.services_of(workload):
            for port in service.ports:
                target = target_port(workload, port)
                if target and port.protocol == "TCP":
                    found[target].append(declared(port))
        return {port: kind for port, kinds in sorted(found.items()) if (kind := joined(kinds))}

    def services_of(self, workload: Workload) -> Iterator[Service]:
        """The Services whose selector matches a workload, by name."""
        labels = dict(workload.labels)
        candidates: set[ServiceName] = set()
        for pair in workload.labels:
            candidates |= self._selecting.get((workload.name.namespace, *pair), set())
        for name in sorted(candidates):
            service = self.services[name]
            if service.selector and dict(service.selector).items() <= labels.items():
                yield service

    def routed(self) -> set[ServiceName]:
        """The services of which some route or DestinationRule speaks."""
        return self.routes.bound(self.services) | set(self.destination_rules.spoken_of(self.services))

    # --- changing ------------------------------------------------------------------------

    def apply(self, fragments: Mapping[ObjectRef, Fragment | None]) -> Change:
        """Replace (or with None remove) what is known of these objects."""
        change = Change()
        self._stale: set[ObjectRef] = set()  # policies to be resolved (again)
        moved: set[str] = set()  # addresses whose owner may be another now
        rehome = self._unnumbered()  # workloads to be numbered (again)
        pods_version, version = self.cidrs.pods_version, self.cidrs.version
        for ref, fragment in fragments.items():
            old = self._fragments.get(ref)
            if old == fragment:
                continue
            for noun in old.nouns if old else ():
                self._remove(ref, noun, change, moved, rehome)
            if fragment is None:
                self._fragments.pop(ref, None)
                self._problems.pop(ref, None)
            else:
                self._fragments[ref] = fragment
                for noun in fragment.nouns:
                    self._add(ref, noun, change, moved, rehome)
        self._resolve_policies(change)
        # In order, so that numbers and addresses do not depend on how sets are walked.
        for name in sorted(rehome):
            self._number(name, change)
        for address in moved:
            rehome |= self._own(address, change)
        for name in rehome & self.workloads.keys():
            self._check_workload(name)
        # Who is gone first: what it leaves others may want.
        for service in sorted(change.services, key=lambda name: (name in self.services, name)):
            self._resolve(service)
        for service in change.services | change.routed:
            self._check_routes(service)
        self._check_names()
        change.callers |= self.callers.settle()
        if change.callers:
            for ref, found in self.scopes.problems():
                self._tell(ref, found)
        if change.gateways or change.workloads:
            self._check_gateways()
        self._check_keys()
        if change.telemetry or change.config:
            self._check_telemetries()
        if self.cidrs.version != version:
            change.blocks = True
            change.peers = True
        if self.cidrs.pods_version != pods_version:
            change.workloads.update(self.workloads)
        return change

    def _add(
        self, ref: ObjectRef, noun: object, change: Change, moved: set[str], rehome: set[WorkloadName]
    ) -> None:
        match noun:
            case Namespace():
                self.namespaces[noun.name] = noun
                rehome.update(self._residents.get(noun.name, ()))
            case Workload():
                self.workloads[noun.name] = noun
                self._pod_refs[noun.name] = ref
                self._residents[noun.name.namespace].add(noun.name)
                for pair in noun.labels:
                    self._labelled[noun.name.namespace, *pair].add(noun.name)
                for address in noun.addresses:
                    self._addressed[address].add(noun.name)
                    moved.add(address)
                self.callers.put(noun)
                self._touch(noun, change)
                rehome.add(noun.name)
            case WorkloadEntry():
                self._workload_entries.put(noun)
                self._touch_services(noun.name, noun.endpoint.labels, change)
            case Service():
                self._offers[noun.name][ref] = noun
                self._elect(noun.name, change)
            case EndpointSlice():
                self._slices[noun.service][ref] = noun
                change.services.add(noun.service)
                self._refer_to("services")
            case Node():
                self.nodes[noun.name] = noun
                self._locate_nodes(change)
            case CidrGroup():
                self.groups[noun.name] = noun
                self._refer_to("groups")
            case LearnedNames():
                self._learn(noun, change)
            case KeySet():
                self.keys[noun.source] = noun
                self._refer_to("keys")
            case MeshConfig():
                self._configs[ref] = noun
                self._configure(change)
            case Policy() | TierPolicy() | Authorization() | RequestAuthentication() | RateLimit():
                self._written[ref] = (*self._written.get(ref, ()), noun)
                if field := field_of_names(noun):
                    self._asked_names[ref] = f"spec.{field}"
                for source in sources_of(noun):
                    self._referring[source].add(ref)
                    change.names = change.names or source == "names"
                    change.keys = change.keys or source == "keys"
                self._stale.add(ref)
            case Telemetry():
                self.telemetries[ref] = noun
                change.telemetry = True
            case Route():
                change.routed |= self.routes.put(noun, self.services)
                self._ask_callers(_caller_labels(noun), change)
            case DestinationRule():
                change.routed |= self.destination_rules.put(noun, self.services)
                self._ask_callers(_caller_labels(noun), change)
            case Sidecar():
                self.scopes.put(noun)
                self._ask_callers(_caller_labels(noun), change)
                self._rescoped(change)
            case Gateway() | GatewayClass():
                self.gateways.put(noun)
                change.gateways = True
            case ReferenceGrant():
                self.grants.put(noun)
                self._granted(noun.namespace, change)
            case BackendTls():
                self.backend_tls[ref] = noun
                change.gateways = True
            case Secret() | TrustBundle():
                self.credentials[ref] = noun
                change.gateways = True

    def _remove(
        self, ref: ObjectRef, noun: object, change: Change, moved: set[str], rehome: set[WorkloadName]
    ) -> None:
        match noun:
            case Namespace():
                self.namespaces.pop(noun.name, None)
                rehome.update(self._residents.get(noun.name, ()))
            case Workload():
                del self.workloads[noun.name]
                self.callers.discard(noun.name)
                discard(self._residents, noun.name.namespace, noun.name)
                for pair in noun.labels:
                    discard(self._labelled, (noun.name.namespace, *pair), noun.name)
                for address in noun.addresses:
                    discard(self._addressed, address, noun.name)
                    moved.add(address)
                self._touch(noun, change)
                rehome.add(noun.name)
            case WorkloadEntry():
                self._workload_entries.remove(noun)
                self._touch_services(noun.name, noun.endpoint.labels, change)
            case Service():
                del self._offers[noun.name][ref]
                self._elect(noun.name, change)
            case EndpointSlice():
                self._slices[noun.service].pop(ref, None)
                change.services.add(noun.service)
                self._refer_to("services")
            case Node():
                self.nodes.pop(noun.name, None)
                self._locate_nodes(change)
            case CidrGroup():
                self.groups.pop(noun.name, None)
                self._refer_to("groups")
            case LearnedNames():
                self._learn(LearnedNames(), change)
            case KeySet():
                self.keys.pop(noun.source, None)
                self._refer_to("keys")
            case MeshConfig():
                self._configs.pop(ref, None)
                self._configure(change)
            case Policy() | TierPolicy() | Authorization() | RequestAuthentication() | RateLimit():
                self._written.pop(ref, None)
                if self._asked_names.pop(ref, None):
                    self._tell(ref, ())
                for source in sources_of(noun):
                    self._referring[source].discard(ref)
                    change.names = change.names or source == "names"
                    if source == "keys":
                        change.keys = True
                        self._tell(ref, ())
                self._stale.add(ref)
            case Telemetry():
                del self.telemetries[ref]
                change.telemetry = True
            case Route():
                change.routed |= self.routes.remove(ref, self.services)
                self._forget_callers(_caller_labels(noun), change)
            case DestinationRule():
                change.routed |= self.destination_rules.remove(ref, self.services)
                self._forget_callers(_caller_labels(noun), change)
            case Sidecar():
                self.scopes.remove(ref)
                self._forget_callers(_caller_labels(noun), change)
                self._rescoped(change)
            case Gateway() | GatewayClass():
                self.gateways.remove(noun)
                change.gateways = True
            case ReferenceGrant():
                self.grants.remove(ref)
                self._granted(noun.namespace, change)
            case BackendTls():
                del self.backend_tls[ref]
                change.gateways = True
            case Secret() | TrustBundle():
                del self.credentials[ref]
                change.gateways = True

    def _elect(self, name: ServiceName, change: Change) -> None:
        """Of several ServiceEntries of one namespace the oldest has a host."""
        if name in self.services:
            self._withdraw(self.services[name], change)
        if offers := self._offers[name]:
            ref = min(offers, key=lambda ref: (offers[ref].created or "9", ref))
            self._install(ref, offers[ref], change)
        else:
            del self._offers[name]
        change.services.add(name)
        change.services.update(self.entry_hosts.of(name))
        change.routed |= self.routes.leading_to((name,))
        self._refer_to("services")

    def _install(self, ref: ObjectRef, service: Service, change: Change) -> None:
        self.services[service.name] = service
        self._service_refs[service.name] = ref
        self.entry_hosts.put(service)
        for pair in service.selector or ():
            self._selecting[service.name.namespace, *pair].add(service.name)
        for vip in service.vips:
            self._claims[vip].add(service.name)
            change.services.update(self._claims[vip])
            if vip in self._allocated:
                change.services.add(self._allocated[vip])
        if service.vips or service.headless:
            self.allocations.release(service.name)

    def _withdraw(self, service: Service, change: Change) -> None:
        del self.services[service.name]
        self.entry_hosts.remove(service.name)
        for pair in service.selector or ():
            discard(self._selecting, (service.name.namespace, *pair), service.name)
        for vip in service.vips:
            discard(self._claims, vip, service.name)
        for vip in {*service.vips, *self.vips.get(service.name, ())}:
            change.services.update(self._claims.get(vip, ()))

    def _rescoped(self, change: Change) -> None:
        """Callers are told of other services."""
        change.callers = True
        change.routed |= self.routed()

    def _granted(self, namespace: str, change: Change) -> None:
        """Others may refer to objects of a namespace now, or may no more."""
        change.gateways = True
        change.routed |= {name for name in self.routes.mentioned() if name.namespace == namespace}
        change.routed |= self.routes.leading_to(change.routed)

    def _ask_callers(self, labels: Iterable[str], change: Change) -> None:
        if self.callers.ask(labels):
            self._see_callers(change)

    def _forget_callers(self, labels: Iterable[str], change: Change) -> None:
        if self.callers.forget(labels):
            self._see_callers(change)

    def _see_callers(self, change: Change) -> None:
        """Callers are told apart by other labels."""
        change.callers = True
        for workload in self.workloads.values():
            self.callers.put(workload)

    def _refer_to(self, source: Source) -> None:
        self._stale |= self._referring[source]

    def _learn(self, learned: LearnedNames, change: Change) -> None:
        self.names.clear()
        self.names.update({name: frozenset(addresses) for name, addresses in learned.names})
        self.learned = learned.sequence
        current = {name: tuple(filter(can_serve, found)) for name, found in learned.current}
        for name, addresses in current.items():
            self.names[name] = self.names.get(name, frozenset()).union(addresses)
        for name, services in self._resolving.items():
            if current.get(name) != self.current.get(name):
                change.services |= services
        self.current = current
        self._refer_to("names")
        change.names = True

    def _locate_nodes(self, change: Change) -> None:
        self._refer_to("nodes")
        addresses = {address for node in self.nodes.values() for address in node.addresses}
        remote = frozenset(addresses - self.hosts)
        if remote != self.remote_nodes:
            for address in remote ^ self.remote_nodes:
                change.services.update(self._claims.get(address, ()))
            self.remote_nodes = remote
            change.blocks = change.peers = True

    def _configure(self, change: Change) -> None:
        """Of several ConfigMaps that could be meant the first by name counts."""
        config = self._configs[min(self._configs)] if self._configs else MeshConfig()
        if config != self.config:
            # The root namespace's routes and Sidecars are everybody's.
            change.callers |= config.root_namespace != self.config.root_namespace
            self.config = config
            self._directory = replace(self._directory, config=config)
            self._refer_to("config")
            change.config = True

    def _resolve_policies(self, change: Change) -> None:
        for ref in self._stale:
            old = self.policies.get(ref, ())
            written = self._written.get(ref, ())
            new = tuple(found for policy in written for found in resolve(policy, self._directory))
            if new == old:
                continue
            # In this order, so that a block that both name is not taken out in between.
            self.cidrs.add(cidrs_of(new))
            self.cidrs.remove(cidrs_of(old))
            if new:
                self.policies[ref] = new
            else:
                del self.policies[ref]
            change.policies.add(ref)

    def _check_names(self) -> None:
        """Policies that speak of DNS names need the mesh's resolver: it reports addresses, and it alone
        enforces rules on queries. Without one they match nothing."""
        missing = not self.identities.select(RESOLVER)
        for ref, where in self._asked_names.items():
            text = "the mesh has no resolver, the pod kube-system/sluice-dns, so this matches nothing"
            self._tell(ref, [Problem(ref, where, text)] if missing else ())

    def _check_keys(self) -> None:
        """RequestAuthentications whose keys cannot be fetched now."""
        for ref in self._stale & self._referring["keys"]:
            fields = [found for noun in self._written[ref] for found in fields_of_keys(noun)]
            self._tell(ref, [p for found in fields if (p := self._lacks_keys(ref, *found)) is not None])

    def _lacks_keys(self, ref: ObjectRef, field: str, source: KeySource) -> Problem | None:
        known = self.keys.get(source)
        if known is None or not known.failure:
            return None
        rest = "the keys from before stay in force" if known.keys else "until then its tokens get 401"
        return Problem(ref, f"spec.{field}", f"no keys from {source.uri}: {known.failure}; {rest}")

    def _check_telemetries(self) -> None:
        text = "is no extension provider of tracing in MeshConfig, so nothing is traced"
        for ref, telemetry in self.telemetries.items():
            missing = unknown_providers(self.config, telemetry)
            self._tell(
                ref,
                (
                    Problem(ref, f"spec.tracing[{at}].providers[0].name", f"{name} {text}")
                    for at, name in missing
                ),
            )

    def _touch(self, workload: Workload, change: Change) -> None:
        change.workloads.add(workload.name)
        self._touch_services(workload.name, workload.labels, change)

    def _touch_services(
        self, name: WorkloadName, labels: tuple[tuple[str, str], ...], change: Change
    ) -> None:
        """Something that services may select has come, gone or changed."""
        for pair in labels:
            change.services.update(self._selecting.get((name.namespace, *pair), ()))

    def _unnumbered(self) -> set[WorkloadName]:
        """Workloads for which there was no number, once there may be one."""
        if len(self.identities.of) == len(self.workloads) or not self.allocations.security_ids.has_room():
            return set()
        return self.workloads.keys() - self.identities.of.keys()

    def _number(self, name: WorkloadName, change: Change) -> None:
        workload = self.workloads.get(name)
        if workload is None:
            moved = self.identities.forget(name)
            self._pod_refs.pop(name, None)
        else:
            try:
                moved = self.identities.assign(workload, self.namespaces.get(name.namespace))
            except Exhausted:
                moved = self.identities.forget(name)
        if moved:
            change.peers = True
            change.workloads.add(name)

    def _own(self, address: str, change: Change) -> set[WorkloadName]:
        """An address belongs to one workload, of several that claim it to the first by name.
        Returns the claimants."""
        claimants = self._addressed.get(address, set())
        before = self.owners.get(address)
        if claimants:
            self.owners[address] = min(claimants)
        else:
            self.owners.pop(address, None)
        if self.owners.get(address) != before:
            change.peers = True
            change.services.update(self._claims.get(address, ()))
        for name in {*claimants, before}:
            if name is not None and name in self.workloads:
                self._touch(self.workloads[name], change)
        return claimants

    def _check_workload(self, name: WorkloadName) -> None:
        ref = self._pod_refs[name]
        problems = [
            Problem(ref, "status.podIPs", f"{address} already belongs to Pod {self.owners[address]}")
            for address in self.workloads[name].addresses
            if self.owners[address] != name
        ]
        if name not in self.identities.of:
            # It is nobody then: no policy allows it (fail closed).
            problems.append(Problem(ref, "metadata.labels", "no security id is left; the pod stays cut off"))
        self._tell(ref, problems)

    def _tell(self, ref: ObjectRef, problems: Iterable[Problem]) -> None:
        if found := tuple(problems):
            self._problems[ref] = found
        else:
            self._problems.pop(ref, None)

    def _resolve(self, name: ServiceName) -> None:
        service = self.services.get(name)
        before = self.vips.pop(name, ())
        for vip in before:
            if self._allocated.get(vip) == name:
                del self._allocated[vip]
            if service is None or vip not in service.vips:
                self.allocations.let_go(vip, name)
        self._look_up(name)
        if service is None:
            self.backends.pop(name, None)
            self.allocations.release(name)
            self._service_refs.pop(name, None)
            self._tell_of(name, {})
            return
        ref = self._service_refs[name]
        problems: list[str] = []
        vips: list[str] = []
        for vip in service.vips:
            owner = self._owner_of(vip, name)
            if owner:
                problems.append(f"{vip} already belongs to {owner}")
            else:
                vips.append(vip)
        if not service.vips and not service.headless:
            try:
                vips.extend(self.allocations.vips(name, service.families, self._claims))
                self._allocated.update(dict.fromkeys(vips, name))
            except Exhausted as error:
                problems.append(str(error))
        self.vips[name] = tuple(vips)
        self.backends[name] = {
            (port.port, port.protocol): each_once(self._backends(service, port)) for port in service.ports
        }
        field = "spec.addresses" if is_entry(name) else "spec.clusterIP"
        found = {ref: tuple(Problem(ref, field, text) for text in problems)}
        for other in self._offers[name].keys() - {ref}:
            found[other] = (Problem(other, "spec.hosts", f"{name.host} already belongs to {ref}"),)
        self._tell_of(name, found)

    def _tell_of(self, name: ServiceName, found: dict[ObjectRef, tuple[Problem, ...]]) -> None:
        """What is wrong with a service. One object may bring several."""
        refs = {*self._service_problems.pop(name, ()), *found}
        if found:
            self._service_problems[name] = found
        for ref in refs:
            fragment = self._fragments.get(ref)
            own = [noun.name for noun in fragment.nouns if isinstance(noun, Service)] if fragment else []
            self._tell(ref, [p for n in own for p in self._service_problems.get(n, {}).get(ref, ())])

    def _look_up(self, name: ServiceName) -> None:
        """Keep the names that a service leads to."""
        for host in self.leads.pop(name, ()):
            discard(self._resolving, host, name)
        service = self.services.get(name)
        if found := {e.name for e in self._endpoints(service) if e.name} if service else set():
            self.leads[name] = frozenset(found)
            for host in found:
                self._resolving[host].add(name)

    def _endpoints(self, service: Service) -> Iterator[Endpoint]:
        """What stands behind a service and is no pod."""
        yield from service.endpoints
        yield from self._workload_entries.behind(service)

    def _owner_of(self, vip: str, name: ServiceName) -> str:
        """Who else has an address that a Service asks for; empty if it may have it."""
        if vip in self.owners:
            return f"Pod {self.owners[vip]}"
        if vip in self.hosts or vip in self.remote_nodes:
            return "a node"
        holder = self.allocations.holder(vip, self._claims[vip])
        return "" if holder == name else f"Service {holder}"

    def _backends(self, service: Service, port: ServicePort) -> Iterator[Backend]:
        slices = self._slices.get(service.name)
        if slices:
            for entry in slices.values():
                for name, number, protocol in entry.ports:
                    if (name, protocol) == (port.name, port.protocol):
                        for endpoint in entry.endpoints:
                            if endpoint.ready:
                                for address in endpoint.addresses:
                                    yield Backend(address, number, endpoint.workload)
            return
        for place in self._endpoints(service):
            if number := place.port(port):
                for address in self.current.get(place.name, ()) if place.name else (place.address,):
                    yield Backend(address, number, None, place.labels, place.weight)
        for owner in selected(service, self._labelled):
            workload = self.workloads[owner]
            if not workload.ready:
                continue
            if target := target_port(workload, port):
                for address in workload.addresses:
                    if self.owners.get(address) == owner:
                        yield Backend(address, target, owner)

    def _check_gateways(self) -> None:
        for ref, gateway in self.gateways.all.items():
            found = gateway_problems(
                gateway, self.gateways, self.workloads, self.identities, self.credentials, self.grants
            )
            self._tell(ref, found)

    def _check_routes(self, service: ServiceName) -> None:
        """Problems of the routes that name this service, as parent or as backend."""
        for ref in self.routes.mentioning(service):
            route = self.routes.all[ref]
            root = self.config.root_namespace
            rules, hosts = self.destination_rules, self.entry_hosts
            self._tell(ref, route_problems(route, self.services, hosts, rules, root))


def _caller_labels(noun: Route | DestinationRule | Sidecar) -> set[str]:
    """The labels of callers for which a rule asks."""
    if isinstance(noun, DestinationRule | Sidecar):
        asked = [noun.callers] if noun.callers else []
    else:
        asked = [match.callers for rule in noun.all_rules for match in rule.matches]
    return {key for callers in asked for key, _ in callers.labels}


def target_port(workload: Workload, port: ServicePort) -> int:
    """The port of a workload behind a Service's; 0 if it has none of that name."""
    if isinstance(port.target, int):
        return port.target
    wanted = (port.target, port.protocol)
    return next((p.port for p in workload.ports if (p.name, p.protocol) == wanted), 0)
