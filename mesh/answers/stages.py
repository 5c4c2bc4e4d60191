"""What stands between a caller and one backend, stage by stage.

Each is asked on its own: whoever wants to change something must know of all that refuse. Knows no route:
those choose the backend.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from mesh.answers.reasons import Reason, decided, said
from mesh.answers.steering_table import CALLER, DESTINATION
from mesh.assemble import Mesh
from mesh.model import (
    Authorization,
    Direction,
    EnvoyFilter,
    Policy,
    Protocol,
    RateLimit,
    Registry,
    RequestAuthentication,
    TierPolicy,
)
from mesh.policies.authorization import Forbidden, Granted, decide
from mesh.policies.policy import Allow, Deny, Party, Steer, caller_of, judge, permits
from mesh.policies.rate_limit import counts
from mesh.policies.references import AnyCondition, AnyPolicy
from mesh.policies.registry import Registries
from mesh.proxy import HttpRule
from mesh.request import Request


@dataclass(frozen=True, slots=True)
class Finding:
    """What is not `allowed` and not `steered` the kernel refuses."""

    allowed: bool = True
    steered: bool = False
    reasons: tuple[Reason, ...] = ()


@dataclass(frozen=True, slots=True)
class Question:
    """A connection to `port`, and the request that comes by it, if that is known; `begun` in mutual TLS."""

    caller: Party
    callee: Party
    protocol: Protocol
    port: int
    request: Request | None
    begun: bool


@dataclass(frozen=True, slots=True)
class _End:
    """The question as it is put at one end, to the policies that select it."""

    question: Question
    mesh: Mesh
    direction: Direction
    selecting: tuple[AnyPolicy, ...]
    registry: Registry | None

    @property
    def subject(self) -> Party:
        return self.question.caller if self.direction == "egress" else self.question.callee

    @property
    def peer(self) -> Party:
        return self.question.callee if self.direction == "egress" else self.question.caller

    def judge(self, policies: Iterable[AnyCondition]) -> Allow | Deny | Steer:
        asked = self.question
        parties = self.subject, self.peer
        return judge(policies, self.direction, *parties, asked.protocol, asked.port, self.mesh.config)

    def decided(self, verdict: Allow | Deny) -> Finding:
        """Without any Envoy."""
        reasons = (decided(key, self.direction, verdict) for key in verdict.rules)
        return Finding(not isinstance(verdict, Deny), reasons=tuple(reasons))

    def steered(self, told: Iterable[tuple[str, str]], *, allowed: bool = True) -> Finding:
        """By an Envoy; `told` are keys and what each does."""
        envoy = CALLER if self.direction == "egress" else DESTINATION
        return Finding(allowed, True, tuple(said(key, effect, envoy) for key, effect in told))


def judged(mesh: Mesh, registries: Registries, question: Question) -> Finding:
    """All stages at both ends together."""
    found = [stage(end) for end in _ends(mesh, registries, question) for stage in _STAGES]
    # What the kernel refuses meets no Envoy.
    refused = any(not one.allowed and not one.steered for one in found)
    return Finding(
        all(one.allowed for one in found),
        not refused and any(one.steered for one in found),
        tuple(reason for one in found for reason in one.reasons),
    )


def _ends(mesh: Mesh, registries: Registries, question: Question) -> Iterable[_End]:
    ends: tuple[tuple[Direction, Party], ...] = (("egress", question.caller), ("ingress", question.callee))
    for direction, subject in ends:
        selecting = tuple(p for p in mesh.all_policies() if p.subject.matches(subject.labels))
        asked = subject.workload if direction == "egress" else None
        registry = registries.of(asked) if asked else None
        yield _End(question, mesh, direction, selecting, registry)


# --- the stages ------------------------------------------------------------------------------------


def _network(end: _End) -> Finding:
    verdict = end.judge(p for p in end.selecting if isinstance(p, Policy | TierPolicy))
    if not isinstance(verdict, Steer):
        return end.decided(verdict)
    request = end.question.request
    if request is None:
        return _unasked(end, verdict)
    if not verdict.rules:
        return end.steered(())
    fitting = permits([rule for rule in verdict.rules if isinstance(rule, HttpRule)], request)
    if fitting is not None:
        return end.steered([(fitting.key, "allow")])
    told = [(rule.key, "no rule fits the request: 403") for rule in verdict.rules]
    return end.steered(told, allowed=False)


def _registered(end: _End) -> Finding:
    verdict = end.judge([end.registry] if end.registry else ())
    return Finding() if isinstance(verdict, Steer) else end.decided(verdict)


def _mutual_tls(end: _End) -> Finding:
    taker = end.subject.workload if end.direction == "ingress" else None
    mutual = end.mesh.peer_authentications.of(taker) if taker else None
    verdict = end.judge([mutual] if mutual else ())
    if mutual is None or not isinstance(verdict, Steer):
        return Finding()
    found = mutual.at(end.question.port)
    if found and found.mode == "STRICT" and not end.question.begun:
        effect = "takes mutual TLS only, and nobody begins it"
        return end.steered([(key, effect) for key in verdict.keys], allowed=False)
    return end.steered([(key, "ends mutual TLS") for key in verdict.keys])


def _sidecar(end: _End) -> Finding:
    taker = end.subject.workload if end.direction == "ingress" else None
    taken = end.mesh.sidecar_ingress(taker) if taker else None
    verdict = end.judge([taken] if taken else ())
    if taken is None or not isinstance(verdict, Steer):
        return Finding()
    at = taken.at(end.question.port)
    effect = f"hands on to {at.endpoint}" if at and at.endpoint else "takes it in the pod's stead"
    return end.steered([(key, effect) for key in verdict.keys])


def _tokens(end: _End) -> Finding:
    verdict = end.judge(p for p in end.selecting if isinstance(p, RequestAuthentication))
    if not isinstance(verdict, Steer):
        return Finding()
    if end.question.request is None:
        return _unasked(end, verdict)
    return end.steered([(key, "401 to a bad token; none passes") for key in verdict.keys])


def _authorization(end: _End) -> Finding:
    policies = [policy for policy in end.selecting if isinstance(policy, Authorization)]
    verdict = end.judge(policies)
    if not isinstance(verdict, Steer):
        return end.decided(verdict)
    question = end.question
    if question.request is None:
        return _unasked(end, verdict)
    match decide(policies, caller_of(end.peer), question.port, question.request, end.mesh.config):
        case Forbidden(keys):
            return end.steered([(key, "deny: 403") for key in keys], allowed=False)
        case Granted(keys, providers):
            return end.steered([*((key, "allow") for key in keys), *_asking(policies, providers)])


def _limits(end: _End) -> Finding:
    policies = [policy for policy in end.selecting if isinstance(policy, RateLimit)]
    if not isinstance(end.judge(policies), Steer):
        return Finding()
    request = end.question.request
    return end.steered(
        (f"{policy.ref} {limit.field}", "limits requests")
        for policy in policies
        for limit in policy.limits
        if request is None or counts(limit, request)
    )


def _filters(end: _End) -> Finding:
    verdict = end.judge(p for p in end.selecting if isinstance(p, EnvoyFilter))
    if not isinstance(verdict, Steer):
        return Finding()
    return end.steered([(key, "changes the Envoy") for key in verdict.keys])


#: In the order in which they are told.
_STAGES: tuple[Callable[[_End], Finding], ...] = (
    _network,
    _registered,
    _mutual_tls,
    _sidecar,
    _tokens,
    _authorization,
    _limits,
    _filters,
)


def _unasked(end: _End, verdict: Steer) -> Finding:
    """It depends on the request, which is not known."""
    return end.steered([(key, "steer") for key in verdict.keys])


def _asking(policies: Sequence[Authorization], providers: Sequence[str]) -> list[tuple[str, str]]:
    """Who has to consent, and the rules for which."""
    return [
        (f"{policy.ref} {rule.field}", f"asks provider {policy.provider}")
        for policy in policies
        if policy.provider in providers
        for rule in policy.rules
    ]
