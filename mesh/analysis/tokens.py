"""RequestAuthentications and AuthorizationPolicies that need each other, as Istio's documentation of
`security/v1 RequestAuthentication` has it: a request without a token is not refused, it has no claims."""

from __future__ import annotations

from collections.abc import Iterator

from mesh.analysis.finding import Check, Trap, some, where
from mesh.analysis.view import View
from mesh.model import Authorization, AuthorizationRule, Term

_OF_TOKENS = frozenset({"request_principal", "audience", "presenter", "claim"})


def token_is_optional(view: View) -> Iterator[Trap]:
    """A bad token is refused, none passes: what wants one must say so in an AuthorizationPolicy."""
    wanting = {
        name
        for policy in view.authorizations
        if not policy.audit and _claims(policy)
        for name in view.bound(policy)
    }
    for policy in view.authentications:
        lacking = [name for name in view.bound(policy) if name not in wanting]
        if policy.rules and lacking:
            yield Trap(
                policy.ref,
                "spec.jwtRules",
                f"requests without a token pass at {some(lacking)}: no AuthorizationPolicy there wants one",
                "add an ALLOW policy whose `from` has `requestPrincipals`",
            )


def nobody_has_a_token(view: View) -> Iterator[Trap]:
    """Without a RequestAuthentication no token is looked at, so nobody has claims."""
    believing = {name for p in view.authentications if p.rules for name in view.bound(p)}
    for policy in view.authorizations:
        lacking = [name for name in view.bound(policy) if name not in believing]
        if lacking and (rules := _claims(policy)):
            yield Trap(
                policy.ref,
                where(rules[0].field),
                f"asks for what a token says, and no RequestAuthentication is for {some(lacking)}: there no "
                "request has a token that counts",
                "add a RequestAuthentication for them",
            )


def _claims(policy: Authorization) -> list[AuthorizationRule]:
    """The rules that ask for what a token says."""
    return [rule for rule in policy.rules if any(t.attribute in _OF_TOKENS for t in _terms(rule))]


def _terms(rule: AuthorizationRule) -> Iterator[Term]:
    for terms in (*(rule.sources or ()), rule.conditions):
        yield from terms


CHECKS = (
    Check(
        "SL0608", "Warning", "a RequestAuthentication without a policy that wants a token", token_is_optional
    ),
    Check("SL0609", "Warning", "a policy about tokens where none is believed", nobody_has_a_token),
)
