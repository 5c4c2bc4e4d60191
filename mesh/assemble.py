"""Joins what the dialects understood into one mesh, change by change.

`Mesh.apply` costs about what changed costs: everything is found through indexes. Applying objects one by one,
in any order, gives the same mesh as applying them all at once; a property test holds that.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from mesh.caller_labels import labels_asked
from mesh.change import Change
from mesh.checks import check, check_pods
from mesh.locality import asked_of_callers
from mesh.mesh_state import MeshState
from mesh.model import (
    Alias,
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
    LearnedNames,
    MeshConfig,
    Module,
    Namespace,
    Node,
    Noun,
    ObjectRef,
    PeerAuthentication,
    Policy,
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
    WorkloadGroup,
    service_of,
)
from mesh.policies.references import Source
from mesh.routes.route_table import entry_hosts


class Mesh(MeshState):
    """What there is, and how it changes."""

    def apply(self, fragments: Mapping[ObjectRef, Fragment | None]) -> Change:
        """Replace (or with None remove) what is known of these objects."""
        change = Change()
        pods_version, version = self.cidrs.pods_version, self.cidrs.version
        for ref, fragment in fragments.items():
            self._replace(ref, fragment, change)
        looked, changed = self.policy_table.settle()
        change.policies |= changed
        self._problems.tell((ref, self.policy_table.problems(ref)) for ref in looked)
        self._settle_workloads(change)
        # Who is gone first: what it leaves others may want.
        for service in sorted(change.services, key=lambda name: (name in self.services, name)):
            self._problems.tell(self.service_table.resolve(service))
        change.services |= self.service_table.contested()
        change.routed |= self.peer_authentications.settle(
            self.services if change.gateways else change.services
        )
        self._name(change)
        change.callers |= self.callers.settle()
        self._problems.tell(check(self, change))
        if self.cidrs.version != version:
            change.blocks = True
            change.peers = True
        if self.cidrs.pods_version != pods_version:
            change.workloads.update(self.workloads)
        change.workloads.update(
            owner for address in self.cidrs.take_single() if (owner := self.owners.get(address))
        )
        return change

    def _replace(self, ref: ObjectRef, fragment: Fragment | None, change: Change) -> None:
        old = self._fragments.get(ref)
        if old == fragment:
            return
        for noun in old.nouns if old else ():
            self._remove(ref, noun, change)
        if fragment is None:
            self._fragments.pop(ref, None)
            self._problems.forget(ref)
            return
        self._fragments[ref] = fragment
        for noun in fragment.nouns:
            self._add(ref, noun, change)

    def _add(self, ref: ObjectRef, noun: Noun, change: Change) -> None:
        match noun:
            case Namespace():
                self.identities.put_namespace(noun)
            case Workload():
                self.workloads[noun.name] = noun
                self.identities.put(noun)
                self._addresses.put(noun)
                self.service_table.put_workload(noun)
                self.callers.put(noun)
                self._touch(noun, change)
            case WorkloadEntry():
                change.services |= self.service_table.put_entry(noun)
                change.entries = True
            case WorkloadGroup():
                self.service_table.entries.groups[noun.name] = noun
                change.entries = True
            case Service():
                change.services |= self.service_table.put(ref, noun)
                change.callers |= self.callers.ask(labels_asked(noun))
                self._serve(noun.name, change)
            case HostPattern():
                self._serve_all(self.service_table.put_pattern(ref, noun), change)
            case Alias():
                self._serve_all(self.service_table.ask(ref, _asked_by(noun)), change)
                change.services |= self.aliases.put(noun)
            case EndpointSlice():
                self.service_table.slices[noun.service][ref] = noun
                change.services.add(noun.service)
                self.policy_table.look_again("services")
            case Node():
                self._relocate(noun, self.nodes.put(noun), change)
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
            case PeerAuthentication():
                change.policies.add(ref)
                self.peer_authentications.put(noun)
            case EnvoyFilter():
                _refer(self.policy_table.put(ref, noun), change)
                change.routed |= self.envoy_filters.put(noun, self.services.values())
                change.callers |= self.callers.ask(labels_asked(noun))
            case Telemetry():
                self.telemetries[ref] = noun
                change.telemetry = True
            case ProxyConfig():
                self.proxy_configs[ref] = noun
                change.proxies = True
            case Route():
                self._serve_all(self.service_table.ask(ref, entry_hosts(noun)), change)
                change.routed |= self.routes.put(noun, self.services)
                change.routes |= {ref, *self.routes.delegating_to(ref)}
                change.callers |= self.callers.ask(labels_asked(noun))
            case DestinationRule():
                change.routed |= self.destination_rules.put(noun, self.services)
                change.callers |= self.callers.ask(labels_asked(noun))
            case Sidecar():
                self.scopes.put(noun)
                change.callers |= self.callers.ask(labels_asked(noun))
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

    def _remove(self, ref: ObjectRef, noun: Noun, change: Change) -> None:
        match noun:
            case Namespace():
                self.identities.remove_namespace(noun)
            case Workload():
                del self.workloads[noun.name]
                self.identities.remove(noun)
                self._addresses.remove(noun)
                self.service_table.remove_workload(noun)
                self.callers.remove(noun)
                self._touch(noun, change)
            case WorkloadEntry():
                change.services |= self.service_table.remove_entry(noun)
                self._problems.forget(ref)
            case WorkloadGroup():
                del self.service_table.entries.groups[noun.name]
                change.entries = True
            case Service():
                change.services |= self.service_table.remove(ref, noun.name)
                change.callers |= self.callers.forget(labels_asked(noun))
                self._serve(noun.name, change)
            case HostPattern():
                self._serve_all(self.service_table.remove_pattern(ref, noun), change)
            case Alias():
                self._serve_all(self.service_table.ask(ref, ()), change)
                change.services |= self.aliases.remove(noun.name)
            case EndpointSlice():
                self.service_table.slices[noun.service].pop(ref, None)
                change.services.add(noun.service)
                self.policy_table.look_again("services")
            case Node():
                self._relocate(noun, self.nodes.remove(noun), change)
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
            case PeerAuthentication():
                change.policies.add(ref)
                self.peer_authentications.remove(noun)
            case EnvoyFilter():
                _refer(self.policy_table.remove(ref, noun), change)
                change.routed |= self.envoy_filters.remove(noun, self.services.values())
                change.callers |= self.callers.forget(labels_asked(noun))
            case Telemetry():
                del self.telemetries[ref]
                change.telemetry = True
            case ProxyConfig():
                del self.proxy_configs[ref]
                change.proxies = True
            case Route():
                self._serve_all(self.service_table.ask(ref, ()), change)
                change.routed |= self.routes.remove(ref, self.services)
                change.routes |= {ref, *self.routes.delegating_to(ref)}
                change.callers |= self.callers.forget(labels_asked(noun))
            case DestinationRule():
                self._problems.forget(ref)
                change.routed |= self.destination_rules.remove(ref, self.services)
                change.callers |= self.callers.forget(labels_asked(noun))
            case Sidecar():
                self.scopes.remove(ref)
                change.callers |= self.callers.forget(labels_asked(noun))
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
        change.routed |= self.routes.leading_to((name,), self.services)
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
        change.routed |= self.routes.leading_to(change.routed, self.services)

    def _learn(self, ref: ObjectRef, learned: LearnedNames, change: Change) -> None:
        self.names.clear()
        self.names.update({name: frozenset(addresses) for name, addresses in learned.names})
        self.learned = learned.sequence
        change.services |= self.service_table.learn(learned.current)
        self._serve_all(self.service_table.ask(ref, learned.asked), change)
        for host in self.scopes.look_up(learned.looked_up):
            own = service_of(host)
            change.routed.update((own,) if own else self.entry_hosts.of(ServiceName("", host)))
        for name, addresses in self.service_table.current.items():
            self.names[name] = self.names.get(name, frozenset()).union(addresses)
        self.policy_table.look_again("names")
        change.names = True

    def _relocate(self, node: Node, moved: Iterable[str], change: Change) -> None:
        """A node came or went: addresses that are a node's are nobody else's, and its place is that of its
        pods."""
        self.policy_table.look_again("nodes")
        for workload in self.callers.relocate(node):
            change.services |= self.service_table.touched_by(workload)
        for address in moved:
            change.services |= self.service_table.claiming(address)
            change.blocks = change.peers = True

    def _configure(self, change: Change) -> None:
        """Of several ConfigMaps that could be meant the first by name counts."""
        ref = min(self._configs, default=None)
        config = self._configs[ref] if ref else MeshConfig()
        if (ref, config) != (self.config_ref, self.config):
            # The root namespace's routes and Sidecars are everybody's.
            change.callers |= config.root_namespace != self.config.root_namespace
            if config.locality != self.config.locality:
                change.callers |= self.callers.ask(asked_of_callers(config))
                change.callers |= self.callers.forget(asked_of_callers(self.config))
            self.config_ref, self.config = ref, config
            self.policy_table.configure(config)
            self.peer_authentications.configure(config)
            change.config = True

    def _touch(self, workload: Workload, change: Change) -> None:
        change.workloads.add(workload.name)
        change.services |= self.service_table.reaching(workload)

    def _settle_workloads(self, change: Change) -> None:
        """Number the workloads, give them their addresses, and say who got less than that."""
        looked, changed = self.identities.settle()
        concerned, moved = self._addresses.settle()
        change.workloads |= changed
        change.peers |= bool(changed or moved)
        for address in moved:
            change.services |= self.service_table.claiming(address) | self.service_table.standing_at(address)
        for name in changed & self.workloads.keys():
            change.services |= self.service_table.reaching(self.workloads[name])
        for name in concerned & self.workloads.keys():
            self._touch(self.workloads[name], change)
        self._problems.tell(check_pods(self, looked | concerned))


def _asked_by(alias: Alias) -> tuple[str, ...]:
    """A name under a pattern is a service as long as an alias leads to it."""
    return () if service_of(alias.target) else (alias.target,)


def _refer(sources: set[Source], change: Change) -> None:
    """Policies refer to other things now."""
    change.names = change.names or "names" in sources
    change.keys = change.keys or "keys" in sources
    change.modules = change.modules or "modules" in sources
