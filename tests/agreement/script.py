"""Random policies about a few flows, one change after another. It knows API objects only."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

from tests.agreement.prober import Flow, Kind

NODE = "10.64.0.1"
PODS = {
    name: (f"10.64.0.{number}", f"fd51:ce00:0:1::{number:x}")
    for number, name in ((10, "a"), (11, "b"), (12, "gate"), (13, "calm"))
}
_FLOWS: tuple[tuple[str, str, Kind, int], ...] = (
    ("a", "gate", "udp-connected", 0),
    ("a", "gate", "udp", 1),
    ("a", "gate", "tcp", 0),
    ("a", "calm", "udp-connected", 1),
    ("a", "calm", "tcp", 0),
    ("b", "gate", "udp-connected", 1),
    ("b", "gate", "udp", 0),
    ("b", "gate", "tcp", 1),
    ("b", "calm", "udp-connected", 0),
)
#: The verdict of flows to `gate` changes all the time; to `calm` it never does, however its rules change.
FLOWS = tuple(
    Flow(
        number, kind, f"town/{client}", PODS[client][six], f"town/{server}", PODS[server][six], 5000 + number
    )
    for number, (client, server, kind, six) in enumerate(_FLOWS)
)
Object = dict[str, Any]


def pod(name: str, tier: str) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "town", "labels": {"app": name, "tier": tier}},
        "spec": {"containers": [{"name": "main", "command": ["true"]}]},
    }


def network_policy(name: str, subject: str, **spec: Any) -> Object:
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": name, "namespace": "town"},
        "spec": {"podSelector": {"matchLabels": {"app": subject}}} | spec,
    }


def cilium_policy(name: str, subject: str, **spec: Any) -> Object:
    return {
        "apiVersion": "cilium.io/v2",
        "kind": "CiliumNetworkPolicy",
        "metadata": {"name": name, "namespace": "town"},
        "spec": {"endpointSelector": {"matchLabels": {"app": subject}}} | spec,
    }


def pods_with(**labels: str) -> Object:
    return {"podSelector": {"matchLabels": labels}}


class Script:
    """One random change after another; `objects` is what stands written now, by who wrote it."""

    def __init__(self, seed: int) -> None:
        self._rng = random.Random(seed)
        self.objects: dict[str, tuple[Object, ...]] = {}

    def step(self) -> str:
        """Rewrites one part; its name."""
        if "calm" not in self.objects:
            self.objects["calm"] = tuple(self._calm())
            return "calm"
        parts = (("gate", 13), ("egress", 3), ("tier", 3), ("calm", 2))
        part = self._rng.choices([name for name, _ in parts], [weight for _, weight in parts])[0]
        self.objects[part] = tuple(getattr(self, f"_{part}")())
        return part

    def _ports(self) -> list[Object]:
        """Some ports of some flows to `gate`."""
        rng = self._rng
        ports: list[Object] = [
            {"port": flow.port, "protocol": flow.protocol}
            for flow in FLOWS
            if flow.server == "town/gate" and rng.random() < 0.7
        ]
        first = rng.choice((5000, 5001, 5005, 5006))
        ports.append({"port": first, "endPort": rng.choice((first, 5006, 5007)), "protocol": "UDP"})
        return ports

    def _gate(self) -> Iterator[Object]:
        rng = self._rng
        form = rng.choice(("none", "peers", "peers", "blocks", "cilium", "deny", "both"))
        client = rng.choice("ab")
        peers = [pods_with(**rng.choice(({"app": client}, {"tier": "gold"})))]
        if form in ("peers", "both"):
            rule = {"from": peers, "ports": self._ports()}
            yield network_policy(f"gate-{rng.randrange(4)}", "gate", ingress=[rule])
        if form == "blocks":
            four, six = PODS[client]
            blocks = [
                {"ipBlock": {"cidr": "10.64.0.0/24", "except": [f"{four}/32"]}},
                {"ipBlock": {"cidr": f"{six}/128"}},
            ]
            yield network_policy("gate-blocks", "gate", ingress=[{"from": blocks}])
        if form in ("cilium", "both"):
            ports = [{"port": str(p["port"]), "protocol": p["protocol"]} for p in self._ports()]
            rule = {"fromEndpoints": [{"matchLabels": {"app": client}}], "toPorts": [{"ports": ports}]}
            yield cilium_policy("gate-ports", "gate", ingress=[rule])
        if form == "deny":
            deny = {"fromEndpoints": [{"matchLabels": {"app": client}}]}
            yield cilium_policy("gate-deny", "gate", ingressDeny=[deny], ingress=[{"fromEntities": ["all"]}])

    def _egress(self) -> Iterator[Object]:
        client = self._rng.choice("ab")
        if self._rng.random() < 0.7:
            rules = [{"to": [pods_with(app="calm")]}, {"to": [pods_with(app="gate")], "ports": self._ports()}]
            yield network_policy("egress", client, policyTypes=["Egress"], egress=rules)

    def _tier(self) -> Iterator[Object]:
        for name in "ab":
            yield pod(name, self._rng.choice(("gold", "lead")))

    def _calm(self) -> Iterator[Object]:
        """One meaning in many forms: `a` may, `b` may not."""
        form = self._rng.randrange(4)
        peers = [pods_with(app="a"), {"ipBlock": {"cidr": "192.0.2.0/24"}}]
        if form == 0:
            yield network_policy(f"calm-{self._rng.randrange(100)}", "calm", ingress=[{"from": peers}])
        elif form == 1:
            ports = [{"port": 1, "endPort": 65535, "protocol": protocol} for protocol in ("TCP", "UDP")]
            yield network_policy("calm", "calm", ingress=[{"from": peers[:1], "ports": ports}])
        elif form == 2:
            yield cilium_policy("calm", "calm", ingress=[{"fromEndpoints": [{"matchLabels": {"app": "a"}}]}])
        else:
            four, six = PODS["a"]
            blocks = [{"ipBlock": {"cidr": f"{four}/32"}}, {"ipBlock": {"cidr": f"{six}/128"}}]
            yield network_policy("calm-block", "calm", ingress=[{"from": blocks}])
