from __future__ import annotations

from dataclasses import replace

import pytest

from mesh.answers.reach import NO_FAMILY, Access, Outside, Reachability
from mesh.assemble import Mesh
from mesh.model import (
    Authorization,
    AuthorizationRule,
    Fragment,
    GrantFrom,
    GrantTo,
    Node,
    ObjectRef,
    Parent,
    Policy,
    ReferenceGrant,
    Route,
    RouteBackend,
    RouteRule,
    ServiceName,
    Term,
    TextMatch,
    WorkloadName,
)
from tests.mesh.shop import CANARY, GET_ONLY, SHOP, mesh_of

STOREFRONT, V1, V2 = (WorkloadName("shop", name) for name in ("storefront", "reviews-v1", "reviews-v2"))
STRANGER = WorkloadName("street", "stranger")
WORLD = Outside(("203.0.113.1", "2001:db8::1"))

SHOP_ONLY = """
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: shop-only, namespace: shop}
spec:
  podSelector: {matchLabels: {app: reviews}}
  ingress: [{from: [{podSelector: {}}, {ipBlock: {cidr: 203.0.113.0/24}}], ports: [{port: 8080}]}]
"""
NO_EGRESS = """
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: silent, namespace: shop}
spec: {podSelector: {matchLabels: {app: storefront}}, policyTypes: [Egress]}
"""


def with_noun(mesh: Mesh, ref: ObjectRef, noun: object) -> Mesh:
    mesh.apply({ref: Fragment(ref, (noun,))})  # type: ignore[arg-type]
    return mesh


def test_without_policies_everyone_is_allowed_by_the_kernel() -> None:
    reachability = Reachability(mesh_of(SHOP))
    for caller in (STOREFRONT, STRANGER, WORLD):
        assert reachability.reach(caller, V1, "TCP", 8080) == Access("allow", "kernel")


def test_the_deciding_rule_is_named() -> None:
    reachability = Reachability(mesh_of(SHOP, SHOP_ONLY))
    key = "NetworkPolicy shop/shop-only"
    assert reachability.reach(STOREFRONT, V1, "TCP", 8080) == Access(
        "allow", "kernel", (f"{key} ingress[0]",)
    )
    assert reachability.reach(STRANGER, V1, "TCP", 8080) == Access("deny", "kernel", (key,))
    assert reachability.reach(STOREFRONT, V1, "TCP", 8081) == Access("deny", "kernel", (key,))
    assert reachability.reach(STOREFRONT, V1, "UDP", 8080) == Access("deny", "kernel", (key,))


def test_the_world_is_judged_by_address() -> None:
    reachability = Reachability(mesh_of(SHOP, SHOP_ONLY))
    assert reachability.reach(WORLD, V1, "TCP", 8080).verdict == "allow"
    assert reachability.reach(Outside(("198.51.100.1",)), V1, "TCP", 8080).verdict == "deny"


def test_both_ends_have_a_say() -> None:
    reachability = Reachability(mesh_of(SHOP, SHOP_ONLY, NO_EGRESS))
    access = reachability.reach(STOREFRONT, V1, "TCP", 8080)
    assert access == Access("deny", "kernel", ("NetworkPolicy shop/silent",))
    assert reachability.reach(STOREFRONT, WORLD, "TCP", 443).verdict == "deny"


def test_where_requests_decide_it_is_partly_and_in_envoy() -> None:
    access = Reachability(mesh_of(SHOP, GET_ONLY)).reach(STOREFRONT, V1, "TCP", 8080)
    assert access == Access("partly", "envoy", ("CiliumNetworkPolicy shop/get-only ingress[0].toPorts[0]",))


def test_an_authorization_that_asks_of_requests_is_partly_too() -> None:
    ref = ObjectRef("AuthorizationPolicy", "shop", "get")
    get = Term("method", (TextMatch("exact", "GET"),))
    policy = Authorization(ref, "allow", (AuthorizationRule("rules[0]", None, ((get,),)),))
    access = Reachability(with_noun(mesh_of(SHOP), ref, policy)).reach(STOREFRONT, V1, "TCP", 8080)
    assert access == Access("partly", "envoy", ("AuthorizationPolicy shop/get rules[0]",))


