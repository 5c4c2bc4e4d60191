"""Every field of the routes and Gateways of the Gateway API, and of Istio's Gateway."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tests.traffic.edge import gate, gateway, istio_gateway
from tests.traffic.samples.sample import Sample, new, put, same_but_for
from tests.traffic.shop import Object, object_of

_WEB, _SHADOW = {"name": "web", "port": 80}, {"name": "shadow", "port": 80}
_PARENT: Object = {"group": "", "kind": "Service", "name": "web"}
_OTHER_PARENT = [_PARENT | {"name": "shadow"}]
_LISTENER: Object = {
    "name": "http",
    "port": 80,
    "protocol": "HTTP",
    "allowedRoutes": {"namespaces": {"from": "All"}},
}


def _route(kind: str, version: str = "v1", **spec: Any) -> Object:
    content = {"parentRefs": [_PARENT], "rules": [{"backendRefs": [_SHADOW]}]} | spec
    return object_of(f"gateway.networking.k8s.io/{version}", kind, "web", "shop", content)


def _rule(kind: str, **fields: Any) -> Object:
    return _route(kind, rules=[{"backendRefs": [_WEB]} | fields])


def _named(base: Object) -> Sample:
    return same_but_for(base, "spec.rules[].name", "canary")


def _at_a_gateway(kind: str) -> Sample:
    attached = put(_rule(kind), "spec.parentRefs", [{"name": "public", "namespace": "edge"}])
    changed = same_but_for(attached, "spec.hostnames", ["a.example"], (), gateway(_LISTENER), gate())
    return Sample(changed.without, changed.with_, (put(attached, "spec.hostnames", ["a.example"]),))


def _at_a_tls_gateway() -> Sample:
    listener = _LISTENER | {"protocol": "TLS", "tls": {"mode": "Passthrough"}}
    attached = put(_TLS_ROUTE, "spec.parentRefs", [{"name": "public", "namespace": "edge"}])
    other = put(attached, "spec.hostnames", ["a.example"])
    return Sample((attached, gateway(listener), gate()), (other, gateway(listener), gate()), (other,))


_SET = {"type": "RequestHeaderModifier", "requestHeaderModifier": {"set": [{"name": "x-a", "value": "b"}]}}
_BY_HEADER = {"headers": [{"name": "x-a", "value": "b"}]}
_TCP_ROUTE, _UDP_ROUTE = _route("TCPRoute", "v1alpha2"), _route("UDPRoute", "v1alpha2")
_TLS_ROUTE = _route("TLSRoute", hostnames=["web.example"])
_UDP = object_of(
    "v1",
    "Service",
    "names",
    "shop",
    {"clusterIP": "10.128.0.99", "selector": {"app": "web"}, "ports": [{"port": 53, "protocol": "UDP"}]},
)
_TO_NAMES = put(_UDP_ROUTE, "spec.parentRefs", [_PARENT | {"name": "names"}])
_FLOWS = put(_TO_NAMES, "spec.rules", [{"backendRefs": [{"name": "names", "port": 53, "weight": 2}]}])


def _requests(kind: str) -> Mapping[str, Sample]:
    return {
        "parentRefs": same_but_for(_rule(kind), "spec.parentRefs", _OTHER_PARENT, (_TCP_ROUTE,)),
        "hostnames": _at_a_gateway(kind),
        "rules[].matches": new(_rule(kind, matches=[_BY_HEADER])),
        "rules[].filters": new(_rule(kind, filters=[_SET])),
        "rules[].backendRefs": new(_rule(kind, backendRefs=[_WEB | {"weight": 9}, _SHADOW])),
        "rules[].name": _named(_rule(kind)),
    }


_HTTP_ROUTE = {
    **_requests("HTTPRoute"),
    "rules[].timeouts": new(_rule("HTTPRoute", timeouts={"request": "1s"})),
    "rules[].retry": new(_rule("HTTPRoute", retry={"attempts": 1})),
}
_GATEWAY: Mapping[str, Sample] = {
    "gatewayClassName": same_but_for(gateway(_LISTENER), "spec.gatewayClassName", "theirs", (), gate()),
    "listeners": Sample((gate(),), (gate(), gateway(_LISTENER))),
    "tls": Sample(
        (gate(),),
        (
            gate(),
            put(
                gateway(_LISTENER),
                "spec.tls",
                {
                    "frontend": {
                        "default": {
                            "validation": {
                                "caCertificateRefs": [{"name": "ca", "kind": "Secret", "group": ""}]
                            }
                        }
                    }
                },
            ),
        ),
    ),
    "addresses": same_but_for(
        gateway(_LISTENER), "spec.addresses", [{"type": "IPAddress", "value": "192.0.2.1"}], (), gate()
    ),
    "infrastructure": same_but_for(
        gateway(_LISTENER), "spec.infrastructure", {"labels": {"team": "edge"}}, (), gate()
    ),
}
_SERVER: Object = {"port": {"number": 80, "name": "http", "protocol": "HTTP"}, "hosts": ["*"]}
_ISTIO_GATEWAY: Mapping[str, Sample] = {
    "selector": same_but_for(istio_gateway(_SERVER), "spec.selector", {"istio": "other"}, (), gate()),
    "servers": Sample((gate(),), (gate(), istio_gateway(_SERVER))),
}


SAMPLES: Mapping[str, Mapping[str, Sample]] = {
    "HTTPRoute": _HTTP_ROUTE,
    "GRPCRoute": _requests("GRPCRoute"),
    "TCPRoute": {
        "parentRefs": same_but_for(_TCP_ROUTE, "spec.parentRefs", _OTHER_PARENT, (_TCP_ROUTE,)),
        "rules[].backendRefs": new(_TCP_ROUTE),
        "rules[].name": _named(_TCP_ROUTE),
    },
    "TLSRoute": {
        "parentRefs": same_but_for(_TLS_ROUTE, "spec.parentRefs", _OTHER_PARENT, (_TLS_ROUTE,)),
        "hostnames": _at_a_tls_gateway(),
        "rules[].backendRefs": new(_TLS_ROUTE),
        "rules[].name": _named(_TLS_ROUTE),
    },
    "UDPRoute": {
        "parentRefs": Sample((_UDP, _UDP_ROUTE), (_UDP, _FLOWS), (_UDP, _FLOWS)),
        "rules[].backendRefs": Sample((_UDP,), (_UDP, _FLOWS)),
        "rules[].name": same_but_for(_FLOWS, "spec.rules[].name", "canary", (), _UDP),
    },
    "Gateway": _GATEWAY,
    "Gateway.networking.istio.io": _ISTIO_GATEWAY,
}
