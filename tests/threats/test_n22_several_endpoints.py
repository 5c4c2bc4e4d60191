"""N22 (CVE-2023-30851): leave for everything, given to one caller, widens no rule about another one."""

from __future__ import annotations

from typing import Any

import pytest

from tests.threats.http.served import HTTP, Caller, Compiled

ANN: Caller = ("shop", "ann", "ann", "10.64.0.20")
BOB: Caller = ("shop", "bob", "bob", "10.64.0.21")
PORTS = [{"port": str(HTTP), "protocol": "TCP"}]
READS: dict[str, Any] = {"http": [{"method": "GET", "path": "/public"}]}


def rule(name: str | None, **more: Any) -> dict[str, Any]:
    peers = [{} if name is None else {"matchLabels": {"app": name}}]
    return {"fromEndpoints": peers, "toPorts": [{"ports": PORTS, **more}]}


def policy(name: str, *ingress: dict[str, Any]) -> dict[str, Any]:
    return {
        "apiVersion": "cilium.io/v2",
        "kind": "CiliumNetworkPolicy",
        "metadata": {"name": name, "namespace": "shop"},
        "spec": {"endpointSelector": {"matchLabels": {"app": "api"}}, "ingress": list(ingress)},
    }


@pytest.mark.parametrize(
    "policies",
    [
        [policy("one", rule("ann", rules=READS), rule("bob"))],
        [policy("one", rule("bob"), rule("ann", rules=READS))],
        [policy("one", rule("ann", rules=READS)), policy("two", rule("bob"))],
        [policy("one", rule("ann", rules=READS), rule("bob", rules={"http": [{}]}))],
        [policy("one", rule("ann", rules=READS), {"fromEndpoints": [{"matchLabels": {"app": "bob"}}]})],
    ],
)
def test_what_one_may_do_another_may_not(policies: list[dict[str, Any]]) -> None:
    found = Compiled(*policies, callers=(ANN, BOB))
    assert found.verdict(ANN).verdict == found.reference(ANN) == "steer"
    (l7,) = (l7 for l7 in found.view.ingress if l7.number == found.verdict(ANN).listener)
    assert l7.rules is not None
    assert [(match.method, match.path) for rule in l7.rules for match in rule.matches] == [("GET", "/public")]
    assert found.verdict(BOB).verdict in ("allow", "steer")
    assert found.verdict(BOB).listener != l7.number
