from __future__ import annotations

from typing import Any

import pytest

from mesh.model import Endpoint, Fragment, HostPattern, Service, ServiceName, ServicePort
from tests.mesh.dialects.objects import obj
from xds.dialects import read

HTTP = {"number": 80, "name": "http", "protocol": "HTTP"}
STATIC = {"hosts": ["api.example.com"], "ports": [HTTP], "resolution": "STATIC"}
DYNAMIC = {"hosts": ["*.example.com"], "resolution": "DYNAMIC_DNS", "endpoints": None}
ONE = {"endpoints": [{"address": "192.0.2.1"}]}


def fragment(spec: Any, version: str = "v1") -> Fragment:
    return read(obj(f"networking.istio.io/{version}", "ServiceEntry", spec))


def services(spec: Any, version: str = "v1") -> list[Service]:
    found = fragment(spec, version)
    assert found.valid, found.problems
    return [noun for noun in found.nouns if isinstance(noun, Service)]


def entry(**spec: Any) -> Service:
    (found,) = services(STATIC | ONE | spec)
    return found


def refused(**spec: Any) -> dict[str, str]:
    found = fragment(STATIC | ONE | spec)
    assert not found.valid and not found.nouns
    return {problem.field.removeprefix("spec."): problem.message for problem in found.problems}


def test_a_pattern_is_resolved_by_the_name_that_is_asked_for() -> None:
    spec = {"hosts": ["*.Example.com"], "ports": [HTTP], "resolution": "DYNAMIC_DNS", "exportTo": ["."]}
    found = fragment(spec)
    assert found.valid
    (pattern,) = found.nouns
    assert isinstance(pattern, HostPattern)
    own = pattern.service("a.b.example.com")
    assert (own.name, own.endpoints) == (
        ServiceName("shop", "a.b.example.com"),
        (Endpoint(name="a.b.example.com"),),
    )
    assert (own.pattern, own.exported, own.vips) == ("*.example.com", ("shop",), ())


@pytest.mark.parametrize("version", ["v1", "v1beta1", "v1alpha3"])
def test_each_host_is_a_service(version: str) -> None:
    found = services(STATIC | ONE | {"hosts": ["api.example.com", "API.example.org"]}, version)
    port = ServicePort("http", 80, "TCP", 80, "http")
    assert found == [
        Service(ServiceName("shop", host), (port,), None, endpoints=(Endpoint("192.0.2.1"),))
        for host in ("api.example.com", "api.example.org")
    ]


def test_endpoints_have_ports_labels_and_weights() -> None:
    whole = {"address": "2001:DB8::1", "ports": {"http": 8080}, "labels": {"version": "v1"}, "weight": 3}
    found = entry(endpoints=[whole]).endpoints
    assert found == (Endpoint("2001:db8::1", "", (("http", 8080),), (("version", "v1"),), 3),)


def test_what_stands_behind_may_be_selected() -> None:
    found = services(STATIC | {"workloadSelector": {"labels": {"app": "web"}}})
    assert [(s.selector, s.endpoints) for s in found] == [((("app", "web"),), ())]


def test_without_endpoints_a_name_stands_behind_itself() -> None:
    for resolution in ("DNS", "DNS_ROUND_ROBIN"):
        found = services({"hosts": ["a.example", "b.example"], "ports": [HTTP], "resolution": resolution})
        assert [s.endpoints for s in found] == [(Endpoint(name="a.example"),), (Endpoint(name="b.example"),)]
    far = entry(resolution="DNS", endpoints=[{"address": "us.Example.com"}, {"address": "192.0.2.1"}])
    assert far.endpoints == (Endpoint(name="us.example.com"), Endpoint("192.0.2.1"))


def test_what_is_not_resolved_stands_at_its_address() -> None:
    for hosts in (["api.example.com"], ["*.example.com"]):
        (found,) = services({"hosts": hosts, "ports": [HTTP], "addresses": ["192.0.2.7"]})
        assert (found.vips, found.endpoints) == (("192.0.2.7",), (Endpoint("192.0.2.7"),))


@pytest.mark.parametrize(
    ("written", "protocol", "says"),
    [
        ("HTTP", "TCP", "http"),
        ("grpc", "TCP", "grpc"),
        ("TLS", "TCP", "tls"),
        ("HTTPS", "TCP", "https"),
        ("MONGO", "TCP", "mongo"),
        ("TCP", "TCP", "tcp"),
        ("", "TCP", ""),
        ("UDP", "UDP", ""),
    ],
)
def test_the_protocol_of_a_port(written: str, protocol: str, says: str) -> None:
    (port,) = entry(ports=[{"number": 80, "name": "p", "protocol": written, "targetPort": 8080}]).ports
    assert (port.protocol, port.app_protocol, port.target) == (protocol, says, 8080)


