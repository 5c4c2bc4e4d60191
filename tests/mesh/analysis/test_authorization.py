from __future__ import annotations

from typing import Literal

import pytest

from mesh.model import (
    Authorization,
    AuthorizationProvider,
    AuthorizationRule,
    MeshConfig,
    ObjectRef,
    Requirement,
    Selector,
    ServiceName,
    Term,
    TextMatch,
)
from tests.mesh.analysis.traps import codes, findings, only

Action = Literal["allow", "deny", "audit", "custom"]
GET = Term("method", (TextMatch("exact", "GET"),))
ON_8080 = Term("destination_port", (8080,))


def app(name: str) -> Selector:
    return Selector((Requirement("app", "In", (name,)),))


def policy(action: Action, *rules: AuthorizationRule, on: str = "db", name: str = "a") -> Authorization:
    return Authorization(ObjectRef("AuthorizationPolicy", "shop", name), action, rules, app(on))


def rule(*operation: Term, source: Term | None = None) -> AuthorizationRule:
    sources = ((source,),) if source else None
    return AuthorizationRule("rules[0]", sources, (operation,) if operation else None)


@pytest.mark.parametrize(("action", "code"), [("deny", "SL0601"), ("allow", "SL0602")])
def test_http_fields_on_a_port_declared_as_tcp_are_told(action: Action, code: str) -> None:
    """Rule 21: the deny loses them, the allow never fits."""
    found = only(code, findings("", policy(action, rule(GET))))
    assert found.trap.field == "spec.rules[0]"
    assert "shop/db 5432" in found.trap.message
    assert code not in codes("", policy(action, rule(GET), on="api"))
    assert code not in codes("", policy(action, rule(GET, ON_8080)))
    assert code not in codes("", policy(action, rule(Term("destination_port", (5432,)))))


def test_an_allow_without_rules_is_told_as_information() -> None:
    assert only("SL0603", findings("", policy("allow"))).severity == "Info"


def test_a_deny_of_everything_makes_allows_void() -> None:
    everything = policy("deny", AuthorizationRule("rules[0]"))
    allow = policy("allow", rule(GET), name="b")
    assert "AuthorizationPolicy shop/b" in only("SL0604", findings("", everything, allow)).trap.message
    assert "SL0604" not in codes("", everything)
    assert "SL0604" not in codes("", everything, policy("allow", rule(GET), on="api", name="b"))
    assert "SL0604" not in codes("", policy("deny", rule(GET)), allow)


@pytest.mark.parametrize(
    ("attribute", "known", "unknown"),
    [
        ("namespace", "street", "streat"),
        ("service_account", "shop/web", "shop/wep"),
        ("principal", "cluster.local/ns/shop/sa/web", "cluster.local/ns/shop/sa/wep"),
    ],
)
def test_a_source_that_no_pod_has_is_told(attribute: str, known: str, unknown: str) -> None:
    def source(value: str) -> Authorization:
        term = Term(attribute, (TextMatch("exact", value),))  # type: ignore[arg-type]
        return policy("allow", rule(source=term))

    assert unknown in only("SL0605", findings("", source(unknown))).trap.message
    assert "SL0605" not in codes("", source(known))


def test_the_port_of_a_service_is_not_the_workloads() -> None:
    assert (
        "8080"
        in only(
            "SL0606", findings("", policy("allow", rule(Term("destination_port", (80,))), on="api"))
        ).trap.remedy
    )
    assert "SL0606" not in codes("", policy("allow", rule(ON_8080), on="api"))


def test_a_custom_policy_needs_a_provider_that_is_defined() -> None:
    custom = Authorization(
        ObjectRef("AuthorizationPolicy", "shop", "c"), "custom", (rule(),), app("api"), provider="opa"
    )
    assert only("SL0607", findings("", custom)).severity == "Error"
    config = MeshConfig(providers=(AuthorizationProvider("opa", "grpc", "opa.shop", 9191),))
    assert "SL0607" not in codes("", custom, config)


def test_a_policy_for_a_service_that_is_not_there_is_told() -> None:
    def target(name: str) -> Authorization:
        ref = ObjectRef("AuthorizationPolicy", "shop", "t")
        return Authorization(ref, "allow", (rule(GET),), services=(ServiceName("shop", name),))

    assert "SL0105" in codes("", target("apy"))
    assert not codes("", target("api"))
