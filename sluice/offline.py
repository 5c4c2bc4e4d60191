"""A mesh made from files alone, for questions asked before anything runs.

Reads them as the control plane does; a Pod without an address gets one that stands for what it
would be given, and counts as ready.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from mesh.assemble import Mesh
from mesh.dialects import read
from mesh.identity import Allocations
from mesh.model import Fragment, ObjectRef, Problem, Workload
from sluice.failure import Failure
from xds.documents import parse

NODE = "local"
_SUFFIXES = (".yaml", ".yml", ".json")
_PODS = (ipaddress.ip_network("10.64.0.0/16"), ipaddress.ip_network("fd51:ce00:0:1::/64"))
_SERVICES = ("10.128.0.0/16", "fd51:ce00:0:2::/112")


def mesh_from(paths: Iterable[Path]) -> tuple[Mesh, tuple[Problem, ...]]:
    """The mesh that these files and folders describe, and everything wrong with them.

    Raises OSError for a path that cannot be read, Failure for one that holds no text."""
    fragments: dict[ObjectRef, Fragment | None] = {}
    problems: list[Problem] = []
    for file in _files(paths):
        try:
            text = file.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            raise Failure(f"{file} is not UTF-8") from None
        documents = parse(text, str(file))
        problems += documents.problems
        for document in documents.objects:
            fragment = read(document.content)
            problems += fragment.problems
            fragments[fragment.ref] = fragment
    mesh = Mesh(Allocations(_SERVICES))
    mesh.apply(_addressed(fragments))
    return mesh, (*problems, *mesh.problems)


def _files(paths: Iterable[Path]) -> Iterator[Path]:
    for path in paths:
        if path.is_dir():
            yield from sorted(p for p in path.rglob("*") if p.suffix in _SUFFIXES and p.is_file())
        else:
            yield path


def _addressed(fragments: Mapping[ObjectRef, Fragment | None]) -> dict[ObjectRef, Fragment | None]:
    given = {
        address
        for fragment in fragments.values()
        for noun in (fragment.nouns if fragment else ())
        if isinstance(noun, Workload)
        for address in noun.addresses
    }
    number = 9
    placed: dict[ObjectRef, Fragment | None] = {}
    for ref, fragment in fragments.items():
        nouns = []
        for noun in fragment.nouns if fragment else ():
            if isinstance(noun, Workload):
                if not noun.addresses:
                    number += 1
                    while str(_PODS[0][number]) in given:
                        number += 1
                    noun = replace(noun, addresses=tuple(str(n[number]) for n in _PODS), ready=True)
                noun = replace(noun, node=noun.node or NODE)
            nouns.append(noun)
        placed[ref] = replace(fragment, nouns=tuple(nouns)) if fragment else None
    return placed
