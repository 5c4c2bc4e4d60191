from __future__ import annotations

from typing import Any

import pytest

from mesh.dialects import read
from mesh.model import (
    GATEWAY_CONTROLLER,
    NAMESPACE_LABEL_PREFIX,
    Gateway,
    GatewayClass,
    Listener,
    ObjectRef,
    Requirement,
    Selector,
    ServedHost,
    ServerTls,
)
from tests.mesh.dialects.objects import ALL_OF_SHOP, obj, refused, valid

GROUP = "gateway.networking.k8s.io"
HTTP = {"name": "http", "port": 80, "protocol": "HTTP"}
HTTPS = {"name": "https", "port": 443, "protocol": "HTTPS", "tls": {"certificateRefs": [{"name": "cert"}]}}
TLS = {"name": "tls", "port": 443, "protocol": "TLS", "tls": {"mode": "Passthrough"}}
TCP = {"name": "tcp", "port": 5432, "protocol": "TCP"}
CERT = ObjectRef("Secret", "shop", "cert")
AUTHORITY = {"group": "", "kind": "ConfigMap", "name": "ca"}


def made(*listeners: Any, version: str = "v1", **spec: Any) -> Any:
    return obj(f"{GROUP}/{version}", "Gateway", {"gatewayClassName": "ours", "listeners": listeners} | spec)


def gateway(object: Any) -> Gateway:
    (noun,) = valid(object).nouns
    assert isinstance(noun, Gateway)
    return noun


def listener(fields: Any, **spec: Any) -> Listener:
    (found,) = gateway(made(fields, **spec)).listeners
    return found


def of_class(version: str = "v1", **spec: Any) -> Any:
    return obj(f"{GROUP}/{version}", "GatewayClass", spec, namespace=None)


# --- classes ------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", ["v1", "v1beta1"])
def test_a_class_names_its_controller(version: str) -> None:
    fragment = valid(of_class(version, controllerName=GATEWAY_CONTROLLER, description="ours"))
    assert fragment.nouns == (GatewayClass("one", "sluice.io/gateway-controller"),)


def test_what_a_class_says_to_its_controller_is_judged_of_our_own_only() -> None:
    parameters = {"group": "", "kind": "ConfigMap", "name": "a"}
    assert valid(of_class(controllerName="example.com/gateway", parametersRef=parameters)).nouns
    ours = of_class(controllerName=GATEWAY_CONTROLLER, parametersRef=parameters)
    assert "not supported yet" in refused(ours)["spec.parametersRef"]
    assert "unknown field" in refused(of_class(controllerName=GATEWAY_CONTROLLER, a="b"))["spec.a"]


def test_a_class_without_a_controller_has_no_effect() -> None:
    assert "is required" in refused(of_class())["spec.controllerName"]
    assert "is not a controller" in refused(of_class(controllerName="sluice"))["spec.controllerName"]


# --- listeners ----------------------------------------------------------------------------------


@pytest.mark.parametrize("version", ["v1", "v1beta1"])
def test_a_gateway_has_a_class_listeners_and_addresses(version: str) -> None:
    addresses = [{"value": "192.0.2.1"}, {"type": "IPAddress", "value": "2001:DB8::1"}, {"type": "IPAddress"}]
    found = gateway(made(HTTP, version=version, addresses=addresses))
    assert found == Gateway(
        ObjectRef("Gateway", "shop", "one"),
        "",
        (Listener("http", 80, "HTTP", (ServedHost("*", ALL_OF_SHOP),), ("HTTPRoute", "GRPCRoute")),),
        "ours",
        ("192.0.2.1", "2001:db8::1"),
    )
    assert found.subject is None


@pytest.mark.parametrize(
    ("fields", "kinds"),
    [
        (HTTP, ("HTTPRoute", "GRPCRoute")),
        (HTTPS, ("HTTPRoute", "GRPCRoute")),
        (TLS, ("TLSRoute",)),
        (TLS | {"tls": HTTPS["tls"] | {"mode": "Terminate"}}, ("TLSRoute", "TCPRoute")),  # type: ignore[operator]
        (TCP, ("TCPRoute",)),
        (TCP | {"protocol": "UDP"}, ("UDPRoute",)),
    ],
)
def test_the_protocol_says_which_routes_attach(fields: Any, kinds: tuple[str, ...]) -> None:
    assert listener(fields).kinds == kinds


