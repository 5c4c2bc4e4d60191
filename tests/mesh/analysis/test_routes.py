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
