"""The status of objects of the Gateway API: every reason, once."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from mesh.status import Written, status_of
from tests.traffic.edge import gate, gateway, http_route
from tests.traffic.shop import Object, Shop, object_of
from xds.dialects import read

API = "gateway.networking.k8s.io"
ANYBODY = {"allowedRoutes": {"namespaces": {"from": "All"}}}
HTTP: Object = {"name": "http", "port": 80, "protocol": "HTTP", **ANYBODY}
WEB = {"name": "web", "port": 80}
CONTROLLER = "sluice.io/gateway-controller"


def status(subject: Object, *objects: Object, before: Object | None = None) -> Any:
    """Of `subject` in a shop with a Gateway's pod; of one that cannot be read, with the version before."""
    in_force = [before or subject] if before or read(subject).valid else []
    shop = Shop(gate(), *objects, *in_force, accept=[""])
    fallen_back = before["metadata"].get("generation") if before else None
    return status_of(shop.mesh, Written(subject, read(subject), fallen_back))


def told(conditions: list[Object]) -> dict[str, tuple[str, str]]:
    return {c["type"]: (c["status"], c["reason"]) for c in conditions}


def of_gateway(*listeners: Object, objects: tuple[Object, ...] = (), **spec: Any) -> Any:
    subject = gateway(*listeners)
    subject["spec"] |= spec
    return status(subject, *objects)


def of_listener(listener: Object, *objects: Object) -> dict[str, tuple[str, str]]:
    return told(of_gateway(listener, objects=objects)["listeners"][0]["conditions"])


def of_route(subject: Object, *objects: Object) -> dict[str, tuple[str, str]]:
    (parent,) = status(subject, *(objects or (gateway(HTTP),)))["parents"]
    assert parent["controllerName"] == CONTROLLER
    return told(parent["conditions"])


def gateway_class(controller: str = CONTROLLER) -> Object:
    found = object_of(f"{API}/v1", "GatewayClass", "sluice", "", {"controllerName": controller})
    del found["metadata"]["namespace"]
    return found


# --- classes ---------------------------------------------------------------------------------------------


def test_a_class_of_ours_is_accepted_and_promises_sorted_features() -> None:
    found = status(gateway_class())
    assert told(found["conditions"]) == {
        "Accepted": ("True", "Accepted"),
        "SupportedVersion": ("True", "SupportedVersion"),
    }
    names = [feature["name"] for feature in found["supportedFeatures"]]
    assert names == sorted(names)
    assert {"Gateway", "HTTPRoute", "Mesh"} <= set(names)


def test_what_is_somebody_elses_gets_no_status() -> None:
    theirs = gateway_class("acme.io/gateway")
    assert status(theirs) is None
    assert status(gateway(HTTP), theirs) is None
    assert status(http_route({"backendRefs": [WEB]}), theirs, gateway(HTTP)) == {"parents": []}
    assert status(gate()) is None


# --- Gateways --------------------------------------------------------------------------------------------


def test_a_gateway_that_is_served() -> None:
    route = http_route({"backendRefs": [WEB]})
    far = http_route({"backendRefs": [WEB]}, name="far", hostnames=["other.org"])
    found = of_gateway(HTTP | {"hostname": "*.example"}, objects=(route, far))
    assert told(found["conditions"]) == {
        "Accepted": ("True", "Accepted"),
        "Programmed": ("True", "Programmed"),
    }
    assert found["addresses"] == [{"type": "IPAddress", "value": "10.64.1.10"}]
    (listener,) = found["listeners"]
    assert (listener["name"], listener["attachedRoutes"]) == ("http", 1)
    assert listener["supportedKinds"] == [{"group": API, "kind": k} for k in ("HTTPRoute", "GRPCRoute")]
    assert told(listener["conditions"]) == {
        "Accepted": ("True", "Accepted"),
        "Conflicted": ("False", "NoConflicts"),
        "ResolvedRefs": ("True", "ResolvedRefs"),
        "Programmed": ("True", "Programmed"),
    }


