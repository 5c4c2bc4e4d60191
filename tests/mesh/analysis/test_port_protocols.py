"""Istio's messages about the protocols of ports: a mesh that has the trap, and one that has not."""

from __future__ import annotations

import pytest

from tests.mesh.analysis.traps import codes, findings, only


def service(port: str, name: str = "more", app: str = "api", namespace: str = "shop") -> str:
    return f"""
---
apiVersion: v1
kind: Service
metadata: {{name: {name}, namespace: {namespace}}}
spec: {{selector: {{app: {app}}}, ports: [{port}]}}
"""


TOKENS = """
---
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: {name: tokens, namespace: shop}
spec:
  selector: {matchLabels: {app: %s}}
  jwtRules: [{issuer: shop, jwks: '{"keys": [{"kty": "oct", "k": "c2VjcmV0"}]}'}]
"""


def test_services_that_disagree_about_a_port_are_told() -> None:
    found = only("IST0116", findings(service("{name: tcp-api, port: 81, targetPort: 8080}")))
    assert str(found.trap.object) == "Pod shop/api"
    assert "shop/api says http" in found.trap.message and "shop/more says tcp" in found.trap.message
    assert "IST0116" not in codes(service("{name: http-api, port: 81, targetPort: 8080}"))
    assert "IST0116" not in codes(service("{name: tcp-api, port: 81, targetPort: 8081}"))


@pytest.mark.parametrize(
    ("port", "told"),
    [
        ("{port: 81}", True),
        ("{name: web, port: 81}", True),
        ("{name: httpx, port: 81}", True),
        ("{name: http-web, port: 81}", False),
        ("{name: tcp, port: 81}", False),
        ("{name: web, port: 81, appProtocol: kubernetes.io/h2c}", False),
        ("{name: web, port: 81, protocol: UDP}", False),
    ],
)
def test_a_port_that_says_no_protocol_is_told(port: str, told: bool) -> None:
    assert ("IST0118" in codes(service(port))) == told
    assert "IST0118" not in codes(service(port, namespace="kube-system"))


def test_tokens_at_a_port_that_is_no_http_are_told() -> None:
    found = only("IST0119", findings(TOKENS % "db"))
    assert "5432" in found.trap.message
    assert "IST0119" not in codes(TOKENS % "api")