def test_what_only_watches_refuses_nothing_but_needs_envoy() -> None:
    mesh = mesh_of(SHOP, GET_ONLY)
    ref = ObjectRef("CiliumNetworkPolicy", "shop", "get-only")
    (policy,) = mesh.policies[ref]
    assert isinstance(policy, Policy)
    audited = with_noun(mesh, ref, replace(policy, audit=True))
    assert Reachability(audited).reach(STOREFRONT, V1, "TCP", 8080) == Access("allow", "envoy")
    assert Reachability(audited).reach(STRANGER, V1, "TCP", 8080) == Access("allow", "kernel")


def test_a_route_in_front_of_the_port_is_told() -> None:
    reachability = Reachability(mesh_of(SHOP, CANARY))
    access = reachability.reach(STOREFRONT, V1, "TCP", 8080)
    assert access == Access("allow", "envoy", (), ("HTTPRoute shop/canary rules[1]",))
    both = ("HTTPRoute shop/canary rules[0]", "HTTPRoute shop/canary rules[1]")
    assert reachability.reach(STOREFRONT, V2, "TCP", 8081).routes == both
    assert reachability.reach(STOREFRONT, V1, "TCP", 9090) == Access("allow", "kernel")
    assert reachability.reach(WORLD, V1, "TCP", 8080) == Access("allow", "kernel")


def test_a_route_leads_nowhere_without_weight() -> None:
    reachability = Reachability(mesh_of(SHOP, CANARY.replace("weight: 9", "weight: 0")))
    assert reachability.reach(STOREFRONT, V1, "TCP", 8080).routes == ()


def test_a_consumer_route_binds_callers_of_its_own_namespace_only() -> None:
    """GEP-1226."""
    ref, reviews = ObjectRef("HTTPRoute", "street", "own"), ServiceName("shop", "reviews")
    rule = RouteRule("rules[0]", (), (RouteBackend(reviews, 80),))
    route = Route(ref, "", (Parent(reviews, 80),), (rule,))
    leave = ReferenceGrant(
        ObjectRef("ReferenceGrant", "shop", "leave"),
        (GrantFrom("gateway.networking.k8s.io", "HTTPRoute", "street"),),
        (GrantTo("", "Service"),),
    )
    reachability = Reachability(with_noun(with_noun(mesh_of(SHOP), leave.ref, leave), ref, route))
    assert reachability.reach(STRANGER, V1, "TCP", 8080).path == "envoy"
    assert reachability.reach(STOREFRONT, V1, "TCP", 8080).path == "kernel"


def test_a_pod_reaches_itself_and_its_node_reaches_it() -> None:
    """Rules 10 and 11."""
    mesh = mesh_of(SHOP, SHOP_ONLY)
    node = Mesh(mesh.allocations, ("10.64.0.1",))
    node.apply(mesh.fragments())
    reachability = Reachability(node)
    assert reachability.reach(V1, V1, "TCP", 1).verdict == "allow"
    assert reachability.reach(Outside(("10.64.0.1",)), V1, "TCP", 1).verdict == "allow"
    assert Reachability(mesh).reach(Outside(("10.64.0.1",)), V1, "TCP", 1).verdict == "deny"


def test_another_node_is_no_exception() -> None:
    ref = ObjectRef("Node", "", "other")
    mesh = with_noun(mesh_of(SHOP, SHOP_ONLY), ref, Node("other", (), ("192.168.0.7",)))
    assert Reachability(mesh).reach(Outside(("192.168.0.7",)), V1, "TCP", 8080).verdict == "deny"


def test_ends_without_a_common_family_do_not_meet() -> None:
    access = Reachability(mesh_of(SHOP)).reach(Outside(("2001:db8::1",)), STRANGER, "TCP", 80)
    assert access == Access("deny", "kernel", (NO_FAMILY,))


def test_an_access_survives_json() -> None:
    access = Access("partly", "envoy", ("a b/c d",), ("e f/g h",))
    assert Access.from_plain(access.plain()) == access


@pytest.mark.parametrize("name", ["storefront", "reviews-v1"])
def test_what_an_end_is_judged_as_changes_with_its_policies(name: str) -> None:
    end = WorkloadName("shop", name)
    before, same, after = (Reachability(mesh_of(SHOP, *texts)) for texts in ((), (), (SHOP_ONLY, NO_EGRESS)))
    assert before.judged_as(end) == same.judged_as(end)
    assert before.judged_as(end) != after.judged_as(end)
