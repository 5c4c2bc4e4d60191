"""Services of type ExternalName between routes: who sends to one sends to where it leads, and who speaks of
one is told whom to name instead (rule 24)."""

from __future__ import annotations

import pytest

from mesh.aliases import LONGEST, Aliases
from mesh.dns_records import Records, zone
from mesh.model import Alias, ObjectRef, ServiceName
from mesh.request import Request
from mesh.status import Written, status_of
from tests.traffic.edge import gate, gateway, http_route, istio_gateway
from tests.traffic.followed import HTTP, alias, assert_each_is_followed, dynamic, entry, service
from tests.traffic.samples.security import mesh_config
from tests.traffic.shop import (
    Object,
    Shop,
    base,
    destination_rule,
    object_of,
    pod,
    to,
    versions,
    virtual_service,
)
from xds.dialects import read

FAR = "web.shop.svc.cluster.local"
API = "api.example.com"
PLACES = [{"address": "192.0.2.1"}]


def told(shop: Shop) -> list[str]:
    return [f"{p.object} {p.field}: {p.message}" for p in shop.problems]


def reached(shop: Shop, target: str = "shop/shadow:80") -> set[str]:
    """Behind what a client's request goes that it sends there."""
    found = shop.explain(target, Request("GET", "/", "shadow"))["backends"]
    return {backend["pod"] or backend["address"] for backend in found}


def test_it_has_no_address_and_nothing_stands_behind_it() -> None:
    shop = Shop(alias("db", FAR, selector={"app": "web"}, ports=[{"port": 80}]))
    db = ServiceName("shop", "db")
    assert db not in shop.mesh.services and db not in shop.mesh.vips and db not in shop.mesh.backends
    assert "shop/db" not in shop.node.state.services
    assert "db.shop" not in shop.mesh.allocations.to_json()
    assert shop.mesh.service_table.selecting(shop.mesh.workloads[min(shop.mesh.workloads)])
    assert zone(shop.mesh).aliases == {"db.shop.svc.cluster.local": FAR}


def test_records_follow_what_a_name_is() -> None:
    mesh = Shop().mesh
    records = Records(mesh)
    plain = object_of("v1", "Service", "db", "shop", {"ports": [{"port": 80}]})
    for now in (alias("db", API), alias("db", FAR), plain, alias("db", API), None):
        ref = ObjectRef("Service", "shop", "db")
        assert records.update(mesh.apply({ref: read(now) if now else None}))
        assert records.zone() == zone(mesh)
    assert zone(mesh).aliases == {}


@pytest.mark.parametrize("kind", ["route", "mirror", "tcp"])
def test_a_destination_that_is_an_alias_is_the_service_where_it_leads(kind: str) -> None:
    if kind == "mirror":
        route = virtual_service({"route": [to("shadow")], "mirror": {"host": "second"}}, hosts=["shadow"])
    elif kind == "tcp":
        route = virtual_service(hosts=["shadow"], tcp=[{"route": [to("second", subset="v2")]}])
    else:
        route = virtual_service({"route": [to("second", subset="v2")]}, hosts=["shadow"])
    shop = Shop(alias("first", FAR), alias("second", "first.shop.svc.cluster.local"), versions(), route)
    if kind == "mirror":
        assert any(str(d.target.service) == "shop/web" for d in shop.view().destinations)
    else:
        assert reached(shop) == {"shop/two"}


def test_a_destination_that_leads_out_of_the_mesh_needs_a_service_entry() -> None:
    route = virtual_service({"route": [to("db")]}, hosts=["shadow"])
    shop = Shop(alias("db", API), route, accept=["ExternalName"])
    assert told(shop) == [
        "VirtualService shop/web spec.http[0].route[0]: Service shop/db is an ExternalName for "
        f"{API}, and there is no ServiceEntry for {API}: write one; its share answers 503"
    ]
    assert reached(Shop(alias("db", API), route, entry("api", "shop", endpoints=PLACES))) == {"192.0.2.1"}
    assert reached(Shop(alias("db", API), route, dynamic("any", "shop"))) == set(), "it is asked for"
    hidden = entry("api", "street", endpoints=PLACES, exportTo=["."])
    assert told(Shop(alias("db", API), route, hidden, accept=["ExternalName"])), "it is not for the shop"


def test_a_destination_that_leads_to_a_service_that_is_not_there_is_told() -> None:
    route = virtual_service({"route": [to("db")]}, hosts=["shadow"])
    for target in ("gone.shop.svc.cluster.local", "gone"):
        (line,) = told(Shop(alias("db", target), route, accept=["ExternalName"]))
        assert f"Service shop/db is an ExternalName for {target}" in line


