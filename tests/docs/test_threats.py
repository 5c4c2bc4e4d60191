"""The table of threats names tests that there are, and all of them."""

from __future__ import annotations

import re
from pathlib import Path

FOLDER = Path(__file__).parent.parent / "threats"
_ROW = re.compile(r"^\| (N\d\d) \| .* \| `([^`]+)` \| .* ?\|$", re.MULTILINE)


def test_every_threat_of_the_table_has_its_test_and_every_test_its_row() -> None:
    rows = dict(_ROW.findall((FOLDER / "README.md").read_text()))
    for threat, path in rows.items():
        assert threat in (FOLDER / path).read_text(), (threat, path)
    named = {path.relative_to(FOLDER).as_posix() for path in FOLDER.rglob("test_n*.py")}
    assert named <= set(rows.values())
