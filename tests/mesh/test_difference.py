from __future__ import annotations

import json

import pytest

from mesh.answers.difference import Difference, Sample, difference
from mesh.answers.flow import Flow, Peer, Request
from mesh.assemble import Mesh
from tests.mesh.shop import CANARY, GET_ONLY, SHOP, mesh_of
from tests.mesh.test_groups import pod
from tests.mesh.test_reach import NO_EGRESS

SHOP_ONLY = """
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: shop-only, namespace: shop}
spec: {podSelector: {matchLabels: {version: v1}}, ingress: [{from: [{podSelector: {}}]}]}
"""
CLOSED = """
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: closed, namespace: shop}
spec: {endpointSelector: {matchLabels: {app: reviews}}, ingressDeny: [{fromEndpoints: [{}]}]}
"""


def told(found: Difference) -> dict[str, tuple[str, str, set[str]]]:
    return {
        f"{change.callee.name}:{change.port}": (
            " ".join(change.before.outcome),
            " ".join(change.after.outcome),
            {caller.name for caller in change.callers},
        )
        for change in found.pairs
    }


def flow(source: Peer, destination: Peer, l7: Request | None = None, protocol: str = "TCP") -> Sample:
    return Sample(Flow("now", source, destination, "FORWARDED", "kernel", "egress", protocol, l7=l7))


STOREFRONT = Peer("10.64.0.10", 40000, "shop", "storefront")
STRANGER = Peer("10.64.0.13", 40000, "street", "stranger")
V1 = Peer("10.64.0.11", 8080, "shop", "reviews-v1")


def test_equal_meshes_do_not_differ() -> None:
    found = difference(mesh_of(SHOP), mesh_of(SHOP))
    assert not found
    assert found == Difference((), (), ())


def test_a_new_policy_changes_the_verdict_of_those_it_shuts_out() -> None:
    found = difference(mesh_of(SHOP), mesh_of(SHOP, SHOP_ONLY))
    assert [(str(ref), action) for ref, action in found.objects] == [
        ("NetworkPolicy shop/shop-only", "created")
    ]
    assert told(found) == {
        "shop/reviews-v1:8080": ("allow kernel", "deny kernel", {"street/stranger", "world"})
    }
    assert found.pairs[0].after.rules == ("NetworkPolicy shop/shop-only",)


def test_a_deleted_policy_lets_them_in_again() -> None:
    found = difference(mesh_of(SHOP, SHOP_ONLY), mesh_of(SHOP))
    assert [action for _, action in found.objects] == ["deleted"]
    assert told(found)["shop/reviews-v1:8080"][:2] == ("deny kernel", "allow kernel")


def test_a_policy_that_changes_no_verdict_makes_no_difference() -> None:
    harmless = SHOP_ONLY.replace("ingress: [{from: [{podSelector: {}}]}]", "ingress: [{}]")
    found = difference(mesh_of(SHOP), mesh_of(SHOP, harmless))
    assert found.objects and not found


def test_a_route_changes_the_path() -> None:
    found = difference(mesh_of(SHOP), mesh_of(SHOP, CANARY))
    before, after, callers = told(found)["shop/reviews-v1:8080"]
    assert (before, after) == ("allow kernel", "allow envoy")
    assert callers == {"shop/reviews-v1", "shop/reviews-v2", "shop/storefront", "street/stranger"}


def test_other_rules_for_requests_are_a_difference_without_another_outcome() -> None:
    (change,) = difference(mesh_of(SHOP, GET_ONLY), mesh_of(SHOP, GET_ONLY.replace("GET", "PUT"))).pairs[:1]
    assert change.before.outcome == change.after.outcome == ("partly", "envoy")
    assert [caller.name for caller in change.callers] == ["shop/storefront"]


def test_a_pod_with_other_labels_is_judged_anew() -> None:
    mesh = mesh_of(SHOP, SHOP_ONLY)
    moved = mesh_of(SHOP, SHOP_ONLY, pod("storefront", "10.64.0.10", "{app: x}").replace("here", "there"))
    assert not difference(mesh, moved)  # the policy allows the whole namespace
    other = SHOP_ONLY.replace("{podSelector: {}}", "{podSelector: {matchLabels: {app: storefront}}}")
    moved = mesh_of(SHOP, other, pod("storefront", "10.64.0.10", "{app: x}"))
    assert told(difference(mesh_of(SHOP, other), moved)) == {
        "shop/reviews-v1:8080": ("allow kernel", "deny kernel", {"shop/storefront"})
    }


def test_a_pod_that_one_mesh_lacks_is_in_no_pair() -> None:
    assert not difference(mesh_of(SHOP), mesh_of(SHOP, pod("new", "10.64.0.99", "{app: reviews}")))


