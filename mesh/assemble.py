"""Joins what the dialects understood into one mesh, change by change.

`Mesh.apply` costs about what changed costs: everything is found through indexes, and an index is
kept by exactly one class here. Applying objects one by one, in any order, gives the same mesh as
applying them all at once; a property test holds that. Nothing here knows a node, Envoy or a kernel.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping

from mesh.backends import target_port
from mesh.caller import CallerIndex
from mesh.change import Change
from mesh.entry_hosts import EntryHosts
from mesh.grants import Grants
from mesh.identities import Identities
from mesh.identity import Allocations, Exhausted
from mesh.index import discard
from mesh.locality import asked_of_callers
from mesh.model import (
    MESH_GATEWAY,
    RESOLVER,
    Authorization,
    BackendTls,
    CidrGroup,
    DestinationRule,
    EndpointSlice,
    EnvoyFilter,
    Fragment,
    Gateway,
    GatewayClass,
    HostPattern,
    KeySet,
    KeySource,
    LearnedNames,
    MeshConfig,
    Module,
    ModuleSource,
    NamePattern,
    Namespace,
    Node,
    ObjectRef,
    Policy,
    Problem,
    Protocol,
    ProxyConfig,
    RateLimit,
    ReferenceGrant,
    RequestAuthentication,
    Route,
    Secret,
    Service,
    ServiceName,
    Sidecar,
    Telemetry,
    TierPolicy,
    TrustBundle,
    Workload,
    WorkloadEntry,
    WorkloadName,
)
from mesh.observability import access_logging
from mesh.observability.telemetry import unknown_providers
from mesh.policies.cidr import CidrIndex
from mesh.policies.named_blocks import NamedBlocks
from mesh.policies.policy_table import PolicyTable
from mesh.policies.references import AnyPolicy, Directory, Source
from mesh.protocols import PortKind, declared, joined
from mesh.routes.destination_rules import DestinationRules
from mesh.routes.envoy_filters import EnvoyFilters
from mesh.routes.envoy_filters import problems as envoy_filter_problems
from mesh.routes.gateway_problems import gateway_problems, returning
from mesh.routes.gateways import Gateways
from mesh.routes.route_problems import route_problems
from mesh.routes.route_table import RouteTable, entry_hosts
from mesh.scope import Scopes
from mesh.service_table import ServiceTable
from mesh.topology import LOCALITY


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
        self.config = MeshConfig()
        #: The ConfigMap that says so.
        self.config_ref: ObjectRef | None = None
        self.nodes: dict[str, Node] = {}
        self.groups: dict[str, CidrGroup] = {}
        #: DNS name -> the addresses that answers gave.
        self.names: dict[str, frozenset[str]] = {}
        #: Which report of the resolver that is.
        self.learned = 0
        self.keys: dict[KeySource, KeySet] = {}
        self.modules: dict[ModuleSource, Module] = {}
        #: Addresses of nodes other than `hosts`.
        self.remote_nodes: frozenset[str] = frozenset()
        self.entry_hosts = EntryHosts()
        self.service_table = ServiceTable(allocations, self.entry_hosts, self.workloads, self.owners)
        self.service_table.node_addresses = self.hosts
        self.services, self.vips = self.service_table.all, self.service_table.vips
        self.backends = self.service_table.backends
        self.service_table.names = self.names
        self.named_blocks = NamedBlocks(self.service_table, self.cidrs)
        slices = self.service_table.slices
        directory = Directory(
            self.nodes,
            self.groups,
            self.services,
            slices,
            self.names,
            self.keys,
            self.modules,
            self.config,
        )
        self.policy_table = PolicyTable(directory, self.cidrs)
        self.policies = self.policy_table.all
        self.routes = RouteTable(self.entry_hosts)
        self.destination_rules = DestinationRules()
        self.envoy_filters = EnvoyFilters()
        self.scopes = Scopes()
        self.callers = CallerIndex(self.nodes)
        self.gateways = Gateways()
        self.grants = Grants()
        self.credentials: dict[ObjectRef, Secret | TrustBundle] = {}
        self.backend_tls: dict[ObjectRef, BackendTls] = {}
        self.telemetries: dict[ObjectRef, Telemetry] = {}
        self.proxy_configs: dict[ObjectRef, ProxyConfig] = {}
        self._fragments: dict[ObjectRef, Fragment] = {}
        self._problems: dict[ObjectRef, tuple[Problem, ...]] = {}
        self._pod_refs: dict[WorkloadName, ObjectRef] = {}
        self._residents: defaultdict[str, set[WorkloadName]] = defaultdict(set)
        self._addressed: defaultdict[str, set[WorkloadName]] = defaultdict(set)
        self._on_node: defaultdict[str, set[WorkloadName]] = defaultdict(set)
        self._configs: dict[ObjectRef, MeshConfig] = {}
        #: Names that services lead to, of which more than the last answer is to be known.
        self._outlasting: frozenset[str] = frozenset()

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

    def declared(self, name: WorkloadName) -> dict[int, PortKind]:
        """What Services call the TCP ports of a workload, and what it serves itself at those of Gateways."""
        workload = self.workloads[name]
        found: defaultdict[int, list[PortKind | None]] = defaultdict(list)
        for service in self.service_table.selecting(workload):
            for port in service.ports:
                target = target_port(workload, port)
                if target and port.protocol == "TCP":
                    found[target].append(declared(port))
        kinds = {port: joined(said) for port, said in found.items()}
        served: defaultdict[int, set[PortKind | None]] = defaultdict(set)
        for gateway in self.gateways_of(name):
            for listener in gateway.listeners:
                if listener.transport == "TCP":
                    served[listener.port].add("http" if listener.speaks_http else "plain")
        # Where there is both, what is no HTTP is not to be taken for it.
        kinds |= {port: joined(said) or "plain" for port, said in served.items()}
        return {port: kind for port, kind in sorted(kinds.items()) if kind}

    @property
    def registry_only(self) -> bool:
        """May somebody reach only what services name?"""
        return self.config.outbound == "REGISTRY_ONLY" or self.scopes.registry_only

    def wanted_names(self) -> frozenset[NamePattern]:
        """The patterns of names whose addresses somebody speaks of, as long as they are good."""
        return self.policy_table.wanted_names().union(map(NamePattern, self._outlasting))

    def routed(self) -> set[ServiceName]:
        """The services of which some route, DestinationRule or EnvoyFilter speaks."""
        return (
            self.routes.bound(self.services)
            | set(self.destination_rules.spoken_of(self.services))
            | set(self.envoy_filters.spoken_of(self.services.values()))
        )

    # --- changing ------------------------------------------------------------------------

    def apply(self, fragments: Mapping[ObjectRef, Fragment | None]) -> Change:
        """Replace (or with None remove) what is known of these objects."""
        change = Change()
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
        looked, changed = self.policy_table.settle()
        change.policies |= changed
        for ref in looked:
            lacking = (*self.policy_table.lacking_keys(ref), *self.policy_table.lacking_modules(ref))
            self._tell(ref, [*lacking, *self._half_done(ref)])
        # In order, so that numbers and addresses do not depend on how sets are walked.
        for name in sorted(rehome):
            self._number(name, change)
        for address in moved:
            rehome |= self._own(address, change)
        for name in rehome & self.workloads.keys():
            self._check_workload(name)
        # Who is gone first: what it leaves others may want.
        for service in sorted(change.services, key=lambda name: (name in self.services, name)):
            for ref, found in self.service_table.resolve(service):
                self._tell(ref, found)
        self._name(change)
        for service in change.services | change.routed:
            self._check_routes(service)
        self._check_names()
        change.callers |= self.callers.settle()
        if change.callers:
            for ref, found in self.scopes.problems():
                self._tell(ref, found)
        if change.gateways or change.workloads:
            self._check_gateways()
        if change.gateways:
            for ref, route in self.routes.all.items():
                if route.attached or route.gateways != (MESH_GATEWAY,):
                    self._check_route(ref)
        if change.telemetry or change.config:
            self._check_telemetries()
        if self.cidrs.version != version:
            change.blocks = True
            change.peers = True
        if self.cidrs.pods_version != pods_version:
            change.workloads.update(self.workloads)
        change.workloads.update(
            owner for address in self.cidrs.take_single() if (owner := self.owners.get(address))
        )
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
                self._on_node[noun.node].add(noun.name)
                self.service_table.put_workload(noun)
                for address in noun.addresses:
                    self._addressed[address].add(noun.name)
                    moved.add(address)
                self.callers.put(noun)
                self._touch(noun, change)
                rehome.add(noun.name)
            case WorkloadEntry():
                change.services |= self.service_table.put_entry(noun)
            case Service():
                change.services |= self.service_table.put(ref, noun)
                self._ask_callers(asked_of_callers(noun), change)
                self._serve(noun.name, change)
            case HostPattern():
                self._serve_all(self.service_table.put_pattern(ref, noun), change)
            case EndpointSlice():
                self.service_table.slices[noun.service][ref] = noun
                change.services.add(noun.service)
                self.policy_table.look_again("services")
            case Node():
                self.nodes[noun.name] = noun
                self._locate_nodes(noun, change)
            case CidrGroup():
                self.groups[noun.name] = noun
                self.policy_table.look_again("groups")
            case LearnedNames():
                self._learn(ref, noun, change)
            case KeySet():
                self.keys[noun.source] = noun
                self.policy_table.look_again("keys")
            case Module():
                self.modules[noun.source] = noun
                self.policy_table.look_again("modules")
            case MeshConfig():
                self._configs[ref] = noun
                self._configure(change)
            case Policy() | TierPolicy() | Authorization() | RequestAuthentication() | RateLimit():
                _refer(self.policy_table.put(ref, noun), change)
            case EnvoyFilter():
                _refer(self.policy_table.put(ref, noun), change)
                change.routed |= self.envoy_filters.put(noun, self.services.values())
                self._ask_callers(_caller_labels(noun), change)
            case Telemetry():
                self.telemetries[ref] = noun
                change.telemetry = True
            case ProxyConfig():
                self.proxy_configs[ref] = noun
                change.proxies = True
            case Route():
                self._serve_all(self.service_table.ask(ref, entry_hosts(noun)), change)
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
                discard(self._on_node, noun.node, noun.name)
                self.service_table.remove_workload(noun)
                for address in noun.addresses:
                    discard(self._addressed, address, noun.name)
                    moved.add(address)
                self._touch(noun, change)
                rehome.add(noun.name)
            case WorkloadEntry():
                change.services |= self.service_table.remove_entry(noun)
            case Service():
                change.services |= self.service_table.remove(ref, noun.name)
                self._forget_callers(asked_of_callers(noun), change)
                self._serve(noun.name, change)
            case HostPattern():
                self._serve_all(self.service_table.remove_pattern(ref, noun), change)
            case EndpointSlice():
                self.service_table.slices[noun.service].pop(ref, None)
                change.services.add(noun.service)
                self.policy_table.look_again("services")
            case Node():
                self.nodes.pop(noun.name, None)
                self._locate_nodes(noun, change)
            case CidrGroup():
                self.groups.pop(noun.name, None)
                self.policy_table.look_again("groups")
            case LearnedNames():
                self._learn(ref, LearnedNames(), change)
            case KeySet():
                self.keys.pop(noun.source, None)
                self.policy_table.look_again("keys")
            case Module():
                self.modules.pop(noun.source, None)
                self.policy_table.look_again("modules")
            case MeshConfig():
                self._configs.pop(ref, None)
                self._configure(change)
            case Policy() | TierPolicy() | Authorization() | RequestAuthentication() | RateLimit():
                _refer(self.policy_table.remove(ref, noun), change)
            case EnvoyFilter():
                _refer(self.policy_table.remove(ref, noun), change)
                change.routed |= self.envoy_filters.remove(noun, self.services.values())
                self._forget_callers(_caller_labels(noun), change)
            case Telemetry():
                del self.telemetries[ref]
                change.telemetry = True
            case ProxyConfig():
                del self.proxy_configs[ref]
                change.proxies = True
            case Route():
                self._serve_all(self.service_table.ask(ref, ()), change)
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

    def _serve(self, name: ServiceName, change: Change) -> None:
        """A service came, went or is another."""
        change.routed |= self.routes.leading_to((name,))
        self.policy_table.look_again("services")

    def _serve_all(self, names: Iterable[ServiceName], change: Change) -> None:
        """The same of those that come and go as they are asked for."""
        for name in names:
            change.services.add(name)
            self._serve(name, change)

    def _rescoped(self, change: Change) -> None:
        """Callers are told of other services."""
        change.callers = True
        change.routed |= self.routed()

    def _name(self, change: Change) -> None:
        """Where somebody may reach only what services name, policy knows all its addresses, and the resolver
        tells of those that names had before."""
        leads, kept = self.service_table.leads, self.registry_only
        self.named_blocks.keep(kept, change.services.union(leads if change.names else ()))
        names = frozenset[str]().union(*leads.values()) if kept else frozenset[str]()
        if names != self._outlasting:
            self._outlasting = names
            change.names = True

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

    def _learn(self, ref: ObjectRef, learned: LearnedNames, change: Change) -> None:
        self.names.clear()
        self.names.update({name: frozenset(addresses) for name, addresses in learned.names})
        self.learned = learned.sequence
        change.services |= self.service_table.learn(learned.current)
        self._serve_all(self.service_table.ask(ref, learned.asked), change)
        for name, addresses in self.service_table.current.items():
            self.names[name] = self.names.get(name, frozenset()).union(addresses)
        self.policy_table.look_again("names")
        change.names = True

    def _locate_nodes(self, node: Node, change: Change) -> None:
        """A node came or went: its addresses are no pod's, and its place is that of its pods."""
        self.policy_table.look_again("nodes")
        if any(key in LOCALITY for key, _ in node.labels):
            for name in self._on_node.get(node.name, ()):
                self.callers.put(self.workloads[name])
                change.services |= self.service_table.touched_by(self.workloads[name])
        addresses = {address for node in self.nodes.values() for address in node.addresses}
        remote = frozenset(addresses - self.hosts)
        if remote != self.remote_nodes:
            for address in remote ^ self.remote_nodes:
                change.services |= self.service_table.claiming(address)
            self.remote_nodes = remote
            self.service_table.node_addresses = self.hosts | remote
            change.blocks = change.peers = True

    def _configure(self, change: Change) -> None:
        """Of several ConfigMaps that could be meant the first by name counts."""
        ref = min(self._configs, default=None)
        config = self._configs[ref] if ref else MeshConfig()
        if (ref, config) != (self.config_ref, self.config):
            # The root namespace's routes and Sidecars are everybody's.
            change.callers |= config.root_namespace != self.config.root_namespace
            if config.locality != self.config.locality:
                self._ask_callers(asked_of_callers(config), change)
                self._forget_callers(asked_of_callers(self.config), change)
            self.config_ref, self.config = ref, config
            self.policy_table.configure(config)
            change.config = True

    def _half_done(self, ref: ObjectRef) -> Iterator[Problem]:
        """What an EnvoyFilter does less of than it looks like."""
        for policy in self.policies.get(ref, ()):
            if isinstance(policy, EnvoyFilter):
                yield from envoy_filter_problems(policy)

    def _check_names(self) -> None:
        """Policies that speak of DNS names need the mesh's resolver: it reports addresses, and it alone
        enforces rules on queries. Without one they match nothing."""
        missing = not self.identities.select(RESOLVER)
        for ref, where in self.policy_table.asking_names.items():
            text = "the mesh has no resolver, the pod kube-system/sluice-dns, so this matches nothing"
            self._tell(ref, [Problem(ref, where, text)] if missing else ())

    def _check_telemetries(self) -> None:
        text = "is no extension provider of tracing in MeshConfig, so nothing is traced"
        no_log = "is no extension provider of access logs in MeshConfig, so it logs nothing"
        for ref, telemetry in self.telemetries.items():
            missing = unknown_providers(self.config, telemetry)
            problems = [
                Problem(ref, f"spec.tracing[{at}].providers[0].name", f"{name} {text}")
                for at, name in missing
            ]
            problems += [
                Problem(ref, f"spec.accessLogging[{at}].providers[{place}].name", f"{name} {no_log}")
                for at, place, name in access_logging.unknown_providers(self.config, telemetry)
            ]
            self._tell(ref, problems)

    def _touch(self, workload: Workload, change: Change) -> None:
        change.workloads.add(workload.name)
        change.services |= self.service_table.touched_by(workload)

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
            if workload is not None:
                change.services |= self.service_table.reaching(workload)

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
            change.services |= self.service_table.claiming(address) | self.service_table.standing_at(address)
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

    def _check_gateways(self) -> None:
        for ref, gateway in self.gateways.all.items():
            found = gateway_problems(
                gateway, self.gateways, self.workloads, self.identities, self.credentials, self.grants
            )
            self._tell(ref, found)

    def _check_routes(self, service: ServiceName) -> None:
        """Problems of the routes that name this service, as parent or as backend."""
        for ref in self.routes.mentioning(service):
            self._check_route(ref)

    def _check_route(self, ref: ObjectRef) -> None:
        route, root = self.routes.all[ref], self.config.root_namespace
        found = route_problems(route, self.services, self.entry_hosts, self.destination_rules, root)
        self._tell(ref, (*found, *returning(route, self.backends, self.gateways_at)))

    def gateways_at(self, address: str, port: int, protocol: Protocol) -> list[Gateway]:
        """Those that the pod at an address serves at a port."""
        name = self.owners.get(address) if len(self.gateways) else None
        served = self.gateways_of(name) if name else []
        return [gateway for gateway in served if gateway.listens(port, protocol)]

    def gateways_of(self, name: WorkloadName) -> list[Gateway]:
        """Those that a pod serves, the oldest first."""
        number = self.identities.of.get(name) if len(self.gateways) else None
        if number is None:
            return []
        return self.gateways.served_by(self.workloads[name], self.identities.all[number].mapping)


def _caller_labels(noun: Route | DestinationRule | Sidecar | EnvoyFilter) -> set[str]:
    """The labels of callers for which a rule asks."""
    if isinstance(noun, EnvoyFilter):
        steering = noun.steers and any(patch.concerns("SIDECAR_OUTBOUND") for patch in noun.patches)
        return {key for key, _ in noun.labels} if steering else set()
    if isinstance(noun, DestinationRule | Sidecar):
        asked = [noun.callers] if noun.callers else []
    else:
        asked = [match.callers for rule in noun.all_rules for match in rule.matches]
    found = {key for callers in asked for key, _ in callers.labels}
    return found | asked_of_callers(noun) if isinstance(noun, DestinationRule) else found


def _refer(sources: set[Source], change: Change) -> None:
    """Policies refer to other things now."""
    change.names = change.names or "names" in sources
    change.keys = change.keys or "keys" in sources
    change.modules = change.modules or "modules" in sources
