"""What the authorization policies of a workload say of a connection before any request is seen.

Part of the reference semantics: brute force over every rule. A term about the connection is true or
false; one about the request is open. It answers whether Envoy must be asked, and by whom; what
Envoy then answers is `mesh.policies.authorization`'s to say.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mesh.model import Authorization, AuthorizationRule, MeshConfig, Term
from mesh.policies.authorization import CONNECTION_ATTRIBUTES, PLAIN_ATTRIBUTES, Caller, connection_term_fits
from mesh.protocols import PortKind


@dataclass(frozen=True, slots=True)
class Consent:
    """Every request is allowed, by these rules; by none where no ALLOW policy selects."""

    keys: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Refusal:
    """No request can be allowed: a DENY rule fits whatever is asked, or no ALLOW rule can."""

    keys: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Asked:
    """It depends on the request: `keys` are the rules that have a say."""

    keys: tuple[str, ...]


def consent(
    policies: Sequence[Authorization], caller: Caller, port: int, kind: PortKind | None, config: MeshConfig
) -> Consent | Refusal | Asked:
    """Policies in dry-run say nothing but must be asked where a request decides."""

    def fits(policy: Authorization, rule: AuthorizationRule) -> bool | None:
        """True: any request. None: some may."""
        terms = _Reading(policy, caller, port, kind, config)
        parts = [terms.any_of(rule.sources), terms.any_of(rule.operations), terms.all_of(rule.conditions)]
        return _all(parts)

    judged = [
        (policy, f"{policy.ref} {rule.field}", fits(policy, rule))
        for policy in policies
        for rule in policy.rules
    ]
    enforced = [entry for entry in judged if not entry[0].audit]
    denying = {key for policy, key, fit in enforced if policy.action == "deny" and fit}
    if denying:
        return Refusal(tuple(sorted(denying)))
    allows = [policy for policy in policies if policy.action == "allow" and not policy.audit]
    allowing = {key for policy, key, fit in enforced if policy.action == "allow" and fit}
    possible = {key for policy, key, fit in enforced if policy.action == "allow" and fit is None}
    if allows and not allowing and not possible:
        return Refusal(tuple(sorted({str(policy.ref) for policy in allows})))
    asked = {key for policy, key, fit in enforced if policy.action == "deny" and fit is None}
    asked |= {key for policy, key, fit in enforced if policy.action == "custom" and fit is not False}
    asked |= {
        key for policy, key, fit in judged if (policy.audit or policy.action == "audit") and fit is None
    }
    if allows and not allowing:
        asked |= possible
    return Asked(tuple(sorted(asked))) if asked else Consent(tuple(sorted(allowing)))


@dataclass(frozen=True, slots=True)
class _Reading:
    policy: Authorization
    caller: Caller
    port: int
    kind: PortKind | None
    config: MeshConfig

    def any_of(self, alternatives: tuple[tuple[Term, ...], ...] | None) -> bool | None:
        if alternatives is None:
            return True
        found = [self.all_of(terms) for terms in alternatives]
        return True if True in found else None if None in found else False

    def all_of(self, terms: tuple[Term, ...]) -> bool | None:
        return _all([self.term(term) for term in terms])

    def term(self, term: Term) -> bool | None:
        if term.attribute in CONNECTION_ATTRIBUTES:
            return connection_term_fits(term, self.caller, self.port, self.config)
        if self.kind != "plain" or term.attribute in PLAIN_ATTRIBUTES:
            return None
        # Rule 21: on a port that is not HTTP an allow cannot fit, a deny loses the field.
        return self.policy.action != "allow"


def _all(parts: Sequence[bool | None]) -> bool | None:
    return False if False in parts else None if None in parts else True