@pytest.mark.parametrize("flip", [False, True])
def test_only_what_can_change_is_asked_and_nothing_is_missed(flip: bool) -> None:
    """Pairs whose policies are the same are skipped: the result must be that of asking about all."""
    texts = (SHOP, GET_ONLY), (SHOP, GET_ONLY, SHOP_ONLY)
    old, new = (mesh_of(*text) for text in (reversed(texts) if flip else texts))
    quick = difference(old, new)
    # A Service besides makes the shortcut impossible, and changes no verdict.
    service = SHOP[SHOP.rindex("---") :].replace("reviews-v2}", "other}")
    slow = difference(old, _with(new, service))
    assert told(slow) == told(quick) != {}


def _with(mesh: Mesh, text: str) -> Mesh:
    mesh.apply(mesh_of(text).fragments())
    return mesh


def test_flows_that_were_seen_are_judged_before_and_after() -> None:
    samples = [flow(STOREFRONT, V1), flow(STRANGER, V1), flow(Peer("198.51.100.7"), V1)]
    found = difference(mesh_of(SHOP), mesh_of(SHOP, SHOP_ONLY), samples)
    assert [change.sample.flow.source.ip for change in found.flows] == ["10.64.0.13", "198.51.100.7"]
    assert {change.after.rules for change in found.flows} == {("NetworkPolicy shop/shop-only",)}


def test_flows_are_judged_by_the_addresses_that_were_seen() -> None:
    """Rule 17: ipBlock matches pods by address, and an IPv4 block no IPv6 one."""
    block = SHOP_ONLY.replace("{podSelector: {}}", "{ipBlock: {cidr: 0.0.0.0/0}}")
    six = flow(
        Peer("fd51:ce00:0:1::a", 1, "shop", "storefront"),
        Peer("fd51:ce00:0:1::b", 8080, "shop", "reviews-v1"),
    )
    found = difference(mesh_of(SHOP), mesh_of(SHOP, block), [flow(STOREFRONT, V1), six])
    assert [change.sample for change in found.flows] == [six]


def test_requests_that_were_seen_are_judged_as_requests() -> None:
    def asked(method: str) -> Sample:
        return flow(STOREFRONT, V1, Request(method, "/x", "reviews", 200, 1.0))

    found = difference(
        mesh_of(SHOP), mesh_of(SHOP, GET_ONLY), [asked("GET"), asked("PUT"), flow(STOREFRONT, V1)]
    )
    outcomes = [(c.sample.flow.l7 and c.sample.flow.l7.method, c.after.outcome) for c in found.flows]
    assert outcomes == [("GET", ("allow", "envoy")), ("PUT", ("deny", "envoy")), (None, ("partly", "envoy"))]


def test_a_verdict_that_depends_on_headers_or_tokens_which_nobody_logged_stays_open() -> None:
    by_header = GET_ONLY.replace('path: "/.*"', 'headers: ["X-Token: a"]')
    by_token = """
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: principals, namespace: shop}
spec: {rules: [{from: [{source: {requestPrincipals: ["*"]}}]}]}
"""
    seen = flow(STOREFRONT, V1, Request("GET", "/x", "reviews", 200, 1.0))
    put = flow(STOREFRONT, V1, Request("PUT", "/x", "reviews", 200, 1.0))
    for policy in (by_header, by_token):
        found = difference(mesh_of(SHOP, policy), mesh_of(SHOP, policy, CLOSED), [seen])
        assert [(c.before.outcome, c.after.verdict) for c in found.flows] == [(("partly", "envoy"), "deny")]
    # The method alone settles it, and a denial stays one, whoever enforces it.
    assert not difference(mesh_of(SHOP, by_header), mesh_of(SHOP, by_header, CLOSED), [put]).flows


@pytest.mark.parametrize(
    "sample",
    [
        flow(STOREFRONT, Peer("10.128.0.80", 80)),  # a Service: its backend's flow tells of it
        flow(Peer("10.64.0.10", 1, "shop", "gone"), V1),  # a pod that is no more
        flow(Peer("10.64.0.99", 1, "street", "stranger"), V1),  # an address it has no more
        flow(Peer(""), V1),
        flow(STRANGER, V1, protocol="99"),
    ],
)
def test_flows_whose_ends_are_not_known_are_left_out(sample: Sample) -> None:
    assert not difference(mesh_of(SHOP), mesh_of(SHOP, SHOP_ONLY, NO_EGRESS), [sample]).flows


def test_a_difference_can_be_json() -> None:
    plain = difference(mesh_of(SHOP), mesh_of(SHOP, SHOP_ONLY), [flow(STRANGER, V1)]).plain()
    assert json.loads(json.dumps(plain)) == plain
    assert plain["flows"][0]["flow"]["source"]["pod"] == "stranger"