def test_a_kind_that_cannot_attach_is_left_out_and_it_is_said_so() -> None:
    kinds = [{"kind": "HTTPRoute"}, {"kind": "TCPRoute"}, {"group": "example.com", "kind": "GRPCRoute"}]
    fragment = valid(made(HTTP | {"allowedRoutes": {"kinds": kinds}}))
    assert [p.field for p in fragment.problems] == [
        f"spec.listeners[0].allowedRoutes.kinds[{i}]" for i in (1, 2)
    ]
    assert listener(HTTP | {"allowedRoutes": {"kinds": kinds}}).kinds == ("HTTPRoute",)
    assert listener(HTTP | {"allowedRoutes": {"kinds": kinds[1:]}}).kinds == ()


@pytest.mark.parametrize(
    ("namespaces", "selector"),
    [
        (None, ALL_OF_SHOP),
        ({}, ALL_OF_SHOP),
        ({"from": "Same"}, ALL_OF_SHOP),
        ({"from": "All"}, Selector()),
        (
            {"from": "Selector", "selector": {"matchLabels": {"team": "a"}}},
            Selector((Requirement(NAMESPACE_LABEL_PREFIX + "team", "In", ("a",)),)),
        ),
        ({"from": "Selector", "selector": {}}, Selector()),
    ],
)
def test_routes_attach_from_namespaces_that_a_listener_names(namespaces: Any, selector: Selector) -> None:
    found = listener(HTTP | {"hostname": "*.a.example", "allowedRoutes": {"namespaces": namespaces}})
    assert found.hosts == (ServedHost("*.a.example", selector),)


def test_a_selector_counts_only_where_it_is_asked_for() -> None:
    namespaces = {"from": "Same", "selector": {"matchLabels": {"team": "a"}}}
    fragment = valid(made(HTTP | {"allowedRoutes": {"namespaces": namespaces}}))
    (problem,) = fragment.problems
    assert problem.message == "has no effect: from is Same"


# --- TLS ----------------------------------------------------------------------------------------


def test_tls_ends_with_certificates_of_any_namespace_or_is_passed_on() -> None:
    refs = [{"name": "cert"}, {"group": "", "kind": "Secret", "name": "cert", "namespace": "far"}]
    found = listener(HTTPS | {"tls": {"mode": "Terminate", "certificateRefs": refs}})
    assert found.tls == ServerTls("SIMPLE", (CERT, ObjectRef("Secret", "far", "cert")))
    assert listener(TLS).tls == ServerTls("PASSTHROUGH")
    assert listener(HTTP).tls is None


def test_clients_of_https_are_asked_for_certificates_by_port() -> None:
    far = AUTHORITY | {"kind": "Secret", "namespace": "far"}
    frontend = {
        "default": {"validation": {"caCertificateRefs": [AUTHORITY, far]}},
        "perPort": [
            {"port": 8443, "tls": {}},
            {"port": 9443, "tls": {"validation": {"caCertificateRefs": [far], "mode": "AllowValidOnly"}}},
        ],
    }
    listeners = [HTTPS | {"name": f"n{port}", "port": port} for port in (443, 8443, 9443)]
    ended = TLS | {"port": 444, "tls": HTTPS["tls"] | {"mode": "Terminate"}}  # type: ignore[operator]
    found = gateway(made(*listeners, ended, tls={"frontend": frontend})).listeners
    config_map, secret = ObjectRef("ConfigMap", "shop", "ca"), ObjectRef("Secret", "far", "ca")
    assert [one.tls for one in found] == [
        ServerTls("MUTUAL", (CERT,), (config_map, secret)),
        ServerTls("SIMPLE", (CERT,)),
        ServerTls("MUTUAL", (CERT,), (secret,)),
        ServerTls("SIMPLE", (CERT,)),
    ]


def test_what_is_passed_on_needs_no_certificate_and_it_is_said_so() -> None:
    fragment = valid(made(TLS | {"tls": {"mode": "Passthrough", "certificateRefs": [{"name": "cert"}]}}))
    (problem,) = fragment.problems
    assert problem.message == "has no effect: mode is Passthrough"


# --- what is refused ----------------------------------------------------------------------------


def validation(**fields: Any) -> Any:
    return {"frontend": {"default": {"validation": {"caCertificateRefs": [AUTHORITY]} | fields}}}


