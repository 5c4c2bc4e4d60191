"""Which Gateways there are, and which pods serve them (rule 4: a gateway is a Pod with its own account).

Istio's select pods by label. Those of the Gateway API are served by the pods that bear their name, as Istio's
and others' deployments of them do, if their class is one of ours.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

from mesh.age import age
from mesh.identities import Identities
from mesh.model import (
    GATEWAY_CONTROLLER,
    Gateway,
    GatewayClass,
    Listener,
    ObjectRef,
    Protocol,
    Route,
    Workload,
    WorkloadName,
)
from mesh.protocols import PortKind

#: A pod that serves a Gateway of its namespace has this label (GEP-1762).
GATEWAY_NAME = "gateway.networking.k8s.io/gateway-name"

#: Classes that are ours where no GatewayClass says anything of them; so Istio's manifests work as they are.
OWN_CLASSES = frozenset({"sluice", "istio"})


class Gateways:
    def __init__(
        self,
        workloads: Mapping[WorkloadName, Workload],
        identities: Identities,
        owners: Mapping[str, WorkloadName],
    ) -> None:
        """`owners` says which pod has an address."""
        self._workloads = workloads
        self._identities = identities
        self._owners = owners
        self.all: dict[ObjectRef, Gateway] = {}
        self._classes: dict[str, GatewayClass] = {}

    def put(self, noun: Gateway | GatewayClass) -> None:
        if isinstance(noun, Gateway):
            self.all[noun.ref] = noun
        else:
            self._classes[noun.name] = noun

    def remove(self, noun: Gateway | GatewayClass) -> None:
        if isinstance(noun, Gateway):
            del self.all[noun.ref]
        else:
            del self._classes[noun.name]

    def is_ours(self, gateway: Gateway) -> bool:
        """Is there anybody of ours to serve it?"""
        if gateway.subject is not None:
            return True
        found = self._classes.get(gateway.class_name)
        return gateway.class_name in OWN_CLASSES if found is None else found.controller == GATEWAY_CONTROLLER

    def pods(self, gateway: Gateway) -> set[WorkloadName]:
        """Those that have the labels by which a Gateway asks for pods to serve it."""
        if gateway.subject is not None:
            numbers = self._identities.select(gateway.subject)
            return {name for number in numbers for name in self._identities.members[number]}
        own = (GATEWAY_NAME, gateway.ref.name)
        return {
            name
            for name, pod in self._workloads.items()
            if name.namespace == gateway.ref.namespace and own in pod.labels
        }

    def served_by(self, pod: WorkloadName) -> list[Gateway]:
        """The Gateways that a pod serves, the oldest first."""
        number = self._identities.of.get(pod) if self.all else None
        if number is None:
            return []
        labels = self._identities.all[number].mapping
        own = dict(self._workloads[pod].labels).get(GATEWAY_NAME)
        found = [
            gateway
            for gateway in self.all.values()
            if self.is_ours(gateway)
            and (
                gateway.subject.matches(labels)
                if gateway.subject is not None
                else (pod.namespace, own) == (gateway.ref.namespace, gateway.ref.name)
            )
        ]
        return sorted(found, key=age)

    def kinds(self, pod: WorkloadName) -> dict[int, PortKind]:
        """What a pod serves at its TCP ports. Where there is both, nothing is to be taken for HTTP."""
        speaks: defaultdict[int, set[bool]] = defaultdict(set)
        for gateway in self.served_by(pod):
            for listener in gateway.listeners:
                if listener.transport == "TCP":
                    speaks[listener.port].add(listener.speaks_http)
        return {port: "http" if found == {True} else "plain" for port, found in sorted(speaks.items())}

    def at(self, address: str, port: int, protocol: Protocol) -> list[Gateway]:
        """Those that the pod at an address serves at a port."""
        pod = self._owners.get(address)
        served = self.served_by(pod) if pod else ()
        return [gateway for gateway in served if gateway.listens(port, protocol)]


def names(route: Route, gateway: Gateway) -> bool:
    """Is a route for a Gateway? VirtualServices are for those of Istio, other routes for the others."""
    ref = gateway.ref
    if gateway.subject is not None:
        return f"{ref.namespace}/{ref.name}" in route.gateways
    return any((p.gateway.namespace, p.gateway.name) == (ref.namespace, ref.name) for p in route.attached)


def rival(gateway: Gateway, listener: Listener) -> Listener | None:
    """Another listener of the Gateway for the same connections, because of which this one is not served:
    bytes that say nothing of themselves are TCP's. Of two neither is (Gateway API,
    ListenerConditionConflicted), of Istio's the first is."""
    for other in gateway.listeners:
        if other is listener:
            if gateway.subject is not None:
                return None
            continue
        protocols = {listener.protocol, other.protocol}
        same = (other.port, other.bind) == (listener.port, listener.bind)
        if same and "TCP" in protocols and "UDP" not in protocols:
            return other
    return None
