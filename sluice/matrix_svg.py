"""A matrix as a picture: one SVG that needs nothing else, with the deciding rule behind each cell. Pure.

Colours are those of Okabe and Ito, apart for every kind of colour blindness; each mark has a shape
of its own besides.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from xml.sax.saxutils import escape

from sluice.access_text import deciding, short
from sluice.matrix_grid import Cell, Grid, Line, Mark

_INK, _SOFT, _FAINT, _PAPER = "#1c2430", "#6b7583", "#e7eaee", "#ffffff"

#: Fill of a cell, and what is drawn on it (in a square of 20 units).
_MARKS: dict[Mark, tuple[str, str]] = {
    "kernel": ("#0072b2", ""),
    "envoy": ("#56b4e9", '<circle cx="10" cy="10" r="4" fill="none" stroke="#fff" stroke-width="2"/>'),
    "partly": ("#e69f00", '<circle cx="10" cy="10" r="3.4" fill="#fff"/>'),
    "deny": (
        "#f8e6dc",
        '<path d="M6.5 6.5l7 7m0-7l-7 7" stroke="#d55e00" stroke-width="1.8" stroke-linecap="round"/>',
    ),
    "self": ("#f1f3f5", '<circle cx="10" cy="10" r="1.6" fill="#a5adb8"/>'),
}
_LEGEND: tuple[tuple[Mark, str], ...] = (
    ("kernel", "Kernel path"),
    ("envoy", "Envoy routes it"),
    ("partly", "Envoy judges each request"),
    ("deny", "Denied"),
    ("self", "Itself"),
)

#: Edge of a cell in pixels for matrices of at most so many lines.
_SIZES = ((14, 30), (60, 20), (120, 14))
_SMALLEST = 10
_MARGIN, _HEADER = 28, 96

#: Characters of a label that are shown, and the average width of one, in parts of the font size.
_LONGEST, _WIDE = 44, 0.6

#: Between namespaces.
_GAP = 8
_RISE, _RUN = 0.82, 0.574  # sine and cosine of 55 degrees, at which column labels stand


def svg(grid: Grid, title: str) -> str:
    return "\n".join(_Picture(grid, title).lines()) + "\n"


class _Picture:
    def __init__(self, grid: Grid, title: str) -> None:
        self._grid = grid
        self._title = title
        most = max(len(grid.rows), len(grid.columns), 1)
        self._cell = next((size for limit, size in _SIZES if most <= limit), _SMALLEST)
        self._font = min(13, max(8, self._cell * 0.62))
        left = max((_length(row.label) for row in grid.rows), default=0) * self._font * _WIDE
        over = max((_length(column.label) for column in grid.columns), default=0) * self._font * _WIDE
        self._left = _MARGIN + left + 12
        self._top = _MARGIN + _HEADER + over * _RISE + 14
        self._x = _places(grid.columns, self._left, self._cell)
        self._y = _places(grid.rows, self._top, self._cell)
        right = self._x[-1] if grid.columns else self._left
        # The last labels lean over the edge.
        lean = max(
            (
                x + _length(column.label) * self._font * _WIDE * _RUN
                for x, column in zip(self._x, grid.columns, strict=False)
            ),
            default=right,
        )
        self._right = right
        self._width = max(lean, right, _legend_width() + _MARGIN) + _MARGIN + self._cell
        self._bottom = self._y[-1]
        self._height = self._bottom + _MARGIN

    def lines(self) -> Iterator[str]:
        width, height = round(self._width), round(self._height)
        yield (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
            f'viewBox="0 0 {width} {height}" role="img" aria-label="{_text(self._title)}">'
        )
        yield (
            "<style>text{font-family:system-ui,-apple-system,'Segoe UI',Roboto,'DejaVu Sans',sans-serif;"
            f"fill:{_INK}}}.s{{fill:{_SOFT}}}.l{{font-size:{self._font:g}px}}"
            f".c:hover use{{stroke:{_INK};stroke-width:1.5}}</style>"
        )
        yield "<defs>"
        for mark, (fill, drawing) in _MARKS.items():
            yield (
                f'<symbol id="{mark}" viewBox="0 0 20 20" overflow="visible"><rect x="1" y="1" width="18" '
                f'height="18" rx="3" fill="{fill}"/>{drawing}</symbol>'
            )
        yield "</defs>"
        yield f'<rect width="100%" height="100%" fill="{_PAPER}"/>'
        yield from self._head()
        yield from self._labels()
        yield from self._cells()
        yield "</svg>"

    def _head(self) -> Iterator[str]:
        rows, columns = len(self._grid.rows), len(self._grid.columns)
        place = f'x="{_MARGIN}" y="{_MARGIN + 14}"'
        yield f'<text {place} font-size="20" font-weight="600">{_text(self._title)}</text>'
        said = f"{rows} callers (rows), {columns} ports (columns); point at a cell for the rule that decides"
        yield f'<text class="s" x="{_MARGIN}" y="{_MARGIN + 36}" font-size="12.5">{said}</text>'
        x = float(_MARGIN)
        for mark, word in _LEGEND:
            yield f'<use href="#{mark}" x="{x:g}" y="{_MARGIN + 52}" width="16" height="16"/>'
            yield f'<text x="{x + 22:g}" y="{_MARGIN + 64.5}" font-size="12.5">{word}</text>'
            x += _legend_step(word)

    def _labels(self) -> Iterator[str]:
        half, font = self._cell / 2, self._font
        for index, (y, row) in enumerate(zip(self._y, self._grid.rows, strict=False)):
            if index % 2 == 0:
                yield (
                    f'<rect x="{_MARGIN}" y="{y:g}" width="{self._right - _MARGIN:g}" height="{self._cell}" '
                    f'fill="#f7f8fa"/>'
                )
            yield (
                f'<text class="l" x="{self._left - 10:g}" y="{y + half + font * 0.36:g}" text-anchor="end">'
                f"{_label(row)}</text>"
            )
        for x, column in zip(self._x, self._grid.columns, strict=False):
            start = x + half + font * 0.3
            yield (
                f'<text class="l" transform="translate({start:g} {self._top - 8:g}) rotate(-55)">'
                f"{_label(column)}</text>"
            )

    def _cells(self) -> Iterator[str]:
        size = f'width="{self._cell}" height="{self._cell}"'
        for y, row, cells in zip(self._y, self._grid.rows, self._grid.cells, strict=False):
            for x, column, cell in zip(self._x, self._grid.columns, cells, strict=False):
                yield (
                    f'<g class="c"><title>{_text(_tooltip(row, column, cell))}</title>'
                    f'<use href="#{cell.mark}" x="{x:g}" y="{y:g}" {size}/></g>'
                )


def _places(lines: Sequence[Line], start: float, size: int) -> list[float]:
    """Where each line begins, and where the last ends; a gap where the namespace changes."""
    places, at = [], start
    for index, line in enumerate(lines):
        if index and line.namespace != lines[index - 1].namespace:
            at += _GAP
        places.append(at)
        at += size
    return [*places, at]


def _tooltip(row: Line, column: Line, cell: Cell) -> str:
    service = f" ({column.detail})" if column.detail else ""
    said = "a pod always reaches itself" if cell.mark == "self" else short(cell.access)
    why = "" if cell.mark == "self" else f"\n{deciding(cell.access)}"
    return f"{row.label} → {column.label}{service}\n{said}{why}"


def _label(line: Line) -> str:
    """The namespace softly, the name clearly, the port softly."""
    shown = line.label if len(line.label) <= _LONGEST else line.label[: _LONGEST - 1] + "…"
    namespace, slash, name = shown.partition("/")
    if not slash or not line.namespace or len(line.names) > 1:
        return _text(shown)
    own, space, port = name.partition(" ")
    soft = f'<tspan class="s" dx="0.4em">{_text(port)}</tspan>' if space else ""
    return f'<tspan class="s">{_text(namespace)}/</tspan>{_text(own)}{soft}'


def _length(label: str) -> int:
    return min(len(label), _LONGEST)


def _legend_step(word: str) -> float:
    return 46 + len(word) * 6.6


def _legend_width() -> float:
    return sum(_legend_step(word) for _, word in _LEGEND)


def _text(text: str) -> str:
    """Escaped, and without what XML 1.0 cannot hold."""
    return escape(
        "".join(c if c.isprintable() or c == "\n" else "\N{REPLACEMENT CHARACTER}" for c in text),
        {'"': "&quot;"},
    )
