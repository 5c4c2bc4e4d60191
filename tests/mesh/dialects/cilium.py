"""CiliumNetworkPolicies for tests, and short ways to read them."""

from __future__ import annotations

from typing import Any

from mesh.dialects import read
from mesh.model import EntityPeer, PortRange, Rule, RuleSet, Selector
from tests.mesh.dialects.objects import WEB, cilium_policy, one_policy, policy, refused

TCP_80 = {"port": "80", "protocol": "TCP"}
EVERYTHING = Selector()
WORLD = (EntityPeer("world"),)
PORT_80 = (PortRange("TCP", 80, 80),)


def spec(**sections: Any) -> Any:
    return cilium_policy({"endpointSelector": WEB} | sections)


def allows(rule: Any) -> tuple[Rule, ...]:
    found = policy(spec(ingress=[rule])).ingress
    assert found is not None
    return found.allow


def denies(fragment_of: Any) -> tuple[Rule, ...]:
    found = one_policy(read(fragment_of)).ingress
    assert found is not None
    return found.deny


def with_port(port: Any, **rest: Any) -> Any:
    return {"toPorts": [{"ports": [port]} | rest]}


def with_http(http: Any, **port: Any) -> Any:
    return {"toPorts": [{"ports": [TCP_80 | port], "rules": {"http": http}}]}


def refused_allow(rule: Any) -> dict[str, str]:
    """Why an allow cannot be read, by its fields. It grants nothing, the one beside it what it says."""
    bad = spec(ingress=[rule, {"fromEntities": ["host"]}])
    assert one_policy(read(bad)).ingress == RuleSet((Rule("ingress[1]", (EntityPeer("host"),)),))
    return {field.removeprefix("spec.ingress[0]."): message for field, message in refused(bad).items()}
