"""Prometheus' text format, read by hand: what a scrape says."""

from __future__ import annotations

import re
from typing import NamedTuple

_SAMPLE = re.compile(r"(?P<name>\w+)(?:\{(?P<labels>.*)\})? (?P<value>\S+)")
_LABEL = re.compile(r'(\w+)="((?:\\.|[^"\\])*)"(?:,|$)')


class Sample(NamedTuple):
    name: str
    labels: dict[str, str]
    value: float


def samples(text: str, prefix: str = "") -> list[Sample]:
    """All samples whose name begins with `prefix`; a line that is none fails."""
    found = []
    for line in text.splitlines():
        if line.startswith("#"):
            continue
        matched = _SAMPLE.fullmatch(line)
        assert matched, line
        labels = dict(_LABEL.findall(matched["labels"] or ""))
        if matched["name"].startswith(prefix):
            found.append(Sample(matched["name"], labels, float(matched["value"])))
    return found


def value(text: str, name: str, **labels: str) -> float:
    """The sum of the samples of one name that have these labels; 0 if there is none."""
    return sum(s.value for s in samples(text) if s.name == name and labels.items() <= s.labels.items())
