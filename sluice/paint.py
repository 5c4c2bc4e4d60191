"""Colour for people at a terminal, and for nobody else (https://no-color.org)."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

Paint = Callable[[str, str], str]

#: SGR codes, by what the text says.
COLOURS = {
    "kernel": "34",
    "envoy": "36",
    "partly": "33",
    "deny": "31",
    "Error": "31",
    "Warning": "33",
    "Info": "36",
    "dim": "2",
    "bold": "1",
}


def plain(text: str, what: str) -> str:
    return text


def coloured(text: str, what: str) -> str:
    return f"\x1b[{COLOURS[what]}m{text}\x1b[0m" if text else text


def paint_for_output() -> Paint:
    """Colours if standard output is a terminal and NO_COLOR does not forbid them."""
    return coloured if sys.stdout.isatty() and not os.environ.get("NO_COLOR") else plain
