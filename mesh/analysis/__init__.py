"""Traps that a mesh holds: what is valid, and is not what its author meant.

`CHECKS` is the list of what is looked for, one file a group; a new check is a function there and a
line in its file's CHECKS. Codes keep their meaning for ever: people write them into annotations. Where
`istioctl analyze` warns of the same trap its code (IST) is ours too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from mesh.analysis import (
    addresses,
    authorization,
    destination_rules,
    dns,
    istio_gateways,
    layers,
    port_protocols,
    problems,
    routes,
    selection,
    shadow,
    tokens,
    virtual_services,
)
from mesh.analysis.finding import SEVERITIES, Check, Finding, Severity, Trap
from mesh.analysis.view import View
from mesh.model import ObjectRef

_GROUPS = (
    problems,
    selection,
    layers,
    dns,
    shadow,
    addresses,
    authorization,
    tokens,
    routes,
    virtual_services,
    destination_rules,
    istio_gateways,
    port_protocols,
)

CHECKS: tuple[Check, ...] = tuple(
    sorted((check for group in _GROUPS for check in group.CHECKS), key=lambda check: check.code)
)

#: Annotations that silence checks on an object: codes joined by commas, or `*`. Istio's is read too.
SUPPRESS = ("sluice.io/analyze-suppress", "galley.istio.io/analyze-suppress")

Suppressions = Mapping[ObjectRef, frozenset[str]]


def analyze(view: View, suppressed: Suppressions | None = None) -> tuple[Finding, ...]:
    """Every trap that is not suppressed: the worst first, then by code and object."""
    silent = suppressed or {}
    found = {
        Finding(check.code, check.severity, trap)
        for check in CHECKS
        for trap in check.find(view)
        if silent.get(trap.object, frozenset()).isdisjoint((check.code, "*"))
    }
    return tuple(sorted(found, key=lambda f: (SEVERITIES.index(f.severity), f.code, f.trap)))


def suppressions(objects: Iterable[tuple[ObjectRef, Mapping[str, Any]]]) -> Suppressions:
    """Which codes the annotations of API objects silence."""
    found: dict[ObjectRef, frozenset[str]] = {}
    for ref, content in objects:
        metadata = content.get("metadata")
        annotations = metadata.get("annotations") if isinstance(metadata, Mapping) else None
        if not isinstance(annotations, Mapping):
            continue
        texts = [text for key in SUPPRESS if isinstance(text := annotations.get(key), str)]
        codes = frozenset(code.strip() for text in texts for code in text.split(",")) - {""}
        if codes:
            found[ref] = codes
    return found


__all__ = ["CHECKS", "SEVERITIES", "Check", "Finding", "Severity", "Trap", "View", "analyze", "suppressions"]
