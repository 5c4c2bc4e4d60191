"""Patterns of names that a TLS hello may ask for (Cilium's matchPattern) as RE2 expressions."""

from __future__ import annotations

import re2

from mesh.model import NamePattern

_LABEL = "[-a-z0-9_]"


def expression(pattern: NamePattern) -> str:
    """Matches the whole of a name in lower case, which Envoy makes of the SNI. A hello without one asks for
    no name, so that no pattern matches it."""
    if pattern.text == "*":
        return rf"({_LABEL}+[.])*{_LABEL}+"
    labels, rest = "", pattern.text
    if rest.startswith("**."):
        labels, rest = rf"({_LABEL}+[.])+", rest[3:]
    return labels + f"{_LABEL}*".join(map(re2.escape, rest.split("*")))
