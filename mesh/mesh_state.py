"""The assembled truth: every noun in a table of its own, and which table reads which.

An index is kept by exactly one class. Nothing here knows a node, Envoy or a kernel.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from mesh.address_owners import AddressOwners
from mesh.aliases import Aliases
from mesh.caller import CallerIndex
from mesh.entry_hosts import EntryHosts
from mesh.grants import Grants
from mesh.identities import Identities
from mesh.identity import Allocations
from mesh.model import (
    BackendTls,
    CidrGroup,
    Fragment,
    KeySet,
    KeySource,
    MeshConfig,
    Module,
    ModuleSource,
    NamePattern,
    ObjectRef,
    Problem,
    ProxyConfig,
    Secret,
    ServiceName,
    SidecarIngress,
    Telemetry,
    TrustBundle,
    Workload,
    WorkloadName,
)
from mesh.node_table import NodeTable
from mesh.policies.cidr import CidrIndex
from mesh.policies.mutual_tls import PeerAuthentications
from mesh.policies.named_blocks import NamedBlocks
from mesh.policies.policy_table import PolicyTable
from mesh.policies.references import AnyPolicy, Directory
from mesh.problem_table import ProblemTable
from mesh.protocols import PortKind
from mesh.routes.destination_rules import DestinationRules
from mesh.routes.envoy_filters import EnvoyFilters
from mesh.routes.gateways import Gateways
from mesh.routes.route_table import RouteTable
from mesh.scope import Scopes
from mesh.service_table import ServiceTable


class MeshState:
    """Its dictionaries are for reading; only `mesh.assemble` changes them."""

    def __init__(self, allocations: Allocations, hosts: Iterable[str] = ()) -> None:
        """`hosts` are the addresses of the nodes themselves."""
        self.allocations = allocations
        self._fragments: dict[ObjectRef, Fragment] = {}
        self._problems = ProblemTable()

        self.config = MeshConfig()
        #: The ConfigMap that says so, of all that could.
        self.config_ref: ObjectRef | None = None
        self._configs: dict[ObjectRef, MeshConfig] = {}

        self.workloads: dict[WorkloadName, Workload] = {}
        self.identities = Identities(allocations, self.workloads)
        self.namespaces = self.identities.namespaces
        self.nodes = NodeTable(hosts)
        self._addresses = AddressOwners()
        self.owners = self._addresses.of
        self.callers = CallerIndex(self.workloads, self.nodes.all)

        self.entry_hosts = EntryHosts()
        self.aliases = Aliases()
        self.service_table = ServiceTable(
            allocations, self.entry_hosts, self.workloads, self.owners, self.nodes
        )
        self.services, self.vips = self.service_table.all, self.service_table.vips
        self.backends = self.service_table.backends
        #: DNS name -> the addresses that answers gave.
        self.names: dict[str, frozenset[str]] = {}
        self.service_table.names = self.names
        #: Which report of the resolver that is.
        self.learned = 0
        #: Names that services lead to, of which more than the last answer is to be known.
        self._outlasting: frozenset[str] = frozenset()

        self.cidrs = CidrIndex()
        self.named_blocks = NamedBlocks(self.service_table, self.cidrs)
        self.groups: dict[str, CidrGroup] = {}
        self.keys: dict[KeySource, KeySet] = {}
        self.modules: dict[ModuleSource, Module] = {}
        directory = Directory(
            self.nodes.all,
            self.groups,
            self.services,
            self.service_table.slices,
            self.names,
            self.keys,
            self.modules,
            self.config,
        )
        self.policy_table = PolicyTable(directory, self.cidrs)
        self.policies = self.policy_table.all

        self.routes = RouteTable(self.entry_hosts, self.aliases)
        self.destination_rules = DestinationRules()
        self.envoy_filters = EnvoyFilters()
        self.scopes = Scopes()
        self.gateways = Gateways(self.workloads, self.identities, self.owners)
        self.peer_authentications = PeerAuthentications(
            self.workloads,
            self.identities,
            self.service_table,
            self.destination_rules,
            self.gateways,
            self.owners,
        )
        self.grants = Grants()
        self.credentials: dict[ObjectRef, Secret | TrustBundle] = {}
        self.backend_tls: dict[ObjectRef, BackendTls] = {}

        self.telemetries: dict[ObjectRef, Telemetry] = {}
        self.proxy_configs: dict[ObjectRef, ProxyConfig] = {}

    # --- reading -------------------------------------------------------------------------

    @property
    def problems(self) -> tuple[Problem, ...]:
        """What is wrong between objects; what is wrong inside one stands in its Fragment."""
        return self._problems.all

    def fragment(self, ref: ObjectRef) -> Fragment | None:
        return self._fragments.get(ref)

    def fragments(self) -> dict[ObjectRef, Fragment]:
        """What is known of every object now; a copy."""
        return dict(self._fragments)

    def all_policies(self) -> Iterator[AnyPolicy]:
        for policies in self.policies.values():
            yield from policies

    def declared(self, pod: WorkloadName) -> dict[int, PortKind]:
        """What the TCP ports of a pod are: as Services call them, as it serves Gateways itself, and as its
        Sidecar says."""
        taken = self.sidecar_ingress(pod)
        kinds = {found.port: found.kind for found in taken.listeners if found.kind} if taken else {}
        return self.service_table.declared(pod) | self.gateways.kinds(pod) | kinds

    def sidecar_ingress(self, pod: WorkloadName) -> SidecarIngress | None:
        """What a pod's Sidecar has its Envoy take. For a Gateway none counts."""
        if not self.scopes.ingress or self.gateways.served_by(pod):
            return None
        found = self.scopes.find(self.callers.of(pod), self.config.root_namespace)
        return SidecarIngress(found.ref, found.ingress) if found and found.ingress else None

    @property
    def registry_only(self) -> bool:
        """May somebody reach only what services name?"""
        return self.config.outbound == "REGISTRY_ONLY" or self.scopes.registry_only

    def wanted_names(self) -> frozenset[NamePattern]:
        """The patterns of names whose addresses somebody speaks of, as long as they are good."""
        return self.policy_table.wanted_names().union(map(NamePattern, self._outlasting))

    def routed(self) -> set[ServiceName]:
        """The services of which some route, DestinationRule, EnvoyFilter or PeerAuthentication speaks."""
        return (
            self.routes.bound(self.services)
            | set(self.destination_rules.spoken_of(self.services))
            | set(self.envoy_filters.spoken_of(self.services.values()))
            | self.peer_authentications.strict.keys()
        )
