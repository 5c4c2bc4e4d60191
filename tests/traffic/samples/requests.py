"""Every field of RateLimit, EnvoyFilter, WasmPlugin, Telemetry and ProxyConfig."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tests.traffic.samples.sample import Sample, new, same_but_for
from tests.traffic.samples.security import ONLY_WEB, TARGET, mesh_config
from tests.traffic.shop import Object, destination_rule, object_of

_LIMITS = [{"requests": 5, "per": "second"}]
_WATCHED = destination_rule(trafficPolicy={"outlierDetection": {"consecutive5xxErrors": 3}})
_COLLECTOR = mesh_config(
    "extensionProviders: [{name: otel, opentelemetry: {service: shadow.shop.svc.cluster.local, port: 80}}]"
)
_LOGS = mesh_config("accessLogFile: /dev/stdout")


def _rate_limit(**spec: Any) -> Object:
    return object_of("sluice.io/v1alpha1", "RateLimit", "web", "shop", spec)


def _telemetry(**spec: Any) -> Object:
    return object_of("telemetry.istio.io/v1", "Telemetry", "web", "shop", spec)


_WEB = "web.shop.svc.cluster.local"
_HEADERS = {"request_headers_to_remove": ["x-own"]}
_BUFFER = {
    "name": "buffer",
    "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.filters.http.buffer.v3.Buffer",
        "max_request_bytes": 1024,
    },
}


def _envoy_filter(
    name: str, target: str, value: Object, context: str = "SIDECAR_OUTBOUND", **match: Any
) -> Object:
    operation = "ADD" if target == "HTTP_FILTER" else "MERGE"
    patch = {
        "applyTo": target,
        "match": {"context": context, **match},
        "patch": {"operation": operation, "value": value},
    }
    spec = {"workloadSelector": {"labels": {"team": "a"}}, "configPatches": [patch]}
    return object_of("networking.istio.io/v1alpha3", "EnvoyFilter", name, "shop", spec)


_PATCHED = _envoy_filter("web", "HTTP_FILTER", _BUFFER, "SIDECAR_INBOUND")
_OTHER = _envoy_filter("xeb", "HTTP_FILTER", _BUFFER | {"name": "other"}, "SIDECAR_INBOUND")


_GATEWAY = {"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "public"}
_OF_GATEWAY = _PATCHED | {
    "spec": {"targetRefs": [_GATEWAY], "configPatches": _PATCHED["spec"]["configPatches"]}
}


def _proxy_config(**spec: Any) -> Object:
    return object_of("networking.istio.io/v1beta1", "ProxyConfig", "web", "shop", spec)


def _plugin(name: str = "web", **spec: Any) -> Object:
    whole = {"url": "https://modules.example/a.wasm", "sha256": "a" * 64, **spec}
    return object_of("extensions.istio.io/v1alpha1", "WasmPlugin", name, "shop", whole)


_A = {"selector": {"matchLabels": {"team": "a"}}}
_PLUGIN = _plugin(**_A)
_ELSEWHERE = TARGET | {"name": "shadow"}
_LIMITED = _rate_limit(limits=_LIMITS)
_LOGGED = _telemetry(accessLogging=[{"disabled": True}])
_UNCOUNTED = _telemetry(metrics=[{"overrides": [{"disabled": True}]}])
_TRACED = _telemetry(tracing=[{"providers": [{"name": "otel"}]}])

SAMPLES: Mapping[str, Mapping[str, Sample]] = {
    "RateLimit": {
        **{
            name: same_but_for(_LIMITED, f"spec.{name}", value)
            for name, value in (("selector", ONLY_WEB), ("targetRef", TARGET), ("targetRefs", [TARGET]))
        },
        "limits": new(_LIMITED),
        "global": new(
            _rate_limit(
                limits=_LIMITS,
                **{"global": {"service": "shadow.shop.svc.cluster.local", "port": 80, "domain": "shop"}},
            )
        ),
    },
    "EnvoyFilter": {
        "workloadSelector": same_but_for(_PATCHED, "spec.workloadSelector", {"labels": {"team": "b"}}),
        "priority": Sample(
            (_PATCHED, _OTHER), (_PATCHED, _OTHER | {"spec": _OTHER["spec"] | {"priority": -1}})
        ),
        "configPatches": new(_PATCHED),
        "configPatches[].match.context": same_but_for(
            _PATCHED, "spec.configPatches[].match.context", "GATEWAY"
        ),
        "configPatches[].match.listener": same_but_for(
            _PATCHED, "spec.configPatches[].match.listener", {"portNumber": 8080}
        ),
        "configPatches[].match.routeConfiguration": new(
            _envoy_filter(
                "web", "VIRTUAL_HOST", _HEADERS, routeConfiguration={"vhost": {"name": f"{_WEB}:80"}}
            )
        ),
        "targetRefs": Sample((_PATCHED,), (_OF_GATEWAY,), (_OF_GATEWAY,)),
        "configPatches[].match.proxy": same_but_for(
            _PATCHED, "spec.configPatches[].match.proxy", {"proxyVersion": "^1[.]0"}, ()
        ),
        "configPatches[].match.cluster": new(
            _envoy_filter("web", "CLUSTER", {"alt_stat_name": "web"}, cluster={"service": _WEB})
        ),
    },
    "WasmPlugin": {
        "selector": same_but_for(_PLUGIN, "spec.selector", {"matchLabels": {"team": "b"}}),
        "targetRef": same_but_for(_plugin(targetRef=_ELSEWHERE), "spec.targetRef", TARGET),
        "targetRefs": same_but_for(_plugin(targetRefs=[_ELSEWHERE]), "spec.targetRefs", [TARGET]),
        "url": new(_plugin(match=[{"mode": "SERVER"}], **_A)),
        "match": new(_plugin(match=[{"mode": "CLIENT"}], **_A)),
        **{
            name: same_but_for(_PLUGIN, f"spec.{name}", value)
            for name, value in (
                ("sha256", "b" * 64),
                ("imagePullPolicy", "Always"),
                ("imagePullSecret", "registry"),
                ("pluginConfig", {"limit": 5}),
                ("pluginName", "limiter"),
                ("failStrategy", "FAIL_OPEN"),
                ("vmConfig", {"env": [{"name": "TIER", "value": "gold"}]}),
                ("type", "HTTP"),
            )
        },
        **{
            name: Sample((_PLUGIN, _plugin("xeb", **_A)), (_PLUGIN, _plugin("xeb", **_A, **{name: value})))
            for name, value in (("phase", "AUTHN"), ("priority", 5))
        },
    },
    "Telemetry": {
        "selector": same_but_for(
            _TRACED, "spec.selector", {"matchLabels": {"app": "nobody"}}, (), _COLLECTOR, _WATCHED
        ),
        "targetRef": same_but_for(_TRACED, "spec.targetRef", _GATEWAY, (), _COLLECTOR, _WATCHED),
        "targetRefs": same_but_for(_TRACED, "spec.targetRefs", [_GATEWAY], (), _COLLECTOR, _WATCHED),
        "tracing": Sample((_COLLECTOR, _WATCHED), (_COLLECTOR, _WATCHED, _TRACED), (_COLLECTOR, _TRACED)),
        "metrics": Sample((_WATCHED,), (_WATCHED, _UNCOUNTED), (_UNCOUNTED,)),
        "accessLogging": Sample((_LOGS, _WATCHED), (_LOGS, _WATCHED, _LOGGED), (_LOGS, _LOGGED)),
    },
    "ProxyConfig": {
        "selector": same_but_for(_proxy_config(concurrency=2), "spec.selector", ONLY_WEB),
        "concurrency": new(_proxy_config(concurrency=2)),
        "image": new(_proxy_config(image={"imageType": "distroless"})),
        "environmentVariables": new(_proxy_config(environmentVariables={"TIER": "gold"})),
    },
}