@pytest.mark.parametrize(("target", "instead"), [(FAR, f"name {FAR} instead"), (API, f"name {API} instead")])
def test_rules_about_an_alias_bind_nobody_and_say_whom_to_name(target: str, instead: str) -> None:
    rules: tuple[Object, ...] = (
        virtual_service({"route": [to("shadow")]}, hosts=["db"]),
        destination_rule(host="db"),
    )
    shop = Shop(alias("db", target), *rules, accept=["ExternalName"])
    fields = [(p.object.kind, p.field) for p in shop.problems]
    assert fields == [("DestinationRule", "spec.host"), ("VirtualService", "spec.hosts[0]")]
    assert all(instead in p.message for p in shop.problems)
    assert not shop.node.proxies.get("shop/client") or not shop.view().routed


def test_a_service_that_an_alias_leads_to_keeps_its_routes() -> None:
    """The address decides, by whichever name it was found."""
    route = virtual_service({"route": [to("shadow")]})
    assert Shop(route, alias("db", FAR)).view() == Shop(route).view()


# --- the Gateway API -----------------------------------------------------------------------------------


def test_the_gateway_api_sends_nothing_to_an_alias() -> None:
    """BackendObjectReference: implementations should not support it (CVE-2021-25740)."""
    listener = {
        "name": "http",
        "port": 80,
        "protocol": "HTTP",
        "allowedRoutes": {"namespaces": {"from": "All"}},
    }
    route = http_route({"backendRefs": [{"name": "db", "port": 80}]})
    shop = Shop(gate(), gateway(listener), alias("db", FAR), route, accept=["ExternalName"])
    assert told(shop) == [
        "HTTPRoute shop/web spec.rules[0].backendRefs[0]: Service shop/db is an ExternalName, which cannot "
        "be a backend; its share answers 500"
    ]
    assert not shop.view("edge/gate").destinations
    (parent,) = status_of(shop.mesh, Written(route, read(route), None))["parents"]
    (resolved,) = (c for c in parent["conditions"] if c["type"] == "ResolvedRefs")
    assert (resolved["status"], resolved["reason"]) == ("False", "BackendNotFound")
    assert "is an ExternalName" in resolved["message"]


def test_a_route_of_the_gateway_api_cannot_be_for_callers_of_an_alias() -> None:
    parents = {"parentRefs": [{"group": "", "kind": "Service", "name": "db"}]}
    route = http_route({"backendRefs": [{"name": "web", "port": 80}]}, **parents)
    shop = Shop(alias("db", FAR), route, accept=["ExternalName"])
    (parent,) = status_of(shop.mesh, Written(route, read(route), None))["parents"]
    (accepted,) = (c for c in parent["conditions"] if c["type"] == "Accepted")
    assert (accepted["reason"], accepted["message"]) == (
        "NoMatchingParent",
        "Service shop/db is an ExternalName",
    )


# --- aliases of aliases --------------------------------------------------------------------------------


def row(length: int, target: str) -> Aliases:
    """`a1` to the last, each for the next one."""
    found = Aliases()
    for at in range(1, length + 1):
        leads = target if at == length else f"a{at + 1}.shop.svc.cluster.local"
        found.put(Alias(ServiceName("shop", f"a{at}"), leads))
    return found


@pytest.mark.parametrize("length", [1, 2, LONGEST])
def test_a_row_of_aliases_ends_where_the_last_one_leads(length: int) -> None:
    found = row(length, API)
    assert found.end(ServiceName("shop", "a1")) == API
    assert found.meant(ServiceName("shop", "a1")) == ServiceName("shop", API)
    assert len(found.standing_for([ServiceName("street", API)])) == length + 1


@pytest.mark.parametrize(
    ("length", "target"),
    [
        (LONGEST + 1, API),
        (1, "a1.shop.svc.cluster.local"),
        (3, "a2.shop.svc.cluster.local"),
        (20, "a1.shop.svc.cluster.local"),
    ],
)
def test_a_circle_or_a_long_row_leads_nowhere_and_is_told(length: int, target: str) -> None:
    found, first = row(length, target), ServiceName("shop", "a1")
    assert (found.end(first), found.meant(first)) == ("", first)
    assert [p.field for p in found.problems(first)] == ["spec.externalName"]


def test_who_breaks_a_circle_mends_all_who_are_in_it() -> None:
    shop = Shop(alias("a", "b.shop.svc.cluster.local"), alias("b", "a.shop.svc.cluster.local"), accept=[""])
    assert [str(p.object) for p in shop.mesh.problems] == ["Service shop/a", "Service shop/b"]
    shop.mesh.apply({read(found).ref: read(found) for found in [alias("b", FAR)]})
    assert shop.mesh.problems == ()


