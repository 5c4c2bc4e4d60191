"""A description as people read it."""

from __future__ import annotations

from mesh.answers.describe import describe_pod, describe_service
from mesh.datapath import Node
from sluice.describe_text import pod_text, service_text
from tests.mesh.shop import CANARY, GET_ONLY, SHOP, mesh_of


def test_a_pod_reads_as_with_istioctl_and_says_where_each_rule_is_enforced() -> None:
    mesh = mesh_of(SHOP, CANARY, GET_ONLY)
    told = describe_pod(mesh, "shop/reviews-v1", Node(mesh, "here", default=True).proxies)
    lines = list(pod_text(told))
    assert lines[:2] == ["Pod: reviews-v1.shop", "   Pod Ports: 8080 (http)"]
    steered = "      CiliumNetworkPolicy shop/get-only ingress[0].toPorts[0]: "
    assert f"{steered}only who reads requests can tell them apart" in lines
    assert "Service: reviews.shop" in lines
    assert "   Port: http 80/http targets pod port 8080" in lines
    at = lines.index("Rules, enforced by destination's Envoy:")
    assert lines[at + 1].startswith("   CiliumNetworkPolicy shop/get-only ingress[0].toPorts[0]: allow")
    assert "Routes of its callers, enforced by caller's Envoy:" in lines
    (reached,) = (line for line in lines if line.startswith("Reached on "))
    assert reached.startswith("Reached on TCP 8080 by ") and "Envoy, by request: shop/storefront" in reached
    assert "stranger" not in reached


def test_a_pod_without_an_envoy_says_so() -> None:
    lines = list(pod_text(describe_pod(mesh_of(SHOP), "street/stranger", {})))
    assert "   No Envoy: kernel path, nothing steers" in lines
    assert "   Pod names no ports" in lines
    assert "Rules: none" in lines


def test_a_service_reads_alike() -> None:
    mesh = mesh_of(SHOP, GET_ONLY)
    lines = list(
        service_text(describe_service(mesh, "shop/reviews", Node(mesh, "here", default=True).proxies))
    )
    assert lines[:4] == [
        "Service: reviews.shop",
        "   Addresses: 10.128.0.80",
        "   Port: http 80/http with 2 backends",
        "   Pods: reviews-v1.shop (Envoy), reviews-v2.shop (Envoy)",
    ]
