from __future__ import annotations

from typing import Any

import pytest

from mesh.model import HeaderChange
from tests.istio_integration.virtual_service import ROUTE, refused_rule, rule


def changed(*destinations: Any, **whole: Any) -> tuple[HeaderChange, ...]:
    entries = [
        {"destination": {"host": "web"}, "weight": 1, "headers": {"request": request}}
        for request in destinations
    ]
    found = rule({"route": entries, "headers": {"request": whole}})
    assert (found.request_headers, found.response_headers) == (HeaderChange(), HeaderChange())
    return tuple(backend.request_headers for backend in found.backends)


def test_of_several_destinations_each_ones_changes_come_before_the_routes() -> None:
    first, second = changed({"set": {"X": "a"}, "add": {"y": "a"}}, {}, set={"x": "b"}, add={"y": "b"})
    assert first == HeaderChange(set=(("x", "b"),), add=(("y", "a"), ("y", "b")))
    assert second == HeaderChange(set=(("x", "b"),), add=(("y", "b"),))


def test_of_a_single_destination_they_come_after_the_routes() -> None:
    (found,) = changed({"set": {"x": "a"}, "add": {"y": "a"}}, set={"x": "b"}, add={"y": "b"})
    assert found == HeaderChange(set=(("x", "a"),), add=(("y", "b"), ("y", "a")))


@pytest.mark.parametrize(
    ("changes", "means"),
    [
        ({"remove": ["x"], "set": {"x": "a"}}, HeaderChange(set=(("x", "a"),))),
        ({"remove": ["x"], "add": {"x": "a"}}, HeaderChange(set=(("x", "a"),))),
        (
            {"set": {"x": "a"}, "add": {"x": "b"}},
            HeaderChange(set=(("x", "a"),), add=(("x", "b"),)),
        ),
        ({"remove": ["B", "a"]}, HeaderChange(remove=("a", "b"))),
        ({"set": {"x": "50%%"}}, HeaderChange(set=(("x", "50%"),))),
    ],
)
def test_envoy_removes_before_it_sets_and_adds(changes: Any, means: HeaderChange) -> None:
    assert changed({}, **changes) == (means,)


def test_without_destinations_the_changes_are_the_rules() -> None:
    found = rule({"directResponse": {"status": 200}, "headers": {"response": {"set": {"x": "a"}}}})
    assert found.response_headers == HeaderChange(set=(("x", "a"),))


@pytest.mark.parametrize(
    ("http", "field", "says"),
    [
        (
            ROUTE | {"headers": {"request": {"set": {"x": "%START_TIME%"}}}},
            "headers.request.set.x",
            "commands of Envoy",
        ),
        (
            ROUTE | {"headers": {"request": {"set": {"x": "5%"}}}},
            "headers.request.set.x",
            "%% is a percent sign",
        ),
        (ROUTE | {"headers": {"request": {"set": {"x": ""}}}}, "headers.request.set.x", "must not be empty"),
        (
            ROUTE | {"headers": {"request": {"set": {":path": "/"}}}},
            "headers.request.set[':path']",
            "is not a name",
        ),
        (
            ROUTE | {"headers": {"request": {"remove": ["host"]}}},
            "headers.request.remove[0]",
            "cannot be removed",
        ),
        (
            ROUTE | {"headers": {"response": {"set": {"host": "a"}}}},
            "headers.response",
            "belongs to a request",
        ),
        (
            ROUTE | {"headers": {"request": {"set": {"host": "a"}, "add": {":authority": "b"}}}},
            "headers.request",
            "twice",
        ),
    ],
)
def test_what_is_wrong_in_a_header_change_is_named(http: Any, field: str, says: str) -> None:
    assert says in refused_rule(http)[field]
