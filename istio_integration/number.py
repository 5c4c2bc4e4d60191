"""Numbers with a fraction, and shares of requests (Istio's Percent)."""

from __future__ import annotations

from mesh.dialects.reading import Fields, Reader, shown

PERCENT = Fields(("value",))

#: All requests.
WHOLE = 1_000_000


def number(reader: Reader, low: float, high: float, default: float) -> float:
    if not reader.present:
        return default
    found = reader.value
    if not isinstance(found, int | float) or isinstance(found, bool):
        reader.strange = True
        reader.refuse(f"must be a number, not {shown(found)}")
        return default
    if not low <= found <= high:  # which a NaN is not
        reader.refuse(f"is {shown(found)}; must be {low:g} to {high:g}")
        return default
    return float(found)


def share(reader: Reader, default: int) -> int:
    """Millionths of a Percent; one without a value is none."""
    if not reader.fields(PERCENT).present:
        return default
    value = reader.at("value")
    found = number(value, 0, 100, 0)
    if 0 < found < 0.0001:
        value.refuse(f"is {shown(value.value)}; the smallest share but none is 0.0001")
    return round(found * WHOLE / 100)
