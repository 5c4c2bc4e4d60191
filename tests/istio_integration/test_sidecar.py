from __future__ import annotations

from typing import Any

import pytest

from mesh.model import Binding, Callers, Fragment, Imports, IngressListener, ObjectRef, OwnEndpoint, Sidecar
from tests.mesh.dialects.objects import obj
from xds.dialects import read

EVERYTHING = Imports((("*", "*"),))
AT_9080: dict[str, Any] = {"port": {"number": 9080, "name": "http", "protocol": "HTTP"}}
BOUND = AT_9080 | {"hosts": ["*/*"], "bind": "127.0.0.1"}


def fragment(spec: Any, version: str = "v1") -> Fragment:
    return read(obj(f"networking.istio.io/{version}", "Sidecar", spec))


def sidecar(spec: Any, version: str = "v1") -> Sidecar:
    found = fragment(spec, version)
    assert found.valid, found.problems
    (noun,) = found.nouns
    assert isinstance(noun, Sidecar)
    return noun


@pytest.mark.parametrize("version", ["v1", "v1beta1", "v1alpha3"])
def test_hosts_of_namespaces_at_ports(version: str) -> None:
    port = {"number": 9080, "name": "http", "protocol": "HTTP"}
    egress = [
        {"port": port, "hosts": ["prod-us1/*"]},
        {"hosts": ["./*", "*/*.example.com", "shop/web.shop.svc.cluster.local"]},
    ]
    spec = {"workloadSelector": {"labels": {"app": "web"}}, "egress": egress}
    assert sidecar(spec, version) == Sidecar(
        ObjectRef("Sidecar", "shop", "one"),
        "",
        (
            Imports((("prod-us1", "*"),), 9080),
            Imports(((".", "*"), ("*", "*.example.com"), ("shop", "web.shop.svc.cluster.local"))),
        ),
        Callers("shop", (("app", "web"),)),
    )


@pytest.mark.parametrize(
    ("fields", "binding"),
    [
        ({"bind": "127.0.0.1"}, Binding("egress[0].bind", "127.0.0.1", True)),
        ({"bind": "::1", "captureMode": "NONE"}, Binding("egress[0].bind", "::1", True)),
        ({"captureMode": "NONE"}, Binding("egress[0].bind", "127.0.0.1", True)),
        ({"captureMode": "IPTABLES"}, None),
        (
            {"bind": "127.0.0.9", "port": {"number": 9080, "protocol": "MONGO"}},
            Binding("egress[0].bind", "127.0.0.9", False),
        ),
        (
            {"bind": "127.0.0.1", "port": {"number": 9080, "protocol": "TLS"}},
            Binding("egress[0].bind", "127.0.0.1", False, True),
        ),
    ],
)
def test_where_hosts_can_be_dialled_besides(fields: Any, binding: Binding | None) -> None:
    (imports,) = sidecar({"egress": [AT_9080 | {"hosts": ["*/*"]} | fields]}).egress
    assert imports == Imports((("*", "*"),), 9080, binding)


@pytest.mark.parametrize(("said", "widens"), [("true", True), ("false", False), ("yes", False)])
def test_look_ups_widen_it_if_it_says_so(said: str, widens: bool) -> None:
    whole = obj("networking.istio.io/v1", "Sidecar", {})
    whole["metadata"]["annotations"] = {"sluice.io/widen-by-lookup": said}
    (noun,) = read(whole).nouns
    assert isinstance(noun, Sidecar) and noun.widens is widens


@pytest.mark.parametrize("spec", [{"egress": []}, {"outboundTrafficPolicy": {"mode": "ALLOW_ANY"}}])
def test_without_egress_all_hosts_are_meant(spec: Any) -> None:
    found = sidecar(spec)
    assert (found.egress, found.callers) == ((EVERYTHING,), None)


