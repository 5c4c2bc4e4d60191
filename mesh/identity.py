"""Who a workload is to policy, and the numbers that stand for it.

Allocations (security ids, service addresses, L7 class numbers) are remembered: they are an input
of every computation, made by one leader and stored by it (rule 29). This file knows no storage.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Container, Iterable, Mapping
from functools import lru_cache
from typing import Any

from mesh.model import (
    NAMESPACE_KEY,
    NAMESPACE_LABEL_PREFIX,
    SERVICE_ACCOUNT_KEY,
    Identity,
    Namespace,
    ServiceName,
    Workload,
)
from mesh.node import FIRST_WORKLOAD_ID
from mesh.proxy import FIRST_CLASS

#: Labels that differ per pod or per rollout and would make every pod an identity of its own.
IRRELEVANT_LABELS = frozenset(
    {
        "pod-template-hash",
        "controller-revision-hash",
        "pod-template-generation",
        "statefulset.kubernetes.io/pod-name",
        "apps.kubernetes.io/pod-index",
        "batch.kubernetes.io/job-completion-index",
        "batch.kubernetes.io/controller-uid",
        "controller-uid",
    }
)

#: The label that Kubernetes gives every namespace.
NAMESPACE_NAME_LABEL = "kubernetes.io/metadata.name"

#: Derived: a workload's named ports, as `name/protocol=number` joined by commas.
PORTS_KEY = "io.sluice.ports"

_LAST_ID = 0xFFFF_FFFF
_LAST_CLASS = 0xFF_FFFF


def identity_of(workload: Workload, namespace: Namespace | None) -> Identity:
    """The identity labels of a workload. A pod's labels never replace derived ones (threat N45)."""
    labels = {
        key: value
        for key, value in workload.labels
        if key not in IRRELEVANT_LABELS
        and not key.startswith(("io.kubernetes.pod.", "io.cilium.k8s.", "io.sluice."))
    }
    name = workload.name.namespace
    if namespace is not None:
        labels |= {NAMESPACE_LABEL_PREFIX + key: value for key, value in namespace.labels}
    labels[NAMESPACE_LABEL_PREFIX + NAMESPACE_NAME_LABEL] = name
    labels[NAMESPACE_KEY] = name
    labels[SERVICE_ACCOUNT_KEY] = workload.service_account
    if workload.ports:
        # Port names decide what a policy means, so workloads that differ in them are not alike.
        labels[PORTS_KEY] = ",".join(sorted(f"{p.name}/{p.protocol}={p.port}" for p in workload.ports))
    return Identity(tuple(sorted(labels.items())))


@lru_cache(maxsize=65536)
def named_port(ports: str, name: str, protocol: str) -> int | None:
    """The number behind a port name in the value of PORTS_KEY."""
    wanted = f"{name}/{protocol}="
    return next((int(p[len(wanted) :]) for p in ports.split(",") if p.startswith(wanted)), None)


class Exhausted(Exception):
    """No number or address is left to give; the message says of what."""


class Allocations:
    """Numbers and addresses given once and kept. `dirty` says that they want storing."""

    def __init__(self, service_ranges: Iterable[str]) -> None:
        self.service_ranges = [ipaddress.ip_network(r) for r in service_ranges]
        self._security_ids: dict[Identity, int] = {}
        self._listeners: dict[str, int] = {}
        self._vips: dict[ServiceName, dict[str, str]] = {}
        self._taken: set[str] = set()
        self._next_id = FIRST_WORKLOAD_ID
        self._next_class = FIRST_CLASS
        self._cursor: dict[int, int] = {}
        self.dirty = False

    def security_id(self, identity: Identity) -> int:
        """The number of an identity. Raises Exhausted."""
        number = self._security_ids.get(identity)
        if number is None:
            number = self._next_id
            if number > _LAST_ID:
                raise Exhausted("no security id is left")
            self._security_ids[identity] = number
            self._next_id += 1
            self.dirty = True
        return number

    def listener(self, key: str) -> int:
        """The number of an L7 class by the name of its set of rules. Raises Exhausted."""
        number = self._listeners.get(key)
        if number is None:
            number = self._next_class
            if number > _LAST_CLASS:
                raise Exhausted("no L7 class number is left")
            self._listeners[key] = number
            self._next_class += 1
            self.dirty = True
        return number

    def vips(self, service: ServiceName, families: Iterable[str], avoid: Container[str]) -> tuple[str, ...]:
        """Addresses for a Service that names none, one a family; `avoid` are taken by hand.

        Raises Exhausted."""
        given = self._vips.setdefault(service, {})
        for network in self.service_ranges:
            family = f"IPv{network.version}"
            if family in families and (family not in given or given[family] in avoid):
                self._taken.discard(given.get(family, ""))
                given[family] = self._free(network, avoid)
                self._taken.add(given[family])
                self.dirty = True
        return tuple(given[family] for family in ("IPv4", "IPv6") if family in families and family in given)

    def release(self, service: ServiceName) -> None:
        """Give a deleted Service's addresses back."""
        addresses = self._vips.pop(service, None)
        if addresses:
            self._taken.difference_update(addresses.values())
            self.dirty = True

    def _free(self, network: ipaddress.IPv4Network | ipaddress.IPv6Network, avoid: Container[str]) -> str:
        first = 2  # the network's own address and, by custom, a gateway's
        size = network.num_addresses - 1
        cursor = self._cursor.get(network.version, first)
        for step in range(size - first):
            place = first + (cursor - first + step) % (size - first)
            if (text := str(network[place])) not in self._taken and text not in avoid:
                self._cursor[network.version] = place + 1
                return text
        raise Exhausted(f"no service address is left in {network}")

    def copy(self) -> Allocations:
        """One that gives the same and is nobody else's."""
        copy = Allocations(str(network) for network in self.service_ranges)
        copy.restore(self.to_json())
        return copy

    def to_json(self) -> dict[str, Any]:
        return {
            "security_ids": [[list(map(list, i.labels)), n] for i, n in self._security_ids.items()],
            "vips": [[*service, given] for service, given in self._vips.items()],
            "listeners": self._listeners,
        }

    def restore(self, document: Mapping[str, Any]) -> None:
        """Take up what `to_json` stored."""
        self._security_ids = {
            Identity(tuple((k, v) for k, v in labels)): number for labels, number in document["security_ids"]
        }
        self._vips = {ServiceName(ns, name): dict(given) for ns, name, given in document["vips"]}
        self._listeners = dict(document["listeners"])
        self._taken = {address for given in self._vips.values() for address in given.values()}
        self._next_id = max(self._security_ids.values(), default=FIRST_WORKLOAD_ID - 1) + 1
        self._next_class = max(self._listeners.values(), default=FIRST_CLASS - 1) + 1
        self.dirty = False
