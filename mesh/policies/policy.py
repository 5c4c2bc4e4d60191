"""The reference semantics of policy: rules 10, 11, 15-17 and 23 of SEMANTICS.md as code.

`judge` decides one direction of one connection by asking every policy, in the words of the rules
and without any index. The compiler (`mesh.policies.classes`) must agree with it, the kernel and Envoy must
agree with the compiler; tests compare all four. It shares nothing with them but the model, and
sees policies with their references resolved (`mesh.policies.references`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from mesh.expression import compile_expression
from mesh.identity import PORTS_KEY, named_port
from mesh.model import (
    DEFAULT_CONFIG,
    NAMESPACE_KEY,
    RESOLVER,
    SERVICE_ACCOUNT_KEY,
    Authorization,
    CidrPeer,
    Direction,
    EntityPeer,
    EnvoyFilter,
    HttpMatch,
    MeshConfig,
    MutualTls,
    NamePattern,
    Peer,
    Policy,
    PortMatch,
    PortName,
    Protocol,
    RateLimit,
    Registry,
    RequestAuthentication,
    Rule,
    SidecarIngress,
    TierPolicy,
    WorkloadName,
    WorkloadPeer,
)
from mesh.policies.authorization import Caller
from mesh.policies.cidr import matches
from mesh.policies.consent import Asked, Consent, Refusal, consent
from mesh.policies.references import AnyCondition
from mesh.protocols import PortKind
from mesh.proxy import HttpRule, ServerNameRule
from mesh.request import Request
from mesh.routes.envoy_filters import inbound


@dataclass(frozen=True, slots=True)
class Party:
    """One end of a connection: a workload (with identity labels), a node, or the world.

    `declared` says what Services call the ports of a workload."""

    address: str
    workload: WorkloadName | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    host: bool = False
    remote_node: bool = False
    declared: Mapping[int, PortKind] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Allow:
    """Allowed, by these rules; by none of them where no policy selects the subject. Of a connection
    to the mesh's resolver, a query must fit one of `names`; None: any will do."""

    rules: tuple[str, ...] = ()
    names: tuple[NamePattern, ...] | None = None


@dataclass(frozen=True, slots=True)
class Deny:
    """Refused: by deny rules, or because these policies select the subject and none allows it; `unnamed`:
    because no service names the peer (REGISTRY_ONLY)."""

    rules: tuple[str, ...] = ()
    unnamed: bool = False


@dataclass(frozen=True, slots=True)
class Steer:
    """Allowed for what Envoy finds fit: a request or a TLS hello must fit one of `rules` (none:
    network policy asks nothing); `asked` names the authorization rules that have a say."""

    rules: tuple[HttpRule | ServerNameRule, ...] = ()
    asked: tuple[str, ...] = ()

    @property
    def keys(self) -> tuple[str, ...]:
        """Every rule that judges requests."""
        return tuple(sorted({*(rule.key for rule in self.rules), *self.asked}))


Verdict = Allow | Deny | Steer

#: What has no audit mode.
UNAUDITED = Registry | MutualTls | SidecarIngress | RequestAuthentication | RateLimit | EnvoyFilter


def judge(
    policies: Iterable[AnyCondition],
    direction: Direction,
    subject: Party,
    peer: Party,
    protocol: Protocol | int,
    port: int,
    config: MeshConfig = DEFAULT_CONFIG,
) -> Verdict:
    """What `subject`'s policies of one direction say of a connection with `peer`.

    `port` is the destination's, 0 for protocols without ports; protocols that policies cannot
    name are given by number. Policies in audit mode change no verdict, but what they would ask of a
    request only Envoy can tell: for that the connection is steered.
    """
    question = _Question(direction, subject, peer, protocol, port)
    if question.is_never_asked():
        return Allow()
    selecting = question.selecting(policies)
    network = [policy for policy in selecting if isinstance(policy, Policy | TierPolicy)]
    verdict = _network([policy for policy in network if not policy.audit], question)
    if isinstance(verdict, Allow):
        shadow = _network(network, question)
        if isinstance(shadow, Steer):
            verdict = Steer((), shadow.keys)
    verdict = _registered(verdict, selecting, question)
    verdict = _authorize(verdict, selecting, question, config)
    return _with_every_request(verdict, selecting, question)


def would_judge(
    policies: Iterable[AnyCondition],
    direction: Direction,
    subject: Party,
    peer: Party,
    protocol: Protocol | int,
    port: int,
    config: MeshConfig = DEFAULT_CONFIG,
) -> Verdict:
    """What `judge` would say if the policies in audit mode were in force."""
    counted = [p if isinstance(p, UNAUDITED) else replace(p, audit=False) for p in policies]
    return judge(counted, direction, subject, peer, protocol, port, config)


