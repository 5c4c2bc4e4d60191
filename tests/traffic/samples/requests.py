"""Every field of RateLimit, Telemetry and ProxyConfig."""

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


def _rate_limit(**spec: Any) -> Object:
    return object_of("sluice.io/v1alpha1", "RateLimit", "web", "shop", spec)


def _telemetry(**spec: Any) -> Object:
    return object_of("telemetry.istio.io/v1", "Telemetry", "web", "shop", spec)


def _proxy_config(**spec: Any) -> Object:
    return object_of("networking.istio.io/v1beta1", "ProxyConfig", "web", "shop", spec)


_LIMITED = _rate_limit(limits=_LIMITS)
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
    "Telemetry": {
        "selector": same_but_for(
            _TRACED, "spec.selector", {"matchLabels": {"app": "nobody"}}, (), _COLLECTOR, _WATCHED
        ),
        "tracing": Sample((_COLLECTOR, _WATCHED), (_COLLECTOR, _WATCHED, _TRACED), (_COLLECTOR, _TRACED)),
    },
    "ProxyConfig": {
        "selector": same_but_for(_proxy_config(concurrency=2), "spec.selector", ONLY_WEB),
        "concurrency": new(_proxy_config(concurrency=2)),
        "environmentVariables": new(_proxy_config(environmentVariables={"TIER": "gold"})),
    },
}
