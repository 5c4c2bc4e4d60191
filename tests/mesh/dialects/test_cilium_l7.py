from __future__ import annotations

from typing import Any

import pytest

from mesh.model import EntityPeer, HeaderAction, HeaderMatch, HttpMatch, NamePattern, PortRange, Rule, RuleSet
from tests.mesh.dialects.cilium import PORT_80, TCP_80, allows, refused_allow, spec, with_http
from tests.mesh.dialects.objects import policy


def test_each_entry_of_to_ports_is_a_rule_with_its_own_requests() -> None:
    http = [
        {"method": "GET", "path": "/public/.*", "host": "web.*"},
        {"headers": ["X-Token: a b", "X-Seen"]},
        {},
    ]
    rule = {
        "fromEntities": ["all"],
        "toPorts": [{"ports": [TCP_80], "rules": {"http": http}}, {"ports": [TCP_80]}],
    }
    peers, ports = (EntityPeer("all"),), (PortRange("TCP", 80, 80),)
    matches = (
        HttpMatch("GET", "/public/.*", "web.*"),
        HttpMatch(headers=(HeaderMatch("x-seen"), HeaderMatch("x-token", "a b"))),
        HttpMatch(),
    )
    assert allows(rule) == (
        Rule("ingress[0].toPorts[0]", peers, ports, matches),
        Rule("ingress[0].toPorts[1]", peers, ports),
    )


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        (
            {"toPorts": [{"ports": [TCP_80], "serverNames": ["*.Example.com"]}]},
            Rule("egress[0].toPorts[0]", None, PORT_80, server_names=(NamePattern("*.example.com"),)),
        ),
        (
            {
                "toPorts": [
                    {"ports": [{"port": "53", "protocol": "ANY"}], "rules": {"dns": [{"matchPattern": "*"}]}}
                ]
            },
            Rule("egress[0].toPorts[0]", None, (PortRange(None, 53, 53),), dns=(NamePattern("*"),)),
        ),
        (
            with_http(
                [{"headerMatches": [{"name": "X-A", "value": "1"}, {"name": "X-B", "mismatch": "DELETE"}]}]
            ),
            Rule(
                "egress[0].toPorts[0]",
                None,
                PORT_80,
                (
                    HttpMatch(
                        headers=(HeaderMatch("x-a", "1"),), actions=(HeaderAction("x-b", "", "DELETE"),)
                    ),
                ),
            ),
        ),
    ],
)
def test_every_kind_of_rule_above_layer_4_is_read(rule: Any, expected: Rule) -> None:
    assert policy(spec(egress=[rule])).egress == RuleSet((expected,))


@pytest.mark.parametrize(
    ("rule", "field", "says"),
    [
        (
            {"toPorts": [{"ports": [TCP_80], "serverNames": [""]}]},
            "toPorts[0].serverNames",
            "not empty",
        ),
        (
            {"toPorts": [{"ports": [TCP_80], "serverNames": ["a"], "rules": {"http": [{}]}}]},
            "toPorts[0].serverNames",
            "needs terminatingTLS",
        ),
        (
            {"toPorts": [{"ports": [TCP_80], "rules": {"dns": [{"matchName": "a"}]}}]},
            "toPorts[0].rules.dns",
            "goes with egress only",
        ),
        (with_http([]), "toPorts[0].rules.http", "needs at least one rule"),
        (with_http([{"path": "/("}]), "toPorts[0].rules.http[0].path", "missing ): /("),
        (with_http([{"path": "/(?=a)"}]), "toPorts[0].rules.http[0].path", "invalid perl operator"),
        (with_http([{"host": "a" * 1025}]), "toPorts[0].rules.http[0].host", "at most 1024"),
        (with_http([{"headers": ["X-A:b"]}]), "toPorts[0].rules.http[0].headers[0]", "'X-A:b' is not a name"),
        (
            with_http([{"headers": ["X-A: b\r\nc"]}]),
            "toPorts[0].rules.http[0].headers[0]",
            "control character",
        ),
        (
            with_http([{"headerMatches": [{"name": "x", "secret": {"name": "s"}}]}]),
            "toPorts[0].rules.http[0].headerMatches[0].secret",
            "not supported yet",
        ),
        (
            with_http(
                [{"headerMatches": [{"name": f"x-{n}", "value": "1", "mismatch": "ADD"} for n in range(5)]}]
            ),
            "toPorts[0].rules.http[0].headerMatches",
            "at most 4",
        ),
        (with_http([{}], protocol="ANY"), "toPorts[0].ports[0].protocol", "write protocol TCP, not ANY"),
        (with_http([{}], protocol="UDP"), "toPorts[0].ports[0].protocol", "write protocol TCP, not UDP"),
        (with_http([{}], port="0"), "toPorts[0].ports[0].port", "HTTP rules need a port"),
    ],
)
def test_an_allow_that_cannot_be_read_grants_nothing_and_says_why(rule: Any, field: str, says: str) -> None:
    assert says in refused_allow(rule)[field]
