"""What the numbers in a flow event stand for: address -> workload, address:port -> service, cookie -> rules.

Follows the records in force, change by change. Knows no kernel and no time.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import lru_cache
from itertools import product

from agent.entries import PROTOCOL_NUMBERS, rules_cookie
from agent.judgement import Missing
from agent.number import number
from agent.records import Change
from bpf.layout import packed_address
from mesh.model import ServiceName, WorkloadName
from mesh.node import PodRecord, PolicyClass, PolicySet, ServiceRecord, WorkloadRecord

#: Kinds of rules besides those of network policy, and what is missing where none of them lets a request pass.
#: (The rule that refuses a token is known.)
_KINDS: dict[str, Missing] = {
    "AuthorizationPolicy": "authorization",
    "RequestAuthentication": "",
    "RateLimit": "limits",
    "PeerAuthentication": "certificate",
    "DestinationRule": "certificate",
}


class Names:
    """Look-ups by packed address or number."""

    def __init__(self) -> None:
        self._workloads: dict[bytes, WorkloadRecord] = {}
        self._services: dict[bytes, ServiceName] = {}
        self._entries: dict[str, ServiceName] = {}
        self._gateways: dict[tuple[str, int], WorkloadName] = {}
        #: (address, port) of a backend -> the services that it stands behind.
        self._behind: dict[tuple[str, int], tuple[ServiceName, ...]] = {}
        self._rules: dict[int, tuple[str, ...]] = {}
        self._listeners: dict[int, tuple[str, ...]] = {}
        self._logs: dict[str, list[str]] = {}

    def follow(self, change: Change) -> None:
        """One record changed."""
        match change.old:
            case WorkloadRecord() as record:
                for address, _ in record.addresses:
                    packed = packed_address(address)
                    if self._workloads.get(packed) == record:
                        del self._workloads[packed]
            case PodRecord() as record:
                for place in product(record.addresses, record.gateway):
                    if self._gateways.get(place) == record.name:
                        del self._gateways[place]
            case ServiceRecord() as record:
                if self._entries.get(record.name.name) == record.name:
                    del self._entries[record.name.name]
                for vip in record.vips:
                    if self._services.get(packed_address(vip)) == record.name:
                        del self._services[packed_address(vip)]
                for backend in _backends(record):
                    others = tuple(name for name in self._behind.pop(backend, ()) if name != record.name)
                    if others:
                        self._behind[backend] = others
        match change.new:
            case WorkloadRecord() as record:
                for address, _ in record.addresses:
                    self._workloads[packed_address(address)] = record
            case PodRecord() as record:
                self._gateways |= dict.fromkeys(product(record.addresses, record.gateway), record.name)
            case ServiceRecord() as record:
                if record.name.host == record.name.name:
                    self._entries[record.name.host] = record.name
                for vip in record.vips:
                    self._services[packed_address(vip)] = record.name
                own = (record.name,)
                for backend in _backends(record):
                    known = self._behind.get(backend)
                    self._behind[backend] = tuple(sorted({*known, *own})) if known else own
            case PolicyClass(rules=rest, verdicts=verdicts):
                # Never taken back: classes are named by content, and flows outlive them.
                for rules in (rest, *(r for v in verdicts for r in (v.rules, v.audit_rules))):
                    if rules:
                        self._rules[rules_cookie(rules)] = rules
                self._listeners |= {v.listener: v.rules for v in verdicts if v.listener}
            case PolicySet(policies=policies, logs=logs):
                # Not taken back either, but the newest text of a policy counts.
                self._logs |= {policy: [text for p, text in logs if p == policy] for policy in policies}

    def workload(self, packed: bytes) -> WorkloadRecord | None:
        """The workload that has an address."""
        return self._workloads.get(packed)

    def service(self, packed: bytes) -> ServiceName | None:
        """The service that has an address."""
        return self._services.get(packed)

    def entry(self, host: str) -> ServiceName | None:
        """What a ServiceEntry says stands for a host; any of them, if there are several."""
        return self._entries.get(host)

    def is_gateway(self, ip: str, port: int) -> bool:
        """Does a pod of this node serve Gateways there?"""
        return (ip, port) in self._gateways

    def service_at(self, ip: str, port: int) -> ServiceName | None:
        """The service that a backend stands behind, the first by name if it has several."""
        return next(iter(self._behind.get((ip, port), ())), None)

    def rules(self, cookie: int) -> tuple[str, ...]:
        """The rules that decided; () for none, or if they are not known any more."""
        return self._rules.get(cookie, ())

    def logs(self, rules: Iterable[str]) -> tuple[str, ...]:
        """What policies that decided want to have said of it."""
        policies = dict.fromkeys(" ".join(rule.split(" ")[:2]) for rule in rules)
        return tuple(text for policy in policies for text in self._logs.get(policy, ()))

    def judging(self, route: str) -> tuple[str, ...]:
        """The rules for which the class of a route exists, whose number stands at the end of its name."""
        listener = number(route.rpartition("|")[2])
        return () if listener is None else self._listeners.get(listener, ())


def _backends(record: ServiceRecord) -> Iterator[tuple[str, int]]:
    return (backend for port in record.ports for backend in port.backends)


def judges(known: tuple[str, ...], rules: tuple[str, ...], missing: Missing = "") -> tuple[str, ...]:
    """Who decided about a request: the rules that Envoy named and, if one was `missing`, those of that kind
    among the `known` rules of its class."""
    if not missing:
        return rules
    own = tuple(key for key in known if _missing_at(key) == missing)
    return (*(own or known), *rules)


def refuses(known: tuple[str, ...], unproven: bool) -> tuple[str, ...]:
    """Who decided about a connection that was refused: what asks for mutual TLS, or all others of its class,
    for Envoy does not say which."""
    return tuple(key for key in known if (_missing_at(key) == "certificate") == unproven)


def _missing_at(key: str) -> Missing:
    return _KINDS.get(key.partition(" ")[0], "network")


@lru_cache(maxsize=4096)
def pack(ip: str) -> bytes:
    """16 bytes of an address in a log; zeros if it is none (a pipe, or missing)."""
    try:
        return packed_address(ip)
    except ValueError:
        return bytes(16)


def protocol_name(number: int) -> str:
    """Such as TCP."""
    name = _PROTOCOLS.get(number)
    return str(number) if name is None else name


_PROTOCOLS = {number: name for name, number in PROTOCOL_NUMBERS.items()}
