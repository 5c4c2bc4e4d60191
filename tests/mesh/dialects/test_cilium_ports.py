from __future__ import annotations

from typing import Any

import pytest

from mesh.model import PortName, PortRange, Rule, RuleSet
from tests.mesh.dialects.cilium import TCP_80, allows, refused_allow, spec, with_port
from tests.mesh.dialects.objects import policy


@pytest.mark.parametrize(
    ("port", "match"),
    [
        (TCP_80, PortRange("TCP", 80, 80)),
        ({"port": "80"}, PortRange(None, 80, 80)),
        ({"port": "80", "protocol": "ANY"}, PortRange(None, 80, 80)),
        ({"port": "0", "protocol": "UDP"}, PortRange("UDP", 0, 65535)),
        ({"port": "80", "endPort": 90, "protocol": "SCTP"}, PortRange("SCTP", 80, 90)),
        ({"port": "HTTP", "protocol": "TCP"}, PortName("TCP", "http")),
    ],
)
def test_ports_are_numbers_ranges_or_names_of_one_protocol_or_any(port: Any, match: Any) -> None:
    assert allows({"toPorts": [{"ports": [port]}]}) == (Rule("ingress[0].toPorts[0]", None, (match,)),)


def test_a_protocol_without_ports_is_named_beside_port_0() -> None:
    rule = {"toPorts": [{"ports": [{"port": "0", "protocol": "ESP"}]}]}
    expected = Rule("egress[0].toPorts[0]", None, (PortRange("ESP"),))
    assert policy(spec(egress=[rule])).egress == RuleSet((expected,))


@pytest.mark.parametrize(
    ("rule", "field", "says"),
    [
        ({"toPorts": []}, "toPorts", "leave it out for every port"),
        ({"toPorts": [{}]}, "toPorts[0].ports", "needs at least one port"),
        ({"toPorts": [{"ports": [TCP_80] * 41}]}, "toPorts[0].ports", "has 41 entries; at most 40"),
        (
            {"toPorts": [{"ports": [{"port": 80}]}]},
            "toPorts[0].ports[0].port",
            'must be a string: write "80"',
        ),
        (with_port({"port": "65536"}), "toPorts[0].ports[0].port", "must be 0 to 65535"),
        (with_port({"port": "080"}), "toPorts[0].ports[0].port", "not a port name"),
        (with_port({"protocol": "TCP"}), "toPorts[0].ports[0].port", "is required"),
        (
            {"toPorts": [{"ports": [{"port": "1", "protocol": "GRE"}]}]},
            "toPorts[0].ports[0].port",
            "GRE has no ports",
        ),
        (
            {"toPorts": [{"ports": [{"port": "8", "protocol": "ICMP"}]}]},
            "toPorts[0].ports[0].protocol",
            "ICMP is not supported yet",
        ),
        (
            {"toPorts": [{"ports": [{"port": "0", "endPort": 9}]}]},
            "toPorts[0].ports[0].endPort",
            "every port already",
        ),
    ],
)
def test_an_allow_that_cannot_be_read_grants_nothing_and_says_why(rule: Any, field: str, says: str) -> None:
    assert says in refused_allow(rule)[field]
