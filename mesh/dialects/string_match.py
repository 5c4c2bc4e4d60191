"""How texts are matched. Istio's StringMatch is a mapping (exact, prefix, or RE2 over the whole) for headers,
query parameters, paths and origins; policies have one text (exact, prefix*, *suffix or *)."""

from __future__ import annotations

from typing import Literal, cast

from mesh.dialects.reading import Fields, Reader
from mesh.dialects.syntax import expression, printable
from mesh.model import PathMatch, TextMatch, ValueMatch

STRING_MATCH = Fields(("exact", "prefix", "regex"))

_LONGEST = 4096

Kind = Literal["exact", "prefix", "regex"]


def value_match(reader: Reader, name: str, *, negated: bool = False, present: bool = True) -> ValueMatch:
    """With `present` an empty one asks whether there is any value, else it is refused."""
    found = _string_match(reader, empty_prefix=False)
    if found is None:
        if not present and reader.sound:
            reader.refuse("is empty: write exact, prefix or regex")
        return ValueMatch(name, "present", negated=negated)
    return ValueMatch(name, *found, negated=negated)


def path_match(reader: Reader, ignore_case: bool) -> PathMatch:
    """Istio ignores case in texts only, never in expressions."""
    found = _string_match(reader, empty_prefix=True)
    if found is None:
        if reader.present and reader.sound:
            reader.refuse("is empty: write exact, prefix or regex, or leave it out for any path")
        return PathMatch("prefix", "/")
    kind, text = found
    if kind == "regex":
        return PathMatch("regex", text)
    return PathMatch("start" if kind == "prefix" else "exact", text, ignore_case)


def _string_match(reader: Reader, *, empty_prefix: bool) -> tuple[Kind, str] | None:
    reader.fields(STRING_MATCH)
    said = [kind for kind in STRING_MATCH.read if reader.at(kind).present]
    if len(said) > 1:
        reader.refuse(f"says {' and '.join(said)}: write one of them")
    if len(said) != 1:
        return None
    kind, value = cast(Kind, said[0]), reader.at(said[0])
    text = printable(value, _LONGEST)
    if value.sound and not text and (kind == "regex" or (kind == "prefix" and not empty_prefix)):
        value.refuse("must not be empty")
    if kind == "regex":
        expression(value)
    return kind, text


def text_match(reader: Reader) -> TextMatch | None:
    """Exact, prefix*, *suffix, or * for anything that is there; None if it is unreadable."""
    found = printable(reader, _LONGEST)
    if not reader.sound:
        return None
    if found == "":
        reader.refuse("is empty; * means any value that is there")
        return None
    if found == "*":
        return TextMatch("present")
    if found.startswith("*"):
        return TextMatch("suffix", found[1:])
    return TextMatch("prefix", found[:-1]) if found.endswith("*") else TextMatch("exact", found)
