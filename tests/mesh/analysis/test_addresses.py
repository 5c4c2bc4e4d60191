from __future__ import annotations

import pytest

from tests.mesh.analysis.traps import cilium, codes, findings, network_policy, only

FROM_BLOCK = "{podSelector: {matchLabels: {app: api}}, ingress: [{from: [{ipBlock: %s}]}]}"


@pytest.mark.parametrize(
    ("cidr", "told"),
    [("10.64.0.0/16", True), ("10.0.0.0/8", True), ("192.0.2.0/24", False), ("0.0.0.0/0", False)],
)
def test_a_cidr_of_cilium_over_pods_never_matches_them(cidr: str, told: bool) -> None:
    """Rule 17; the whole world is meant as the world."""
    spec = "{endpointSelector: {matchLabels: {app: api}}, ingress: [{fromCIDR: [%s]}]}"
    assert ("SL0501" in codes(cilium(spec % cidr))) is told


def test_an_ip_block_over_pods_allows_them_too() -> None:
    """Rule 17."""
    found = only("SL0502", findings(network_policy(FROM_BLOCK % "{cidr: 0.0.0.0/0}")))
    assert "shop/api, shop/db, shop/web and 1 more" in found.trap.message


@pytest.mark.parametrize("block", ["{cidr: 0.0.0.0/0, except: [10.64.0.0/16]}", "{cidr: 192.0.2.0/24}"])
def test_an_ip_block_that_excepts_the_pods_is_no_trap(block: str) -> None:
    assert "SL0502" not in codes(network_policy(FROM_BLOCK % block))


def test_the_address_of_a_service_is_never_judged() -> None:
    """Rule 1."""
    spec = (
        "{podSelector: {matchLabels: {app: web}}, policyTypes: [Egress], "
        "egress: [{to: [{ipBlock: {cidr: %s}}], ports: [{port: 53, protocol: UDP}]}]}"
    )
    assert (
        "Service shop/api" in only("SL0503", findings(network_policy(spec % "10.128.0.80/32"))).trap.message
    )
    assert "SL0503" not in codes(network_policy(spec % "192.0.2.0/24"))
