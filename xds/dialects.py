"""Every API that Sluice reads, in one list: Kubernetes, Gateway API, Cilium and Istio."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from istio_integration import DIALECTS as ISTIO
from mesh import dialects
from mesh.dialects import Dialect
from mesh.model import Fragment

DIALECTS: Mapping[tuple[str, str], Dialect] = {**dialects.DIALECTS, **ISTIO}


def read(object: Any) -> Fragment:
    """What is understood of one API object. Never raises."""
    return dialects.read(object, DIALECTS)
