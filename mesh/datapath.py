"""One node's part of the mesh, kept current: the kernel's back end of the compiler.

A `Node` recomputes the records that a `Change` can have touched and shares all others with the
last `NodeState`, mapping by mapping. It knows records, not map entries, and no other node.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from mesh.assemble import Mesh
from mesh.change import Change
from mesh.hashed import HashedTuple
from mesh.identity import PORTS_KEY
from mesh.model import (
    Backend,
    Direction,
    EnvoyFilter,
    ObjectRef,
    Protocol,
    Secret,
    ServiceName,
    Telemetry,
    WorkloadName,
)
from mesh.node import (
    UNRESTRICTED,
    LoggingRecord,
    MetricsRecord,
    NodeState,
    PodRecord,
    PolicyClass,
    PortVerdict,
    TracingRecord,
)
from mesh.observability.access_logging import access_logs, connection_logs
from mesh.observability.metrics import metrics_record
from mesh.observability.telemetry import applying, by_namespace, connections, tracing
from mesh.policies.classes import (
    KINDS_MATTER,
    Compiled,
    Subject,
    compile_set,
    concerns,
    set_id,
)
from mesh.policies.every_request import token_rules
from mesh.policies.own_conditions import own_conditions
from mesh.policies.peers import PeerKey, Peers
from mesh.policies.references import AnyCondition
from mesh.proxy import Destination, GatewayPort, L7Class, ProxyView, Target
from mesh.proxy_config import launch
from mesh.routes import steer
from mesh.routes.backend_tls import backend_tls
from mesh.routes.bound_ports import bound_ports
from mesh.routes.caller_routing import Routing
from mesh.routes.client_secrets import with_secrets
from mesh.routes.destinations import Destinations
from mesh.routes.envoy_filters import parts as filter_parts
from mesh.routes.envoy_filters import plugins as plugin_parts
from mesh.routes.gateway_ports import credentials, gateway_ports, outward
from mesh.shared_records import SharedRecords, everything, same

K = TypeVar("K")
R = TypeVar("R")

DIRECTIONS: tuple[Direction, Direction] = ("ingress", "egress")


@dataclass(slots=True)
class _Subject:
    """A policy set in use: its policies and what they compiled to."""

    policies: tuple[AnyCondition, ...]
    known: Subject
    compiled: Compiled
    peers: Mapping[PeerKey, int]
    classes: Mapping[int, PolicyClass]


class Node:
    """The records of the node `name`. Pods without a node belong to it if `default` is set. Nodes of one
    mesh may have `shared` what all of them are told, which must know of every change."""

    def __init__(
        self, mesh: Mesh, name: str, *, default: bool = False, shared: SharedRecords | None = None
    ) -> None:
        self._mesh = mesh
        self.shared = shared or SharedRecords(mesh)
        self.name = name
        self._default = default
        self.state = NodeState()
        #: Pod -> what its Envoy has to do, for the pods that need one.
        self.proxies: Mapping[str, ProxyView] = {}
        self._locals: set[WorkloadName] = set()
        #: For callers whom egress policies restrict.
        self._judged = Destinations(mesh, self.shared.bindings, self._routed_to)
        self._subjects: dict[int, _Subject] = {}
        self._selecting: dict[int, frozenset[ObjectRef]] = {}
        self._compiled_for: Peers | None = None
        self._bring_up_to_date(everything(mesh))

    # --- reading -------------------------------------------------------------------------

    def verdict(self, set_number: int, address: str, protocol: str | int, port: int) -> PortVerdict:
        """What the tables say of a peer's address; set 0 restricts nothing."""
        if not set_number:
            return UNRESTRICTED
        subject = self._subjects[set_number]
        number = subject.peers.get(self.shared.peer_of(address), subject.compiled.set.default)
        return subject.classes[number].at(protocol, port)

    # --- changing ------------------------------------------------------------------------

    def update(self, change: Change) -> NodeState:
        """Bring the records up to date with the mesh after `change`."""
        self.shared.update(change)
        self._judged.forget(self.shared.touched)
        if change.callers:
            self._judged.forget_callers()
        self._bring_up_to_date(change)
        return self.state

    def _bring_up_to_date(self, change: Change) -> None:
        shared = self.shared
        self.state = replace(
            self.state,
            workloads=shared.workloads,
            blocks=shared.blocks,
            services=shared.services,
            names=shared.names,
        )
        for name in change.workloads:
            self._settle(name)
        stale = self._compiled_for is not shared.peers
        self._compiled_for = shared.peers
        if change:
            self._select(change)
            self._pods(change, stale)

    def _settle(self, name: WorkloadName) -> None:
        """A pod is local, and can be enforced, once it has a record here."""
        record = self.state.workloads.get(str(name))
        if record is not None and (record.node == self.name or (self._default and not record.node)):
            self._locals.add(name)
        else:
            self._locals.discard(name)

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
        if stale or change.policies or change.config or self.shared.bindings.reregistered:
            self._judged.clear()
        used: dict[int, _Subject] = {}
        sets = {name: self._sets(name, used, stale) for name in sorted(self._locals)}
        self._subjects = used
        pods: dict[str, PodRecord] = {}
        proxies: dict[str, ProxyView] = {}
        tracings: dict[str, TracingRecord] = {}
        metrics: dict[str, MetricsRecord] = {}
        loggings: dict[str, LoggingRecord] = {}
        homes = by_namespace(self._mesh.telemetries.values())
        for name, (ingress, egress, filters) in sets.items():
            applied = applying(self._mesh.config, homes, self._mesh.workloads[name])
            view = self._view(name, ingress, egress, applied, filters)
            if view.reasons:
                proxies[str(name)] = view
            if traced := self._traced(view):
                tracings[str(name)] = traced
            if view.egress_logs or view.ingress_logs:
                loggings[str(name)] = self._logged(view)
            if told := metrics_record(applied, name):
                metrics[str(name)] = told
            record = self.state.workloads[str(name)]
            pods[str(name)] = PodRecord(
                name,
                tuple(address for address, _ in record.addresses),
                record.security_id,
                ingress_set=ingress,
                egress_set=egress,
                reasons=view.reasons,
                ingress_listeners=tuple(l7.number for l7 in view.ingress),
                egress_listeners=tuple(l7.number for l7 in view.egress),
                routes=bool(view.routed),
                uid=self._mesh.workloads[name].uid,
                view=str(self._mesh.callers.of(name)),
                launch=launch(
                    self._mesh.config, self._mesh.proxy_configs.values(), self._mesh.workloads[name]
                ),
                gateway=tuple(sorted({port.port for port in view.gateway if port.transport == "TCP"})),
            )
        self.proxies = same(self.proxies, proxies)
        self.state = replace(
            self.state,
            pods=same(self.state.pods, pods),
            tracings=same(self.state.tracings, tracings),
            metrics=same(self.state.metrics, metrics),
            loggings=same(self.state.loggings, loggings),
            sets=same(self.state.sets, {f"{n:016x}": s.compiled.set for n, s in used.items()}),
            classes=same(
                self.state.classes, {f"{c.id:016x}": c for s in used.values() for c in s.compiled.classes}
            ),
        )

    def _sets(
        self, name: WorkloadName, used: dict[int, _Subject], stale: bool
    ) -> tuple[int, int, list[EnvoyFilter]]:
        """The ingress and the egress policy set of a local pod, and what changes its Envoy."""
        mesh = self._mesh
        number = mesh.identities.of[name]
        chosen: list[AnyCondition] = [
            policy
            for ref in sorted(self._selecting[number])
            for policy in mesh.policies[ref]
            if number in mesh.identities.select(policy.subject)
        ]
        filters = [policy for policy in chosen if isinstance(policy, EnvoyFilter)]
        if filters and gateway_ports(mesh, name):
            # A gateway's Envoy is there already, and has no side that is called inbound.
            chosen = [policy for policy in chosen if not isinstance(policy, EnvoyFilter)]
        chosen += own_conditions(mesh, name, self.shared.bindings.registries.of(name))
        asks_kinds = any(isinstance(policy, KINDS_MATTER) for policy in chosen)
        known = Subject(
            mesh.identities.all[number].mapping.get(PORTS_KEY, ""),
            tuple(mesh.declared(name).items()) if asks_kinds else (),
            mesh.config,
        )
        ingress, egress = (
            self._subject(direction, tuple(p for p in chosen if concerns(p, direction)), known, used, stale)
            for direction in DIRECTIONS
        )
        return ingress, egress, filters

    def _view(
        self,
        name: WorkloadName,
        ingress: int,
        egress: int,
        applied: tuple[Telemetry, ...],
        filters: Sequence[EnvoyFilter],
    ) -> ProxyView:
        """What the pod's Envoy has to do; without reasons it needs none."""
        mesh = self._mesh
        caller = mesh.callers.of(name)
        tokens = tuple(token_rules(self._subjects[ingress].policies)) if ingress else ()
        gateway = gateway_ports(mesh, name, tokens)
        # Nothing but its Envoy calls from a pod that serves Gateways, and that is never steered (rule 4).
        routing = Routing() if gateway else self.shared.bindings.routing(caller)
        bound = () if gateway else bound_ports(mesh, name)
        served = (*gateway, *bound)
        targets = {target for port in served for server in port.servers for target in server.targets}
        inbound, outbound = (self._classes(number) for number in (ingress, egress))
        inbound = tuple(l7.at(mesh.workloads[name].addresses) for l7 in inbound)
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
        wanted: Sequence[Target] = routing.targets
        if targets:
            wanted = sorted(targets.union(routing.targets))
        destinations = (self._judged if egress else self.shared.unjudged).reached(egress, caller, wanted)
        if mesh.peer_authentications.counts:
            destinations = self._without_itself(name, destinations)
        secrets: tuple[Secret, ...] = ()
        if mesh.destination_rules.credentialed:
            destinations, secrets = with_secrets(
                destinations, name.namespace, mesh.credentials, is_gateway=bool(gateway)
            )
        if gateway:
            # Browsers speak HTTP/2 to whoever offers it, and most of what stands behind does not.
            destinations = tuple(outward(mesh, name, self._from_outside(found)) for found in destinations)
        return ProxyView(
            name,
            routed=routing.ports,
            destinations=destinations,
            egress=outbound,
            ingress=inbound,
            reasons=steer.reasons(routing.keys, (*inbound, *outbound), served),
            gateway=gateway,
            credentials=credentials(mesh, gateway),
            egress_tracing=sent,
            ingress_tracing=got,
            egress_logs=sent_logs,
            ingress_logs=got_logs,
            patches=filter_parts(filters, mesh.config.root_namespace, name),
            plugins=plugin_parts(filters),
            sent_with=secrets,
            identity=self._identity(name, inbound, destinations, gateway),
            bound=bound,
        )

    def _without_itself(
        self, name: WorkloadName, destinations: tuple[Destination, ...]
    ) -> tuple[Destination, ...]:
        """What a pod sends to itself never meets its Envoy again (rule 10): nobody would end mutual TLS."""
        table, own = self._mesh.service_table, self._mesh.workloads[name].addresses
        behind = {service.name for service, _, _ in table.ports_behind(name)}
        met = [i for i, found in enumerate(destinations) if found.target.service in behind and found.mutual]
        if not met:
            return destinations
        known = list(destinations)
        for i in met:
            others = tuple(backend for backend in known[i].mutual if backend.address not in own)
            known[i] = replace(known[i], mutual=others)
        return HashedTuple(known)

    def _identity(
        self,
        name: WorkloadName,
        inbound: Iterable[L7Class],
        destinations: Iterable[Destination],
        gateway: Iterable[GatewayPort],
    ) -> str:
        """Who the pod's Envoy is in mutual TLS, if it speaks any."""
        mesh = self._mesh
        servers = (server.tls for port in gateway for server in port.servers)
        if any(tls and tls.mode == "ISTIO_MUTUAL" for tls in servers) or (
            mesh.peer_authentications.counts
            and (any(l7.mutual for l7 in inbound) or any(found.mutual for found in destinations))
        ):
            return mesh.peer_authentications.spiffe_id(mesh.workloads[name])
        return ""

    def _traced(self, view: ProxyView) -> TracingRecord | None:
        sent = view.egress_tracing
        if sent is None:
            return None
        found = steer.collectors(self._mesh, (sent,))
        return connections(sent, next((target.service for target in found), None))

    def _logged(self, view: ProxyView) -> LoggingRecord:
        def service(host: str, port: int) -> ServiceName | None:
            return next((target.service for target in steer.in_mesh(self._mesh, host, port)), None)

        egress, ingress = (connection_logs(logs, service) for logs in (view.egress_logs, view.ingress_logs))
        return LoggingRecord(view.pod, egress, ingress)

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
        policy = found.policy
        if tls:
            policy, found = replace(policy, tls=tls), replace(found, mutual=())
        if policy.balancer and policy.balancer.simple == "PASSTHROUGH":
            # What was dialled is the gateway itself, and nobody else.
            policy = replace(policy, balancer=replace(policy.balancer, simple="LEAST_REQUEST"))
        return replace(found, version=steer.version(mesh, target), policy=policy)

    def _routed_to(self, egress: int, backend: Backend, protocol: Protocol) -> PortVerdict:
        """The verdict on a backend that a route sends to, HTTP if it is TCP."""
        found = self.verdict(egress, backend.address, protocol, backend.port)
        if found.listener and not self._subjects[egress].compiled.listeners[found.listener].http:
            return replace(found, verdict="deny", listener=0)
        return found

    def _subject(
        self,
        direction: Direction,
        policies: tuple[AnyCondition, ...],
        subject: Subject,
        used: dict[int, _Subject],
        stale: bool,
    ) -> int:
        number = set_id(policies, direction, subject)
        if number and number not in used:
            known = self._subjects.get(number)
            if known is None or stale or (known.policies, known.known) != (policies, subject):
                compiled = compile_set(
                    policies, direction, subject, self.shared.peers, self._mesh.allocations.listener
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