def test_a_gateway_is_reached_at_the_services_in_front_of_it() -> None:
    spec = {
        "clusterIP": "10.128.0.99",
        "selector": {"istio": "ingressgateway"},
        "ports": [{"name": "http", "port": 80}],
    }
    found = of_gateway(HTTP, objects=(object_of("v1", "Service", "front", "edge", spec),))
    assert found["addresses"] == [{"type": "IPAddress", "value": "10.128.0.99"}]


def test_a_gateway_that_nobody_serves_yet_is_pending() -> None:
    subject = gateway(HTTP, name="other")
    found = status(subject)
    assert told(found["conditions"])["Programmed"] == ("False", "Pending")
    assert told(found["listeners"][0]["conditions"])["Programmed"] == ("False", "Pending")
    assert found["addresses"] == []


def test_what_an_envoy_refuses_is_not_programmed() -> None:
    subject = gateway(HTTP)
    shop = Shop(gate(), subject)
    found = status_of(shop.mesh, Written(subject, read(subject), refused="no such port"))
    assert found is not None
    assert told(found["conditions"])["Programmed"] == ("False", "Invalid")
    assert found["conditions"][1]["message"] == "no such port"


def test_a_gateway_whose_pod_is_not_ready_is_pending() -> None:
    pod = gate()
    pod["status"]["conditions"][0]["status"] = "False"
    shop = Shop(pod, gateway(HTTP))
    found = status_of(shop.mesh, Written(gateway(HTTP), read(gateway(HTTP))))
    assert found is not None and told(found["conditions"])["Programmed"] == ("False", "Pending")


def test_an_address_that_nobody_has_is_not_usable() -> None:
    wanted = [{"type": "IPAddress", "value": "192.0.2.1"}]
    assert told(of_gateway(HTTP, addresses=wanted)["conditions"])["Programmed"] == (
        "False",
        "AddressNotUsable",
    )


HTTPS = HTTP | {
    "name": "https",
    "port": 443,
    "protocol": "HTTPS",
    "tls": {"certificateRefs": [{"name": "a"}]},
}
CA = {"group": "", "kind": "ConfigMap", "name": "ca"}
UDP = {"name": "udp", "port": 53, "protocol": "UDP", **ANYBODY}
NAMES = {"name": "names", "port": 53}
NAMES_SERVICE = object_of(
    "v1", "Service", "names", "shop", {"selector": {"app": "web"}, "ports": [{"port": 53, "protocol": "UDP"}]}
)


@pytest.mark.parametrize(
    ("listener", "type_", "reason"),
    [
        (HTTPS, "ResolvedRefs", "InvalidCertificateRef"),
        (HTTPS, "Programmed", "Invalid"),
        (
            HTTPS | {"tls": {"certificateRefs": [{"name": "a", "namespace": "shop"}]}},
            "ResolvedRefs",
            "RefNotPermitted",
        ),
        (HTTP | {"allowedRoutes": {"kinds": [{"kind": "TCPRoute"}]}}, "ResolvedRefs", "InvalidRouteKinds"),
        (
            HTTP
            | {"allowedRoutes": {"kinds": [{"kind": "HTTPRoute"}, {"group": "a.b", "kind": "HTTPRoute"}]}},
            "ResolvedRefs",
            "InvalidRouteKinds",
        ),
    ],
)
def test_what_is_wrong_with_a_listener(listener: Object, type_: str, reason: str) -> None:
    assert of_listener(listener)[type_] == ("False", reason)


def test_listeners_of_one_port_that_cannot_be_told_apart_conflict() -> None:
    tcp = {"name": "tcp", "port": 80, "protocol": "TCP"}
    fine = HTTP | {"name": "fine", "port": 8080}
    found = of_gateway(HTTP, tcp, fine)
    assert told(found["conditions"])["Accepted"] == ("True", "ListenersNotValid")
    for listener in found["listeners"][:2]:
        assert told(listener["conditions"])["Conflicted"] == ("True", "ProtocolConflict")
        assert told(listener["conditions"])["Accepted"] == ("False", "PortUnavailable")
    assert told(found["listeners"][2]["conditions"])["Accepted"] == ("True", "Accepted")
    nothing = of_gateway(HTTP, tcp)
    assert told(nothing["conditions"])["Accepted"] == ("False", "ListenersNotValid")
    assert told(nothing["conditions"])["Programmed"] == ("False", "Invalid")


