"""AuthorizationPolicies with the connection's share decided: what is left for Envoy to ask.

Part of the compiler (`mesh.policies.classes`). For one kind of caller and one port every term about the
connection is true or false. A rule in which one is false cannot fit and is left out; terms that are
true are left out of their rule; what remains is an `AuthorizationPart` (rule 5).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from mesh.model import Authorization, AuthorizationRule, MeshConfig, Term
from mesh.policies.authorization import CONNECTION_ATTRIBUTES, PLAIN_ATTRIBUTES
from mesh.protocols import PortKind
from mesh.proxy import AuthorizationPart

#: The order in which they are asked.
ORDER = ("custom", "deny", "allow", "audit")


@dataclass(frozen=True, slots=True)
class Granted:
    """Every request is allowed, by these rules (by none where no ALLOW policy selects)."""

    keys: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Refused:
    """No request can be allowed."""

    keys: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Ask:
    """It depends on the request: `parts` say on what, `keys` by which rules. `plain` are the parts for
    what is not HTTP, None where that is refused. `variant` tells callers and ports apart for whom other
    terms are left of the same rules."""

    keys: tuple[str, ...]
    parts: tuple[AuthorizationPart, ...]
    plain: tuple[AuthorizationPart, ...] | None
    variant: str


Answer = Granted | Refused | Ask
Truth = Callable[[Term], bool]


def combine(
    policies: Sequence[Authorization], truth: Truth, port: int, kind: PortKind | None, config: MeshConfig
) -> Answer:
    """All policies of a subject together, for callers of whom `truth` knows every term about the
    caller, and for a port that Services call `kind`."""

    def decided(term: Term) -> bool:
        return (port in term.values) != term.negated if term.attribute == "destination_port" else truth(term)

    def left(plain: bool) -> list[tuple[Authorization, AuthorizationRule]]:
        return [
            (policy, rest)
            for policy in policies
            for rule in policy.rules
            if (rest := _rest(policy, rule, decided, plain)) is not None
        ]

    answer = _weigh(policies, left(plain=kind == "plain"), config)
    if not isinstance(answer, _Open):
        return answer
    plain: tuple[AuthorizationPart, ...] | None = ()
    if kind != "http":
        otherwise = _weigh(policies, left(plain=True), config)
        if isinstance(otherwise, Refused):
            plain = None
        elif isinstance(otherwise, _Open):
            plain = otherwise.parts
    else:
        plain = None
    asked = {(part.origin, rule.field) for part in answer.parts for rule in part.rules}
    bits = (
        "01"[decided(term)]
        for policy in policies
        for rule in policy.rules
        if (policy.ref, rule.field) in asked
        for term in _terms(rule)
        if term.attribute in CONNECTION_ATTRIBUTES
    )
    return Ask(answer.keys, answer.parts, plain, "".join(bits))


@dataclass(frozen=True, slots=True)
class _Open:
    keys: tuple[str, ...]
    parts: tuple[AuthorizationPart, ...]


def _weigh(
    policies: Sequence[Authorization],
    left: Sequence[tuple[Authorization, AuthorizationRule]],
    config: MeshConfig,
) -> Granted | Refused | _Open:
    """What the rules that can fit amount to."""
    sure = {(policy, rule.field) for policy, rule in left if not _terms(rule)}
    denying = _keys(sure, "deny")
    if denying:
        return Refused(denying)
    allows = {str(policy.ref) for policy in policies if policy.action == "allow" and not policy.audit}
    allowing = _keys(sure, "allow")
    possible = {policy for policy, _ in left if policy.action == "allow" and not policy.audit}
    if allows and not possible:
        return Refused(tuple(sorted(allows)))

    def matters(policy: Authorization, rule: AuthorizationRule) -> bool:
        if policy.audit or policy.action == "audit":
            return bool(_terms(rule))  # the rest the kernel tells
        return policy.action != "allow" or not allowing

    asked = [(policy, rule) for policy, rule in left if matters(policy, rule)]
    keys = tuple(sorted({f"{policy.ref} {rule.field}" for policy, rule in asked}))
    return _Open(keys, tuple(_parts(policies, asked, config))) if asked else Granted(allowing)


def _parts(
    policies: Sequence[Authorization],
    asked: Sequence[tuple[Authorization, AuthorizationRule]],
    config: MeshConfig,
) -> Iterator[AuthorizationPart]:
    providers = {provider.name: provider for provider in config.providers}
    for policy in sorted(policies, key=lambda p: (ORDER.index(p.action), p.audit, p.ref)):
        rules = tuple(rule for owner, rule in asked if owner == policy)
        if rules:
            provider = providers.get(policy.provider)
            yield AuthorizationPart(policy.ref, policy.action, rules, provider, policy.audit)


def _keys(sure: Iterable[tuple[Authorization, str]], action: str) -> tuple[str, ...]:
    found = (f"{p.ref} {field}" for p, field in sure if p.action == action and not p.audit)
    return tuple(sorted(set(found)))


def _rest(
    policy: Authorization, rule: AuthorizationRule, decided: Truth, plain: bool
) -> AuthorizationRule | None:
    """The rule without the terms that are true; None if it cannot fit."""

    def rest_of(terms: tuple[Term, ...]) -> tuple[Term, ...] | None:
        kept: list[Term] = []
        for term in terms:
            if term.attribute in CONNECTION_ATTRIBUTES:
                if not decided(term):
                    return None
            elif not plain or term.attribute in PLAIN_ATTRIBUTES:
                kept.append(term)
            elif policy.action == "allow":
                return None  # rule 21: it cannot fit what is not HTTP; of a deny the field is dropped
        return tuple(kept)

    def any_of(groups: tuple[tuple[Term, ...], ...] | None) -> tuple[tuple[Term, ...], ...] | None:
        """None: every one will do; (): none does."""
        if groups is None:
            return None
        kept = [found for group in groups if (found := rest_of(group)) is not None]
        return None if () in kept else tuple(kept)

    sources, operations, conditions = any_of(rule.sources), any_of(rule.operations), rest_of(rule.conditions)
    if sources == () or operations == () or conditions is None:
        return None
    return replace(rule, sources=sources, operations=operations, conditions=conditions)


def _terms(rule: AuthorizationRule) -> list[Term]:
    groups = (*(rule.sources or ()), *(rule.operations or ()), rule.conditions)
    return [term for group in groups for term in group]


def caller_terms(policies: Iterable[Authorization]) -> Iterator[Term]:
    """Every term that is about who calls."""
    for policy in policies:
        for rule in policy.rules:
            for term in _terms(rule):
                if term.attribute in CONNECTION_ATTRIBUTES and term.attribute != "destination_port":
                    yield term


def ports_of(policies: Iterable[Authorization]) -> set[int]:
    """Every port that a rule names."""
    return {
        value
        for policy in policies
        for rule in policy.rules
        for term in _terms(rule)
        if term.attribute == "destination_port"
        for value in term.values
        if isinstance(value, int)
    }
