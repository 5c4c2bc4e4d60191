"""Where mutual TLS is spoken: what PeerAuthentications ask of workloads, and where DestinationRules send it.

The nearest counts of those of the workload, of its namespace and of the mesh, of several the oldest
(istio/api, PeerAuthentication). Where none says anything a workload takes both, and needs no Envoy for that
until somebody does send mutual TLS. Knows no verdict and no table.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from mesh.age import age
from mesh.identities import Identities
from mesh.model import (
    RESOLVER,
    Backend,
    MeshConfig,
    MutualTls,
    MutualTlsMode,
    MutualTlsPort,
    ObjectRef,
    PeerAuthentication,
    ServiceName,
    Workload,
    WorkloadName,
)
from mesh.routes.destination_rules import DestinationRules
from mesh.routes.gateways import Gateways
from mesh.service_table import ServiceTable

#: An object, and its field.
Origin = tuple[ObjectRef, str]


class Asked(NamedTuple):
    """What is asked at a port, and what says so; without `origin` nobody does."""

    mode: MutualTlsMode = "PERMISSIVE"
    origin: Origin | None = None


class _Sender(NamedTuple):
    """Who sends mutual TLS, and for which name it asks if it says so itself."""

    origin: Origin
    server_name: str


class PeerAuthentications:
    """`strict`: by service the backends that take nothing but mutual TLS, with what says so, where callers
    are to know that."""

    def __init__(
        self,
        workloads: Mapping[WorkloadName, Workload],
        identities: Identities,
        service_table: ServiceTable,
        destination_rules: DestinationRules,
        gateways: Gateways,
        owners: Mapping[str, WorkloadName],
    ) -> None:
        """`owners` says which pod has an address."""
        self._workloads = workloads
        self._identities = identities
        self._service_table = service_table
        self._destination_rules = destination_rules
        self._gateways = gateways
        self._owners = owners
        self._of: defaultdict[str, dict[ObjectRef, PeerAuthentication]] = defaultdict(dict)
        self._config = MeshConfig()
        self._stale = False
        self.strict: dict[ServiceName, dict[Backend, Origin]] = {}

    # --- reading -----------------------------------------------------------------------------

    @property
    def counts(self) -> bool:
        """May mutual TLS be spoken anywhere?"""
        return bool(self._of or self._destination_rules.mutual)

    def asked(self, pod: WorkloadName, port: int) -> Asked:
        """Of who connects to a port of a pod. Where it serves a Gateway that says what it asks."""
        if not self._of or self._is_exempt(pod) or port in self._served(pod):
            return Asked()
        return self._nearest(self._levels(self._workloads[pod]), port)

    def of(self, pod: WorkloadName) -> MutualTls | None:
        """Where a pod's connections come in mutual TLS; None: nowhere."""
        if not self.counts or self._is_exempt(pod):
            return None
        levels = self._levels(self._workloads[pod])
        named = {port for level in levels if level.labels is not None for port, _ in level.ports}
        sent, served = self._sent_to(pod), self._served(pod)
        others = self._port(self._nearest(levels, 0), ())
        ports = {
            port: self._port(self._nearest(levels, port), sent.get(port, ())) for port in named | sent.keys()
        }
        ports |= dict.fromkeys(served)
        apart = tuple((port, found) for port, found in sorted(ports.items()) if found != others)
        return MutualTls(others, apart) if others or any(found for _, found in apart) else None

    def strict_at(self, service: ServiceName, port: int) -> Origin | None:
        """What says that some backend of a service port takes nothing but mutual TLS."""
        strict = self.strict.get(service, {})
        found = self._service_table.backends[service].get((port, "TCP"), ()) if strict else ()
        return min((strict[backend] for backend in found if backend in strict), default=None)

    def names(self, backends: Iterable[Backend]) -> tuple[str, ...]:
        """What certificates of these say; nothing, if somebody is among them of whom that is not known."""
        pods = [self._workloads.get(pod) if (pod := self._pod_at(b)) else None for b in backends]
        return tuple(sorted({self.spiffe_id(pod) for pod in pods if pod})) if all(pods) else ()

    def spiffe_id(self, pod: Workload) -> str:
        """A workload's identity (SPIFFE-ID, section 2), in Istio's form."""
        domain = self._config.trust_domain
        return f"spiffe://{domain}/ns/{pod.name.namespace}/sa/{pod.service_account}"

    # --- changing ----------------------------------------------------------------------------

    def put(self, noun: PeerAuthentication) -> None:
        self._of[noun.ref.namespace][noun.ref] = noun
        self._stale = True

    def remove(self, noun: PeerAuthentication) -> None:
        del self._of[noun.ref.namespace][noun.ref]
        if not self._of[noun.ref.namespace]:
            del self._of[noun.ref.namespace]
        self._stale = True

    def configure(self, config: MeshConfig) -> None:
        self._config = config
        self._stale = True

    def settle(self, services: Iterable[ServiceName]) -> set[ServiceName]:
        """Look again at what stands behind services. Returns those to which Envoys speak otherwise now."""
        if not self._of and not self.strict:
            return set()
        # Behind a service stand pods of any namespace, if it names addresses.
        looked = {*self._service_table.all, *self.strict} if self._stale else services
        self._stale = False
        return {service for service in looked if self._look_again(service)}

    def _look_again(self, service: ServiceName) -> bool:
        before, found = self.strict.pop(service, {}), dict[Backend, Origin]()
        for (_, protocol), backends in self._service_table.backends.get(service, {}).items():
            for backend in backends if protocol == "TCP" and self._config.auto_mtls else ():
                if origin := self._strict_origin(backend):
                    found[backend] = origin
        if found:
            self.strict[service] = found
        return found != before

    def _strict_origin(self, backend: Backend) -> Origin | None:
        pod = self._pod_at(backend)
        if pod is None or pod not in self._workloads:
            return None
        asked = self.asked(pod, backend.port)
        return asked.origin if asked.mode == "STRICT" else None

    # --- asking ------------------------------------------------------------------------------

    def _pod_at(self, backend: Backend) -> WorkloadName | None:
        return backend.workload or self._owners.get(backend.address)

    def _is_exempt(self, pod: WorkloadName) -> bool:
        """Names are not to depend on Envoys."""
        return self._identities.of.get(pod) in self._identities.select(RESOLVER)

    def _served(self, pod: WorkloadName) -> set[int]:
        """The TCP ports at which a pod serves Gateways."""
        gateways = self._gateways.served_by(pod)
        return {one.port for gateway in gateways for one in gateway.listeners if one.transport == "TCP"}

    def _levels(self, pod: Workload) -> list[PeerAuthentication]:
        """Those that count for a workload, the nearest first."""
        pairs = dict(pod.labels).items()
        own = self._of.get(pod.name.namespace, {}).values()
        levels = _oldest(one for one in own if one.labels is not None and dict(one.labels).items() <= pairs)
        for namespace in dict.fromkeys((pod.name.namespace, self._config.root_namespace)):
            levels += _oldest(one for one in self._of.get(namespace, {}).values() if one.labels is None)
        return levels

    def _nearest(self, levels: Iterable[PeerAuthentication], port: int) -> Asked:
        for level in levels:
            mode = dict(level.ports).get(port)
            if mode is not None:
                return Asked(mode, (level.ref, f"portLevelMtls[{port}].mode"))
            if level.mode is not None:
                return Asked(level.mode, (level.ref, "mtls.mode"))
        return Asked()

    def _port(self, asked: Asked, senders: tuple[_Sender, ...]) -> MutualTlsPort | None:
        """What an Envoy does at a port. Where nobody sends mutual TLS, PERMISSIVE needs none."""
        domains = self._config.trust_domains
        if asked.mode == "STRICT" and asked.origin:
            return MutualTlsPort("STRICT", domains, (), (asked.origin,))
        if asked.mode == "PERMISSIVE" and senders:
            names = tuple(sorted({sender.server_name for sender in senders} - {""}))
            return MutualTlsPort("PERMISSIVE", domains, names, tuple(sorted({one.origin for one in senders})))
        return None

    def _sent_to(self, pod: WorkloadName) -> dict[int, tuple[_Sender, ...]]:
        """The ports of a pod to which DestinationRules send mutual TLS, whoever it is that they are for."""
        found: defaultdict[int, set[_Sender]] = defaultdict(set)
        if self._destination_rules.mutual:
            for service, port, target in self._service_table.ports_behind(pod):
                if port.protocol == "TCP":
                    found[target].update(self._senders(service.name, port.port))
        return {port: tuple(sorted(senders)) for port, senders in found.items() if senders}

    def _senders(self, service: ServiceName, port: int) -> Iterator[_Sender]:
        for rule in self._destination_rules.at(service):
            for subset in ("", *(subset.name for subset in rule.subsets)):
                tls = rule.policy_for(subset, port).tls
                if tls and tls.mode == "ISTIO_MUTUAL":
                    yield _Sender((rule.ref, "trafficPolicy.tls"), tls.sni)


def _oldest(found: Iterable[PeerAuthentication]) -> list[PeerAuthentication]:
    """It alone, if there is any."""
    return sorted(found, key=age)[:1]
