"""A table for people: columns as wide as their widest cell, the last one open; and lists that may be long.
Pure."""

from __future__ import annotations

from collections.abc import Sequence


def text_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Lines without trailing spaces, two spaces between columns."""
    lines = (head, *rows)
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def few(words: Sequence[str], at_most: int = 3) -> str:
    """The first of them, and how many more there are."""
    more = len(words) - at_most
    return "; ".join(words[:at_most]) + (f"; and {more} more" if more > 0 else "")
