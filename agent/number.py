"""Numbers in names that come from Envoy, where an EnvoyFilter may have written whatever it likes."""

from __future__ import annotations


def number(text: str) -> int | None:
    """Of decimal digits; None for anything else, other scripts' digits and endless ones among it."""
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 20 else None
