"""The rules of a subject's policies, lined up for the compiler, and what some of them together rule.

Part of the compiler (`mesh.policies.classes`): it follows rules 15 and 16 by other means than the reference
(`mesh.policies.policy`), which asks every policy.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from mesh.identity import named_port
from mesh.model import Direction, HttpMatch, ObjectRef, Policy, PortName, Protocol, Rule, TierPolicy
from mesh.policies.references import AnyCondition
from mesh.proxy import HttpRule, ServerNameRule

PORTED: tuple[Protocol, ...] = ("TCP", "UDP", "SCTP")

#: The order in which tiers decide.
TIERS = ("admin", "network", "baseline")


@dataclass(frozen=True, slots=True)
class Line:
    """One rule of one policy."""

    origin: ObjectRef
    rule: Rule
    tier: Literal["admin", "network", "baseline"]
    action: Literal["allow", "deny", "pass"]
    audit: bool

    @property
    def key(self) -> str:
        return f"{self.origin} {self.rule.field}"

    @property
    def l7(self) -> HttpRule | ServerNameRule | None:
        """What it asks of a request or a TLS hello."""
        if self.rule.http is not None:
            return HttpRule(self.origin, self.rule.field, self.rule.http)
        if self.rule.server_names is not None:
            return ServerNameRule(self.origin, self.rule.field, self.rule.server_names)
        return None


@dataclass(frozen=True, slots=True)
class Ruling:
    """What lines together say of a connection. `lines` are those that decide; a denial without any
    is one by default. With verdict `steer` their L7 parts judge."""

    verdict: Literal["allow", "deny", "steer"]
    lines: tuple[Line, ...] = ()

    @property
    def keys(self) -> tuple[str, ...]:
        return tuple(sorted({line.key for line in self.lines}))

    @property
    def http(self) -> tuple[HttpRule, ...]:
        """The HTTP rules, in order. Of an allow: one that every request fits."""
        if self.verdict == "allow":
            return tuple(HttpRule(line.origin, line.rule.field, (HttpMatch(),)) for line in self.lines)
        found = {line.l7 for line in self.lines if isinstance(line.l7, HttpRule)}
        return tuple(sorted(found, key=lambda rule: rule.key))

    @property
    def names(self) -> tuple[str, ...] | None:
        """Patterns of which a query to the resolver must fit one, None where any will do."""
        if self.verdict != "allow" or any(line.rule.dns is None for line in self.lines) or not self.lines:
            return None
        return tuple(sorted({pattern.text for line in self.lines for pattern in line.rule.dns or ()}))

    @property
    def server_names(self) -> tuple[ServerNameRule, ...]:
        found = {line.l7 for line in self.lines if isinstance(line.l7, ServerNameRule)}
        return tuple(sorted(found, key=lambda rule: rule.key))


def line_up(policies: Iterable[AnyCondition], direction: Direction) -> list[Line]:
    """Every rule of the direction. Those of a tier stand in the order in which they decide."""
    found: list[Line] = []
    tiers = sorted(
        (policy for policy in policies if isinstance(policy, TierPolicy)), key=lambda p: (p.priority, p.ref)
    )
    for policy in tiers:
        for ranked in policy.rules(direction):
            action: Literal["allow", "deny", "pass"] = "allow" if ranked.action == "accept" else ranked.action
            found.append(Line(policy.ref, ranked.rule, policy.tier, action, policy.audit))
    for other in policies:
        if isinstance(other, Policy) and (rules := other.rules(direction)) is not None:
            found += [Line(other.ref, rule, "network", "deny", other.audit) for rule in rules.deny]
            found += [Line(other.ref, rule, "network", "allow", other.audit) for rule in rules.allow]
    return found


def rule_on(hits: Sequence[Line], protocol: Protocol | None, defaults: bool) -> Ruling:
    """What these lines, all of which fit, say; `defaults`: some policy denies by default."""
    for tier in TIERS:
        own = [line for line in hits if line.tier == tier]
        if tier == "network":
            if ruling := _together(own, protocol):
                return ruling
            if defaults:
                return Ruling("deny")
        elif own and own[0].action != "pass":
            return Ruling(own[0].action, (own[0],))
    return Ruling("allow")


def _together(own: Sequence[Line], protocol: Protocol | None) -> Ruling | None:
    denying = tuple(line for line in own if line.action == "deny")
    if denying:
        return Ruling("deny", denying)
    whole = tuple(line for line in own if line.l7 is None and line.rule.dns is None)
    if whole:
        return Ruling("allow", whole)
    asking = tuple(line for line in own if line.l7 is not None)
    if asking and protocol == "TCP":
        return Ruling("steer", asking)
    queries = tuple(line for line in own if line.rule.dns is not None)
    return Ruling("allow", queries) if queries else None


def ranges(rule: Rule, protocol: Protocol | None, ports: str) -> list[tuple[int, int]]:
    """The port ranges of a protocol that a rule means; protocol None: what holds for every one.

    `ports` is the destination's value of PORTS_KEY."""
    if rule.ports is None:
        return [(0, 65535)]
    found: list[tuple[int, int]] = []
    for match in rule.ports:
        if isinstance(match, PortName):
            if protocol in PORTED and match.protocol in (None, protocol):
                number = named_port(ports, match.name, protocol)
                if number is not None:
                    found.append((number, number))
        elif match.protocol is None:
            if (match.first, match.last) == (0, 65535) or protocol in PORTED:
                found.append((match.first, match.last))
        elif match.protocol == protocol:
            found.append((match.first, match.last))
    return found