def _registered(verdict: Verdict, selecting: Sequence[AnyCondition], question: _Question) -> Verdict:
    """Rule 23: REGISTRY_ONLY is a condition of its own, at the caller; the resolver is always named."""
    if isinstance(verdict, Deny) or question.direction == "ingress" or question.protocol != "TCP":
        return verdict
    for registry in selecting:
        if isinstance(registry, Registry) and not is_resolver(question.peer):
            if not any(question.fits(rule) for rule in registry.named):
                return Deny((registry.key,), unnamed=True)
    return verdict


def _authorize(
    verdict: Verdict, selecting: Sequence[AnyCondition], question: _Question, config: MeshConfig
) -> Verdict:
    """Rule 15: AuthorizationPolicy is a condition of its own, at the destination."""
    if isinstance(verdict, Deny) or question.direction == "egress" or question.protocol != "TCP":
        return verdict
    port, kind = question.port, question.subject.declared.get(question.port)
    own = [policy for policy in selecting if isinstance(policy, Authorization)]
    match consent(own, caller_of(question.peer), port, kind, config):
        case Refusal(keys):
            return Deny(keys)
        case Consent(keys):
            if isinstance(verdict, Steer):
                return verdict
            return Allow(tuple(sorted({*verdict.rules, *keys})), verdict.names)
        case Asked(keys):
            before = verdict if isinstance(verdict, Steer) else Steer()
            return Steer(before.rules, tuple(sorted({*before.asked, *keys})))


def _with_every_request(verdict: Verdict, selecting: Sequence[AnyCondition], question: _Question) -> Verdict:
    """Rule 20: a token may come from anybody, on every port that is not declared as something else; and
    whoever calls there uses up rate limits, and meets what EnvoyFilters put in the way. And mutual TLS ends
    in an Envoy, whatever it is that comes in it, as what a Sidecar takes comes to one."""
    kind = question.subject.declared.get(question.port)
    if isinstance(verdict, Deny) or question.direction == "egress" or question.protocol != "TCP":
        return verdict
    tokens = (policy for policy in selecting if isinstance(policy, RequestAuthentication))
    limited = (policy for policy in selecting if isinstance(policy, RateLimit))
    keys = {f"{policy.ref} {rule.field}" for policy in tokens for rule in policy.rules}
    keys |= {f"{policy.ref} {limit.field}" for policy in limited for limit in policy.limits}
    filters = (policy for policy in selecting if isinstance(policy, EnvoyFilter))
    keys |= {str(key) for found in filters for key in inbound(found, question.port) if key.steers}
    keys = set() if kind == "plain" else keys
    ports = (policy.at(question.port) for policy in selecting if isinstance(policy, MutualTls))
    keys |= {key for found in ports if found for key in found.keys}
    taking = ((p.ref, p.at(question.port)) for p in selecting if isinstance(p, SidecarIngress))
    keys |= {f"{ref} {listener.field}" for ref, listener in taking if listener}
    if not keys:
        return verdict
    before = verdict if isinstance(verdict, Steer) else Steer()
    return Steer(before.rules, tuple(sorted({*before.asked, *keys})))


def caller_of(peer: Party) -> Caller:
    """Who calls, as authorization knows it."""
    namespace, account = (peer.labels.get(key, "") for key in (NAMESPACE_KEY, SERVICE_ACCOUNT_KEY))
    return Caller(peer.address, peer.workload is not None, namespace, account)


@dataclass(frozen=True, slots=True)
class _Question:
    direction: Direction
    subject: Party
    peer: Party
    protocol: Protocol | int
    port: int

    def is_never_asked(self) -> bool:
        """Rules 10 and 11; and only workloads are subjects."""
        if self.subject.workload in (None, self.peer.workload):
            return True
        return self.direction == "ingress" and self.peer.host

    def selecting(self, policies: Iterable[AnyCondition]) -> list[AnyCondition]:
        return [policy for policy in policies if policy.subject.matches(self.subject.labels)]

    def fits(self, rule: Rule) -> bool:
        destination = self.peer if self.direction == "egress" else self.subject
        return (
            _peer_fits(rule, self.peer)
            and _port_fits(rule, destination, self.protocol, self.port)
            and (rule.dns is None or is_resolver(self.peer))
        )


def _network(selecting: Sequence[Policy | TierPolicy], question: _Question) -> Verdict:
    """Rule 15: the Admin tier, then NetworkPolicy and Cilium policies together, then the Baseline tier."""
    admin = _tier(selecting, "admin", question)
    if admin is not None:
        return admin
    decided = _together(selecting, question)
    if decided is not None:
        return decided
    return _tier(selecting, "baseline", question) or Allow()


