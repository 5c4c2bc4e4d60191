"""Compiles the policies of one direction into tables: peer -> class -> port -> verdict.

Peers that the same rules match share a class, and a class is named by its content, so tables grow
with what policies distinguish. `look_up` reads the tables as the kernel does.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from mesh.cidr import CidrIndex, reaches
from mesh.identity import PORTS_KEY, named_port
from mesh.model import (
    CidrPeer,
    Direction,
    EntityPeer,
    Identity,
    Peer,
    Policy,
    PortName,
    Protocol,
    Rule,
    Selector,
    WorkloadPeer,
)
from mesh.node import HOST_ID, WORLD_ID, PolicyClass, PolicySet, PortVerdict, stable_id
from mesh.proxy import HttpRule

#: A peer as the kernel knows it: security id and id of the CIDR set that covers the address.
PeerKey = tuple[int, int]

_PORTED: tuple[Protocol, ...] = ("TCP", "UDP", "SCTP")


@dataclass(frozen=True, slots=True)
class Peers:
    """Everyone a policy could mean: the peer keys that occur, and how to find them."""

    keys: Collection[PeerKey]
    by_id: Mapping[int, Collection[PeerKey]]
    identities: Mapping[int, Identity]
    select: Callable[[Selector], Collection[int]]
    cidrs: CidrIndex


@dataclass(frozen=True, slots=True)
class Compiled:
    """A policy set, the classes it refers to, and the HTTP rules behind each listener number."""

    set: PolicySet
    classes: tuple[PolicyClass, ...]
    listeners: Mapping[int, tuple[HttpRule, ...]]


def compile_set(
    policies: Sequence[Policy],
    direction: Direction,
    subject_ports: str,
    peers: Peers,
    number_of: Callable[[str], int],
) -> Compiled:
    """The tables for a subject that exactly these policies select.

    `subject_ports` is the subject's value of PORTS_KEY, `number_of` gives the number of an L7
    class by its name.
    """
    rules: list[tuple[str, Rule, HttpRule | None, bool]] = []
    defaults: set[str] = set()
    for policy in policies:
        ruleset = policy.rules(direction)
        if ruleset is None:
            continue
        if ruleset.default_deny:
            defaults.add(str(policy.ref))
        for denies, group in ((True, ruleset.deny), (False, ruleset.allow)):
            for rule in group:
                http = HttpRule(policy.ref, rule.field, rule.http) if rule.http is not None else None
                rules.append((f"{policy.ref} {rule.field}", rule, http, denies))

    masks: dict[PeerKey, int] = {}
    everyone = 0
    for index, (_, rule, _, _) in enumerate(rules):
        if rule.peers is None:
            everyone |= 1 << index
            continue
        for key in {key for peer in rule.peers for key in _matching(peer, peers)}:
            masks[key] = masks.get(key, 0) | 1 << index

    table = _Table(rules, tuple(sorted(defaults)), direction, number_of)
    named = direction == "egress" and any(
        isinstance(port, PortName) for _, rule, _, _ in rules for port in rule.ports or ()
    )
    default = table.class_of(everyone, subject_ports if direction == "ingress" else "")
    entries: list[tuple[int, int, int]] = []
    # With named ports, peers that no rule singles out differ too.
    for key in peers.keys if named else masks:
        ports = subject_ports
        if direction == "egress":
            identity = peers.identities.get(key[0])
            ports = identity.mapping.get(PORTS_KEY, "") if named and identity else ""
        number = table.class_of(masks.get(key, 0) | everyone, ports)
        if number != default:
            entries.append((*key, number))
    names = tuple(sorted({str(policy.ref) for policy in policies}))
    # The order of `peers.keys` is nobody's business.
    entries.sort()
    return Compiled(
        PolicySet(set_id(policies, direction, subject_ports), direction, names, default, tuple(entries)),
        tuple(table.classes.values()),
        table.listeners,
    )


def set_id(policies: Iterable[Policy], direction: Direction, subject_ports: str) -> int:
    """Names a set by who selects, not by what they say; 0 where no policy concerns the direction."""
    names = sorted({str(policy.ref) for policy in policies})
    return stable_id(direction, subject_ports if direction == "ingress" else "", *names) if names else 0


def _matching(peer: Peer, peers: Peers) -> Iterable[PeerKey]:
    match peer:
        case WorkloadPeer(selector):
            return [key for number in peers.select(selector) for key in peers.by_id.get(number, ())]
        case CidrPeer():
            return [
                key
                for key in peers.keys
                if reaches(peer, key[0]) and key[1] and peer in peers.cidrs.members(key[1])
            ]
        case EntityPeer("all"):
            return peers.keys
        case EntityPeer("cluster"):
            return [key for key in peers.keys if key[0] != WORLD_ID]
        case EntityPeer("host"):
            return [key for key in peers.keys if key[0] == HOST_ID]
        case EntityPeer("world"):
            return [key for key in peers.keys if key[0] == WORLD_ID]
    raise AssertionError(f"unknown peer {peer!r}")


class _Table:
    """Classes of one set, made once for each combination of rules that occurs."""

    def __init__(
        self,
        rules: Sequence[tuple[str, Rule, HttpRule | None, bool]],
        defaults: tuple[str, ...],
        direction: Direction,
        number_of: Callable[[str], int],
    ) -> None:
        self._rules = rules
        self._defaults = defaults
        self._direction = direction
        self._number_of = number_of
        self._made: dict[tuple[int, str], int] = {}
        self.classes: dict[int, PolicyClass] = {}
        self.listeners: dict[int, tuple[HttpRule, ...]] = {}

    def class_of(self, mask: int, ports: str) -> int:
        made = self._made.get((mask, ports))
        if made is None:
            chosen = [rule for index, rule in enumerate(self._rules) if mask >> index & 1]
            verdicts = self._verdicts(chosen, ports)
            made = stable_id(repr((verdicts, self._defaults)))
            self.classes[made] = PolicyClass(made, verdicts, self._defaults)
            self._made[mask, ports] = made
        return made

    def _verdicts(
        self, rules: Sequence[tuple[str, Rule, HttpRule | None, bool]], ports: str
    ) -> tuple[PortVerdict, ...]:
        rest = self._verdict(None, 0, 65535, rules, ports)
        verdicts = [rest]
        protocols: set[Protocol] = set(_PORTED) | {
            port.protocol for _, rule, _, _ in rules for port in rule.ports or () if port.protocol
        }
        for protocol in sorted(protocols):
            verdicts += self._intervals(protocol, rules, ports, rest)
        return tuple(verdicts)

    def _intervals(
        self,
        protocol: Protocol,
        rules: Sequence[tuple[str, Rule, HttpRule | None, bool]],
        ports: str,
        rest: PortVerdict,
    ) -> list[PortVerdict]:
        starts = {0}
        for _, rule, _, _ in rules:
            for first, last in _ranges(rule, protocol, ports):
                starts |= {first, last + 1}
        bounds = [*sorted(start for start in starts if start <= 65535), 65536]
        found: list[PortVerdict] = []
        for first, after in pairwise(bounds):
            verdict = self._verdict(protocol, first, after - 1, rules, ports)
            if found and _outcome(found[-1]) == _outcome(verdict):
                found[-1] = replace(found[-1], last=verdict.last)
            else:
                found.append(verdict)
        if len(found) == 1 and _outcome(found[0]) == _outcome(rest):
            return []  # the entry behind all protocols says the same
        return found

    def _verdict(
        self,
        protocol: Protocol | None,
        first: int,
        last: int,
        rules: Sequence[tuple[str, Rule, HttpRule | None, bool]],
        ports: str,
    ) -> PortVerdict:
        hits = [
            rule
            for rule in rules
            if any(a <= first and last <= b for a, b in _ranges(rule[1], protocol, ports))
        ]
        denying = sorted(key for key, _, _, denies in hits if denies)
        whole = sorted(key for key, rule, _, denies in hits if not denies and rule.http is None)
        http = {rule for _, _, rule, denies in hits if rule is not None and not denies}
        if denying:
            return PortVerdict(protocol, first, last, "deny", rules=tuple(denying))
        if whole:
            return PortVerdict(protocol, first, last, "allow", rules=tuple(whole))
        if http and protocol == "TCP":
            ordered = tuple(sorted(http, key=lambda rule: rule.key))
            keys = tuple(rule.key for rule in ordered)
            number = self._number_of(f"{self._direction} {' + '.join(keys)}")
            self.listeners[number] = ordered
            return PortVerdict(protocol, first, last, "steer", number, keys)
        if self._defaults:
            return PortVerdict(protocol, first, last, "deny", rules=self._defaults)
        return PortVerdict(protocol, first, last, "allow")


def _outcome(verdict: PortVerdict) -> tuple[str, int, tuple[str, ...]]:
    return verdict.verdict, verdict.listener, verdict.rules


def _ranges(rule: Rule, protocol: Protocol | None, ports: str) -> list[tuple[int, int]]:
    """The port ranges of a protocol that a rule means; protocol None: what holds for every one."""
    if rule.ports is None:
        return [(0, 65535)]
    found: list[tuple[int, int]] = []
    for match in rule.ports:
        if isinstance(match, PortName):
            if protocol in _PORTED and match.protocol in (None, protocol):
                number = named_port(ports, match.name, protocol)
                if number is not None:
                    found.append((number, number))
        elif match.protocol is None:
            if (match.first, match.last) == (0, 65535) or protocol in _PORTED:
                found.append((match.first, match.last))
        elif match.protocol == protocol:
            found.append((match.first, match.last))
    return found


def look_up(policy_class: PolicyClass | None, protocol: str | int, port: int) -> PortVerdict:
    """The verdict that the tables hold; a subject without a set has no class and no restriction."""
    if policy_class is None:
        return PortVerdict(None, 0, 65535, "allow")
    for verdict in policy_class.verdicts:
        if verdict.protocol == protocol and verdict.first <= port <= verdict.last:
            return verdict
    return next(verdict for verdict in policy_class.verdicts if verdict.protocol is None)
