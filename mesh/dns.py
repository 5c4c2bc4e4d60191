"""What the mesh's resolver is told and what it tells, as control plane, agent and resolver share it.

Five documents, each one file or datagram of JSON: the `Zone` it answers for, the `Queries` that callers
may ask, the names it `Learned` and the report that is `InForce`, and an `Observation` of each query. Names
are canonical (`mesh.dns_name`), times are seconds since the epoch. `from_json` raises ValueError for what
`to_json` cannot have written. Knows no socket and no DNS message.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, Literal, NamedTuple

from mesh.model import LearnedNames, ServiceName, WorkloadName

#: The zone of the mesh, canonical (Kubernetes DNS specification 1.1.0).
CLUSTER_DOMAIN = "cluster.local"
SPECIFICATION = "1.1.0"

#: The resolver of a mesh: the Service that pods ask, and the pod behind it (semantics rule 12).
RESOLVER = ServiceName("kube-system", "kube-dns")
RESOLVER_POD = WorkloadName("kube-system", "sluice-dns")
PORT = 53

#: Below a mesh's run folder: what control plane and agent tell the resolver (the `Zone`, the `Queries`, what
#: is `InForce`) and the agent's socket for each `Observation`; below its state folder what it `Learned`.
FOLDER = "dns"
RECORDS, POLICY, ENFORCED, FLOWS, LEARNED = (
    "records.json",
    "policy.json",
    "enforced.json",
    "flows.sock",
    "learned.json",
)

Transport = Literal["UDP", "TCP"]


@dataclass(frozen=True, slots=True)
class Server:
    """What an SRV record points to."""

    port: int
    target: str


@dataclass(frozen=True, slots=True)
class Zone:
    """The records of the mesh: name -> addresses, SRV owner -> servers, address -> name. For callers of some
    namespaces (`scoped`) a name has other addresses. `upstream` are names whose addresses stand behind
    services, so the resolver is to ask for them, and goes on asking. Under the `patterns`, each for some
    namespaces (`*`: each), a name becomes one of the mesh once somebody asks for it. `aliases` are names of
    the mesh, each of which stands for another name (CNAME), of the mesh or not. What pods of the `widening`
    namespaces (`*`: of each) look up is told, and answered once their Envoys know of it."""

    addresses: Mapping[str, tuple[str, ...]]
    servers: Mapping[str, tuple[Server, ...]]
    pointers: Mapping[str, str]
    scoped: Mapping[str, Mapping[str, tuple[str, ...]]] = field(default_factory=dict)
    upstream: tuple[str, ...] = ()
    patterns: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    aliases: Mapping[str, str] = field(default_factory=dict)
    widening: tuple[str, ...] = ()

    def to_json(self) -> str:
        return _text(
            {
                "addresses": self.addresses,
                "servers": {
                    name: [[server.port, server.target] for server in servers]
                    for name, servers in self.servers.items()
                },
                "pointers": self.pointers,
                "scoped": self.scoped,
                "upstream": self.upstream,
                "patterns": self.patterns,
                "aliases": self.aliases,
                "widening": self.widening,
            }
        )

    @staticmethod
    def from_json(text: str | bytes) -> Zone:
        with _Malformed("zone"):
            value = json.loads(text)
            return Zone(
                {str(name): _texts(found) for name, found in value["addresses"].items()},
                {
                    str(name): tuple(Server(int(port), str(target)) for port, target in servers)
                    for name, servers in value["servers"].items()
                },
                {str(address): str(name) for address, name in value["pointers"].items()},
                {
                    str(namespace): {str(name): _texts(found) for name, found in own.items()}
                    for namespace, own in value.get("scoped", {}).items()
                },
                _texts(value.get("upstream", ())),
                {str(own): _texts(to) for own, to in value.get("patterns", {}).items()},
                {str(own): str(target) for own, target in value.get("aliases", {}).items()},
                _texts(value.get("widening", ())),
            )


@dataclass(frozen=True, slots=True)
class Caller:
    """What one address may ask over one transport: names of these patterns (None: every name), and the
    same if policies in audit mode counted. `rules` say who demands it, for flow records."""

    address: str
    transport: Transport
    names: tuple[str, ...] | None = None
    audit_names: tuple[str, ...] | None = None
    rules: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Queries:
    """All who may ask, and the patterns of names whose addresses policies speak of. An address that is
    not listed is refused. `namespaces` says whose the addresses of pods are."""

    callers: tuple[Caller, ...] = ()
    wanted: tuple[str, ...] = ()
    namespaces: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> str:
        return _text(
            {
                "callers": [[c.address, c.transport, c.names, c.audit_names, c.rules] for c in self.callers],
                "wanted": self.wanted,
                "namespaces": self.namespaces,
            }
        )

    @staticmethod
    def from_json(text: str | bytes) -> Queries:
        with _Malformed("policy"):
            value = json.loads(text)
            return Queries(
                tuple(
                    Caller(
                        str(address), _transport(transport), _patterns(names), _patterns(audit), _texts(rules)
                    )
                    for address, transport, names, audit, rules in value["callers"]
                ),
                _texts(value["wanted"]),
                {str(address): str(own) for address, own in value.get("namespaces", {}).items()},
            )


@dataclass(frozen=True, slots=True, order=True)
class LearnedAddress:
    """An answer said that `name` has `address`; the report `sequence` was the first to say so, because a pod
    of `namespace` had asked ("": a service leads there)."""

    name: str
    address: str
    expiry: float
    sequence: int
    namespace: str = ""


@dataclass(frozen=True, slots=True, order=True)
class AskedName:
    """A name under a pattern of the zone, which a pod of `namespace` asked for first; the report `sequence`
    was the first to say so."""

    name: str
    expiry: float
    sequence: int
    namespace: str


class LookedUp(NamedTuple):
    """Pods of a namespace, whose scope that widens, asked for a host; the report `sequence` was the first to
    say so."""

    namespace: str
    host: str
    sequence: int


@dataclass(frozen=True, slots=True)
class Learned:
    """Report number `sequence`: every name that was learned and is not forgotten, the last answer of each
    name that the zone has as `upstream`, which names under its patterns were asked for, and what was looked
    up, the longest ago first."""

    sequence: int = 0
    addresses: tuple[LearnedAddress, ...] = ()
    current: tuple[tuple[str, tuple[str, ...]], ...] = ()
    asked: tuple[AskedName, ...] = ()
    looked_up: tuple[LookedUp, ...] = ()

    def live(self, now: float) -> LearnedNames:
        """What policies may know of it at a time."""
        good = sorted(known for known in self.addresses if known.expiry > now)
        return LearnedNames(
            self.sequence,
            tuple(
                (name, tuple(known.address for known in same))
                for name, same in groupby(good, key=lambda known: known.name)
            ),
            self.current,
            tuple(sorted(known.name for known in self.asked if known.expiry > now)),
            tuple(sorted((known.namespace, known.host) for known in self.looked_up)),
        )

    def to_json(self) -> str:
        found = [[k.name, k.address, round(k.expiry, 3), k.sequence, k.namespace] for k in self.addresses]
        asked = [[k.name, round(k.expiry, 3), k.sequence, k.namespace] for k in self.asked]
        return _text(
            {
                "sequence": self.sequence,
                "addresses": found,
                "current": self.current,
                "asked": asked,
                "looked_up": self.looked_up,
            }
        )

    @staticmethod
    def from_json(text: str | bytes) -> Learned:
        with _Malformed("learned names"):
            value = json.loads(text)
            return Learned(
                int(value["sequence"]),
                tuple(
                    LearnedAddress(str(name), str(address), float(expiry), int(sequence), "".join(namespace))
                    for name, address, expiry, sequence, *namespace in value["addresses"]
                ),
                tuple((str(name), _texts(found)) for name, found in value.get("current", ())),
                tuple(
                    AskedName(str(name), float(expiry), int(sequence), str(namespace))
                    for name, expiry, sequence, namespace in value.get("asked", ())
                ),
                tuple(
                    LookedUp(str(namespace), str(host), int(sequence))
                    for namespace, host, sequence in value.get("looked_up", ())
                ),
            )


@dataclass(frozen=True, slots=True)
class InForce:
    """Everything up to report `sequence` is in the kernel's tables."""

    sequence: int = 0

    def to_json(self) -> str:
        return _text({"sequence": self.sequence})

    @staticmethod
    def from_json(text: str | bytes) -> InForce:
        with _Malformed("acknowledgement"):
            return InForce(int(json.loads(text)["sequence"]))


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of one query, with Hubble's names (`flow.DNS`)."""

    query: str
    qtype: str
    rcode: str
    ips: tuple[str, ...] = ()
    cnames: tuple[str, ...] = ()
    ttl: int = 0

    def __str__(self) -> str:
        found = ",".join((*self.cnames, *self.ips))
        return f"{self.qtype} {self.query} {self.rcode}" + (f" {found}" if found else "")

    def plain(self) -> dict[str, Any]:
        return {
            "query": self.query,
            "qtypes": [self.qtype],
            "rcode": self.rcode,
            "ips": list(self.ips),
            "cnames": list(self.cnames),
            "ttl": self.ttl,
        }

    @staticmethod
    def of(value: Mapping[str, Any]) -> Answer:
        return Answer(
            str(value["query"]),
            str(value["qtypes"][0]),
            str(value["rcode"]),
            _texts(value["ips"]),
            _texts(value["cnames"]),
            int(value["ttl"]),
        )


