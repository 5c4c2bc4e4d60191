"""Every field of VirtualService."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tests.traffic.samples.sample import Sample, new, put, same_but_for
from tests.traffic.shop import Object, object_of, to, versions, virtual_service

_ROUTE: Object = {"route": [to()]}
_MATCH: Object = {"uri": {"prefix": "/a"}}
_HTTP = virtual_service(_ROUTE | {"match": [_MATCH]})
_SNI = {"sniHosts": ["web.example"], "port": 90}
_TLS = virtual_service(tls=[{"match": [_SNI], "route": [to()]}], hosts=["web", "web.example"])
_TCP = virtual_service(tcp=[{"route": [to("shadow")]}])


def _http(**fields: Any) -> Sample:
    return new(virtual_service(_ROUTE | fields), versions())


def _delegate() -> Sample:
    inner = object_of("networking.istio.io/v1", "VirtualService", "inner", "shop", {"http": [_ROUTE]})
    return Sample((inner,), (inner, virtual_service({"delegate": {"name": "inner"}})))


def _matched(field: str, value: Any) -> Sample:
    return same_but_for(_HTTP, f"spec.http[].match[].{field}", value)


def _hello(field: str, value: Any) -> Sample:
    return same_but_for(_TLS, f"spec.tls[].match[].{field}", value)


_MIRROR = {"mirror": {"host": "shadow"}}
SAMPLES: Mapping[str, Sample] = {
    "hosts": same_but_for(_HTTP, "spec.hosts", ["shadow"], (put(_TCP, "spec.hosts", ["shadow"]),)),
    "gateways": same_but_for(
        _HTTP, "spec.gateways", ["edge/public"], (put(_TCP, "spec.gateways", ["mesh", "edge/public"]),)
    ),
    "exportTo": same_but_for(_HTTP, "spec.exportTo", ["far"], (put(_TCP, "spec.exportTo", ["."]),)),
    "http[].match": _http(match=[_MATCH]),
    "http[].match[].port": _matched("port", 81),
    "http[].match[].sourceLabels": _matched("sourceLabels", {"team": "b"}),
    "http[].match[].sourceNamespace": _matched("sourceNamespace", "far"),
    "http[].match[].gateways": _matched("gateways", ["edge/public"]),
    "http[].match[].name": _matched("name", "a"),
    "http[].route": _http(route=[to(subset="v1", weight=9), to(subset="v2", weight=1)]),
    "http[].redirect": new(virtual_service({"redirect": {"uri": "/b"}})),
    "http[].directResponse": new(virtual_service({"directResponse": {"status": 503}})),
    "http[].rewrite": _http(rewrite={"uri": "/b"}),
    "http[].headers": _http(headers={"request": {"set": {"x-a": "b"}}}),
    "http[].timeout": _http(timeout="1s"),
    "http[].retries": _http(retries={"attempts": 1}),
    "http[].fault": _http(fault={"abort": {"httpStatus": 503, "percentage": {"value": 50}}}),
    "http[].mirror": _http(**_MIRROR),
    "http[].mirrors": _http(mirrors=[{"destination": {"host": "shadow"}}]),
    "http[].mirrorPercent": _http(**_MIRROR, mirrorPercent=10),
    "http[].mirrorPercentage": _http(**_MIRROR, mirrorPercentage={"value": 10}),
    "http[].corsPolicy": _http(corsPolicy={"allowOrigins": [{"exact": "https://a.example"}]}),
    "http[].delegate": _delegate(),
    "http[].name": same_but_for(_HTTP, "spec.http[].name", "canary"),
    "tls[].match": new(_TLS),
    "tls[].route": new(_TLS),
    "tls[].match[].destinationSubnets": _hello("destinationSubnets", ["192.0.2.0/24"]),
    "tls[].match[].port": _hello("port", 91),
    "tls[].match[].sourceLabels": _hello("sourceLabels", {"team": "b"}),
    "tls[].match[].sourceNamespace": _hello("sourceNamespace", "far"),
    "tls[].match[].gateways": _hello("gateways", ["edge/public"]),
    "tcp[].match": new(put(_TCP, "spec.tcp[].match", [{"port": 90, "sourceLabels": {"team": "a"}}])),
    "tcp[].route": new(
        put(_TCP, "spec.tcp[].route", [to(subset="v1", weight=9), to(subset="v2", weight=1)]), versions()
    ),
}
