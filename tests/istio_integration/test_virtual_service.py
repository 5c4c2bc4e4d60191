from __future__ import annotations

from typing import Any

import pytest

from mesh.model import ObjectRef, Parent, Route, RouteBackend, RouteMatch, RouteRule, ServiceName, ValueMatch
from tests.istio_integration.virtual_service import ROUTE, WEB, fragment, refused, route, rule
from tests.mesh.dialects.objects import obj
from xds.dialects import read


def test_bookinfos_reviews_are_all_v1() -> None:
    destination = {"host": "reviews", "subset": "v1"}
    found = route({"hosts": ["reviews"], "http": [{"route": [{"destination": destination}]}]})
    reviews = ServiceName("shop", "reviews")
    assert found == Route(
        ObjectRef("VirtualService", "shop", "one"),
        "",
        (Parent(reviews, None),),
        (RouteRule("http[0]", (RouteMatch(),), (RouteBackend(reviews, 0, 100, subset="v1"),), lost=503),),
        names=("reviews.shop.svc.cluster.local",),
        in_order=True,
    )


def test_bookinfos_jason_sees_v2_and_everybody_else_v3() -> None:
    v2, v3 = ({"route": [{"destination": {"host": "reviews", "subset": s}}]} for s in ("v2", "v3"))
    jason = {"match": [{"headers": {"end-user": {"exact": "jason"}}}]}
    first, second = route({"hosts": ["reviews"], "http": [jason | v2, v3]}).rules
    assert first.matches == (RouteMatch(headers=(ValueMatch("end-user", "exact", "jason"),)),)
    assert [backend.subset for backend in first.backends + second.backends] == ["v2", "v3"]
    assert second.matches == (RouteMatch(),)


@pytest.mark.parametrize("version", ["v1", "v1beta1", "v1alpha3"])
def test_every_version_means_the_same(version: str) -> None:
    assert route({"http": [ROUTE]}, version) == route({"http": [ROUTE]})


@pytest.mark.parametrize(
    ("written", "service"),
    [
        ("web", WEB),
        ("Web", WEB),
        ("web.far.svc.cluster.local", ServiceName("far", "web")),
        # Only a name without a dot is short.
        ("web.far", ServiceName("shop", "web.far")),
        ("web.far.svc", ServiceName("shop", "web.far.svc")),
        ("wikipedia.org", ServiceName("shop", "wikipedia.org")),
        ("web-0.web.far.svc.cluster.local", ServiceName("shop", "web-0.web.far.svc.cluster.local")),
    ],
)
def test_what_a_host_stands_for(written: str, service: ServiceName) -> None:
    assert route({"hosts": [written], "http": [ROUTE]}).parents == (Parent(service, None),)
    assert rule({"route": [{"destination": {"host": written}}]}).backends[0].service == service


def test_a_host_that_ends_in_svc_is_pointed_out() -> None:
    (problem,) = fragment({"hosts": ["web.far.svc"], "http": [ROUTE]}).problems
    assert "web.far.svc.cluster.local" in problem.message


def test_patterns_bind_every_service_they_fit_and_addresses_are_for_gateways() -> None:
    hosts = ["*.example.com", "192.0.2.1", "2001:db8::1"]
    found = route({"hosts": hosts, "gateways": ["edge"], "http": [ROUTE]})
    assert (found.hosts, found.parents, found.names) == (("*.example.com",), (), tuple(hosts))


@pytest.mark.parametrize(
    ("written", "means"),
    [
        (["mesh"], ("mesh",)),
        (["edge", "mesh"], ("mesh", "shop/edge")),
        (["far/edge"], ("far/edge",)),
        (["edge.far.svc.cluster.local"], ("far/edge",)),
    ],
)
def test_gateways_are_of_the_own_namespace_unless_they_say_another(written: Any, means: Any) -> None:
    assert route({"gateways": written, "http": [ROUTE]}).gateways == means


@pytest.mark.parametrize(
    ("written", "means"),
    [([], ("*",)), (["*"], ("*",)), (["."], ("shop",)), ([".", "far"], ("far", "shop"))],
)
def test_to_whom_it_is_exported(written: Any, means: Any) -> None:
    assert route({"exportTo": written, "http": [ROUTE]}).exported == means


def test_one_without_hosts_is_a_delegate_and_binds_nobody() -> None:
    found = route({"hosts": [], "http": [ROUTE]})
    assert (found.parents, found.hosts, found.names) == ((), (), ())


def test_when_it_was_made() -> None:
    object = obj("networking.istio.io/v1", "VirtualService", {"hosts": ["web"], "http": [ROUTE]})
    object["metadata"]["creationTimestamp"] = "2026-08-01T00:00:00Z"
    (found,) = read(object).nouns
    assert isinstance(found, Route) and found.created == "2026-08-01T00:00:00Z"


@pytest.mark.parametrize(
    ("spec", "field", "says"),
    [
        ({}, "spec", "has no routes"),
        ({"hosts": ["*"], "http": [ROUTE]}, "hosts[0]", "for gateways only"),
        ({"hosts": ["*-a.com"], "http": [ROUTE]}, "hosts[0]", "write * or *.example.com"),
        ({"hosts": ["a_b"], "http": [ROUTE]}, "hosts[0]", "is not a host"),
        ({"hosts": ["a.com", "*.com"], "http": [ROUTE]}, "hosts[1]", "overlap"),
        ({"hosts": ["web", "web"], "http": [ROUTE]}, "hosts[1]", "overlap"),
        ({"gateways": ["a/b/c"], "http": [ROUTE]}, "gateways[0]", "write mesh, name or namespace/name"),
        ({"exportTo": ["~"], "http": [ROUTE]}, "exportTo[0]", "write ."),
        ({"exportTo": [".", "shop"], "http": [ROUTE]}, "exportTo[1]", "twice"),
        ({"exportTo": ["*", "shop"], "http": [ROUTE]}, "exportTo", "stand alone"),
        ({"exportTo": ["A"], "http": [ROUTE]}, "exportTo[0]", "is not a namespace"),
        ({"hosts": [], "gateways": ["edge"], "http": [ROUTE]}, "gateways", "is a delegate"),
        ({"hosts": [], "tcp": [ROUTE]}, "tcp", "is a delegate"),
        ({"hosts": [], "tls": [ROUTE]}, "tls", "is a delegate"),
    ],
)
def test_what_is_wrong_is_named(spec: Any, field: str, says: str) -> None:
    assert says in refused(spec)[field]


def test_nothing_of_a_virtual_service_with_one_unreadable_rule_counts() -> None:
    assert fragment({"http": [ROUTE, {"bogus": 1}]}).nouns == ()