def _tier(
    selecting: Sequence[Policy | TierPolicy], tier: Literal["admin", "baseline"], question: _Question
) -> Verdict | None:
    """The first rule that fits decides, by priority, then name, then order; a pass decides nothing."""
    found = [policy for policy in selecting if isinstance(policy, TierPolicy) and policy.tier == tier]
    for policy in sorted(found, key=lambda policy: (policy.priority, policy.ref)):
        for ranked in policy.rules(question.direction):
            if question.fits(ranked.rule):
                key = (f"{policy.ref} {ranked.rule.field}",)
                if ranked.action == "pass":
                    return None
                return Allow(key) if ranked.action == "accept" else Deny(key)
    return None


def _together(selecting: Sequence[Policy | TierPolicy], question: _Question) -> Verdict | None:
    """Any deny wins, any allow suffices, whoever is selected is denied by default."""
    policies = [
        (policy, rules)
        for policy in selecting
        if isinstance(policy, Policy) and (rules := policy.rules(question.direction)) is not None
    ]
    denying = {
        f"{policy.ref} {rule.field}"
        for policy, rules in policies
        for rule in rules.deny
        if question.fits(rule)
    }
    if denying:
        return Deny(tuple(sorted(denying)))

    allowing = [(policy, rule) for policy, rules in policies for rule in rules.allow if question.fits(rule)]
    l7 = {
        rule
        for policy, found in allowing
        for rule in (
            HttpRule(policy.ref, found.field, found.http) if found.http is not None else None,
            ServerNameRule(policy.ref, found.field, found.server_names)
            if found.server_names is not None
            else None,
        )
        if rule is not None
    }
    # Rule 16: an L4 allow is an L7 allow of everything. (DNS rules bind queries, not connections.)
    whole = {
        f"{policy.ref} {rule.field}"
        for policy, rule in allowing
        if rule.http is None and rule.server_names is None and rule.dns is None
    }
    queries = {f"{policy.ref} {rule.field}": rule.dns for policy, rule in allowing if rule.dns is not None}
    if whole:
        return Allow(tuple(sorted(whole)))
    if l7 and question.protocol == "TCP":
        return Steer(tuple(sorted(l7, key=lambda rule: rule.key)))
    if queries:
        return Allow(tuple(sorted(queries)), tuple(sorted(set().union(*queries.values()))))

    defaults = {str(policy.ref) for policy, rules in policies if rules.default_deny}
    return Deny(tuple(sorted(defaults))) if defaults else None


def is_resolver(party: Party) -> bool:
    """Is it the mesh's own resolver, which alone enforces DNS rules?"""
    return party.workload is not None and RESOLVER.matches(party.labels)


def permits(rules: Iterable[HttpRule], request: Request) -> HttpRule | None:
    """The first rule that allows the request, as Cilium's PortRuleHTTP means it; None: 403."""
    return next((rule for rule in rules if any(_request_fits(m, request) for m in rule.matches)), None)


def _request_fits(match: HttpMatch, request: Request) -> bool:
    headers = request.fields
    return (
        (match.method is None or compile_expression(match.method).matches(request.method))
        and (match.path is None or compile_expression(match.path).matches(request.path))
        and (match.host is None or compile_expression(match.host).matches(request.authority))
        and all(
            header.name in headers and header.value in (None, headers[header.name])
            for header in match.headers
        )
    )


def _peer_fits(rule: Rule, peer: Party) -> bool:
    return rule.peers is None or any(peer_matches(candidate, peer) for candidate in rule.peers)


def peer_matches(candidate: Peer, party: Party) -> bool:
    """Is the party one of those that the peer names?"""
    is_node = party.host or party.remote_node
    match candidate:
        case WorkloadPeer(selector):
            return party.workload is not None and selector.matches(party.labels)
        case CidrPeer():
            # Rule 17: NetworkPolicy's blocks match every address, Cilium's only the world's.
            kind = "pods" if party.workload else "nodes" if is_node else "world"
            return candidate.reach in ("anyone", kind) and matches(candidate, party.address)
        case EntityPeer("all"):
            return True
        case EntityPeer("cluster"):
            return party.workload is not None or is_node
        case EntityPeer("host"):
            return party.host
        case EntityPeer("remote-node"):
            return party.remote_node
        case EntityPeer("world"):
            return party.workload is None and not is_node
    raise AssertionError(f"{candidate!r} is not resolved")


def _port_fits(rule: Rule, destination: Party, protocol: Protocol | int, port: int) -> bool:
    return rule.ports is None or any(_port_matches(m, destination, protocol, port) for m in rule.ports)


def _port_matches(match: PortMatch, destination: Party, protocol: Protocol | int, port: int) -> bool:
    with_ports = protocol in ("TCP", "UDP", "SCTP")
    if isinstance(match, PortName):
        if not with_ports or match.protocol not in (None, protocol):
            return False
        return named_port(destination.labels.get(PORTS_KEY, ""), match.name, str(protocol)) == port
    if match.protocol is None:
        everything = (match.first, match.last) == (0, 65535)
        return everything or (with_ports and match.first <= port <= match.last)
    return match.protocol == protocol and match.first <= port <= match.last