@pytest.mark.parametrize(
    ("hosts", "namespace", "host", "told"),
    [
        (["*/*"], "far", "web.far.svc.cluster.local", True),
        (["./*"], "shop", "web.shop.svc.cluster.local", True),
        (["./*"], "far", "web.far.svc.cluster.local", False),
        (["far/*"], "far", "api.example.com", True),
        (["*/api.example.com"], "far", "api.example.com", True),
        (["*/*.example.com"], "far", "api.example.org", False),
        (["~/*"], "shop", "web.shop.svc.cluster.local", False),
    ],
)
def test_who_is_told_of_what(hosts: list[str], namespace: str, host: str, told: bool) -> None:
    found = sidecar({"egress": [{"hosts": hosts}]})
    assert found.tells("shop", namespace, host, 80) is told


def test_a_port_is_told_of_by_the_hosts_that_are_for_it() -> None:
    found = sidecar({"egress": [{"port": {"number": 80}, "hosts": ["far/*"]}, {"hosts": ["./*"]}]})
    asked = [("far", 80), ("far", 81), ("shop", 80), ("shop", 81)]
    assert [found.tells("shop", where, "a.example", port) for where, port in asked] == [
        True,
        False,
        True,
        True,
    ]


@pytest.mark.parametrize(
    ("text", "endpoint"),
    [
        ("127.0.0.1:8080", OwnEndpoint("127.0.0.1", 8080)),
        ("[::1]:8080", OwnEndpoint("::1", 8080)),
        ("0.0.0.0:8080", OwnEndpoint("0.0.0.0", 8080)),
        ("[::]:8080", OwnEndpoint("::", 8080)),
        ("unix:///run/web.sock", OwnEndpoint("/run/web.sock")),
        ("", None),
    ],
)
def test_where_an_envoy_hands_on_what_it_takes(text: str, endpoint: OwnEndpoint | None) -> None:
    found = sidecar({"ingress": [AT_9080 | {"defaultEndpoint": text}]})
    assert found.ingress == (IngressListener("ingress[0]", 9080, endpoint, "http"),)
    assert found.egress == (EVERYTHING,)
    assert str(endpoint or "") == text


@pytest.mark.parametrize(
    ("protocol", "kind"),
    [("HTTP", "http"), ("http2", "http"), ("GRPC", "http"), ("TCP", "plain"), ("MySQL", "plain"), ("", None)],
)
def test_what_comes_at_a_port_is_what_its_protocol_says(protocol: str, kind: str | None) -> None:
    (found,) = sidecar({"ingress": [{"port": {"number": 1, "protocol": protocol}}]}).ingress
    assert found.kind == kind


@pytest.mark.parametrize(
    ("endpoint", "addresses", "own"),
    [
        ("0.0.0.0", ["fd51::1", "10.0.0.1"], "10.0.0.1"),
        ("::", ["10.0.0.1", "fd51::1"], "fd51::1"),
        ("::", ["10.0.0.1"], "10.0.0.1"),
        ("127.0.0.1", ["10.0.0.1"], "127.0.0.1"),
    ],
)
def test_the_pods_own_address_is_the_one_of_the_family_if_it_has_one(
    endpoint: str, addresses: list[str], own: str
) -> None:
    assert OwnEndpoint(endpoint, 80).of(addresses) == OwnEndpoint(own, 80)


