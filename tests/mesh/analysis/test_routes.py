from __future__ import annotations

from tests.mesh.analysis.traps import codes, findings, only

ROUTE = """
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: %s, namespace: shop}
spec:
  parentRefs: [{kind: Service, group: "", name: api, port: 80}]
  rules:
  - matches: [{path: {type: PathPrefix, value: %s}}]
    backendRefs: [{name: api, port: 80}]
  - matches: [{path: {type: PathPrefix, value: /}}]
    backendRefs: [{name: %s, port: %s}]
"""


def test_a_rule_with_the_match_of_an_earlier_one_is_never_taken() -> None:
    found = only("SL0701", findings(ROUTE % ("r", "/", "api", 80)))
    assert (found.trap.field, found.trap.object.name) == ("spec.rules[1]", "r")
    assert "SL0701" not in codes(ROUTE % ("r", "/new", "api", 80))


def test_a_route_to_a_service_without_a_ready_backend_is_told() -> None:
    ghost = """
apiVersion: v1
kind: Service
metadata: {name: ghost, namespace: shop}
spec: {selector: {app: ghost}, ports: [{port: 80}]}
"""
    found = only("SL0702", findings(ghost + ROUTE % ("r", "/new", "ghost", 80)))
    assert found.trap.field == "spec.rules[1].backendRefs[0]"
    assert "SL0702" not in codes(ROUTE % ("r", "/new", "api", 80))
    by_alias = (
        ghost
        + """
---
apiVersion: v1
kind: Service
metadata: {name: alias, namespace: shop}
spec: {type: ExternalName, externalName: ghost.shop.svc.cluster.local}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: v, namespace: shop}
spec: {hosts: [api], http: [{route: [{destination: {host: alias, port: {number: 80}}}]}]}
"""
    )
    message = only("SL0702", findings(by_alias)).trap.message
    assert message.startswith("Service shop/ghost has no ready backend")


def test_a_route_for_a_gateway_that_is_not_there_is_told() -> None:
    gateway = """
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: front, namespace: shop}
spec: {gatewayClassName: sluice, listeners: [{name: http, port: 80, protocol: HTTP}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: r, namespace: shop}
spec: {parentRefs: [{name: %s, %s}], rules: [{backendRefs: [{name: api, port: 80}]}]}
"""
    for name, more, says in (
        ("fornt", "kind: Gateway", "there is no Gateway shop/fornt: the route does not count there"),
        ("front", "sectionName: https", "Gateway shop/front has no listener called https; it has http (80)"),
        ("front", "port: 81", "Gateway shop/front has no listener at port 81; it has http (80)"),
    ):
        found = only("SL0703", findings(gateway % (name, more)))
        assert (found.trap.field, found.trap.message) == ("spec.parentRefs", says)
    assert "SL0703" not in codes(gateway % ("front", "port: 80"))
    unserved = only("SL0704", findings(gateway % ("front", "port: 80"))).trap
    assert "labels of gateway.networking.k8s.io/gateway-name: front" in unserved.message
