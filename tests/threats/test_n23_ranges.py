"""N23 (CVE-2024-52529): where ranges of ports and single ports overlap, rules about requests are not skipped:
the kernel's tables steer wherever the reference says so, and nowhere else.
"""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

from tests.threats.http.served import Compiled

PORTS = range(8078, 8088)
MESHES = 150


def _policy(rng: random.Random, name: str) -> dict[str, Any]:
    ingress = []
    for _ in range(rng.randint(1, 4)):
        first = rng.choice(PORTS)
        port: dict[str, Any] = {"port": str(first), "protocol": "TCP"}
        to: dict[str, Any] = {"ports": [port]}
        # Cilium has no rules about requests on a range.
        if rng.random() < 0.5:
            port["endPort"] = rng.choice((first, first + 1, first + 4, 65535))
        elif rng.random() < 0.7:
            to["rules"] = {"http": [{"path": rng.choice(("/a", "/b.*"))}]}
        peers = rng.choice(({"fromEntities": ["all"]}, {"fromEndpoints": [{"matchLabels": {"app": "ann"}}]}))
        ingress.append(peers | {"toPorts": [to]})
    spec = {"endpointSelector": {"matchLabels": {"app": "api"}}}
    denied = {"fromEntities": ["all"], "toPorts": [{"ports": [{"port": "8081", "protocol": "TCP"}]}]}
    more = {"ingressDeny": [denied]} if rng.random() < 0.2 else {}
    return {
        "apiVersion": "cilium.io/v2",
        "kind": "CiliumNetworkPolicy",
        "metadata": {"name": name, "namespace": "shop"},
        "spec": spec | {"ingress": ingress} | more,
    }


def test_the_tables_steer_where_the_reference_does() -> None:
    rng = random.Random(23)
    told: Counter[str] = Counter()
    for _ in range(MESHES):
        policies = [_policy(rng, f"p{number}") for number in range(rng.randint(1, 3))]
        found = Compiled(*policies)
        for port in PORTS:
            said = found.reference(port=port)
            assert found.verdict(port=port).verdict == said, (port, policies)
            told[said] += 1
    assert min(told[said] for said in ("allow", "deny", "steer")) > 100, told
