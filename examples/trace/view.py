"""Draws traces: reads the collector's spans on standard input, prints each trace as a waterfall.

Usage: view.py [PICTURE.svg]
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

WIDTH = 40
#: Of the picture, in pixels.
ROW, LEFT, RIGHT = 24, 430, 520
STYLE = (
    "text{font:13px sans-serif;fill:#222}.quiet{fill:#777}.trace{font-weight:bold}"
    ".envoy{fill:#7a5cc8}.kernel{fill:#2a9d8f}.denied{fill:#d1495b}"
)


@dataclass(frozen=True)
class Row:
    """One line of the picture; `begin` and `length` are parts of the trace's time."""

    title: str
    kind: str
    note: str
    milliseconds: float
    begin: float
    length: float


@dataclass
class Trace:
    """All spans of one trace, a parent before its children."""

    start: int
    end: int
    spans: list[tuple[int, dict[str, Any]]] = field(default_factory=list)

    @property
    def total(self) -> int:
        return max(1, self.end - self.start)

    def rows(self) -> Iterator[Row]:
        for depth, span in self.spans:
            said = span["attributes"]
            kind = "denied" if span["error"] else said.get("sluice.path", "envoy")
            note = (
                said.get("sluice.policy")
                or said.get("sluice.steered_by")
                or said.get("sluice.destination", "")
            )
            yield Row(
                f"{'  ' * depth}{span['service']}  {span['name']}",
                kind,
                note + ("  (again)" if span["links"] else ""),
                (span["end"] - span["start"]) / 1e6,
                (span["start"] - self.start) / self.total,
                (span["end"] - span["start"]) / self.total,
            )


def traces(spans: list[dict[str, Any]]) -> list[Trace]:
    """The traces in the order in which they began. A parent that did not come is as good as none."""
    found: dict[str, list[dict[str, Any]]] = {}
    for span in sorted(spans, key=lambda span: (span["start"], span["end"])):
        found.setdefault(span["trace"], []).append(span)
    return [_trace(own) for own in found.values()]


def text(trace: Trace) -> str:
    """A line for each span, its bar where its time is."""
    rows = list(trace.rows())
    wide = max(len(row.title) for row in rows)
    lines = []
    for row in rows:
        begin = min(WIDTH - 1, round(row.begin * WIDTH))
        bar = (" " * begin + "█" * max(1, round(row.length * WIDTH)))[:WIDTH]
        lines.append(
            f"{row.title:{wide}}  {bar:{WIDTH}} {row.milliseconds:8.2f} ms  {row.kind:6}  {row.note}".rstrip()
        )
    return "\n".join(lines)


def svg(found: list[Trace]) -> str:
    """All traces below each other."""
    parts: list[str] = []
    y = ROW
    for number, trace in enumerate(found, 1):
        parts.append(
            _text(10, y, f"trace {number}", "trace") + _text(LEFT, y, f"{trace.total / 1e6:.2f} ms", "quiet")
        )
        for row in trace.rows():
            y += ROW
            indent = 10 + 8 * (len(row.title) - len(row.title.lstrip()))
            x, length = LEFT + row.begin * RIGHT, max(2.0, row.length * RIGHT)
            parts.append(_text(indent, y, row.title.strip(), ""))
            parts.append(
                f'<rect class="{row.kind}" x="{x:.0f}" y="{y - 13}" width="{length:.0f}" height="16" rx="3"/>'
            )
            parts.append(
                _text(LEFT + RIGHT + 12, y, f"{row.milliseconds:.2f} ms  {row.kind}  {row.note}", "quiet")
            )
        y += 2 * ROW
    size = f'width="{LEFT + RIGHT + 420}" height="{y}"'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" {size}><style>{STYLE}</style>'
        f'<rect width="100%" height="100%" fill="#fff"/>{"".join(parts)}</svg>\n'
    )


def _text(x: int, y: int, said: str, kind: str) -> str:
    return f'<text class="{kind}" x="{x}" y="{y}">{escape(said)}</text>'


def _trace(spans: list[dict[str, Any]]) -> Trace:
    ids = {span["id"] for span in spans}
    children: dict[str, list[dict[str, Any]]] = {}
    for span in spans:
        children.setdefault(span["parent"] if span["parent"] in ids else "", []).append(span)

    def below(parent: str, depth: int) -> Iterator[tuple[int, dict[str, Any]]]:
        for span in children.get(parent, ()):
            yield depth, span
            yield from below(span["id"], depth + 1)

    return Trace(min(s["start"] for s in spans), max(s["end"] for s in spans), list(below("", 0)))


def main() -> None:
    found = traces(json.load(sys.stdin))
    print("\n\n".join(map(text, found)))
    if len(sys.argv) > 1:
        Path(sys.argv[1]).write_text(svg(found))


if __name__ == "__main__":
    main()