# --- routes ----------------------------------------------------------------------------------------------

GRPC = object_of(
    f"{API}/v1",
    "GRPCRoute",
    "calls",
    "shop",
    {"parentRefs": [{"name": "public", "namespace": "edge"}], "rules": [{"backendRefs": [WEB]}]},
)


def at(**parent: Any) -> Object:
    return http_route({"backendRefs": [WEB]}, parentRefs=[{"name": "public", "namespace": "edge", **parent}])


@pytest.mark.parametrize(
    ("route", "listener", "reason"),
    [
        (at(), HTTP, "Accepted"),
        (at(sectionName="http", port=80), HTTP, "Accepted"),
        (at(sectionName="other"), HTTP, "NoMatchingParent"),
        (at(port=81), HTTP, "NoMatchingParent"),
        (at(), HTTP | {"allowedRoutes": {"namespaces": {"from": "Same"}}}, "NotAllowedByListeners"),
        (GRPC, HTTP | {"allowedRoutes": {"kinds": [{"kind": "HTTPRoute"}]}}, "NotAllowedByListeners"),
        (
            http_route({"backendRefs": [WEB]}, hostnames=["a.org"]),
            HTTP | {"hostname": "*.example"},
            "NoMatchingListenerHostname",
        ),
    ],
)
def test_whether_a_listener_takes_a_route(route: Object, listener: Object, reason: str) -> None:
    good = "True" if reason == "Accepted" else "False"
    assert of_route(route, gateway(listener))["Accepted"] == (good, reason)


@pytest.mark.parametrize(
    ("hostnames", "reason"),
    [
        ((["a.example"], ["a.example"]), "HostnameConflict"),
        ((["a.example"], ["*.example"]), "HostnameConflict"),
        ((["a.example"], None), "HostnameConflict"),
        ((["a.example"], ["b.example"]), "Accepted"),
    ],
)
def test_of_routes_of_both_kinds_the_older_has_a_host(hostnames: Any, reason: str) -> None:
    older, younger = copy.deepcopy(GRPC), at()
    for year, (route, names) in enumerate(zip((older, younger), hostnames, strict=True), 2020):
        route["spec"] |= {"hostnames": names} if names else {}
        route["metadata"]["creationTimestamp"] = f"{year}-01-01T00:00:00Z"
    front = gateway(HTTP)
    assert of_route(older, front, younger)["Accepted"] == ("True", "Accepted")
    assert of_route(younger, front, older)["Accepted"][1] == reason
    assert of_gateway(HTTP, objects=(older, younger))["listeners"][0]["attachedRoutes"] == (
        1 if reason == "HostnameConflict" else 2
    )


def udp_route(*backends: Object) -> Object:
    spec = {"parentRefs": [{"name": "public", "namespace": "edge"}], "rules": [{"backendRefs": backends}]}
    return object_of(f"{API}/v1alpha2", "UDPRoute", "udp", "shop", spec)


def test_a_listener_of_udp_is_beside_one_of_tcp_and_takes_udp_routes() -> None:
    tcp = {"name": "tcp", "port": 53, "protocol": "TCP"}
    found = of_gateway(UDP, tcp, objects=(udp_route(NAMES), NAMES_SERVICE))
    assert told(found["conditions"])["Programmed"] == ("True", "Programmed")
    udp = found["listeners"][0]
    assert (udp["attachedRoutes"], udp["supportedKinds"]) == (1, [{"group": API, "kind": "UDPRoute"}])
    assert told(udp["conditions"]) == {
        "Accepted": ("True", "Accepted"),
        "Conflicted": ("False", "NoConflicts"),
        "ResolvedRefs": ("True", "ResolvedRefs"),
        "Programmed": ("True", "Programmed"),
    }
    assert of_route(udp_route(NAMES), NAMES_SERVICE, gateway(UDP))["Accepted"] == ("True", "Accepted")
    nothing = of_route(udp_route(NAMES), NAMES_SERVICE, gateway(tcp | ANYBODY))
    assert nothing["Accepted"] == ("False", "NotAllowedByListeners")


