"""Traps that a mesh holds: what is valid, and is not what its author meant.

`CHECKS` is the list of what is looked for, one file a group; a new check is a function there and a
line in its file's CHECKS. Codes keep their meaning for ever: people write them into annotations.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from mesh.analysis import addresses, authorization, dns, layers, problems, routes, selection, shadow, tokens
from mesh.analysis.finding import SEVERITIES, Check, Finding, Severity, Trap
from mesh.analysis.view import View
from mesh.model import ObjectRef

CHECKS: tuple[Check, ...] = (
    *problems.CHECKS,
    *selection.CHECKS,
    *layers.CHECKS,
    *dns.CHECKS,
    *shadow.CHECKS,
    *addresses.CHECKS,
    *authorization.CHECKS,
    *tokens.CHECKS,
    *routes.CHECKS,
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
