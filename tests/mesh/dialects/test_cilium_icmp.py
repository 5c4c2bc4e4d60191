from __future__ import annotations

from typing import Any

import pytest

from mesh.model import PortRange, Rule, RuleSet
from tests.mesh.dialects.cilium import TCP_80, refused_allow, spec
from tests.mesh.dialects.objects import policy


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        (
            {"icmps": [{"fields": [{"type": "EchoRequest"}]}]},
            Rule("egress[0]", None, (PortRange("ICMP", 8, 8),)),
        ),
        (
            {"icmps": [{"fields": [{"family": "IPv6", "type": 128}]}]},
            Rule("egress[0]", None, (PortRange("ICMPv6", 128, 128),)),
        ),
    ],
)
def test_every_kind_of_icmp_type_is_read(rule: Any, expected: Rule) -> None:
    assert policy(spec(egress=[rule])).egress == RuleSet((expected,))


@pytest.mark.parametrize(
    ("rule", "field", "says"),
    [
        ({"icmps": [{"fields": [{"type": 256}]}]}, "icmps[0].fields[0].type", "must be 0 to 255"),
        ({"icmps": [{"fields": [{"type": "Ech"}]}]}, "icmps[0].fields[0].type", "no type of IPv4"),
        ({"icmps": [{"fields": [{"type": 1}] * 41}]}, "icmps[0].fields", "at most 40"),
        (
            {"icmps": [{"fields": [{"type": 8}]}], "toPorts": [{"ports": [TCP_80]}]},
            "icmps",
            "cannot stand beside",
        ),
    ],
)
def test_an_allow_that_cannot_be_read_grants_nothing_and_says_why(rule: Any, field: str, says: str) -> None:
    assert says in refused_allow(rule)[field]
