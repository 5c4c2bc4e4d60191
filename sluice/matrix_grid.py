"""A matrix as people look at it: rows and columns with labels, one mark a cell. Pure.

Rows that are alike everywhere, and columns that are, can be folded into one; what a pod gets at
its own port (always allowed, rule 10) keeps no two rows apart.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from mesh.answers.matrix import Column, Matrix
from mesh.answers.reach import Access
from sluice.access_text import Outcome, names, outcome_of

Mark = Literal["self"] | Outcome


@dataclass(frozen=True, slots=True)
class Line:
    """A row or a column: whom it stands for, and the namespace if it is but one."""

    names: tuple[str, ...]
    namespace: str = ""
    detail: str = ""

    @property
    def label(self) -> str:
        return names(self.names, 2)


@dataclass(frozen=True, slots=True)
class Cell:
    mark: Mark
    access: Access


@dataclass(frozen=True, slots=True)
class Grid:
    rows: tuple[Line, ...]
    columns: tuple[Line, ...]
    cells: tuple[tuple[Cell, ...], ...]


def grid_of(matrix: Matrix, fold: bool = False) -> Grid:
    rows = [Line((caller.name,), caller.namespace) for caller in matrix.callers]
    columns = [
        Line((column.label,), column.callee.namespace, names(column.services)) for column in matrix.columns
    ]
    cells = [
        [_cell(matrix, column, index) for column in matrix.columns] for index in range(len(matrix.callers))
    ]
    if fold:
        rows, cells = _folded(rows, cells)
        columns, turned = _folded(columns, _turned(cells, len(columns)))
        cells = _turned(turned, len(rows))
    return Grid(tuple(rows), tuple(columns), tuple(map(tuple, cells)))


def _cell(matrix: Matrix, column: Column, index: int) -> Cell:
    caller, access = matrix.callers[index], column.access[index]
    itself = caller.members == column.callee.members and len(caller.members) == 1
    return Cell("self" if itself else outcome_of(access), access)


def _folded(lines: Sequence[Line], cells: Sequence[Sequence[Cell]]) -> tuple[list[Line], list[list[Cell]]]:
    """Lines with the same marks as one, at the place of the first."""
    filled = _filled(lines, cells)
    alike: defaultdict[tuple[Mark, ...], list[int]] = defaultdict(list)
    for index, line in enumerate(filled):
        alike[tuple(cell.mark for cell in line)].append(index)
    folded, kept = [], []
    for indexes in alike.values():
        together = [lines[index] for index in indexes]
        namespaces = {line.namespace for line in together}
        if len(together) == 1:
            folded.append(together[0])
            kept.append(list(cells[indexes[0]]))
        else:
            own = tuple(name for line in together for name in line.names)
            folded.append(Line(own, namespaces.pop() if len(namespaces) == 1 else ""))
            kept.append(filled[indexes[0]])
    return folded, kept


def _filled(lines: Sequence[Line], cells: Sequence[Sequence[Cell]]) -> list[list[Cell]]:
    """With what most of its namespace get there in the place of each `self`."""
    usual: dict[tuple[str, int], Cell] = {}
    filled = []
    for line, own in zip(lines, cells, strict=True):
        filled.append(list(own))
        for place, cell in enumerate(own):
            if cell.mark == "self":
                key = (line.namespace, place)
                if key not in usual:
                    usual[key] = _usual(
                        [
                            other[place]
                            for near, other in zip(lines, cells, strict=True)
                            if near.namespace == line.namespace
                        ]
                    )
                filled[-1][place] = usual[key]
    return filled


def _usual(cells: Sequence[Cell]) -> Cell:
    others = [cell for cell in cells if cell.mark != "self"] or cells
    mark = Counter(cell.mark for cell in others).most_common(1)[0][0]
    return next(cell for cell in others if cell.mark == mark)


def _turned(cells: Sequence[Sequence[Cell]], width: int) -> list[list[Cell]]:
    return [[line[index] for line in cells] for index in range(width)]
