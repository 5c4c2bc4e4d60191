"""Durations of the Gateway API (GEP-2257), such as 1h30m, 10s or 500ms; our own kinds have them too."""

from __future__ import annotations

import re

from mesh.dialects.reading import Reader, shown

_WHOLE = re.compile(r"([0-9]{1,5}(h|m|s|ms)){1,4}")
_PART = re.compile(r"([0-9]{1,5})(ms|h|m|s)")
_MILLISECONDS = {"h": 3_600_000, "m": 60_000, "s": 1000, "ms": 1}


def duration_ms(reader: Reader, default: str = "0s") -> int:
    """Milliseconds; 0 is none."""
    text = reader.text(default)
    if not _WHOLE.fullmatch(text):
        if reader.sound:
            reader.refuse(f"{shown(text)} is not a duration: write 1 to 4 parts such as 1h30m, 10s or 500ms")
        return 0
    return sum(int(n) * _MILLISECONDS[unit] for n, unit in _PART.findall(text))
