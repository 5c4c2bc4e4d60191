"""Durations of Istio's API: Go's texts, such as 10s, 1h30m or 250ms, of which protobuf's are some."""

from __future__ import annotations

import re
from fractions import Fraction

from mesh.dialects.reading import Reader, shown

_PART = re.compile(r"([0-9]{1,18}(?:\.[0-9]{1,18})?)(h|ms|m|s|us|µs|ns)")
_WHOLE = re.compile(rf"(?:{_PART.pattern})+")
_MILLISECONDS = {
    "h": Fraction(3_600_000),
    "m": Fraction(60_000),
    "s": Fraction(1_000),
    "ms": Fraction(1),
    "us": Fraction(1, 1_000),
    "µs": Fraction(1, 1_000),
    "ns": Fraction(1, 1_000_000),
}
#: The longest that Go and Envoy can count, in nanoseconds of 63 bits.
_LONGEST_MS = (2**63 - 1) // 1_000_000


def duration_ms(reader: Reader, default: int = 0, at_least: int = 1) -> int:
    """Milliseconds, whole ones as Istio demands; `default` if it is absent or unreadable."""
    if not reader.present:
        return default
    text = reader.text()
    if not reader.sound:
        return default
    if not _WHOLE.fullmatch(text):
        reader.refuse(f"{shown(text)} is not a duration such as 10s, 1h30m or 250ms")
        return default
    found = sum((Fraction(number) * _MILLISECONDS[unit] for number, unit in _PART.findall(text)), Fraction(0))
    if found.denominator != 1 or found > _LONGEST_MS:
        reader.refuse(f"is {shown(text)}; must be whole milliseconds, and at most {_LONGEST_MS}ms")
        return default
    if found < at_least:
        reader.refuse(f"is {shown(text)}; must be at least {at_least}ms: leave it out for the default")
        return default
    return int(found)