def test_a_route_of_udp_needs_a_port_of_udp() -> None:
    assert of_route(udp_route(NAMES), NAMES_SERVICE, gateway(UDP))["ResolvedRefs"] == ("True", "ResolvedRefs")
    assert of_route(udp_route(WEB), gateway(UDP))["ResolvedRefs"] == ("False", "BackendNotFound")
    route = http_route({"backendRefs": [NAMES]})
    assert of_route(route, NAMES_SERVICE, gateway(HTTP))["ResolvedRefs"] == ("False", "BackendNotFound")
    parent = {"group": "", "kind": "Service", "name": "names"}
    spec = {"parentRefs": [parent], "rules": [{"backendRefs": [NAMES, NAMES | {"port": 54}]}]}
    (problem,) = Shop(
        NAMES_SERVICE, object_of(f"{API}/v1alpha2", "UDPRoute", "udp", "shop", spec), accept=[""]
    ).problems
    assert problem.field == "spec.rules[0].backendRefs[1].port"
    assert "Service shop/names has no UDP port 54" in problem.message


@pytest.mark.parametrize(
    ("backend", "reason"),
    [
        (WEB, "ResolvedRefs"),
        ({"name": "gone", "port": 80}, "BackendNotFound"),
        (WEB | {"port": 81}, "BackendNotFound"),
        (WEB | {"namespace": "edge"}, "RefNotPermitted"),
        ({"group": "acme.io", "kind": "Bucket", "name": "b"}, "InvalidKind"),
    ],
)
def test_whether_there_is_all_to_which_a_route_refers(backend: Object, reason: str) -> None:
    good = "True" if reason == "ResolvedRefs" else "False"
    found = of_route(http_route({"backendRefs": [backend]}))
    assert found == {"Accepted": ("True", "Accepted"), "ResolvedRefs": (good, reason)}


def test_a_mirror_is_a_reference_too() -> None:
    copies = {"type": "RequestMirror", "requestMirror": {"backendRef": {"name": "gone", "port": 80}}}
    found = of_route(http_route({"filters": [copies], "backendRefs": [WEB]}))
    assert found["ResolvedRefs"] == ("False", "BackendNotFound")


def test_services_are_parents_as_gateways_are() -> None:
    service = {"group": "", "kind": "Service", "name": "web", "namespace": "shop"}
    for parent, reason in (
        (service, "Accepted"),
        (service | {"port": 80}, "Accepted"),
        (service | {"port": 81}, "NoMatchingParent"),
        (service | {"name": "gone"}, "NoMatchingParent"),
    ):
        (found,) = status(http_route({"backendRefs": [WEB]}, parentRefs=[parent]))["parents"]
        assert told(found["conditions"])["Accepted"][1] == reason
        assert found["parentRef"] == parent


def test_each_parent_is_told_as_it_is_written_and_strangers_are_passed_over() -> None:
    parents = [
        {"name": "public", "namespace": "edge", "sectionName": "http"},
        {"name": "nobody"},
        {"name": "public", "namespace": "edge", "port": 81},
    ]
    found = status(http_route({"backendRefs": [WEB]}, parentRefs=parents), gateway(HTTP))["parents"]
    told_of = [parent["parentRef"] for parent in found]
    assert told_of == [{"group": API, "kind": "Gateway", **p} for p in (parents[0], parents[2])]
    assert [told(p["conditions"])["Accepted"][1] for p in found] == ["Accepted", "NoMatchingParent"]


# --- versions --------------------------------------------------------------------------------------------


