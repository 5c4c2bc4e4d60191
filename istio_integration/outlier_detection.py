"""OutlierDetection: when a backend is left out for a while."""

from __future__ import annotations

from istio_integration.duration import duration_ms
from mesh.dialects.reading import Fields, Reader
from mesh.model import OutlierDetection

OUTLIERS = Fields(
    (
        "consecutive5xxErrors",
        "consecutiveGatewayErrors",
        "splitExternalLocalOriginErrors",
        "consecutiveLocalOriginFailures",
        "interval",
        "baseEjectionTime",
        "maxEjectionPercent",
        "minHealthPercent",
    ),
    refused=("consecutiveErrors", "outlierDetectionHttpErrorCodes"),
    why="is not supported: write consecutive5xxErrors or consecutiveGatewayErrors",
)


def outlier_detection(reader: Reader) -> OutlierDetection | None:
    if not reader.fields(OUTLIERS).present:
        return None
    split = reader.at("splitExternalLocalOriginErrors").boolean()
    local = _count(reader.at("consecutiveLocalOriginFailures"))
    if local and not split:
        reader.at("consecutiveLocalOriginFailures").refuse("needs splitExternalLocalOriginErrors: true")
    return OutlierDetection(
        _count(reader.at("consecutive5xxErrors")),
        _count(reader.at("consecutiveGatewayErrors")),
        local,
        split,
        duration_ms(reader.at("interval"), 10_000),
        duration_ms(reader.at("baseEjectionTime"), 30_000),
        # 0 is the default, too: Istio cannot tell them apart.
        reader.at("maxEjectionPercent").integer(0, 100) or 10,
        reader.at("minHealthPercent").integer(0, 100),
    )


def _count(reader: Reader) -> int | None:
    return reader.integer(0, 2**32 - 1) if reader.present else None
