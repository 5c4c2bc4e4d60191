"""What a rendering is, seen from outside: its bytes, names and origins, and what a change changes."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import pytest

from mesh.discovery.envoy import CLUSTER, ENDPOINTS, LISTENER, ROUTES
from mesh.model import Backend, HttpMatch, Locality, ObjectRef
from mesh.proxy import HttpRule, L7Class, Part, Place, ProxyView
from tests.xds.render.views import (
    POLICY,
    ROUTE,
    destination,
    entry,
    l7,
    nowhere,
    part,
    prefix,
    routed,
    to,
    view,
)
from xds.render import EnvoyResource, Rendered, readable, render
from xds.render.endpoints import endpoints

VIEW = view(
    routed=(routed("api", entry(prefix("/"), to("api"), nowhere())),),
    destinations=(
        destination("api", part(8080, address="10.64.0.5"), part(8080, address="10.64.0.6", l7=300)),
    ),
    egress=(l7(300, "egress", HttpMatch(method="GET")),),
    ingress=(l7(301, "ingress", HttpMatch(path="/a")),),
)


def by_name(rendered: Rendered) -> dict[tuple[str, str], EnvoyResource]:
    return {(resource.kind, resource.name): resource for resource in rendered}


def changed(before: ProxyView, after: ProxyView) -> set[tuple[str, str]]:
    old, new = by_name(render(before)), by_name(render(after))
    return {key for key in old.keys() | new.keys() if old.get(key) != new.get(key)}


def test_resources_are_sorted_and_have_istios_names() -> None:
    rendered = render(VIEW)
    assert [(resource.kind, resource.name) for resource in rendered] == [
        ("clusters", "InboundPassthroughCluster"),
        ("clusters", "PassthroughCluster"),
        ("clusters", "outbound|80||api.shop.svc.cluster.local"),
        ("clusters", "outbound|80|~300|api.shop.svc.cluster.local"),
        ("endpoints", "outbound|80||api.shop.svc.cluster.local"),
        ("endpoints", "outbound|80|~300|api.shop.svc.cluster.local"),
        ("listeners", "virtualInbound|301"),
        ("listeners", "virtualOutbound"),
        ("listeners", "virtualOutbound|300"),
        ("routes", "api.shop.svc.cluster.local:80"),
        ("routes", "inbound|301"),
        ("routes", "outbound|300"),
    ]
    assert {resource.type_url for resource in rendered} == {CLUSTER, ENDPOINTS, LISTENER, ROUTES}


def test_each_resource_names_the_objects_that_shaped_it() -> None:
    found = by_name(render(VIEW))
    assert found["routes", "api.shop.svc.cluster.local:80"].origins == (POLICY, ROUTE)
    assert found["clusters", "outbound|80||api.shop.svc.cluster.local"].origins == (ROUTE,)
    assert found["listeners", "virtualOutbound"].origins == (ROUTE,)
    assert found["routes", "inbound|301"].origins == (POLICY,)


def test_a_rendering_is_the_same_in_every_process() -> None:
    program = (
        "import hashlib; from xds.render import render; from tests.xds.render.test_rendering import VIEW;"
        "print(hashlib.sha256(b''.join(r.any for r in render(VIEW))).hexdigest())"
    )
    found = {
        subprocess.run(
            [sys.executable, "-W", "ignore", "-c", program],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": "."},
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(found) == 1


def test_nobody_imports_envoys_messages_before_they_are_needed() -> None:
    program = "import sys, xds.render; print('envoy_data_plane' in sys.modules)"
    result = subprocess.run(
        [sys.executable, "-c", program], env={"PYTHONPATH": "."}, capture_output=True, check=True
    )
    assert result.stdout.strip() == b"False"


def test_an_edit_of_rules_changes_routes_and_nothing_that_would_drain_connections() -> None:
    """Rule 6."""
    stricter = replace(
        VIEW,
        ingress=(l7(301, "ingress", HttpMatch(path="/b")),),
        egress=(l7(300, "egress", HttpMatch(method="HEAD")),),
    )
    assert changed(VIEW, stricter) == {
        ("routes", "inbound|301"),
        ("routes", "outbound|300"),
        ("routes", "api.shop.svc.cluster.local:80"),
    }
    rerouted = replace(VIEW, routed=(routed("api", entry(prefix("/new"), to("api"))),))
    assert changed(VIEW, rerouted) == {("routes", "api.shop.svc.cluster.local:80")}


def test_a_backend_more_changes_endpoints_only() -> None:
    before = replace(VIEW, destinations=(destination("api", part(1, 2)),))
    after = replace(VIEW, destinations=(destination("api", part(1, 2, 3)),))
    assert changed(before, after) == {("endpoints", "outbound|80||api.shop.svc.cluster.local")}


def test_backends_that_are_judged_differently_share_a_weight_by_their_number() -> None:
    def weights(*parts: Part, weight: int = 1) -> list[int]:
        shown = view(
            routed=(routed("api", entry(prefix("/"), to("api", weight), to("web", 2))),),
            destinations=(destination("api", *parts), destination("web", part(1))),
            egress=(l7(300, "egress"), l7(301, "egress")),
        )
        routes = [resource for resource in render(shown) if resource.kind == "routes"]
        (route,) = readable(routes)["routes"][0]["virtual_hosts"][0]["routes"]
        return [cluster["weight"] for cluster in route["route"]["weighted_clusters"]["clusters"]]

    assert weights(part(1, 2, 3)) == [1, 2]
    assert weights(part(1), part(2, 3, l7=300)) == [1, 2, 6]
    assert weights(part(1), part(l7=300)) == [1, 2]
    assert weights(part(1), part(2, l7=300), part(3, 4, l7=301), weight=3) == [3, 3, 6, 8]
    crowd = range(1, 60001)
    large = weights(part(*crowd), part(1, l7=300), weight=1_000_000)
    assert sum(large) < 1 << 32
    assert min(large) >= 1


@pytest.mark.parametrize("count", [0, 1, 3, 300])
def test_endpoints_are_the_bytes_that_the_library_would_write(count: int) -> None:
    from envoy_data_plane.envoy.config.core.v3 import Address, SocketAddress
    from envoy_data_plane.envoy.config.endpoint.v3 import (
        ClusterLoadAssignment,
        Endpoint,
        LbEndpoint,
        LocalityLbEndpoints,
    )

    from xds.render.encoding import encode

    backends = tuple(Backend(f"10.64.{i // 250}.{i % 250}", 1 + i * 200) for i in range(count))
    found = [
        LbEndpoint(
            endpoint=Endpoint(
                address=Address(socket_address=SocketAddress(address=b.address, port_value=b.port))
            )
        )
        for b in backends
    ]
    localities = [LocalityLbEndpoints(lb_endpoints=found)] if found else []
    expected = encode(ClusterLoadAssignment(cluster_name="outbound|80||x", endpoints=localities))
    assert endpoints("outbound|80||x", backends) == expected


def test_places_are_the_bytes_that_the_library_would_write() -> None:
    """Priorities without a gap, whatever is missing from this cluster of the target."""
    from envoy_data_plane.envoy.config.core.v3 import Address, SocketAddress
    from envoy_data_plane.envoy.config.core.v3 import Locality as EnvoyLocality
    from envoy_data_plane.envoy.config.endpoint.v3 import (
        ClusterLoadAssignment,
        Endpoint,
        LbEndpoint,
        LocalityLbEndpoints,
    )

    from xds.render.encoding import encode

    near, far = Place(1, Locality("us", "east", "rack"), 3), Place(4, Locality("eu"))
    backends = tuple(Backend(f"10.64.0.{n}", 80) for n in range(1, 4))
    one, two, three = (
        LbEndpoint(
            endpoint=Endpoint(address=Address(socket_address=SocketAddress(address=b.address, port_value=80)))
        )
        for b in backends
    )
    localities = [
        LocalityLbEndpoints(
            locality=EnvoyLocality(region="us", zone="east", sub_zone="rack"),
            lb_endpoints=[one, three],
            load_balancing_weight=3,
        ),
        LocalityLbEndpoints(locality=EnvoyLocality(region="eu"), lb_endpoints=[two], priority=1),
    ]
    expected = encode(ClusterLoadAssignment(cluster_name="outbound|80||x", endpoints=localities))
    assert endpoints("outbound|80||x", backends, (near, far, near)) == expected


def test_a_part_has_its_share_by_the_backends_that_come_first_or_by_weight() -> None:
    backends = tuple(Backend(f"10.64.0.{n}", 80) for n in range(1, 4))
    near, far = Place(0, Locality("us")), Place(1, Locality("eu"))
    assert Part(0, backends).count == 3
    assert [Part(0, backends, p).count for p in ((near, near, far), (far, far, far))] == [2, 0]
    heavy, light = Place(0, Locality("us"), 4), Place(0, Locality("eu"), 1)
    assert Part(0, backends, (heavy, heavy, light)).count == 5


def test_policies_of_one_name_and_two_kinds_lose_nothing() -> None:
    other = HttpRule(ObjectRef("Other", "shop", "web"), "ingress[0].toPorts[0]", (HttpMatch(path="/b"),))
    both = L7Class(301, "ingress", (*l7(301, "ingress", HttpMatch(path="/a")).rules, other))
    (routes,) = readable(render(view(ingress=(both,))))["routes"]
    rbac = routes["virtual_hosts"][0]["typed_per_filter_config"]["envoy.filters.http.rbac"]["rbac"]
    assert [len(policy["permissions"]) for policy in rbac["rules"]["policies"].values()] == [1, 1]
