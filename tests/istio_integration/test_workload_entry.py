from __future__ import annotations

from typing import Any

import pytest

from mesh.model import Endpoint, Fragment, WorkloadEntry, WorkloadName
from tests.mesh.dialects.objects import obj
from xds.dialects import read


def fragment(spec: Any, version: str = "v1", **more: Any) -> Fragment:
    return read(obj(f"networking.istio.io/{version}", "WorkloadEntry", spec, **more))


def entry(spec: Any, version: str = "v1", **more: Any) -> WorkloadEntry:
    found = fragment(spec, version, **more)
    assert found.valid, found.problems
    (noun,) = found.nouns
    assert isinstance(noun, WorkloadEntry)
    return noun


@pytest.mark.parametrize("version", ["v1", "v1beta1", "v1alpha3"])
def test_a_machine_outside(version: str) -> None:
    spec = {"address": "192.0.2.1", "ports": {"http": 8080}, "labels": {"app": "web"}, "weight": 2}
    assert entry(spec, version) == WorkloadEntry(
        WorkloadName("shop", "one"),
        Endpoint("192.0.2.1", "", (("http", 8080),), (("app", "web"),), 2),
    )


def test_its_own_labels_count_before_those_of_the_specification() -> None:
    whole = obj(
        "networking.istio.io/v1", "WorkloadEntry", {"address": "a.example", "labels": {"a": "1", "b": "1"}}
    )
    whole["metadata"]["labels"] = {"b": "2"}
    (found,) = read(whole).nouns
    assert isinstance(found, WorkloadEntry)
    assert found.endpoint == Endpoint(name="a.example", labels=(("a", "1"), ("b", "2")))


@pytest.mark.parametrize(("said", "healthy"), [("True", True), ("Unknown", True), ("False", False)])
def test_what_a_health_check_says_counts(said: str, healthy: bool) -> None:
    status = {"conditions": [{"type": "Healthy", "status": said}]}
    assert entry({"address": "192.0.2.1"}, status=status).healthy is healthy


def test_an_account_has_no_effect_and_that_is_said() -> None:
    found = fragment({"address": "192.0.2.1", "serviceAccount": "web"})
    assert found.valid and [p.field for p in found.problems] == ["spec.serviceAccount"]


@pytest.mark.parametrize(
    ("spec", "field", "says"),
    [
        ({}, "address", "is required"),
        ({"address": "unix:///a"}, "address", "socket of one machine"),
        ({"address": "localhost"}, "address", "not an IP address"),
        ({"address": "127.0.0.1"}, "address", "cannot be the address"),
        ({"address": "192.0.2.1", "weight": -1}, "weight", "must be 0 to 65535"),
        ({"address": "192.0.2.1", "port": 80}, "port", "unknown field"),
    ],
)
def test_what_cannot_be_is_refused_and_has_no_effect(spec: Any, field: str, says: str) -> None:
    found = fragment(spec)
    assert not found.valid and not found.nouns
    assert says in {p.field: p.message for p in found.problems}[f"spec.{field}"]
