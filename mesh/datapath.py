"""One node's part of the mesh, kept current: the kernel's back end of the compiler.

A `Node` recomputes the records that a `Change` can have touched and shares all others with the
last `NodeState`, mapping by mapping. It knows records, not map entries, and no other node.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TypeVar

from mesh import steer
from mesh.access_logging import access_logs
from mesh.assemble import Mesh
from mesh.backend_tls import backend_tls
from mesh.bindings import Bindings, Routing
from mesh.caller import Caller
from mesh.canonical import canonical
from mesh.change import Change
from mesh.cidr import contains, prefix_of
from mesh.classes import (
    Compiled,
    PeerKey,
    Peers,
    Subject,
    compile_set,
    concerns,
    look_up,
    set_id,
    token_rules,
)
from mesh.envoy_filters import parts as filter_parts
from mesh.gateway_ports import credentials, gateway_ports, outward
from mesh.identity import PORTS_KEY
from mesh.metrics import metrics_record
from mesh.model import (
    Backend,
    Direction,
    EnvoyFilter,
    ObjectRef,
    Protocol,
    ServiceName,
    Telemetry,
    WorkloadName,
)
from mesh.node import (
    HOST_ID,
    REMOTE_NODE_ID,
    WORLD_ID,
    BlockRecord,
    MetricsRecord,
    NamesRecord,
    NodeState,
    PodRecord,
    PolicyClass,
    PortVerdict,
    ServicePortRecord,
    ServiceRecord,
    TracingRecord,
    WorkloadRecord,
)
from mesh.proxy import Destination, FilterPart, L7Class, ProxyView, Target
from mesh.proxy_config import launch
from mesh.references import AnyPolicy, RequestPolicy
from mesh.telemetry import applying, by_namespace, connections, tracing

K = TypeVar("K")
R = TypeVar("R")

#: Where IPv4 is inside IPv6 (RFC 4291, 2.5.5.2).
_MAPPED = prefix_of("::ffff:0:0/96")

DIRECTIONS: tuple[Direction, Direction] = ("ingress", "egress")


@dataclass(slots=True)
class _Subject:
    """A policy set in use: its policies and what they compiled to."""

    policies: tuple[AnyPolicy, ...]
    known: Subject
    compiled: Compiled
    peers: Mapping[PeerKey, int]
    classes: Mapping[int, PolicyClass]


class Node:
    """The records of the node `name`. Pods without a node belong to it if `default` is set. Nodes of one
    mesh may share their `bindings`, which must know of every change."""

    def __init__(
        self, mesh: Mesh, name: str, *, default: bool = False, bindings: Bindings | None = None
    ) -> None:
        self._mesh = mesh
        self.name = name
        self._default = default
        self.state = NodeState()
        #: Pod -> what its Envoy has to do, for the pods that need one.
        self.proxies: Mapping[str, ProxyView] = {}
        self._locals: set[WorkloadName] = set()
        self._bindings = Bindings(mesh) if bindings is None else bindings
        self._destinations: dict[Target, dict[tuple[int, Caller], Destination | None]] = {}
        #: By egress set and caller: what the caller's routes lead to.
        self._reached: defaultdict[tuple[int, Caller], dict[Target, Destination | None]] = defaultdict(dict)
        #: Does some policy name single addresses, which may become a pod's?
        self._names_addresses = False
        self._subjects: dict[int, _Subject] = {}
        self._selecting: dict[int, frozenset[ObjectRef]] = {}
        #: Peer keys that occur, with how many workloads have them, and those the tables know.
        self._known: Counter[PeerKey] = Counter()
        self._keys: dict[WorkloadName, set[PeerKey]] = {}
        self._compiled_for: set[PeerKey] = set()
        self._peers = self._all_peers(self.state)
        everything = _everything(mesh)
        self._bring_up_to_date(everything, everything.services | everything.routed)

    # --- reading -------------------------------------------------------------------------

    def verdict(self, set_number: int, address: str, protocol: str | int, port: int) -> PortVerdict:
        """What the tables say of a peer's address; set 0 restricts nothing."""
        if not set_number:
            return look_up(None, protocol, port)
        subject = self._subjects[set_number]
        number = subject.peers.get(self.peer_of(address), subject.compiled.set.default)
        return look_up(subject.classes[number], protocol, port)

    def peer_of(self, address: str) -> PeerKey:
        """The peer key that the kernel finds for an address."""
        owner = self._mesh.owners.get(address)
        if owner is not None:
            number = self._mesh.identities.of.get(owner, 0)
        else:
            number = self._outside(address)
        return number, self._mesh.cidrs.set_for(address, number)

    def _outside(self, address: str) -> int:
        if address in self._mesh.hosts:
            return HOST_ID
        return REMOTE_NODE_ID if address in self._mesh.remote_nodes else WORLD_ID

    # --- changing ------------------------------------------------------------------------

    def update(self, change: Change) -> NodeState:
        """Bring the records up to date with the mesh after `change`."""
        self._bring_up_to_date(change, self._bindings.forget(change) | change.services)
        return self.state

    def _bring_up_to_date(self, change: Change, touched: set[ServiceName]) -> None:
        state = self.state
        if change.workloads:
            state = replace(state, workloads=_patched(state.workloads, change.workloads, self._workload))
            for name in change.workloads:
                self._settle(name, state)
        if change.blocks or (change.peers and self._names_addresses):
            state = replace(state, blocks=_same(state.blocks, self._blocks()))
        if touched:
            self._forget_destinations(touched)
            state = replace(state, services=_patched(state.services, touched, self._service))
        stale = change.blocks or self._known.keys() != self._compiled_for
        if stale:
            self._compiled_for = set(self._known)
            self._peers = self._all_peers(state)
        self.state = state
        if change.names:
            record = NamesRecord(
                tuple(sorted(p.text for p in self._mesh.policy_table.wanted_names())), self._mesh.learned
            )
            self.state = replace(self.state, names=_same(self.state.names, {"names": record}))
        if change:
            self._select(change)
            self._pods(change, stale)

    def _settle(self, name: WorkloadName, state: NodeState) -> None:
        """A pod is local, and can be enforced, once it has a record here; and it is a peer."""
        record = state.workloads.get(str(name))
        if record is not None and (record.node == self.name or (self._default and not record.node)):
            self._locals.add(name)
        else:
            self._locals.discard(name)
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
        owners = {_block(address): self._outside(address) for address in mesh.hosts | mesh.remote_nodes}
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
        known = self.state.blocks
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
        if service is None or not vips:
            return None
        ports = tuple(
            ServicePortRecord(
                port.port,
                port.protocol,
                tuple((b.address, b.port) for b in mesh.backends[name].get((port.port, port.protocol), ())),
                self._bindings.views(name, port.port) if port.protocol == "TCP" else (),
                self._bindings.balanced(name, port.port, port.protocol),
            )
            for port in service.ports
        )
        return ServiceRecord(name, vips, service.affinity_seconds, ports)

    def _forget_destinations(self, services: Iterable[ServiceName]) -> None:
        touched = set(services)
        for target in [target for target in self._destinations if target.service in touched]:
            del self._destinations[target]
            for known in self._reached.values():
                known.pop(target, None)

    def _all_peers(self, state: NodeState) -> Peers:
        keys = {(HOST_ID, 0), (WORLD_ID, 0), *self._known}
        keys.update((block.security_id, block.cidr_set) for block in state.blocks.values())
        identities = self._mesh.identities
        return Peers(keys, identities.all, identities.select, self._mesh.cidrs)

    def _select(self, change: Change) -> None:
        """Which policies select each local identity."""
        mesh = self._mesh
        local = {mesh.identities.of[name] for name in self._locals}
        for number in self._selecting.keys() - local:
            del self._selecting[number]
        for number in local - self._selecting.keys():
            self._selecting[number] = frozenset(
                ref
                for ref, policies in mesh.policies.items()
                if any(number in mesh.identities.select(p.subject) for p in policies)
            )
            local.discard(number)
        for ref in change.policies:
            chosen: set[int] = set()
            for policy in mesh.policies.get(ref, ()):
                chosen |= mesh.identities.select(policy.subject)
            for number in local:
                selecting = self._selecting[number]
                if (number in chosen) != (ref in selecting):
                    self._selecting[number] = selecting ^ {ref}

    def _pods(self, change: Change, stale: bool) -> None:
        if change.peers or change.policies or change.config:
            self._destinations.clear()
            self._reached.clear()
        used: dict[int, _Subject] = {}
        sets = {name: self._sets(name, used, stale) for name in sorted(self._locals)}
        self._subjects = used
        pods: dict[str, PodRecord] = {}
        proxies: dict[str, ProxyView] = {}
        tracings: dict[str, TracingRecord] = {}
        metrics: dict[str, MetricsRecord] = {}
        homes = by_namespace(self._mesh.telemetries.values())
        for name, (ingress, egress, patches) in sets.items():
            applied = applying(self._mesh.config, homes, self._mesh.workloads[name])
            view = self._view(name, ingress, egress, applied, patches)
            if view.reasons:
                proxies[str(name)] = view
            if traced := self._traced(view):
                tracings[str(name)] = traced
            if told := metrics_record(applied, name):
                metrics[str(name)] = told
            record = self.state.workloads[str(name)]
            pods[str(name)] = PodRecord(
                name,
                tuple(address for address, _ in record.addresses),
                record.security_id,
                ingress,
                egress,
                view.reasons,
                tuple(l7.number for l7 in view.ingress),
                tuple(l7.number for l7 in view.egress),
                bool(view.routed),
                self._mesh.workloads[name].uid,
                str(self._mesh.callers.of(name)),
                launch(self._mesh.config, self._mesh.proxy_configs.values(), self._mesh.workloads[name]),
            )
        self.proxies = _same(self.proxies, proxies)
        self.state = replace(
            self.state,
            pods=_same(self.state.pods, pods),
            tracings=_same(self.state.tracings, tracings),
            metrics=_same(self.state.metrics, metrics),
            sets=_same(self.state.sets, {f"{n:016x}": s.compiled.set for n, s in used.items()}),
            classes=_same(
                self.state.classes, {f"{c.id:016x}": c for s in used.values() for c in s.compiled.classes}
            ),
        )

    def _sets(
        self, name: WorkloadName, used: dict[int, _Subject], stale: bool
    ) -> tuple[int, int, tuple[FilterPart, ...]]:
        """The ingress and the egress policy set of a local pod, and what changes its Envoy."""
        mesh = self._mesh
        number = mesh.identities.of[name]
        chosen = [
            policy
            for ref in sorted(self._selecting[number])
            for policy in mesh.policies[ref]
            if number in mesh.identities.select(policy.subject)
        ]
        filters = [policy for policy in chosen if isinstance(policy, EnvoyFilter)]
        if filters and gateway_ports(mesh, name):
            # A gateway's Envoy is there already, and has no side that is called inbound.
            chosen = [policy for policy in chosen if not isinstance(policy, EnvoyFilter)]
        asks_kinds = any(isinstance(policy, RequestPolicy) for policy in chosen)
        known = Subject(
            mesh.identities.all[number].mapping.get(PORTS_KEY, ""),
            tuple(mesh.declared(name).items()) if asks_kinds else (),
            mesh.config,
        )
        ingress, egress = (
            self._subject(direction, tuple(p for p in chosen if concerns(p, direction)), known, used, stale)
            for direction in DIRECTIONS
        )
        return ingress, egress, filter_parts(filters, mesh.config.root_namespace)

    def _view(
        self,
        name: WorkloadName,
        ingress: int,
        egress: int,
        applied: tuple[Telemetry, ...],
        patches: tuple[FilterPart, ...],
    ) -> ProxyView:
        """What the pod's Envoy has to do; without reasons it needs none."""
        mesh = self._mesh
        caller = mesh.callers.of(name)
        tokens = tuple(token_rules(self._subjects[ingress].policies)) if ingress else ()
        gateway = gateway_ports(mesh, name, tokens)
        # Nothing but its Envoy calls from a pod that serves Gateways, and that is never steered (rule 4).
        routing = Routing() if gateway else self._bindings.routing(caller)
        targets = {target for port in gateway for server in port.servers for target in server.targets}
        inbound, outbound = (self._classes(number) for number in (ingress, egress))
        if gateway:
            inbound = tuple(map(_leaving_tokens, inbound))
        for l7 in inbound:
            targets |= steer.providers(mesh, l7)
        sent, got = (
            tracing(mesh.config, applied, mesh.workloads[name], direction)
            for direction in (DIRECTIONS[1], DIRECTIONS[0])
        )
        sent_logs, got_logs = (
            access_logs(mesh.config, applied, mesh.workloads[name], direction)
            for direction in (DIRECTIONS[1], DIRECTIONS[0])
        )
        targets |= steer.collectors(mesh, (sent, got)) | steer.log_services(mesh, (*sent_logs, *got_logs))
        wanted: Iterable[Target] = routing.targets
        if targets:
            wanted = sorted(targets.union(routing.targets))
        known = self._reached[egress, caller]
        for target in wanted:
            if target not in known:
                known[target] = self._destination(egress, caller, target)
        destinations = tuple(found for target in wanted if (found := known[target]))
        if gateway:
            # Browsers speak HTTP/2 to whoever offers it, and most of what stands behind does not.
            destinations = tuple(outward(mesh, name, self._from_outside(found)) for found in destinations)
        return ProxyView(
            name,
            routing.ports,
            destinations,
            outbound,
            inbound,
            steer.reasons(routing.ports, (*inbound, *outbound), gateway),
            gateway,
            credentials(mesh, gateway),
            sent,
            got,
            sent_logs,
            got_logs,
            patches,
        )

    def _traced(self, view: ProxyView) -> TracingRecord | None:
        sent = view.egress_tracing
        if sent is None:
            return None
        found = steer.collectors(self._mesh, (sent,))
        return connections(sent, next((target.service for target in found), None))

    def _classes(self, number: int) -> tuple[L7Class, ...]:
        listeners = self._subjects[number].compiled.listeners if number else {}
        return tuple(l7 for _, l7 in sorted(listeners.items()))

    def _from_outside(self, found: Destination) -> Destination:
        """A destination as a gateway speaks to it."""
        mesh, target = self._mesh, found.target
        if target.protocol == "UDP":
            return found
        ports = mesh.services[target.service].ports
        tls = backend_tls(target, ports, mesh.backend_tls.values(), mesh.credentials)
        if tls == "nobody":
            return replace(found, parts=())
        policy = replace(found.policy, tls=tls) if tls else found.policy
        if policy.balancer and policy.balancer.simple == "PASSTHROUGH":
            # What was dialled is the gateway itself, and nobody else.
            policy = replace(policy, balancer=replace(policy.balancer, simple="LEAST_REQUEST"))
        return replace(found, version=steer.version(mesh, target), policy=policy)

    def _destination(self, egress: int, caller: Caller, target: Target) -> Destination | None:
        kind = self._bindings.kind(caller, target.service)
        known = self._destinations.setdefault(target, {})
        if (egress, kind) not in known:
            known[egress, kind] = steer.destination(
                self._mesh, kind, target, lambda backend: self._routed_to(egress, backend, target.protocol)
            )
        return known[egress, kind]

    def _routed_to(self, egress: int, backend: Backend, protocol: Protocol) -> PortVerdict:
        """The verdict on a backend that a route sends to, HTTP if it is TCP."""
        found = self.verdict(egress, backend.address, protocol, backend.port)
        if found.listener and not self._subjects[egress].compiled.listeners[found.listener].http:
            return replace(found, verdict="deny", listener=0)
        return found

    def _subject(
        self,
        direction: Direction,
        policies: tuple[AnyPolicy, ...],
        subject: Subject,
        used: dict[int, _Subject],
        stale: bool,
    ) -> int:
        number = set_id(policies, direction, subject)
        if number and number not in used:
            known = self._subjects.get(number)
            if known is None or stale or (known.policies, known.known) != (policies, subject):
                compiled = compile_set(
                    policies, direction, subject, self._peers, self._mesh.allocations.listener
                )
                known = _Subject(
                    policies,
                    subject,
                    compiled,
                    {(i, c): n for i, c, n in compiled.set.peers},
                    {c.id: c for c in compiled.classes},
                )
            used[number] = known
        return number


def _everything(mesh: Mesh) -> Change:
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


def _leaving_tokens(l7: L7Class) -> L7Class:
    """As the pod of a Gateway judges what comes in: routes behind it ask for the token again, and what leaves
    there is without it where the rule wants that."""
    parts = (replace(part, rule=replace(part.rule, forward=True)) for part in l7.authentication)
    return replace(l7, authentication=tuple(parts))


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
    return _same(table, changed)


def _same(old: Mapping[str, R], new: Mapping[str, R]) -> Mapping[str, R]:
    """The old mapping where the new one equals it: unchanged tables are recognised by identity."""
    return old if old == new else new