@pytest.mark.parametrize(
    ("spec", "field", "says"),
    [
        ({"egress": [{}]}, "egress[0].hosts", "is required"),
        ({"egress": [{"hosts": []}]}, "egress[0].hosts", "write ~/* for none"),
        ({"egress": [{"hosts": ["web"]}]}, "egress[0].hosts[0]", "write namespace/name"),
        ({"egress": [{"hosts": ["shop/web"]}]}, "egress[0].hosts[0]", "not a full DNS name"),
        ({"egress": [{"hosts": ["*/*"]}, {"hosts": ["./*"]}]}, "egress[0]", "must be the last"),
        ({"egress": [{"hosts": ["*/*"], "bind": "127.0.0.1"}]}, "egress[0].bind", "needs a port"),
        ({"egress": [{"hosts": ["*/*"], "captureMode": "NONE"}]}, "egress[0].captureMode", "needs a port"),
        ({"egress": [BOUND | {"bind": "10.0.0.1"}]}, "egress[0].bind", "not an address of loopback"),
        ({"egress": [BOUND | {"bind": "unix:///run/a"}]}, "egress[0].bind", "not an address of loopback"),
        (
            {"egress": [BOUND | {"port": {"number": 9080, "protocol": "UDP"}}]},
            "egress[0].port.protocol",
            "must be one of HTTP",
        ),
        (
            {"egress": [BOUND | {"port": {"number": 15001, "protocol": "HTTP"}}]},
            "egress[0].port.number",
            "the Envoy's own",
        ),
        ({"egress": [BOUND, BOUND]}, "egress[1].port.number", "stands in an entry before"),
        ({"ingress": [{}]}, "ingress[0].port.number", "is required"),
        ({"ingress": [AT_9080 | {"bind": "10.0.0.1"}]}, "ingress[0].bind", "each address of the pod"),
        ({"ingress": [AT_9080 | {"tls": {}}]}, "ingress[0].tls", "not supported yet"),
        ({"ingress": [AT_9080 | {"connectionPool": {}}]}, "ingress[0].connectionPool", "not supported yet"),
        ({"ingress": [AT_9080 | {"captureMode": "ALL"}]}, "ingress[0].captureMode", "IPTABLES"),
        ({"ingress": [AT_9080, AT_9080]}, "ingress[1].port.number", "9080 stands in an entry before"),
        *(
            (
                {"ingress": [AT_9080 | {"defaultEndpoint": text}]},
                "ingress[0].defaultEndpoint",
                "write 127.0.0.1:PORT",
            )
            for text in (
                "10.0.0.1:80",
                "127.0.0.1",
                "127.0.0.1:0",
                "127.0.0.1:http",
                "unix://web.sock",
                ":80",
            )
        ),
        ({"inboundConnectionPool": {}}, "inboundConnectionPool", "DestinationRule"),
        (
            {"outboundTrafficPolicy": {"mode": "ALLOW_ANY", "egressProxy": {}}},
            "outboundTrafficPolicy.egressProxy",
            "VirtualService",
        ),
    ],
)
def test_what_cannot_be_is_refused_and_has_no_effect(spec: Any, field: str, says: str) -> None:
    found = fragment(spec)
    assert not found.valid and not found.nouns
    assert says in {p.field: p.message for p in found.problems}[f"spec.{field}"]


@pytest.mark.parametrize(
    ("policy", "outbound"),
    [
        (None, None),
        ({"mode": "ALLOW_ANY"}, "ALLOW_ANY"),
        ({"mode": "REGISTRY_ONLY"}, "REGISTRY_ONLY"),
        # The enumeration's zero, which clients leave out.
        ({}, "REGISTRY_ONLY"),
    ],
)
def test_where_callers_may_connect(policy: Any, outbound: str | None) -> None:
    assert sidecar({"egress": [{"hosts": ["*/*"]}], "outboundTrafficPolicy": policy}).outbound == outbound


@pytest.mark.parametrize("policy", [{"mode": "SOME"}, {"mode": 1}, {"egressProxy": {}}, "ALLOW_ANY"])
def test_what_cannot_be_read_of_it_allows_least(policy: Any) -> None:
    """Rule 18: such an object is refused; where it is found on disk, it sets nobody free."""
    found = fragment({"egress": [{"hosts": ["./*"]}], "outboundTrafficPolicy": policy})
    assert not found.valid
    (noun,) = found.nouns
    assert isinstance(noun, Sidecar)
    assert (noun.outbound, noun.egress) == ("REGISTRY_ONLY", (Imports(((".", "*"),)),))
