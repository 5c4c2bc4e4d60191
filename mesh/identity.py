"""Who a workload is to policy, and the numbers that stand for it.

Allocations (security ids, service addresses, L7 class numbers) are remembered: they are an input
of every computation, made by one leader and stored by it (rule 29). This file knows no storage.
"""

from __future__ import annotations

import ipaddress
from collections import deque
from collections.abc import Collection, Container, Iterable, Mapping
from functools import lru_cache
from typing import Any

from mesh.dns import RESOLVER
from mesh.entry_hosts import is_entry
from mesh.label_filter import LabelFilter
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

#: The label that Kubernetes gives every namespace.
NAMESPACE_NAME_LABEL = "kubernetes.io/metadata.name"

#: Derived: a workload's named ports, as `name/protocol=number` joined by commas.
PORTS_KEY = "io.sluice.ports"

#: How long a number that nobody has any more stays without a new meaning, in seconds.
QUARANTINE = 300.0

_LAST_ID = 0xFFFF
_LAST_CLASS = 0xFF_FFFF


def identity_of(workload: Workload, namespace: Namespace | None, relevant: LabelFilter) -> Identity:
    """The identity labels of a workload. A pod's labels never replace derived ones (threat N45)."""
    labels = {key: value for key, value in workload.labels if relevant.keeps(key)}
    labels |= namespace_labels(workload.name.namespace, namespace)
    labels[SERVICE_ACCOUNT_KEY] = workload.service_account
    if workload.ports:
        # Port names decide what a policy means, so workloads that differ in them are not alike.
        labels[PORTS_KEY] = ",".join(sorted(f"{p.name}/{p.protocol}={p.port}" for p in workload.ports))
    return Identity(tuple(sorted(labels.items())))


def namespace_labels(name: str, namespace: Namespace | None) -> dict[str, str]:
    """What an identity has of its namespace."""
    labels = {NAMESPACE_LABEL_PREFIX + key: value for key, value in namespace.labels} if namespace else {}
    return labels | {NAMESPACE_LABEL_PREFIX + NAMESPACE_NAME_LABEL: name, NAMESPACE_KEY: name}


@lru_cache(maxsize=65536)
def named_port(ports: str, name: str, protocol: str) -> int | None:
    """The number behind a port name in the value of PORTS_KEY."""
    wanted = f"{name}/{protocol}="
    return next((int(p[len(wanted) :]) for p in ports.split(",") if p.startswith(wanted)), None)


class Exhausted(Exception):
    """No number or address is left to give; the message says of what."""


class SecurityIds:
    """Numbers of identities. One that the last workload gives back keeps its meaning for `quarantine`
    seconds, in which the same identity gets it again and no other does; then it is free (threat N62).

    Time is what `advance` was told last, and must not run backwards.
    """

    def __init__(self, first: int, last: int, quarantine: float) -> None:
        self.first, self.last = first, last
        self.quarantine = quarantine
        self.dirty = False
        self._numbers: dict[Identity, int] = {}
        #: Identities that nobody has, and since when; None: since after the last `advance`.
        self._retired: dict[Identity, float | None] = {}
        self._undated: list[Identity] = []
        #: (since, identity), the earliest first; those that were claimed meanwhile are passed over.
        self._waiting: deque[tuple[float, Identity]] = deque()
        #: Numbers to be used again: the one that has been free for longest comes first.
        self._free: deque[int] = deque()
        self._next = first

    def claim(self, identity: Identity) -> int:
        """The number of an identity that some workload has. Raises Exhausted."""
        number = self._numbers.get(identity)
        if number is None:
            number = self._numbers[identity] = self._take()
            self.dirty = True
        elif identity in self._retired:
            del self._retired[identity]
            self.dirty = True
        return number

    def retire(self, identity: Identity) -> None:
        """No workload has it any more."""
        if identity in self._numbers and identity not in self._retired:
            self._retired[identity] = None
            self._undated.append(identity)
            self.dirty = True

    def has_room(self) -> bool:
        """Is there a number for one identity more?"""
        return bool(self._free) or self._next <= self.last

    def advance(self, now: float) -> None:
        """It is `now`, in seconds. What was retired since the last call counts from here."""
        for identity in self._undated:
            if self._retired.get(identity, now) is None:
                self._retired[identity] = now
                self._waiting.append((now, identity))
                self.dirty = True
        self._undated = []
        while self._waiting and now - self._waiting[0][0] >= self.quarantine:
            since, identity = self._waiting.popleft()
            if self._retired.get(identity) != since:
                continue
            del self._retired[identity]
            number = self._numbers.pop(identity)
            if self.first <= number <= self.last:
                self._free.append(number)
            self.dirty = True

    def _take(self) -> int:
        if self._next <= self.last:
            self._next += 1
            return self._next - 1
        if self._free:
            return self._free.popleft()
        raise Exhausted(
            f"all {self.last - self.first + 1} security ids are taken, {len(self._retired)} of them by "
            f"identities that nobody has had for less than {self.quarantine:g} s"
        )

    def to_json(self) -> list[Any]:
        return [
            [list(map(list, identity.labels)), number, self._retired.get(identity)]
            for identity, number in self._numbers.items()
        ]

    def restore(self, document: Iterable[Any]) -> None:
        """Take up what `to_json` stored. Whose numbers they are shows when workloads claim them; until then
        nobody has them, and they are as good as given back now."""
        self._numbers, self._retired, self._undated = {}, {}, []
        for labels, number, *dated in document:
            identity = Identity(tuple((key, value) for key, value in labels))
            self._numbers[identity] = number
            self._retired[identity] = since = dated[0] if dated else None
            if since is None:
                self._undated.append(identity)
        dated = [(since, identity) for identity, since in self._retired.items() if since is not None]
        self._waiting = deque(sorted(dated, key=lambda entry: entry[0]))
        taken = set(self._numbers.values())
        if len(taken) < len(self._numbers):
            raise ValueError("two identities have one number")
        self._next = max([n for n in taken if n <= self.last], default=self.first - 1) + 1
        self._free = deque(n for n in range(self.first, self._next) if n not in taken)
        self.dirty = False


