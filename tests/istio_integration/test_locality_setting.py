from __future__ import annotations

from typing import Any

import pytest
import yaml

from mesh.model import (
    NO_ORDER,
    Distribution,
    Endpoint,
    Fragment,
    Locality,
    LocalitySetting,
    MeshConfig,
    Service,
    WorkloadEntry,
)
from tests.mesh.dialects.objects import obj
from xds.dialects import read

ISTIO = "networking.istio.io/v1"


def fragment(setting: Any, **policy: Any) -> Fragment:
    balancer = {"loadBalancer": {"localityLbSetting": setting}}
    return read(obj(ISTIO, "DestinationRule", {"host": "web", "trafficPolicy": balancer | policy}))


def setting(content: Any) -> LocalitySetting | None:
    found = fragment(content)
    assert found.valid, found.problems
    (noun,) = found.nouns
    balancer = noun.policy.balancer  # type: ignore[union-attr]
    assert balancer is not None
    return balancer.locality  # type: ignore[no-any-return]


def test_shares_for_places() -> None:
    one = {"from": "us-west/zone1/*", "to": {"us-west/zone2/*": 20, "us-west/zone1/*": 80}}
    rest = {"from": "*", "to": {"us-east": 60, "*": 40}}
    assert setting({"distribute": [one, rest]}) == LocalitySetting(
        distribute=(
            Distribution("us-west/zone1/*", (("us-west/zone1/*", 80), ("us-west/zone2/*", 20))),
            Distribution("*", (("*", 40), ("us-east", 60))),
        )
    )


def test_the_next_region_and_the_order_of_labels() -> None:
    regions = [{"from": "us-east", "to": "eu-west"}, {"from": "us-west", "to": "us-east"}]
    assert setting({"failover": regions, "failoverPriority": ["team", "version=v2"]}) == LocalitySetting(
        failover=(("us-east", "eu-west"), ("us-west", "us-east")), priority=("team", "version=v2")
    )


def test_that_places_do_not_count_is_something_else_than_nothing_said() -> None:
    assert setting({"enabled": False}) == LocalitySetting(enabled=False)
    found = fragment(None, outlierDetection={})
    assert not found.problems and found.nouns[0].policy.balancer.locality is None  # type: ignore[union-attr]


def test_whoever_names_no_order_is_told_that_outlier_detection_is_needed() -> None:
    (problem,) = fragment({"enabled": True}).problems
    assert problem.field == "spec.trafficPolicy.loadBalancer.localityLbSetting"
    assert "outlierDetection" in problem.message
    for found in (fragment({"enabled": True}, outlierDetection={}), fragment({"failoverPriority": ["a"]})):
        assert found.valid and not found.problems


def shares(**to: int) -> Any:
    return {"distribute": [{"from": "a", "to": {key.replace("_", "/"): value for key, value in to.items()}}]}


@pytest.mark.parametrize(
    ("content", "field", "says"),
    [
        ({"distribute": [{"to": {"a": 100}}]}, "distribute[0].from", "is required"),
        ({"distribute": [{"from": "a"}]}, "distribute[0].to", "is required"),
        (shares(a=80, b=10), "distribute[0].to", "sum up to 90; must be 100"),
        (shares(a=0, b=100), "distribute[0].to.a", "must be 1 to 100"),
        (shares(a=50, a_b=50), "distribute[0].to['a/b']", "overlaps"),
        (
            {"distribute": [{"from": f, "to": {"a": 100}} for f in ("*", "a")]},
            "distribute[1].from",
            "overlaps",
        ),
        (
            {"distribute": [{"from": f, "to": {"a": 100}} for f in ("a/b", "a/*")]},
            "distribute[1].from",
            "overlaps",
        ),
        ({"distribute": [{"from": "a/*/c", "to": {"a": 100}}]}, "distribute[0].from", "only one *"),
        ({"distribute": [{"from": "a//c", "to": {"a": 100}}]}, "distribute[0].from", "is not a place"),
        ({"distribute": [{"from": "a/b/c/d", "to": {"a": 100}}]}, "distribute[0].from", "is not a place"),
        ({"failover": [{"from": "a"}]}, "failover[0].to", "is required"),
        ({"failover": [{"from": "a", "to": "a"}]}, "failover[0].to", "another region"),
        ({"failover": [{"from": "a/b", "to": "c"}]}, "failover[0].from", "a region alone"),
        ({"failover": [{"from": "a", "to": "*"}]}, "failover[0].to", "a region alone"),
        (shares(a=100) | {"failover": [{"from": "a", "to": "b"}]}, "failover", "beside distribute"),
        (shares(a=100) | {"failoverPriority": ["a"]}, "failoverPriority", "beside distribute"),
        (
            {"failover": [{"from": "a", "to": "b"}], "failoverPriority": ["topology.kubernetes.io/zone"]},
            "failoverPriority",
            "cannot hold topology.kubernetes.io/zone",
        ),
        ({"failoverPriority": ["a b"]}, "failoverPriority[0]", "not a label's key"),
        ({"failoverPriority": ["a=b c"]}, "failoverPriority[0]", "not a label's key"),
        ({"failoverPriority": [f"a{n}" for n in range(25)]}, "failoverPriority", "at most 24"),
        ({"nearest": True}, "nearest", "unknown field"),
    ],
)
def test_what_is_wrong_is_named(content: Any, field: str, says: str) -> None:
    found = fragment(content)
    assert not found.valid and not found.nouns
    told = {
        p.field.removeprefix("spec.trafficPolicy.loadBalancer.localityLbSetting."): p for p in found.problems
    }
    assert says in told[field].message


# --- of the mesh, and of what is no pod ----------------------------------------------------------


def config(content: Any) -> MeshConfig:
    found = read(
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "istio", "namespace": "istio-system"},
            "data": {"mesh": yaml.safe_dump(content)},
        }
    )
    assert found.valid, found.problems
    (noun,) = found.nouns
    assert isinstance(noun, MeshConfig)
    return noun


def test_the_mesh_may_say_it_for_all() -> None:
    assert config({}).locality == NO_ORDER
    assert config({"localityLbSetting": {"enabled": False}}).locality == LocalitySetting(enabled=False)
    failover = {"localityLbSetting": {"failover": [{"from": "a", "to": "b"}]}}
    assert config(failover).locality == LocalitySetting(failover=(("a", "b"),))


def test_endpoints_say_where_they_are() -> None:
    (entry,) = read(obj(ISTIO, "WorkloadEntry", {"address": "192.0.2.1", "locality": "us/east/rack"})).nouns
    assert isinstance(entry, WorkloadEntry)
    assert entry.endpoint.locality == Locality("us", "east", "rack")
    spec = {
        "hosts": ["api.example.com"],
        "ports": [{"number": 80, "name": "http"}],
        "resolution": "STATIC",
        "endpoints": [{"address": "192.0.2.1", "locality": "us"}, {"address": "192.0.2.2"}],
    }
    (service,) = read(obj(ISTIO, "ServiceEntry", spec)).nouns
    assert isinstance(service, Service)
    assert service.endpoints == (Endpoint("192.0.2.1", locality=Locality("us")), Endpoint("192.0.2.2"))
