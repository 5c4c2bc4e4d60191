"""Istio's messages about Gateways: a mesh that has the trap, and one that has not."""

from __future__ import annotations

from tests.mesh.analysis.traps import codes, findings, only

POD = """
---
apiVersion: v1
kind: Pod
metadata: {name: gate, namespace: shop, labels: {istio: gate}}
spec: {nodeName: here, containers: [{name: c, command: ["true"]}]}
status: {podIPs: [{ip: 10.64.0.20}], conditions: [{type: Ready, status: "True"}]}
"""

SERVICE = """
---
apiVersion: v1
kind: Service
metadata: {name: gate, namespace: shop}
spec: {selector: {istio: gate}, ports: [{name: http, port: 80, targetPort: 8080}]}
"""


def gateway(name: str, host: str, port: int = 80, selector: str = "{istio: gate}", tls: str = "") -> str:
    protocol = "HTTPS" if tls else "HTTP"
    server = f'{{port: {{number: {port}, name: h, protocol: {protocol}}}, hosts: ["{host}"]{tls}}}'
    return f"""
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {{name: {name}, namespace: shop}}
spec: {{selector: {selector}, servers: [{server}]}}
"""


def test_two_gateways_at_one_place_are_told() -> None:
    found = only("IST0145", findings(POD + gateway("a", "a.example") + gateway("b", "*.example")))
    assert (found.severity, found.trap.object.name, found.trap.field) == ("Error", "b", "spec.servers[0]")
    for other in (
        gateway("b", "b.example"),
        gateway("b", "a.example", 81),
        gateway("b", "a.example", selector="{istio: other}"),
    ):
        assert "IST0145" not in codes(POD + gateway("a", "a.example") + other)


def test_one_certificate_in_two_gateways_is_told() -> None:
    def tls(name: str) -> str:
        return f", tls: {{mode: SIMPLE, credentialName: {name}}}"

    first = gateway("a", "a.example", 443, tls=tls("both"))
    found = only("IST0138", findings(POD + first + gateway("b", "b.example", 443, tls=tls("both"))))
    assert found.trap.object.name == "b"
    assert "IST0138" not in codes(POD + first + gateway("b", "b.example", 443, tls=tls("own")))


def test_a_port_to_which_no_service_leads_is_told() -> None:
    found = only("IST0162", findings(POD + SERVICE + gateway("a", "a.example", 80)))
    assert "8080" in found.trap.message
    assert "IST0162" not in codes(POD + SERVICE + gateway("a", "a.example", 8080))
    assert "IST0162" not in codes(POD + gateway("a", "a.example", 80)), (
        "without any Service it has its own way in"
    )
