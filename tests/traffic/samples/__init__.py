"""For each field of the steering table a mesh that sets it, and one that is the same but for it."""

from __future__ import annotations

from collections.abc import Mapping

from tests.traffic.samples import (
    destination_rule,
    gateway_api,
    network,
    requests,
    security,
    sidecar,
    virtual_service,
)
from tests.traffic.samples.sample import Sample

SAMPLES: Mapping[str, Mapping[str, Sample]] = {
    "VirtualService": virtual_service.SAMPLES,
    "DestinationRule": destination_rule.SAMPLES,
    **gateway_api.SAMPLES,
    **requests.SAMPLES,
    **security.SAMPLES,
    **network.SAMPLES,
    **sidecar.SAMPLES,
}
