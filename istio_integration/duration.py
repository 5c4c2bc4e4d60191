"""Durations of Istio's APIs."""

from __future__ import annotations

import re

from mesh.dialects.reading import Reader, shown

_DURATION = re.compile(r"([0-9]+(\.[0-9]+)?)(ms|s|m|h)")
_MILLISECONDS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000}


def milliseconds(reader: Reader, default: int) -> int:
    """Of a duration such as 10s or 250ms."""
    found = _DURATION.fullmatch(reader.text())
    if not reader.present or not reader.sound:
        return default
    if found is None:
        reader.refuse(f"{shown(reader.value)} is not a duration such as 10s or 250ms")
        return default
    return int(float(found[1]) * _MILLISECONDS[found[3]])