@dataclass(frozen=True, slots=True)
class Observation:
    """One query as the resolver judged it: who asked whom, and what it would have got if policies in
    audit mode counted (None: the same). One datagram."""

    time: float
    caller: str
    caller_port: int
    resolver: str
    transport: Transport
    answer: Answer
    allowed: bool
    audit: bool | None = None
    rules: tuple[str, ...] = ()

    def to_json(self) -> str:
        return _text(
            {
                "time": self.time,
                "caller": [self.caller, self.caller_port],
                "resolver": self.resolver,
                "transport": self.transport,
                "answer": self.answer.plain(),
                "allowed": self.allowed,
                "audit": self.audit,
                "rules": self.rules,
            }
        )

    @staticmethod
    def from_json(text: str | bytes) -> Observation:
        with _Malformed("observation"):
            value = json.loads(text)
            caller, port = value["caller"]
            return Observation(
                float(value["time"]),
                str(caller),
                int(port),
                str(value["resolver"]),
                _transport(value["transport"]),
                Answer.of(value["answer"]),
                value["allowed"] is True,
                None if value["audit"] is None else value["audit"] is True,
                _texts(value["rules"]),
            )


class _Malformed:
    """Whatever is wrong with a document is a ValueError that says which."""

    def __init__(self, what: str) -> None:
        self._what = what

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, ValueError | KeyError | TypeError | AttributeError | IndexError):
            raise ValueError(f"no {self._what} of the resolver: {error!r}") from None


def _text(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))


def _texts(values: Iterable[object]) -> tuple[str, ...]:
    if isinstance(values, str):
        raise TypeError(f"{values!r} is no list")
    return tuple(str(value) for value in values)


def _patterns(values: Iterable[object] | None) -> tuple[str, ...] | None:
    return None if values is None else _texts(values)


def _transport(value: object) -> Transport:
    if value == "UDP":
        return "UDP"
    if value == "TCP":
        return "TCP"
    raise ValueError(f"{value!r} is no transport")