def test_to_whom_it_is_exported() -> None:
    assert entry().exported == ("*",)
    assert entry(exportTo=["."]).exported == ("shop",)
    assert entry(exportTo=["~"]).exported == ("~",)


def test_what_has_no_effect_is_said_and_keeps_nothing_else_from_having_one() -> None:
    found = fragment(STATIC | {"endpoints": [{"address": "192.0.2.1", "network": "n"}]})
    assert found.valid
    assert {p.field for p in found.problems} == {"spec.endpoints[0].network"}


@pytest.mark.parametrize(
    ("spec", "field", "says"),
    [
        ({"hosts": None}, "hosts", "is required"),
        ({"hosts": []}, "hosts", "is empty"),
        ({"hosts": ["web"]}, "hosts[0]", "not a full DNS name"),
        ({"hosts": ["192.0.2.1"]}, "hosts[0]", "not a full DNS name"),
        ({"hosts": ["web.shop.svc.cluster.local"]}, "hosts[0]", "in the domain of the cluster"),
        ({"hosts": ["*.cluster.local"]}, "hosts[0]", "in the domain of the cluster"),
        ({"hosts": ["*"]}, "hosts[0]", "not a full DNS name"),
        ({"hosts": ["*.example.com"]}, "hosts", "no known address: write addresses (rule 24)"),
        ({"hosts": ["a.example.com", "*.example.com"]}, "hosts[1]", "overlap"),
        ({"addresses": ["10.0.0.0/24"]}, "addresses[0]", "only single addresses"),
        ({"addresses": ["127.0.0.1"]}, "addresses[0]", "cannot be the address"),
        ({"addresses": ["192.0.2.9"], "hosts": ["a.example", "b.example"]}, "addresses", "one host's"),
        ({"addresses": ["192.0.2.9"], "exportTo": ["."]}, "addresses", "the same for every caller"),
        ({"ports": None}, "ports", "is required"),
        ({"ports": [{"name": "http"}]}, "ports[0].number", "is required"),
        ({"ports": [{"number": 80}]}, "ports[0].name", "is required"),
        ({"ports": [HTTP, HTTP | {"number": 81}]}, "ports[1].name", "the name of another port"),
        ({"ports": [HTTP, HTTP | {"name": "b"}]}, "ports[1].number", "80 stands here twice"),
        ({"ports": [HTTP | {"protocol": "HTTP_PROXY"}]}, "ports[0].protocol", "must be one of HTTP,"),
        ({"resolution": "NONE"}, "resolution", "with endpoints write STATIC"),
        ({"resolution": "NONE", "endpoints": None}, "resolution", "without addresses"),
        (
            {"resolution": "NONE", "endpoints": None, "addresses": ["192.0.2.1", "192.0.2.2"]},
            "addresses",
            "the address that is dialled is kept",
        ),
        (DYNAMIC | {"hosts": ["a.example.com"]}, "hosts", "is no pattern"),
        (DYNAMIC | {"endpoints": [{"address": "192.0.2.1"}]}, "endpoints", "names that are asked for"),
        (DYNAMIC | {"workloadSelector": {"labels": {"app": "web"}}}, "workloadSelector", "names that are"),
        (DYNAMIC | {"addresses": ["192.0.2.9"]}, "addresses", "an address of its own"),
        (DYNAMIC | {"location": "MESH_INTERNAL"}, "location", "for MESH_EXTERNAL hosts"),
        ({"endpoints": None}, "resolution", "needs endpoints or a workloadSelector"),
        ({"resolution": "DNS", "hosts": ["*.example.com"]}, "hosts", "no known address"),
        (
            {"resolution": "DNS_ROUND_ROBIN", "endpoints": [{"address": "a.example"}] * 2},
            "endpoints",
            "one at most",
        ),
        ({"workloadSelector": {"labels": {"app": "web"}}}, "workloadSelector", "stands alone"),
        ({"endpoints": [{"address": "us.example.com"}]}, "endpoints[0].address", "needs resolution: DNS"),
        (
            {"resolution": "DNS", "endpoints": [{"address": "web.shop.svc.cluster.local"}]},
            "endpoints[0].address",
            "a Service's name",
        ),
        ({"endpoints": [{"address": "unix:///run/a"}]}, "endpoints[0].address", "socket of one machine"),
        (
            {"endpoints": [{"address": "192.0.2.1", "ports": {"web": 80}}]},
            "endpoints[0].ports.web",
            "its ports are http",
        ),
        ({"exportTo": ["~", "."]}, "exportTo", "~ is no namespace: let it stand alone"),
    ],
)
def test_what_cannot_be_is_refused_and_has_no_effect(spec: Any, field: str, says: str) -> None:
    assert says in refused(**spec)[field]
