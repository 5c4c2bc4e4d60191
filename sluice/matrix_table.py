"""A matrix as text: one letter a cell, columns by number, the numbers told below. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from sluice.matrix_grid import Grid, Mark
from sluice.paint import Paint

LETTERS: dict[Mark, str] = {"kernel": "k", "envoy": "E", "partly": "R", "deny": "x", "self": "·"}
LEGEND: tuple[tuple[Mark, str], ...] = (
    ("kernel", "allowed, kernel"),
    ("envoy", "allowed, Envoy routes"),
    ("partly", "Envoy judges each request"),
    ("deny", "denied"),
    ("self", "itself"),
)


def table(grid: Grid, width: int, paint: Paint) -> str:
    """Lines no wider than `width` as far as labels allow: columns that do not fit go into a block of
    their own below."""
    return "\n".join(_lines(grid, width, paint))


def _lines(grid: Grid, width: int, paint: Paint) -> Iterator[str]:
    if not grid.columns:
        yield "no pod has a port that a Service, a container or a policy names"
        return
    labels = [row.label for row in grid.rows]
    left = max(map(len, [*labels, "from"]))
    size = max(3, len(str(len(grid.columns))) + 1)
    fitting = max(1, (width - left) // size)
    for first in range(0, len(grid.columns), fitting):
        chosen = range(first, min(first + fitting, len(grid.columns)))
        head = "".join(str(index + 1).rjust(size) for index in chosen)
        yield paint("from".ljust(left) + head, "dim")
        for label, cells in zip(labels, grid.cells, strict=True):
            yield label.ljust(left) + "".join(_painted(cells[i].mark, size, paint) for i in chosen)
        yield ""
    for index, column in enumerate(grid.columns):
        detail = f"  ({column.detail})" if column.detail else ""
        yield f"{str(index + 1).rjust(size)}  {column.label}{paint(detail, 'dim')}"
    yield ""
    used = {cell.mark for line in grid.cells for cell in line}
    yield "   ".join(f"{_painted(mark, 1, paint)} {said}" for mark, said in LEGEND if mark in used)


def _painted(mark: Mark, size: int, paint: Paint) -> str:
    return " " * (size - 1) + paint(LETTERS[mark], "dim" if mark == "self" else mark)
