"""A figure, and how a run of them is shown: a table for people, JSON lines for programs."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the table. `value` is what the target speaks of, in `unit`: often a ratio."""

    what: str
    value: float
    unit: str
    at_most: float | None = None
    at_least: float | None = None
    measured: float | None = None
    baseline: float | None = None
    note: str = ""

    @property
    def reached(self) -> bool:
        over = self.at_most is not None and self.value > self.at_most
        under = self.at_least is not None and self.value < self.at_least
        return not over and not under

    @property
    def target(self) -> str:
        if self.at_most is not None:
            return f"at most {self.at_most:g}"
        return f"at least {self.at_least:g}" if self.at_least is not None else ""


def ratio(
    what: str, measured: Sequence[float], baseline: Sequence[float], unit: str, *,
    at_most: float | None = None, at_least: float | None = None,
) -> Figure:  # fmt: skip
    """The median of the ratios of pairs that were measured one right after the other."""
    pairs = [one / other for one, other in zip(measured, baseline, strict=True)]
    return Figure(
        what,
        round(statistics.median(pairs), 3),
        "ratio",
        at_most,
        at_least,
        round(statistics.median(measured), 1),
        round(statistics.median(baseline), 1),
        f"{unit}; {len(pairs)} rounds, {min(pairs):.2f} to {max(pairs):.2f}",
    )


def percentile(values: Iterable[float], share: float) -> float:
    """The value below which `share` of them lie (nearest rank)."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, round(share * len(ordered)))]


def show(console: Console, figures: Sequence[Figure]) -> None:
    table = Table("what", "value", "target", "", "measured", "baseline", "note")
    for figure in figures:
        numbers = ["" if number is None else f"{number:,g}" for number in (figure.measured, figure.baseline)]
        mark = "" if not figure.target else "[green]reached" if figure.reached else "[red]not reached"
        table.add_row(
            figure.what, f"{figure.value:,g} {figure.unit}", figure.target, mark, *numbers, figure.note
        )
    console.print(table)


def write(path: Path, figures: Iterable[Figure]) -> None:
    """One JSON object a line."""
    lines = [json.dumps(asdict(figure) | {"reached": figure.reached}) for figure in figures]
    path.write_text("".join(f"{line}\n" for line in lines))
