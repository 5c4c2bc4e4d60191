"""`match.mode` of Telemetry: is it about what a workload sends, gets, or both?"""

from __future__ import annotations

from mesh.dialects.reading import Fields, Reader
from mesh.model import Direction

MATCH_WORKLOADS = Fields(("mode",))

_MODES: dict[str, tuple[Direction, ...]] = {
    "CLIENT_AND_SERVER": ("egress", "ingress"),
    "CLIENT": ("egress",),
    "SERVER": ("ingress",),
}


def directions(match: Reader) -> tuple[Direction, ...]:
    """Those that a `match` means."""
    mode = match.at("mode").choice(tuple(_MODES), "CLIENT_AND_SERVER")
    return _MODES.get(mode, ("egress", "ingress"))