# --- decision 8 ----------------------------------------------------------------------------------------


def test_each_change_of_an_alias_and_of_where_it_leads_is_followed() -> None:
    """One at a time, with nothing else that could make somebody look again."""
    plain = object_of("v1", "Service", "db", "shop", {"ports": [{"port": 80}], "selector": {"app": "web"}})
    policy = {"outlierDetection": {"consecutive5xxErrors": 3}}
    assert_each_is_followed(
        base(),
        [virtual_service({"route": [to("second")]}, hosts=["shadow"], name="shadow")],
        [virtual_service(hosts=["nobody"], tcp=[{"route": [to("db")]}], name="nobody")],
        [destination_rule(name="db", host="db", trafficPolicy=policy)],
        [alias("second", "db.shop.svc.cluster.local")],
        [alias("db", FAR)],
        [destination_rule(name="own", namespace="street", host=FAR, trafficPolicy=policy)],
        [service(trafficDistribution="PreferClose")],
        [alias("db", "second.shop.svc.cluster.local")],
        [alias("db", API)],
        [entry("api", "shop", endpoints=PLACES)],
        [entry("api", "street", endpoints=[{"address": "192.0.2.2"}], exportTo=["."])],
        [destination_rule(name="api", namespace="street", host=API, trafficPolicy=policy)],
        [plain],
        [alias("db", "a.example.com")],
        [dynamic("any", "shop")],
        [alias("db", FAR)],
        [mesh_config("outboundTrafficPolicy: {mode: REGISTRY_ONLY}")],
        [alias("db", API)],
        [alias("db", FAR)],
        [gate(), istio_gateway(HTTP | {"hosts": ["*"]})],
        [virtual_service({"route": [to("db")]}, name="edge", hosts=["*"], gateways=["edge/public"])],
        [alias("db", API)],
        [destination_rule(name="db", host="nobody.example.org", trafficPolicy=policy)],
    )


def test_a_route_of_a_gateway_alone_follows_where_an_alias_leads() -> None:
    """It binds no service that could be told of."""
    route = {"route": [to("db")]}
    assert_each_is_followed(
        [*base(), gate(), istio_gateway(HTTP | {"hosts": ["*"]}), alias("db", API)],
        [virtual_service(route, name="edge", hosts=["*"], gateways=["edge/public"])],
        [entry("api", "shop", endpoints=PLACES)],
        [alias("db", "gone.shop.svc.cluster.local")],
        [alias("db", FAR)],
    )


@pytest.mark.parametrize("target", [API, FAR])
@pytest.mark.parametrize("kind", ["http", "tcp"])
def test_callers_are_told_apart_by_rules_about_where_an_alias_leads(target: str, kind: str) -> None:
    """A host that is another one in their namespace, or a DestinationRule there."""
    routes: Object = {"tcp": [{"route": [to("db")]}]} if kind == "tcp" else {"http": [{"route": [to("db")]}]}
    policy = {"outlierDetection": {"consecutive5xxErrors": 3}}
    assert_each_is_followed(
        [*base(), pod("walker", "10.64.2.2", {"app": "walker"}, "street"), alias("db", target)],
        [entry("api", "shop", endpoints=PLACES)],
        [virtual_service(hosts=["shadow"], **routes)],
        [entry("api", "street", endpoints=[{"address": "192.0.2.2"}], exportTo=["."])],
        [destination_rule(namespace="street", host=target, trafficPolicy=policy)],
    )


# --- threats -------------------------------------------------------------------------------------------


def test_an_alias_opens_nothing_that_policy_forbids() -> None:
    """It is only a name: policy judges those to whom it leads, and one that names it names nobody."""
    to_service = {"toServices": [{"k8sService": {"serviceName": "db", "namespace": "street"}}]}
    spec = {"endpointSelector": {"matchLabels": {"app": "client"}}, "egress": [to_service]}
    policy = object_of("cilium.io/v2", "CiliumNetworkPolicy", "only", "shop", spec)
    theirs = alias("db", FAR, namespace="street")
    route = virtual_service({"route": [to("db.street.svc.cluster.local")]}, hosts=["shadow"])
    shop = Shop(theirs, policy, route)
    egress = shop.node.state.pods["shop/client"].egress_set
    assert shop.node.verdict(egress, "10.64.0.10", "TCP", 8080).verdict == "deny"
    assert {backend["verdict"] for backend in shop.explain("shop/shadow:80")["backends"]} == {"deny"}
