from __future__ import annotations

import pytest

from mesh.answers.called import UnknownName
from mesh.answers.explain import explain
from mesh.model import WorkloadName
from mesh.request import Request
from tests.mesh.shop import CANARY, GET_ONLY, SHOP, mesh_of

DENY_STRANGERS = """
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: shop-only, namespace: shop}
spec:
  podSelector: {matchLabels: {app: reviews}}
  ingress: [{from: [{podSelector: {}}]}]
"""


def test_without_rules_everything_goes_by_the_kernel() -> None:
    answer = explain(mesh_of(SHOP), "shop/storefront", "shop/reviews:80")
    assert (answer["verdict"], answer["path"], answer["reasons"]) == ("allow", "kernel", [])
    assert {b["pod"] for b in answer["backends"]} == {"shop/reviews-v1", "shop/reviews-v2"}


def test_a_default_deny_is_named_and_enforced_by_the_kernel() -> None:
    answer = explain(mesh_of(SHOP, DENY_STRANGERS), "street/stranger", "shop/reviews:80")
    assert (answer["verdict"], answer["path"]) == ("deny", "kernel")
    assert answer["reasons"] == [
        {
            "object": "NetworkPolicy shop/shop-only",
            "rule": "ingress",
            "effect": "deny (ingress default)",
            "enforced_by": "kernel",
        }
    ]


def test_who_is_no_pod_may_be_asked_about_by_address() -> None:
    """Whoever has the address, if a pod does; else the world, which no route binds."""
    mesh = mesh_of(SHOP, DENY_STRANGERS)
    own = mesh.workloads[WorkloadName("shop", "storefront")].addresses[0]
    assert explain(mesh, own, "shop/reviews:80") == explain(mesh, "shop/storefront", "shop/reviews:80")
    world = explain(mesh, "192.0.2.1", "shop/reviews:80")
    assert (world["verdict"], len(world["backends"])) == ("deny", 2)
    assert [reason["object"] for reason in world["reasons"]] == ["NetworkPolicy shop/shop-only"]
    open_ = explain(mesh_of(SHOP), "192.0.2.1", "shop/reviews:80")
    assert (open_["verdict"], open_["path"]) == ("allow", "kernel")


AUTHORIZATION = """
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: no-street, namespace: shop}
spec:
  selector: {matchLabels: {app: reviews}}
  action: DENY
  rules: [{from: [{source: {namespaces: [street]}}]}]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: only-admin, namespace: shop}
spec:
  selector: {matchLabels: {app: reviews}}
  rules: [{from: [{source: {namespaces: [admin]}}]}]
"""


def test_each_language_that_refuses_is_named_and_what_would_have_to_change() -> None:
    stranger = explain(mesh_of(SHOP, DENY_STRANGERS, AUTHORIZATION), "street/stranger", "shop/reviews:80")
    assert stranger["to_allow"] == [
        "NetworkPolicy shop/shop-only must get a rule under ingress that allows it",
        "AuthorizationPolicy shop/no-street rules[0] must go, or leave it out",
    ]
    own = explain(mesh_of(SHOP, DENY_STRANGERS, AUTHORIZATION), "shop/storefront", "shop/reviews:80")
    assert [(reason["object"], reason["effect"]) for reason in own["reasons"]] == [
        ("NetworkPolicy shop/shop-only", "allow"),
        ("AuthorizationPolicy shop/only-admin", "deny (no rule fits)"),
    ]
    assert own["to_allow"] == [
        "AuthorizationPolicy shop/only-admin must get a rule under rules that allows it"
    ]


def test_a_request_is_judged_by_the_destinations_envoy() -> None:
    mesh = mesh_of(SHOP, GET_ONLY)
    allowed = explain(mesh, "shop/storefront", "10.64.0.11:8080", request=Request("GET", "/a"))
    denied = explain(mesh, "shop/storefront", "10.64.0.11:8080", request=Request("POST", "/a"))
    assert (allowed["verdict"], allowed["path"]) == ("allow", "envoy")
    assert (denied["verdict"], denied["path"]) == ("deny", "envoy")
    assert denied["reasons"][0]["enforced_by"] == "destination's Envoy"


def test_an_l4_allow_voids_the_http_rule_beside_it() -> None:
    """Rule 16."""
    mesh = mesh_of(SHOP, GET_ONLY, DENY_STRANGERS)
    answer = explain(mesh, "shop/storefront", "10.64.0.11:8080", request=Request("POST", "/a"))
    assert (answer["verdict"], answer["path"]) == ("allow", "kernel")


def test_a_route_says_which_share_goes_where() -> None:
    answer = explain(
        mesh_of(SHOP, CANARY), "shop/storefront", "shop/reviews:80", request=Request("GET", "/x")
    )
    assert answer["path"] == "envoy"
    assert {b["pod"]: b["share"] for b in answer["backends"]} == {
        "shop/reviews-v1": 0.45,
        "shop/reviews-v2": 0.55,
    }


def test_what_is_denied_by_the_kernel_never_meets_an_envoy() -> None:
    answer = explain(mesh_of(SHOP, GET_ONLY), "street/stranger", "shop/reviews:80")
    assert (answer["verdict"], answer["path"]) == ("deny", "kernel")


def test_an_unknown_name_is_said() -> None:
    with pytest.raises(UnknownName, match="no Service shop/nothing"):
        explain(mesh_of(SHOP), "shop/storefront", "shop/nothing:80")


def test_of_an_external_name_it_says_whom_to_ask_about() -> None:
    alias = """
apiVersion: v1
kind: Service
metadata: {name: db, namespace: shop}
spec: {type: ExternalName, externalName: db.example.com}
"""
    with pytest.raises(UnknownName, match=r"is an ExternalName.*: ask about db\.example\.com"):
        explain(mesh_of(SHOP, alias), "shop/storefront", "shop/db:80")


def test_a_port_of_another_protocol_is_no_port() -> None:
    with pytest.raises(UnknownName, match="has no UDP port 80; it has TCP 80"):
        explain(mesh_of(SHOP), "shop/storefront", "shop/reviews:80", "UDP")


def test_a_route_to_a_port_that_the_service_lacks_answers_500() -> None:
    mesh = mesh_of(SHOP, CANARY.replace("{name: reviews-v2, port: 80}", "{name: reviews-v2, port: 81}"))
    answer = explain(mesh, "shop/storefront", "shop/reviews:80", request=Request("GET", "/new"))
    assert (answer["status"], answer["backends"]) == (500, [])


def test_rules_are_asked_about_the_request_as_the_route_rewrites_it() -> None:
    rewriting = CANARY.replace(
        "    backendRefs: [{name: reviews-v2, port: 80}]",
        "    filters: [{type: URLRewrite, urlRewrite: "
        "{path: {type: ReplacePrefixMatch, replacePrefixMatch: /}}}]\n"
        "    backendRefs: [{name: reviews, port: 80}]",
    )
    policy = GET_ONLY.replace('"/.*"', '"/item"')
    mesh = mesh_of(SHOP, rewriting, policy)
    for path, verdict in (("/new/item", "allow"), ("/item", "allow"), ("/new/other", "deny")):
        answer = explain(mesh, "shop/storefront", "shop/reviews:80", request=Request("GET", path))
        four = next(b for b in answer["backends"] if b["address"] == "10.64.0.11")
        assert four["verdict"] == verdict, path
