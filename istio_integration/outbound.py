"""`outboundTrafficPolicy.mode` of a Sidecar and of MeshConfig."""

from __future__ import annotations

from mesh.dialects.reading import Reader
from mesh.model import OutboundMode


def outbound_mode(reader: Reader, default: OutboundMode) -> OutboundMode:
    """What cannot be read allows least."""
    text = reader.choice(("REGISTRY_ONLY", "ALLOW_ANY"), default)
    return "ALLOW_ANY" if text == "ALLOW_ANY" else "REGISTRY_ONLY"