class Allocations:
    """Numbers and addresses given once and kept. `dirty` says that they want storing."""

    def __init__(
        self,
        service_ranges: Iterable[str],
        relevant: LabelFilter | None = None,
        ids: tuple[int, int] = (FIRST_WORKLOAD_ID, _LAST_ID),
        quarantine: float = QUARANTINE,
    ) -> None:
        """`relevant` says which labels make an identity; `ids` are the first and last security id, and
        `quarantine` is how many seconds one rests before it is given anew."""
        self.service_ranges = [ipaddress.ip_network(r) for r in service_ranges]
        self.relevant = relevant or LabelFilter()
        self.security_ids = SecurityIds(*ids, quarantine)
        self._listeners: dict[str, int] = {}
        self._vips: dict[ServiceName, dict[str, str]] = {}
        self._taken: set[str] = set()
        #: Address -> the Service that asked for it by name and got it.
        self._holders: dict[str, ServiceName] = {}
        self._next_class = FIRST_CLASS
        self._cursor: dict[int, int] = {}
        self._dirty = False

    @property
    def dirty(self) -> bool:
        return self._dirty or self.security_ids.dirty

    def stored(self) -> None:
        """What `to_json` said last is on disk."""
        self._dirty = self.security_ids.dirty = False

    def listener(self, key: str) -> int:
        """The number of an L7 class by the name of its set of rules. Raises Exhausted."""
        number = self._listeners.get(key)
        if number is None:
            number = self._next_class
            if number > _LAST_CLASS:
                raise Exhausted("no L7 class number is left")
            self._listeners[key] = number
            self._next_class += 1
            self._dirty = True
        return number

    def holder(self, address: str, claimants: Collection[ServiceName]) -> ServiceName:
        """Who of the Services that ask for an address has it: who has had it, else the first by name, and of
        a ServiceEntry's hosts none before a Service of the cluster.

        So nobody takes an address over (threat N49), but for the mesh's own resolver, whose it always is."""
        if RESOLVER in claimants:
            found = RESOLVER
        elif address in self._taken:
            return next(name for name, given in self._vips.items() if address in given.values())
        else:
            before = self._holders.get(address)
            found = before if before is not None and before in claimants else min(claimants, key=_rank)
        if self._holders.get(address) != found:
            self._holders[address] = found
            self._dirty = True
        return found

    def let_go(self, address: str, service: ServiceName) -> None:
        """The Service does not ask for the address any more."""
        if self._holders.get(address) == service:
            del self._holders[address]
            self._dirty = True

    def vips(
        self, service: ServiceName, families: Iterable[str], avoid: Mapping[str, Collection[ServiceName]]
    ) -> tuple[str, ...]:
        """Addresses for a Service that names none, one a family; `avoid` are asked for, by whom.

        Raises Exhausted."""
        given = self._vips.setdefault(service, {})
        for network in self.service_ranges:
            family = f"IPv{network.version}"
            if family not in families:
                continue
            claimants = avoid.get(given.get(family, ""))
            if family not in given or (claimants and self.holder(given[family], claimants) != service):
                self._taken.discard(given.get(family, ""))
                given[family] = self._free(network, avoid)
                self._taken.add(given[family])
                self._dirty = True
        return tuple(given[family] for family in ("IPv4", "IPv6") if family in families and family in given)

    def release(self, service: ServiceName) -> None:
        """Give a deleted Service's addresses back."""
        addresses = self._vips.pop(service, None)
        if addresses:
            self._taken.difference_update(addresses.values())
            self._dirty = True

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
        ids = self.security_ids
        copy = Allocations(
            map(str, self.service_ranges), self.relevant, (ids.first, ids.last), ids.quarantine
        )
        copy.restore(self.to_json())
        return copy

    def to_json(self) -> dict[str, Any]:
        return {
            "security_ids": self.security_ids.to_json(),
            "vips": [[*service, given] for service, given in self._vips.items()],
            "holders": [[address, *service] for address, service in self._holders.items()],
            "listeners": self._listeners,
        }

    def restore(self, document: Mapping[str, Any]) -> None:
        """Take up what `to_json` stored."""
        self.security_ids.restore(document["security_ids"])
        self._vips = {ServiceName(ns, name): dict(given) for ns, name, given in document["vips"]}
        self._holders = {a: ServiceName(ns, name) for a, ns, name in document.get("holders", ())}
        self._listeners = dict(document["listeners"])
        self._taken = {address for given in self._vips.values() for address in given.values()}
        self._next_class = max(self._listeners.values(), default=FIRST_CLASS - 1) + 1
        self._dirty = False


def _rank(name: ServiceName) -> tuple[bool, ServiceName]:
    return is_entry(name), name
