"""Compiles the policies of one direction into tables: peer -> class -> port -> verdict.

Peers that the same rules match share a class, and a class is named by its content, so tables grow
with what policies distinguish. Which rules match a peer is a mask, one bit a rule and one bit a
term of an AuthorizationPolicy about the caller.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from mesh.model import (
    DEFAULT_CONFIG,
    RESOLVER,
    Authorization,
    Direction,
    EnvoyFilter,
    MeshConfig,
    MutualTls,
    MutualTlsPort,
    Policy,
    PortName,
    Protocol,
    RateLimit,
    Registry,
    RequestAuthentication,
    SidecarIngress,
    Term,
)
from mesh.node import (
    PolicyClass,
    PolicySet,
    PortVerdict,
    Verdict,
    stable_id,
)
from mesh.policies import authorization_parts as parts
from mesh.policies.every_request import Every, EveryRequest
from mesh.policies.lines import PORTED, Line, Ruling, line_up, ranges, rule_on
from mesh.policies.peers import PeerKey, Peers
from mesh.policies.references import AnyCondition, RequestPolicy
from mesh.protocols import PortKind
from mesh.proxy import IngressPart, L7Class
from mesh.routes.envoy_filters import concerns_ports

#: Conditions for which it matters what a port is declared as.
KINDS_MATTER = RequestPolicy | MutualTls | SidecarIngress

#: Ports of TCP at which services name a peer, first and last.
NamedPorts = frozenset[tuple[int, int]]

_NOWHERE: NamedPorts = frozenset()
_EVERYWHERE: NamedPorts = frozenset({(0, 65535)})


@dataclass(frozen=True, slots=True)
class Subject:
    """What the tables of a subject depend on, besides its policies: its value of PORTS_KEY, what
    Services call its ports, and what the whole mesh is told."""

    ports: str = ""
    declared: tuple[tuple[int, PortKind], ...] = ()
    config: MeshConfig = DEFAULT_CONFIG


@dataclass(frozen=True, slots=True)
class Compiled:
    """A policy set, the classes it refers to, and what judges behind each listener number."""

    set: PolicySet
    classes: tuple[PolicyClass, ...]
    listeners: Mapping[int, L7Class]


def compile_set(
    policies: Sequence[AnyCondition],
    direction: Direction,
    subject: Subject,
    peers: Peers,
    number_of: Callable[[str], int],
) -> Compiled:
    """The tables for a subject that exactly these policies select; `number_of` gives the number of
    an L7 class by its name."""
    table = _Table(policies, direction, subject, number_of)
    named_at = table.named_at(peers)
    masks: dict[PeerKey, int] = {}
    everyone = 0
    for index, line in enumerate(table.lines):
        matching = peers.matching_rule(line)
        if matching is None:
            everyone |= 1 << index
        for key in matching or ():
            masks[key] = masks.get(key, 0) | 1 << index
    for index, term in enumerate(table.terms, len(table.lines)):
        for key in set(peers.satisfying(term, subject.config)):
            masks[key] = masks.get(key, 0) | 1 << index

    named = direction == "egress" and any(
        isinstance(port, PortName) for line in table.lines for port in line.rule.ports or ()
    )
    default = table.class_of(everyone, subject.ports if direction == "ingress" else "", _NOWHERE)
    entries: list[tuple[int, int, int]] = []
    # With named ports, peers that no rule singles out differ too.
    for key in peers.keys if named else masks.keys() | named_at.keys():
        ports = subject.ports
        if direction == "egress":
            ports = peers.ports_of(key) if named else ""
        number = table.class_of(masks.get(key, 0) | everyone, ports, named_at.get(key, _NOWHERE))
        if number != default:
            entries.append((*key, number))
    names = tuple(sorted({str(policy.ref) for policy in policies}))
    logs = tuple(sorted({(str(p.ref), p.log) for p in policies if isinstance(p, Policy) and p.log}))
    # The order of `peers.keys` is nobody's business.
    entries.sort()
    return Compiled(
        PolicySet(set_id(policies, direction, subject), direction, names, default, tuple(entries), logs),
        tuple(table.classes.values()),
        table.listeners,
    )


def set_id(policies: Iterable[AnyCondition], direction: Direction, subject: Subject) -> int:
    """Names a set by who selects, not by what they say; 0 where no policy concerns the direction."""
    policies = tuple(policies)
    names = sorted({str(policy.ref) for policy in policies})
    if not names:
        return 0
    own: list[object] = [subject.ports if direction == "ingress" else ""]
    if any(isinstance(policy, KINDS_MATTER) for policy in policies):
        own.append(subject.declared)
    own += [policy.caller for policy in policies if isinstance(policy, Registry)]
    own += [policy for policy in policies if isinstance(policy, MutualTls | SidecarIngress)]
    return stable_id(direction, *own, *names)


def concerns(policy: AnyCondition, direction: Direction) -> bool:
    """Does a policy say anything of this direction?"""
    if isinstance(policy, Registry):
        return direction == "egress"
    if isinstance(policy, Authorization | MutualTls | SidecarIngress):
        return direction == "ingress"
    if isinstance(policy, RequestAuthentication):
        return direction == "ingress" and bool(policy.rules)
    if isinstance(policy, RateLimit):
        return direction == "ingress"
    if isinstance(policy, EnvoyFilter):
        return direction == "ingress" and concerns_ports(policy)
    return (
        bool(policy.rules(direction))
        if not isinstance(policy, Policy)
        else policy.rules(direction) is not None
    )


class _Table:
    """Classes of one set, made once for each combination of rules that occurs."""

    def __init__(
        self,
        policies: Sequence[AnyCondition],
        direction: Direction,
        subject: Subject,
        number_of: Callable[[str], int],
    ) -> None:
        self.lines = line_up(policies, direction)
        self._authorizations = (
            tuple(dict.fromkeys(p for p in policies if isinstance(p, Authorization)))
            if direction == "ingress"
            else ()
        )
        self._every = EveryRequest(policies if direction == "ingress" else ())
        #: Terms about the caller, each once, whatever negates it.
        self.terms = list(dict.fromkeys(map(_positive, parts.caller_terms(self._authorizations))))
        self._bits = {term: 1 << index for index, term in enumerate(self.terms, len(self.lines))}
        self._counted = tuple(replace(policy, audit=False) for policy in self._authorizations)
        denying = [
            (policy.audit, str(policy.ref))
            for policy in policies
            if isinstance(policy, Policy)
            and (rules := policy.rules(direction)) is not None
            and rules.default_deny
        ]
        self._defaults = tuple(sorted({name for audit, name in denying if not audit}))
        self._audited_defaults = tuple(sorted({name for _, name in denying}))
        self._audits = any(line.audit for line in self.lines) or self._audited_defaults != self._defaults
        self._direction = direction
        self._declared = dict(subject.declared)
        self._config = subject.config
        self._number_of = number_of
        self._registry = next((p for p in policies if isinstance(p, Registry)), None)
        self._mutual = next((p for p in policies if isinstance(p, MutualTls)), None) or MutualTls()
        self._ingress = next((p for p in policies if isinstance(p, SidecarIngress)), None)
        self._made: dict[tuple[int, str, NamedPorts], int] = {}
        self.classes: dict[int, PolicyClass] = {}
        self.listeners: dict[int, L7Class] = {}

    def named_at(self, peers: Peers) -> dict[PeerKey, NamedPorts]:
        """Whom services name, under REGISTRY_ONLY (rule 23). Peers named at the same ports share classes, so
        that a mesh of many services costs no more of them than it has ports."""
        found: defaultdict[PeerKey, set[tuple[int, int]]] = defaultdict(set)
        for rule in self._registry.named if self._registry else ():
            for key in {key for peer in rule.peers or () for key in peers.matching(peer)}:
                found[key].update(ranges(rule, "TCP", peers.ports_of(key)))
        for key in peers.of(peers.select(RESOLVER)) if self._registry else ():
            found[key] |= _EVERYWHERE
        interned: dict[NamedPorts, NamedPorts] = {}
        return {key: interned.setdefault(ports := frozenset(own), ports) for key, own in found.items()}

    def class_of(self, mask: int, ports: str, named: NamedPorts) -> int:
        made = self._made.get((mask, ports, named))
        if made is None:
            verdicts = self._verdicts(mask, ports, named)
            made = stable_id(repr((verdicts, self._defaults)))
            self.classes[made] = PolicyClass(made, verdicts, self._defaults)
            self._made[mask, ports, named] = made
        return made

    def _verdicts(self, mask: int, ports: str, named: NamedPorts) -> tuple[PortVerdict, ...]:
        chosen = [line for index, line in enumerate(self.lines) if mask >> index & 1]
        rest = self._verdict(None, 0, 65535, chosen, mask, ports, _NOWHERE)
        verdicts = [rest]
        protocols: set[Protocol] = set(PORTED) | {
            port.protocol for line in chosen for port in line.rule.ports or () if port.protocol
        }
        for protocol in sorted(protocols):
            verdicts += self._intervals(protocol, chosen, mask, ports, named, rest)
        return tuple(verdicts)

    def _intervals(
        self,
        protocol: Protocol,
        chosen: Sequence[Line],
        mask: int,
        ports: str,
        named: NamedPorts,
        rest: PortVerdict,
    ) -> list[PortVerdict]:
        starts = {0}
        if protocol == "TCP":
            starts.update(border for first, last in named for border in (first, last + 1))
        for line in chosen:
            for first, last in ranges(line.rule, protocol, ports):
                starts |= {first, last + 1}
        own = self._ingress or self._mutual != MutualTls()
        if protocol == "TCP" and (self._authorizations or self._every or own):
            mutual = dict(self._mutual.ports)
            taken = (listener.port for listener in self._ingress.listeners) if self._ingress else ()
            asking = parts.ports_of(self._authorizations)
            for port in (*self._declared, *asking, *self._every.ports, *mutual, *taken):
                starts |= {port, port + 1}
        bounds = [*sorted(start for start in starts if start <= 65535), 65536]
        found: list[PortVerdict] = []
        for first, after in pairwise(bounds):
            verdict = self._verdict(protocol, first, after - 1, chosen, mask, ports, named)
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
        chosen: Sequence[Line],
        mask: int,
        ports: str,
        named: NamedPorts,
    ) -> PortVerdict:
        """All ports of the interval are alike."""
        hits = [
            line
            for line in chosen
            if any(a <= first and last <= b for a, b in ranges(line.rule, protocol, ports))
        ]
        now = rule_on([line for line in hits if not line.audit], protocol, bool(self._defaults))
        then = rule_on(hits, protocol, bool(self._audited_defaults)) if self._audits else now
        kind = self._declared.get(first)

        def truth(term: Term) -> bool:
            return bool(mask & self._bits[_positive(term)]) != term.negated

        def say(policies: Sequence[Authorization]) -> parts.Answer:
            asked = policies if protocol == "TCP" else ()
            return parts.combine(asked, truth, first, kind, self._config)

        # Rule 20: what is declared as something else than HTTP brings no token, and is no request.
        every = self._every.at(first) if protocol == "TCP" and kind != "plain" else Every()
        mutual = self._mutual.at(first) if protocol == "TCP" else None
        ingress = self._taken(first) if protocol == "TCP" else None
        whatever = _union(every.keys, mutual.keys if mutual else (), (ingress.key,) if ingress else ())
        answer = say(self._authorizations)
        refusing = self._refusing(protocol, first, named)
        verdict, rules = self._join(now, then, answer, whatever, self._defaults, refusing)
        number = (
            self._listener(now, then, answer, every, mutual, ingress, kind, rules)
            if verdict == "steer"
            else 0
        )
        unnamed = bool(refusing) and now.verdict != "deny"
        found = PortVerdict(protocol, first, last, verdict, number, rules, unnamed=unnamed)
        would, keys = self._join(then, then, say(self._counted), whatever, self._audited_defaults, refusing)
        if would != verdict:
            found = replace(found, audit=would, audit_rules=keys)
        if (now.names, then.names) != (None, None):
            found = replace(found, names=now.names, audit_names=then.names)
        return found

    def _taken(self, port: int) -> IngressPart | None:
        """What a Sidecar says of a port."""
        found = self._ingress.at(port) if self._ingress else None
        return IngressPart(self._ingress.ref, found) if self._ingress and found else None

    def _refusing(self, protocol: Protocol | None, port: int, named: NamedPorts) -> tuple[str, ...]:
        """The registry, if no service names the peer at a port."""
        if self._registry is None or protocol != "TCP":
            return ()
        return () if any(first <= port <= last for first, last in named) else (self._registry.key,)

    def _join(
        self,
        now: Ruling,
        then: Ruling,
        answer: parts.Answer,
        whatever: tuple[str, ...],
        defaults: tuple[str, ...],
        refusing: tuple[str, ...],
    ) -> tuple[Verdict, tuple[str, ...]]:
        """Network policy, the registry (`refusing`), what meets every request or connection (`whatever`), and
        authorization together (rules 15, 23); `then` is what network policy would say with its policies in
        audit mode."""
        if now.verdict == "deny":
            return "deny", now.keys or defaults
        if refusing:
            return "deny", refusing
        if isinstance(answer, parts.Refused):
            return "deny", answer.keys
        asked = isinstance(answer, parts.Ask)
        if now.verdict == "allow" and then.verdict != "steer" and not asked and not whatever:
            return "allow", _union(now.keys, answer.keys)
        keys = now.keys if now.verdict == "steer" else then.keys if then.verdict == "steer" else ()
        return "steer", _union(keys, answer.keys if asked else (), whatever)

    def _listener(
        self,
        now: Ruling,
        then: Ruling,
        answer: parts.Answer,
        every: Every,
        mutual: MutualTlsPort | None,
        ingress: IngressPart | None,
        kind: PortKind | None,
        rules: tuple[str, ...],
    ) -> int:
        """The number of the class of what must be judged."""
        network = now.verdict == "steer"
        ask = answer if isinstance(answer, parts.Ask) else parts.Ask((), (), (), "")
        http = kind != "plain" and not (network and not now.http)
        # TLS is not HTTP: what authorization refuses to such a connection stays refused, it cannot show a
        # token, and it has no requests to count.
        tls = network and ask.plain == () and not every.tokens
        l7 = L7Class(
            0,
            self._direction,
            rules=now.http if network else None,
            server_names=(now.server_names or None) if tls else None,
            authorization=ask.parts if http else (),
            # Rule 21: a port with HTTP rules, tokens or limits, and one that is declared HTTP, never falls
            # through.
            plain=None if network or every.keys or kind == "http" else ask.plain,
            http=http,
            audit=then.http if then != now and then.verdict != "deny" else None,
            normalization=self._config.path_normalization,
            authentication=every.tokens,
            limits=every.limits,
            patches=every.patches,
            mutual=mutual,
            ingress=ingress,
        )
        number = self._number_of(_name(l7, rules, ask.variant))
        self.listeners[number] = replace(l7, number=number)
        return number


def _name(l7: L7Class, rules: tuple[str, ...], variant: str) -> str:
    """Names a class by what judges, not by what it says, so that an edit in place binds live
    connections; but by the content of what stands in the listener, where they are not asked again."""
    words = [f"{l7.direction} {' + '.join(rules)}"]
    if variant:
        words.append(variant)
    if l7.audit is not None:
        words.append(f"audit {' + '.join(rule.key for rule in l7.audit)}")
    if riding := [str(key) for key in l7.patches if not key.steers]:
        words.append(f"patched {' + '.join(riding)}")
    structure = (l7.server_names, l7.plain, l7.http, l7.normalization)
    if structure != (None, None, True, "MERGE_SLASHES"):
        words.append(f"{stable_id(repr(structure)):016x}")
    if l7.mutual:
        words.append(f"{l7.mutual.mode} {' '.join((*l7.mutual.domains, *l7.mutual.server_names))}")
    return " ".join(words)


def _positive(term: Term) -> Term:
    return replace(term, negated=False)


def _union(*keys: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted({key for group in keys for key in group}))


def _outcome(verdict: PortVerdict) -> PortVerdict:
    return replace(verdict, protocol=None, first=0, last=0)
