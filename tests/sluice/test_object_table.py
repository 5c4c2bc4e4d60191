"""What `sluice get` prints, and how kinds may be called."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from sluice.failure import Failure
from sluice.kinds import is_namespaced, kind_of
from sluice.object_table import object_table

NOW = datetime(2026, 1, 10, tzinfo=UTC)


@pytest.mark.parametrize(
    ("word", "kind"),
    [
        ("pod", "Pod"),
        ("pods", "Pod"),
        ("po", "Pod"),
        ("HTTPRoute", "HTTPRoute"),
        ("httproutes.gateway.networking.k8s.io", "HTTPRoute"),
        ("gateways", "Gateway"),
        ("gtw", "Gateway"),
        ("gateway.networking.istio.io", "Gateway.networking.istio.io"),
        ("gateways.networking.istio.io", "Gateway.networking.istio.io"),
        ("gatewayclasses", "GatewayClass"),
        ("networkpolicies", "NetworkPolicy"),
        ("vs", "VirtualService"),
        ("serviceentries", "ServiceEntry"),
        ("backendtlspolicies", "BackendTLSPolicy"),
    ],
)
def test_kinds_are_called_as_for_kubectl(word: str, kind: str) -> None:
    assert kind_of(word) == kind


def test_an_unknown_kind_is_named_with_those_that_there_are() -> None:
    with pytest.raises(Failure, match=r"no kind 'teapot'.*HTTPRoute"):
        kind_of("teapot")


def test_some_kinds_belong_to_no_namespace() -> None:
    assert [is_namespaced(kind) for kind in ("GatewayClass", "Node", "Gateway", "Pod")] == [
        False,
        False,
        True,
        True,
    ]


def condition(type_: str, good: bool, reason: str, message: str = "") -> dict[str, Any]:
    return {"type": type_, "status": "True" if good else "False", "reason": reason, "message": message}


def gateway(**metadata: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": "web", "namespace": "shop", **metadata},
        "spec": {"gatewayClassName": "sluice"},
        "status": {
            "addresses": [{"type": "IPAddress", "value": "10.0.0.1"}],
            "conditions": [
                condition("Accepted", True, "Accepted"),
                condition("Programmed", True, "Programmed"),
            ],
            "listeners": [
                {
                    "conditions": [
                        condition("Conflicted", False, "NoConflicts"),
                        condition("Programmed", False, "Invalid", "there is no Secret a"),
                    ]
                }
            ],
        },
    }


def table(kind: str, *items: Any, namespaces: bool = False, wide: bool = False) -> list[list[str]]:
    text = object_table(kind, items, NOW, namespaces=namespaces, wide=wide)
    return [line.split() for line in text.splitlines()]


def test_gateways_in_the_shape_of_kubectl() -> None:
    aged = gateway(creationTimestamp="2026-01-05T00:00:00Z")
    assert table("Gateway", aged) == [
        ["NAME", "CLASS", "ADDRESS", "PROGRAMMED", "AGE"],
        ["web", "sluice", "10.0.0.1", "True", "5d"],
    ]
    assert table("Gateway", gateway())[0] == ["NAME", "CLASS", "ADDRESS", "PROGRAMMED"], "no age is known"
    (head, row) = table("Gateway", gateway(), namespaces=True, wide=True)
    assert (head[0], head[-1], row[0]) == ("NAMESPACE", "MESSAGE", "shop")
    assert " ".join(row).endswith("there is no Secret a")


def test_one_parent_that_refuses_a_route_is_told() -> None:
    parents = [
        {"conditions": [condition("Accepted", good, reason), condition("ResolvedRefs", True, "ResolvedRefs")]}
        for good, reason in ((True, "Accepted"), (False, "NoMatchingParent"))
    ]
    route = {"metadata": {"name": "r"}, "spec": {"hostnames": ["a", "b"]}, "status": {"parents": parents}}
    assert table("HTTPRoute", route)[1] == ["r", "a,b", "False", "(NoMatchingParent)", "True"]
    assert table("TCPRoute", {"metadata": {"name": "r"}, "status": {"parents": []}})[1] == ["r", "-", "-"]


@pytest.mark.parametrize(
    ("created", "age"),
    [
        ("2026-01-09T23:59:30Z", "30s"),
        ("2026-01-09T23:55:00Z", "5m"),
        ("2026-01-09T20:00:00Z", "4h"),
        ("2020-01-10T00:00:00Z", "6y"),
        ("2026-01-11T00:00:00Z", "0s"),
        ("yesterday", None),
    ],
)
def test_ages_are_as_kubectl_writes_them(created: str, age: str | None) -> None:
    (_, row) = table("ConfigMap", {"metadata": {"name": "a", "creationTimestamp": created}})
    assert row[1:] == ([age] if age else [])


def test_a_pod_says_whether_it_is_ready_and_where() -> None:
    status = {
        "phase": "Running",
        "podIP": "10.64.0.2",
        "conditions": [{"type": "Ready", "status": "False"}],
    }
    (head, row) = table("Pod", {"metadata": {"name": "a"}, "status": status})
    assert dict(zip(head, row, strict=True)) == {
        "NAME": "a",
        "READY": "False",
        "STATUS": "Running",
        "IP": "10.64.0.2",
    }
