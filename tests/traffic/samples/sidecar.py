"""Every field of Sidecar."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tests.traffic.samples.sample import Sample, new, same_but_for
from tests.traffic.shop import Object, object_of, to, versions, virtual_service

_ROUTED = (virtual_service({"route": [to(subset="v1")]}), versions())
_TAKEN = {"port": {"number": 8080, "protocol": "HTTP"}, "defaultEndpoint": "127.0.0.1:8081"}

_BOUND = {"port": {"number": 80, "protocol": "HTTP"}, "bind": "127.0.0.1", "hosts": ["./*"]}


def _sidecar(**spec: Any) -> Object:
    return object_of("networking.istio.io/v1", "Sidecar", "web", "shop", spec)


_NONE = _sidecar(egress=[{"hosts": ["~/*"]}])
_OTHERS = _sidecar(workloadSelector={"labels": {"app": "other"}}, egress=[{"hosts": ["~/*"]}])

SAMPLES: Mapping[str, Mapping[str, Sample]] = {
    "Sidecar": {
        "workloadSelector": same_but_for(
            _OTHERS, "spec.workloadSelector", {"labels": {"app": "client"}}, (_OTHERS,), *_ROUTED
        ),
        "egress": same_but_for(_sidecar(), "spec.egress", [{"hosts": ["~/*"]}], (_NONE,), *_ROUTED),
        "egress[].bind": new(_sidecar(egress=[_BOUND, {"hosts": ["*/*"]}])),
        "ingress": new(_sidecar(workloadSelector={"labels": {"app": "web"}}, ingress=[_TAKEN])),
        "outboundTrafficPolicy": same_but_for(
            _sidecar(egress=[{"hosts": ["~/*"]}]), "spec.outboundTrafficPolicy", {"mode": "REGISTRY_ONLY"}
        ),
    }
}
