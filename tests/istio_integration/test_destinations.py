from __future__ import annotations

from typing import Any

import pytest

from mesh.model import Mirror, RouteBackend, ServiceName
from tests.istio_integration.virtual_service import ROUTE, WEB, refused_rule, rule, weighted


@pytest.mark.parametrize(
    ("written", "means"),
    [((None,), [100]), ((0,), [100]), ((7,), [100]), ((1, 3), [1, 3]), ((0, 5), [0, 5]), ((None, 5), [0, 5])],
)
def test_the_only_destination_gets_everything_and_else_no_weight_is_none(written: Any, means: Any) -> None:
    assert [backend.weight for backend in rule(weighted(*written)).backends] == means


def test_a_destination_has_a_port_and_a_subset() -> None:
    found = rule({"route": [{"destination": {"host": "web", "port": {"number": 80}, "subset": "v1"}}]})
    assert found.backends == (RouteBackend(WEB, 80, 100, subset="v1"),)


@pytest.mark.parametrize(
    ("written", "means"),
    [
        ({"mirror": {"host": "web"}}, [Mirror(WEB, 0)]),
        (
            {"mirror": {"host": "web", "subset": "v2", "port": {"number": 1}}, "mirrorPercent": 5},
            [Mirror(WEB, 1, "v2", 50_000)],
        ),
        ({"mirror": {"host": "web"}, "mirrorPercentage": {"value": 12.5}}, [Mirror(WEB, 0, share=125_000)]),
        ({"mirror": {"host": "web"}, "mirrorPercentage": {"value": 0}}, []),
        (
            {
                "mirrors": [
                    {"destination": {"host": "web"}},
                    {"destination": {"host": "a.com"}, "percentage": {"value": 1}},
                ]
            },
            [Mirror(WEB, 0), Mirror(ServiceName("shop", "a.com"), 0, share=10_000)],
        ),
    ],
)
def test_mirrors(written: Any, means: Any) -> None:
    assert rule(ROUTE | written).mirrors == tuple(means)


@pytest.mark.parametrize(
    ("http", "field", "says"),
    [
        ({"route": [{}]}, "route[0].destination", "is required"),
        ({"route": [{"destination": {}}]}, "route[0].destination.host", "is required"),
        ({"route": [{"destination": {"host": "*.a"}}]}, "route[0].destination.host", "name one service"),
        (
            {"route": [{"destination": {"host": "a", "port": {}}}]},
            "route[0].destination.port.number",
            "is required",
        ),
        (
            {"route": [{"destination": {"host": "a", "subset": "A"}}]},
            "route[0].destination.subset",
            "is not a name",
        ),
        (weighted(0, 0), "route", "together they must be 1"),
        (weighted(-1, 5), "route[0].weight", "must be 0"),
    ],
)
def test_what_is_wrong_in_a_destination_is_named(http: Any, field: str, says: str) -> None:
    assert says in refused_rule(http)[field]


@pytest.mark.parametrize(
    ("http", "field", "says"),
    [
        (
            ROUTE | {"mirror": {"host": "a"}, "mirrors": [{"destination": {"host": "a"}}]},
            "mirrors",
            "beside mirror",
        ),
        (ROUTE | {"mirrorPercentage": {"value": 5}}, "mirrorPercentage", "goes with mirror"),
        (ROUTE | {"mirrors": [{}]}, "mirrors[0].destination", "is required"),
    ],
)
def test_what_is_wrong_in_a_mirror_is_named(http: Any, field: str, says: str) -> None:
    assert says in refused_rule(http)[field]