def written(route: Object, generation: int) -> Object:
    return route | {"metadata": route["metadata"] | {"generation": generation}}


def test_a_generation_that_is_known_was_observed() -> None:
    (parent,) = status(written(at(), 3), gateway(HTTP))["parents"]
    assert [c["observedGeneration"] for c in parent["conditions"]] == [3, 3]
    (parent,) = status(at(), gateway(HTTP))["parents"]
    assert not any("observedGeneration" in c for c in parent["conditions"])


def test_what_cannot_be_read_is_not_accepted() -> None:
    bad = http_route({"backendRefs": [WEB], "sessionPersistence": {}})
    (parent,) = status(bad, gateway(HTTP))["parents"]
    assert told(parent["conditions"])["Accepted"] == ("False", "UnsupportedValue")
    assert "sessionPersistence" in parent["conditions"][0]["message"]


def test_the_last_valid_version_is_fallen_back_to() -> None:
    """RouteConditionPartiallyInvalid: Accepted is of the generation that is in force."""
    bad = written(http_route({"backendRefs": [WEB], "sessionPersistence": {}}), 4)
    (parent,) = status(bad, gateway(HTTP), before=written(at(), 3))["parents"]
    assert told(parent["conditions"]) == {
        "Accepted": ("True", "Accepted"),
        "ResolvedRefs": ("True", "ResolvedRefs"),
        "PartiallyInvalid": ("True", "UnsupportedValue"),
    }
    assert [c["observedGeneration"] for c in parent["conditions"]] == [3, 3, 4]
    assert parent["conditions"][2]["message"].startswith("Fall Back")


def test_gateways_fall_back_as_routes_do() -> None:
    bad = written(gateway(HTTP, {"name": "x", "port": 0, "protocol": "HTTP"}), 4)
    found = status(bad, before=written(gateway(HTTP), 3))
    seen = {c["type"]: (c["status"], c["observedGeneration"]) for c in found["conditions"]}
    assert seen == {"Accepted": ("True", 3), "PartiallyInvalid": ("True", 4), "Programmed": ("True", 3)}


# --- BackendTLSPolicy ------------------------------------------------------------------------------------


def tls_policy(name: str = "tls", target: str = "web", created: str = "", **validation: Any) -> Object:
    known = {"hostname": "web.example", "wellKnownCACertificates": "System"}
    spec = {
        "targetRefs": [{"group": "", "kind": "Service", "name": target}],
        "validation": (known if not validation else {"hostname": "web.example", **validation}),
    }
    found = object_of(f"{API}/v1", "BackendTLSPolicy", name, "shop", spec)
    if created:
        found["metadata"]["creationTimestamp"] = created
    return found


def of_policy(policy: Object, *objects: Object, to: Object = WEB) -> dict[str, tuple[str, str]]:
    (ancestor,) = status(policy, gateway(HTTP), http_route({"backendRefs": [to]}), *objects)["ancestors"]
    assert ancestor["ancestorRef"]["name"] == "public"
    return told(ancestor["conditions"])


def test_a_policy_counts_behind_the_gateways_that_send_to_its_target() -> None:
    good = {"Accepted": ("True", "Accepted"), "ResolvedRefs": ("True", "ResolvedRefs")}
    assert of_policy(tls_policy()) == good
    assert status(tls_policy(target="shadow"), gateway(HTTP), http_route({"backendRefs": [WEB]})) == {
        "ancestors": []
    }


def test_what_is_wrong_with_a_policy() -> None:
    missing = of_policy(tls_policy(caCertificateRefs=[CA]))
    assert missing["Accepted"] == ("False", "NoValidCACertificate")
    assert missing["ResolvedRefs"] == ("False", "InvalidCACertificateRef")
    older, younger = ("2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z")
    first = tls_policy(name="z", created=older)
    assert of_policy(tls_policy(created=younger), first)["Accepted"] == ("False", "Conflicted")
    gone = of_policy(tls_policy(target="gone"), to={"name": "gone", "port": 80})
    assert gone["Accepted"] == ("False", "TargetNotFound")
