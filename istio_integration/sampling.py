"""How much is sampled: percentages with two decimals, in Telemetry as in MeshConfig."""

from __future__ import annotations

from mesh.dialects.reading import Reader, shown
from mesh.model import ALL


def hundredths(reader: Reader) -> int:
    """Hundredths of a percent, from a number of percent."""
    value = reader.value
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 100:
        reader.refuse(f"{shown(value)} is not a percentage from 0 to 100")
        return 0
    return round(value * ALL / 100)
