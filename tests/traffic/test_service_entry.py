"""ServiceEntries as their users write them: a real Envoy routes to hosts outside the mesh as to Services."""

from __future__ import annotations

from collections import Counter
from typing import Any

from mesh.model import ServiceName
from tests.traffic.shop import Object, Served, Shop, destination_rule, object_of, to, virtual_service
from tests.traffic.test_virtual_service import Servers
from tests.xds.render.conftest import Serve

HOST = "api.example.com"
PORTS = [
    {"number": 80, "name": "http", "protocol": "HTTP"},
    {"number": 90, "name": "tcp", "protocol": "TCP"},
    {"number": 70, "name": "bare"},
]


def place(server: str, address: str, version: str, **fields: Any) -> Object:
    return {"address": address, "labels": {"server": server, "version": version}, **fields}


V1, V2 = place("one", "192.0.2.1", "v1"), place("two", "192.0.2.2", "v2")


def entry(*endpoints: Object, name: str = "api", namespace: str = "shop", **spec: Any) -> Object:
    content = {"hosts": [HOST], "ports": PORTS, "resolution": "STATIC", "endpoints": list(endpoints), **spec}
    return object_of("networking.istio.io/v1", "ServiceEntry", name, namespace, content)


def versions(namespace: str = "shop", **more: Any) -> Object:
    subsets = [{"name": v, "labels": {"version": v}} for v in ("v1", "v2")]
    return destination_rule(host=HOST, subsets=subsets, namespace=namespace, **more)


def test_a_virtual_service_routes_a_host_and_its_subsets(serve: Serve, servers: Servers) -> None:
    routes = [
        {"match": [{"uri": {"prefix": "/v2"}}], "route": [to(HOST, "v2")]},
        {"match": [{"uri": {"prefix": "/split"}}], "route": [to(HOST, "v1", 50), to(HOST, "v2", 50)]},
        {"route": [to(HOST, "v1")]},
    ]
    shop = Served(serve, servers, entry(V1, V2), virtual_service(*routes, hosts=[HOST]), versions())
    assert shop.ask("/", service=HOST).backend == "one"
    assert shop.ask("/v2", service=HOST).backend == "two"
    assert {shop.ask("/split", service=HOST).backend for _ in range(40)} == {"one", "two"}
    told = shop.proxy.admin("/clusters")
    assert all(f"outbound|80|{subset}|{HOST}::" in told for subset in ("v1", "v2"))


def test_endpoints_get_requests_by_weight(serve: Serve, servers: Servers) -> None:
    heavy = V2 | {"weight": 9}
    shop = Served(
        serve,
        servers,
        entry(V1, heavy),
        virtual_service({"route": [to(HOST)]}, hosts=[HOST]),
        destination_rule(host=HOST, trafficPolicy={"loadBalancer": {"simple": "ROUND_ROBIN"}}),
    )
    found = Counter(shop.ask("/", service=HOST).backend for _ in range(100))
    assert 80 <= found["two"] <= 99 and found["one"] >= 1


def test_without_a_rule_the_kernel_takes_connections_there() -> None:
    shop = Shop(entry(V1, V2))
    assert not shop.node.proxies
    found = shop.explain(f"shop/{HOST}:80")
    assert (found["verdict"], found["path"]) == ("allow", "kernel")
    assert {backend["address"] for backend in found["backends"]} == {"192.0.2.1", "192.0.2.2"}


def test_policy_judges_the_real_address() -> None:
    """Rule 1: never the address that the mesh gave."""
    only = object_of(
        "networking.k8s.io/v1",
        "NetworkPolicy",
        "only",
        "shop",
        {
            "podSelector": {"matchLabels": {"app": "client"}},
            "policyTypes": ["Egress"],
            "egress": [{"to": [{"ipBlock": {"cidr": "192.0.2.1/32"}}]}],
        },
    )
    shop = Shop(entry(V1, V2), only, virtual_service({"route": [to(HOST)]}, hosts=[HOST]))
    destination = next(found for found in shop.view().destinations if found.target.port == 80)
    assert [b.address for part in destination.parts for b in part.backends] == ["192.0.2.1"]


def test_each_namespace_means_its_own_entry_or_the_one_that_is_exported(
    serve: Serve, servers: Servers
) -> None:
    """A route of another namespace sends to what its callers mean by the host."""
    far = entry(V2, name="far", namespace="far")
    own = entry(V1, exportTo=["."])
    route = virtual_service({"route": [to(HOST)]})
    assert Served(serve, servers, own, far, route).ask("/").backend == "one"
    assert Served(serve, servers, far, route).ask("/").backend == "two"
    hidden = entry(V2, name="far", namespace="far", exportTo=["."])
    shop = Served(serve, servers, hidden, route, accept=["there is no ServiceEntry"])
    assert shop.ask("/").status == 503


def test_a_host_that_no_entry_knows_is_a_problem() -> None:
    """Rule 24."""
    shop = Shop(virtual_service({"route": [to(HOST)]}, hosts=[HOST]), accept=["there is no ServiceEntry"])
    assert [problem.field for problem in shop.problems] == ["spec.hosts[0]", "spec.http[0].route[0]"]


def test_certificates_are_to_say_what_the_entry_says_where_no_rule_does() -> None:
    names = {"subjectAltNames": ["spiffe://example/api"]}
    for tls, wanted in (
        ({"mode": "SIMPLE"}, ("spiffe://example/api",)),
        ({"mode": "SIMPLE", "subjectAltNames": ["other"]}, ("other",)),
    ):
        rule = destination_rule(host=HOST, trafficPolicy={"tls": tls})
        shop = Shop(entry(V1, **names), rule)
        found = next(d for d in shop.view().destinations if d.target.service == ServiceName("shop", HOST))
        assert found.policy.tls is not None and found.policy.tls.names == wanted
