"""The steering table says what is compiled (rule 20): each row is held against the tables and the Envoys of a
mesh that sets just that field."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from mesh.answers.steering_table import (
    BOTH,
    CALLER,
    DESTINATION,
    KERNEL,
    NOWHERE,
    RESOLVER,
    RIDES,
    TABLE,
    Place,
    row_of,
)
from mesh.model import Module
from tests.traffic.samples import SAMPLES
from tests.traffic.shop import Object, Shop, destination_rule, to, versions, virtual_service
from xds.dialects import read
from xds.modules import FetchedModule
from xds.render import Rendered, render

CASES = [
    pytest.param(row.kind, name, row.place, id=f"{row.kind} {name}") for row in TABLE for name in row.names
]


@dataclass(frozen=True, slots=True)
class Seen:
    """What is made of a mesh: the kernel's tables, and what each Envoy is served. Pods by the side at which
    they need one."""

    kernel: object
    served: dict[str, Rendered]
    sides: frozenset[tuple[str, Place]]


def look(*objects: Object) -> Seen:
    for item in objects:
        assert read(item).valid, read(item).problems
    shop = Shop(*objects, accept=("",))
    node = shop.node
    for source in shop.mesh.policy_table.wanted_modules():
        fetched = FetchedModule(source, Module(source, repr(source).encode()))
        node.update(shop.mesh.apply({fetched.ref: fetched.fragment}))
    return Seen(
        node.state.tables(),
        {pod: render(view) for pod, view in node.proxies.items()},
        frozenset(_sides(node.proxies)),
    )


def _sides(proxies: object) -> Iterator[tuple[str, Place]]:
    assert isinstance(proxies, dict)
    for pod, view in proxies.items():
        if view.routed or view.egress or view.bound:
            yield pod, CALLER
        if view.ingress or view.gateway:
            yield pod, DESTINATION


@pytest.mark.parametrize(("kind", "name", "place"), CASES)
def test_a_field_takes_effect_where_the_table_says(kind: str, name: str, place: Place) -> None:
    sample = SAMPLES[kind][name]
    before, after = look(*sample.without), look(*sample.with_)
    if place == NOWHERE:
        assert before == after
        return
    assert before != after
    if place in (CALLER, DESTINATION, BOTH):
        assert not before.sides
        assert {side for _, side in after.sides} == ({CALLER, DESTINATION} if place == BOTH else {place})
    elif place in (KERNEL, RESOLVER):
        assert before.kernel != after.kernel
        assert not before.sides | after.sides
    else:
        assert place == RIDES
        assert {side for _, side in after.sides} <= {side for _, side in before.sides}
        assert not look(*sample.alone).sides


def test_the_samples_are_of_fields_of_the_table() -> None:
    named = {(row.kind, name) for row in TABLE for name in row.names}
    assert {(kind, name) for kind, found in SAMPLES.items() for name in found} == named


def test_a_row_is_found_for_what_is_below_it_and_for_other_levels_of_a_traffic_policy() -> None:
    for kind, field, place in (
        ("VirtualService", "http[0].fault.abort.httpStatus", CALLER),
        ("VirtualService", "http[12].match[0].sourceLabels", RIDES),
        ("VirtualService", "tcp[0].route[1].weight", KERNEL),
        ("DestinationRule", "trafficPolicy.portLevelSettings[0].port.number", RIDES),
        ("DestinationRule", "trafficPolicy.portLevelSettings[0].outlierDetection", CALLER),
        ("DestinationRule", "subsets[1].trafficPolicy.loadBalancer.consistentHash.useSourceIp", KERNEL),
        ("DestinationRule", "subsets[1].labels", RIDES),
        ("Secret", "data", None),
    ):
        found = row_of(kind, field)
        assert (found.place if found else None) == place, field


def test_what_a_subset_or_a_port_says_is_compiled_like_the_rest() -> None:
    watched = {"outlierDetection": {"consecutive5xxErrors": 3}}
    at_port = destination_rule(trafficPolicy={"portLevelSettings": [{"port": {"number": 80}, **watched}]})
    subset = {"name": "v1", "labels": {"version": "v1"}, "trafficPolicy": watched}
    routed = virtual_service(tcp=[{"route": [to(subset="v1")]}])
    assert {side for _, side in look(at_port).sides} == {CALLER}
    assert {side for _, side in look(destination_rule(subsets=[subset]), routed).sides} == {CALLER}
    assert not look(versions(), routed).sides
