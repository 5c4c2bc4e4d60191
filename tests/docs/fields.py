"""Which fields of which kind are enforced and which are refused, as the dialects themselves say it.

Every sample object is read by its dialect with a `Reader` that notes each declaration of fields on the
way. Fields of the whole API object, of Kubernetes' label selectors and of Istio's string matches (exact,
prefix, regex) and percentages are the same everywhere and left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from istio_integration.number import PERCENT
from mesh.dialects import Dialect, ref_of
from mesh.dialects.reading import Fields, Reader
from mesh.dialects.selection import EXPRESSION, SELECTOR
from mesh.dialects.string_match import STRING_MATCH

#: Of a list, or a mapping whose keys are numbers.
_INDEX = re.compile(r"\['?[0-9]+'?\]")
_EVERYWHERE = (SELECTOR, EXPRESSION, STRING_MATCH, PERCENT)
_WHOLE = ("apiVersion", "kind", "metadata", "spec", "status")


class _Recorder(Reader):
    """Notes what may stand where."""

    seen: dict[str, Fields]

    def fields(self, known: Fields) -> Reader:
        if self.present and known not in _EVERYWHERE:
            path = _INDEX.sub("[]", self.path).replace("specs[]", "spec")
            before = self.seen.get(path, Fields(()))
            read, refused = ({*old, *new} for old, new in zip(_both(before), _both(known), strict=True))
            self.seen[path] = Fields(tuple(sorted(read)), tuple(sorted(refused - read)))
        return super().fields(known)


def _both(fields: Fields) -> tuple[tuple[str, ...], tuple[str, ...]]:
    return fields.read, fields.refused


def read_fields(
    samples: Iterable[Any], dialects: Mapping[tuple[str, str], Dialect]
) -> Iterator[tuple[str, str, Fields]]:
    """Kind, path and what may stand there, sorted."""
    kinds: dict[str, dict[str, Fields]] = {}
    for sample in samples:
        dialect = dialects[sample["apiVersion"], sample["kind"]]
        ref = ref_of(sample)
        seen = kinds.setdefault(ref.kind, {})
        recorder = type("_Recorder", (_Recorder,), {"__slots__": (), "seen": seen})
        root = recorder(sample, ref, [])
        dialect.read(root, root.ref)
    clusterwide = kinds.pop("CiliumClusterwideNetworkPolicy", {})
    for path, fields in clusterwide.items():
        assert kinds["CiliumNetworkPolicy"][path] == fields, "the two kinds are one language"
    for kind, found in sorted(kinds.items()):
        for path, fields in sorted(found.items()):
            read = tuple(name for name in fields.read if path or name not in _WHOLE)
            yield kind, path, Fields(read, fields.refused)


def table(samples: Iterable[Any], dialects: Mapping[tuple[str, str], Dialect]) -> Iterator[str]:
    """Lines of a Markdown table, sorted by kind and path."""
    yield "| kind | where | enforced | refused by name |"
    yield "|---|---|---|---|"
    for kind, path, fields in read_fields(samples, dialects):
        read, refused = ", ".join(fields.read), ", ".join(fields.refused)
        if read or refused:
            where = path.removeprefix("spec.") or "-"
            yield f"| {kind} | {where} | {read or '-'} | {refused or '-'} |"