@pytest.mark.parametrize(
    ("spec", "field", "says"),
    [
        ({"gatewayClassName": None}, "gatewayClassName", "is required"),
        ({"listeners": []}, "listeners", "is required"),
        ({"infrastructure": {"parametersRef": {}}}, "infrastructure.parametersRef", "is not supported yet"),
        ({"infrastructure": {"labels": {"a": "b c"}}}, "infrastructure.labels.a", "is not a label value"),
        (
            {"infrastructure": {"annotations": {"a b": ""}}},
            "infrastructure.annotations['a b']",
            "is not the key of an annotation",
        ),
        (
            {"infrastructure": {"labels": {f"l{n}": "" for n in range(9)}}},
            "infrastructure.labels",
            "more than 8",
        ),
        ({"allowedListeners": {}}, "allowedListeners", "is not supported yet"),
        ({"defaultScope": "All"}, "defaultScope", "is not supported yet"),
        (
            {"addresses": [{"type": "Hostname", "value": "a"}]},
            "addresses[0].type",
            "Hostname is not supported",
        ),
        ({"addresses": [{"value": "127.0.0.1"}]}, "addresses[0].value", "cannot be the address"),
        ({"tls": {"backend": {}}}, "tls.backend", "is not supported yet"),
        ({"tls": {"frontend": {}}}, "tls.frontend.default", "is required"),
        (
            {"tls": validation(mode="AllowInsecureFallback")},
            "tls.frontend.default.validation.mode",
            "not supported",
        ),
        (
            {"tls": validation(caCertificateRefs=[])},
            "tls.frontend.default.validation.caCertificateRefs",
            "is required",
        ),
        (
            {"tls": validation(caCertificateRefs=[AUTHORITY | {"kind": "Bundle"}])},
            "tls.frontend.default.validation.caCertificateRefs[0].kind",
            "must be one of ConfigMap, Secret",
        ),
        (
            {"tls": {"frontend": {"default": {}, "perPort": [{"port": 1, "tls": {}}] * 2}}},
            "tls.frontend.perPort[1].port",
            "stands here twice",
        ),
        ({"listeners": [HTTP, HTTPS | {"name": "http"}]}, "listeners[1].name", "stands here twice"),
        ({"listeners": [HTTP, HTTP | {"name": "b"}]}, "listeners[1]", "of another listener"),
    ],
)
def test_a_malformed_gateway_has_no_effect(spec: Any, field: str, says: str) -> None:
    bad = made(HTTP, **spec)
    assert says in refused(bad)[f"spec.{field}"]
    assert read(bad).nouns == ()


@pytest.mark.parametrize(
    ("fields", "field", "says"),
    [
        (HTTP | {"name": None}, "name", "is required"),
        (HTTP | {"port": None}, "port", "is required"),
        (HTTP | {"port": 0}, "port", "is 0"),
        (HTTP | {"protocol": "SCTP"}, "protocol", "must be one of HTTP"),
        (HTTP | {"hostname": "10.0.0.1"}, "hostname", "is not a hostname"),
        (TCP | {"hostname": "a.example"}, "hostname", "means nothing to protocol TCP"),
        (HTTP | {"tls": {}}, "tls", "does not go with protocol 'HTTP'"),
        (TCP | {"tls": {"mode": "Terminate"}}, "tls", "does not go with protocol 'TCP'"),
        (HTTPS | {"tls": None}, "tls", "is required"),
        (HTTPS | {"tls": {}}, "tls.certificateRefs", "is required"),
        (HTTPS | {"tls": {"mode": "Passthrough"}}, "tls.mode", "of HTTPS is Terminate"),
        (TLS | {"tls": {"certificateRefs": [{"name": "a"}]}}, "tls.mode", "is required"),
        (HTTPS | {"tls": {"options": {"a": "b"}}}, "tls.options", "is not supported yet"),
        (
            HTTPS | {"tls": {"certificateRefs": [{"kind": "ConfigMap", "name": "a"}]}},
            "tls.certificateRefs[0].kind",
            "must be one of Secret",
        ),
        (
            HTTPS | {"tls": {"certificateRefs": [{"group": "cloud", "name": "a"}]}},
            "tls.certificateRefs[0].group",
            'of a Secret is ""',
        ),
        (HTTPS | {"tls": {"certificateRefs": [{}]}}, "tls.certificateRefs[0].name", "is required"),
        (
            HTTP | {"allowedRoutes": {"namespaces": {"from": "None"}}},
            "allowedRoutes.namespaces.from",
            "must be",
        ),
        (
            HTTP | {"allowedRoutes": {"namespaces": {"from": "Selector"}}},
            "allowedRoutes.namespaces.selector",
            "is required",
        ),
        (HTTP | {"allowedRoutes": {"kinds": [{}]}}, "allowedRoutes.kinds[0].kind", "is required"),
        (HTTP | {"hosts": []}, "hosts", "unknown field"),
    ],
)
def test_a_listener_that_cannot_be_read_leaves_the_gateway_without_effect(
    fields: Any, field: str, says: str
) -> None:
    bad = made(fields)
    assert says in refused(bad)[f"spec.listeners[0].{field}"]
    assert read(bad).nouns == ()


def test_a_protocol_that_is_no_text_is_refused() -> None:
    fragment = read(made(HTTP | {"protocol": ["HTTP"]}))
    assert [problem.field for problem in fragment.problems] == ["spec.listeners[0].protocol"]
