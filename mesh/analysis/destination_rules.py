"""DestinationRules whose TLS proves less than it seems to. The codes are those of Istio's own messages."""

from __future__ import annotations

from collections.abc import Iterator

from mesh.analysis.finding import Check, Trap
from mesh.analysis.view import View
from mesh.model import DestinationRule, TrafficPolicy


def nobody_is_verified(view: View) -> Iterator[Trap]:
    """Without `insecureSkipVerify` the machine's own authorities are asked, where Istio asks nobody."""
    for rule in _rules(view):
        if _unverified(rule.policy):
            yield _trap(rule, "spec.trafficPolicy.tls", rule.host)


def nobody_is_verified_at_a_port(view: View) -> Iterator[Trap]:
    """The same in a port-level setting."""
    for rule in _rules(view):
        for index, (port, policy) in enumerate(rule.ports):
            if _unverified(policy):
                where = f"spec.trafficPolicy.portLevelSettings[{index}].tls"
                yield _trap(rule, where, f"{rule.host} at port {port}")


def _rules(view: View) -> list[DestinationRule]:
    return [rule for _, rule in sorted(view.mesh.destination_rules.all.items())]


def _unverified(policy: TrafficPolicy) -> bool:
    return policy.tls is not None and policy.tls.mode in ("SIMPLE", "MUTUAL") and not policy.tls.verify


def _trap(rule: DestinationRule, field: str, whom: str) -> Trap:
    return Trap(
        rule.ref,
        field,
        f"the certificate of {whom} is not verified: anybody can pass for it",
        "name caCertificates and subjectAltNames instead of insecureSkipVerify",
    )


CHECKS = (
    Check("IST0128", "Warning", "a DestinationRule verifies nobody", nobody_is_verified),
    Check("IST0129", "Warning", "a DestinationRule verifies nobody at a port", nobody_is_verified_at_a_port),
)
