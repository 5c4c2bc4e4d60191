"""Istio's messages about DestinationRules: a mesh that has the trap, and one that has not."""

from __future__ import annotations

from tests.mesh.analysis.traps import codes, findings, only


def rule(policy: str) -> str:
    return f"""
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: api, namespace: shop}}
spec: {{host: api, trafficPolicy: {policy}}}
"""


BLIND, SEEING = "tls: {mode: SIMPLE, insecureSkipVerify: true}", "tls: {mode: SIMPLE}"


def test_who_verifies_nobody_is_told() -> None:
    assert only("IST0128", findings(rule(f"{{{BLIND}}}"))).trap.field == "spec.trafficPolicy.tls"
    assert not {"IST0128", "IST0129"} & codes(rule(f"{{{SEEING}}}"))


def test_who_verifies_nobody_at_a_port_is_told() -> None:
    text = f"{{portLevelSettings: [{{port: {{number: 80}}, {BLIND}}}]}}"
    found = only("IST0129", findings(rule(text)))
    assert found.trap.field == "spec.trafficPolicy.portLevelSettings[0].tls"
    assert not {"IST0128", "IST0129"} & codes(rule(text.replace(BLIND, SEEING)))
