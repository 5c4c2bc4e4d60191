"""Audit mode: an annotation that makes a policy of any language but Istio's only tell."""

from __future__ import annotations

from mesh.dialects.reading import Reader

AUDIT = "sluice.io/audit"


def audited(root: Reader) -> bool:
    """Does the object ask for audit mode? What cannot be read means: enforced."""
    value = root.at("metadata").mapping().at("annotations").mapping().at(AUDIT)
    return value.choice(("true", "false"), "false") == "true" and value.sound
