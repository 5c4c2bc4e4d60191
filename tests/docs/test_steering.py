"""docs/steering.md is generated from the steering table, which says something of every field that is read."""

from __future__ import annotations

from collections.abc import Iterator

import yaml

from mesh.answers.steering_table import TABLE, Row, row_of
from mesh.dialects import ref_of
from tests.docs.fields import read_fields
from tests.docs.test_fields import ROOT, SAMPLES
from xds.dialects import DIALECTS

PAGE = ROOT / "docs" / "steering.md"
BEGIN, END = "<!-- steering: generated, `make docs` -->\n", "<!-- end of steering -->\n"


def samples() -> list[object]:
    """Objects with every field of the kinds that are in the table."""
    kinds = {row.kind for row in TABLE}
    found = [item for path in SAMPLES for item in yaml.safe_load_all((ROOT / path).read_text())]
    return [item for item in found if ref_of(item).kind in kinds]


def test_every_field_that_a_dialect_reads_has_a_row() -> None:
    for kind, path, fields in read_fields(samples(), DIALECTS):
        where = path.removeprefix("spec").removeprefix(".")
        # Conditions of AuthorizationPolicies stand in the table by their key; `specs` are several `spec`.
        if where != "rules[].when[]" and path:
            lacking = [name for name in fields.read if not _has_row(kind, f"{where}.{name}".lstrip("."))]
            assert not lacking, (kind, path, lacking)


def _has_row(kind: str, name: str) -> bool:
    """Its own, that of what it is in, or those of what is in it."""
    inside = (f"{name}.", f"{name}[]")
    below = any(row.kind == kind and full.startswith(inside) for row in TABLE for full in row.names)
    return below or row_of(kind, name) is not None


def test_the_page_shows_the_table(golden: bool) -> None:
    text = PAGE.read_text()
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    wanted = "\n".join(_lines()) + "\n"
    if golden:
        PAGE.write_text(before + BEGIN + wanted + END + after)
    assert PAGE.read_text().partition(BEGIN)[2].partition(END)[0] == wanted


def _lines() -> Iterator[str]:
    kinds: dict[str, list[Row]] = {}
    for row in TABLE:
        kinds.setdefault(row.kind, []).append(row)
    for kind, rows in kinds.items():
        yield from (f"### {kind}", "", "| field | takes effect | why |", "|---|---|---|")
        for row in rows:
            names = ", ".join(f"`{name}`" for name in row.fields)
            under = f"`{row.path}`: {names}" if row.path else names
            yield f"| {under} | {row.place} | {row.why} |"
        yield ""
