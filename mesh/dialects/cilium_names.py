"""DNS names in Cilium rules: `matchName` and `matchPattern` (pkg/policy/api/fqdn.go)."""

from __future__ import annotations

from mesh.dialects.reading import Fields, Reader, shown
from mesh.dns_name import canonical, is_name, is_pattern
from mesh.model import NamePattern

NAME = Fields(("matchName", "matchPattern"))


def name_pattern(reader: Reader) -> NamePattern:
    """Exactly one of the two; it means nothing unless `reader` is still sound afterwards."""
    reader.fields(NAME)
    name, pattern = reader.at("matchName"), reader.at("matchPattern")
    if name.present == pattern.present and reader.sound:
        reader.refuse("needs exactly one of matchName and matchPattern")
    if name.present:
        if name.sound and not is_name(name.text()):
            name.refuse(f"{shown(name.value)} is not a DNS name: letters, digits, - and _ between dots")
        return NamePattern(canonical(name.text()))
    return pattern_of(pattern)


def pattern_of(reader: Reader) -> NamePattern:
    text = reader.text()
    if reader.present and reader.sound and not is_pattern(text):
        reader.refuse(f"{shown(text)} is not a pattern: letters, digits, -, _ and * between dots")
    return NamePattern(canonical(text))
