from __future__ import annotations

import pytest

from mesh.model import (
    Authorization,
    AuthorizationRule,
    JwtRule,
    ObjectRef,
    RequestAuthentication,
    Requirement,
    Selector,
    Term,
    TextMatch,
)
from tests.mesh.analysis.traps import codes, findings, only

SOMEBODY = (TextMatch("present"),)


def app(name: str) -> Selector:
    return Selector((Requirement("app", "In", (name,)),))


def tokens(on: str = "api", *, rules: int = 1) -> RequestAuthentication:
    found = tuple(JwtRule(f"jwtRules[{index}]", "issuer", "") for index in range(rules))
    return RequestAuthentication(ObjectRef("RequestAuthentication", "shop", "tokens"), found, app(on))


def wanting(term: Term, on: str = "api", *, audit: bool = False, source: bool = True) -> Authorization:
    rule = (
        AuthorizationRule("rules[0]", ((term,),))
        if source
        else AuthorizationRule("rules[0]", None, None, (term,))
    )
    return Authorization(
        ObjectRef("AuthorizationPolicy", "shop", "wants"), "allow", (rule,), app(on), audit=audit
    )


@pytest.mark.parametrize("attribute", ["request_principal", "audience", "presenter", "claim"])
@pytest.mark.parametrize("source", [True, False])
def test_a_token_that_nobody_wants_is_told(attribute: str, source: bool) -> None:
    term = Term(attribute, SOMEBODY)  # type: ignore[arg-type]
    found = only("SL0608", findings("", tokens()))
    assert (found.trap.field, "shop/api" in found.trap.message) == ("spec.jwtRules", True)
    assert "SL0608" not in codes("", tokens(), wanting(term, source=source))
    assert "SL0608" in codes("", tokens(), wanting(term, audit=True))
    assert "SL0608" in codes("", tokens(), wanting(term, on="db"))
    assert "SL0608" in codes("", tokens(), wanting(Term("method", SOMEBODY)))
    assert "SL0608" not in codes("", tokens(rules=0))


def test_a_policy_about_tokens_that_nobody_has_is_told() -> None:
    term = Term("request_principal", SOMEBODY)
    found = only("SL0609", findings("", wanting(term)))
    assert (found.trap.field, "shop/api" in found.trap.message) == ("spec.rules[0]", True)
    assert "SL0609" not in codes("", wanting(term), tokens())
    assert "SL0609" in codes("", wanting(term), tokens(rules=0))
    assert "SL0609" in codes("", wanting(term), tokens(on="db"))
    assert "SL0609" not in codes("", wanting(Term("method", SOMEBODY)))


def test_one_that_selects_nobody_is_told_like_any_policy() -> None:
    assert codes("", tokens(on="nobody")) == {"SL0101"}
