"""A mesh made from files alone, for questions asked before anything runs.

Reads them as the control plane does; a Pod without an address gets one that stands for what it
would be given, and counts as ready.
"""

from __future__ import annotations

import ipaddress
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from mesh.assemble import Mesh
from mesh.identity import Allocations
from mesh.model import Fragment, ObjectRef, Problem, Workload
from sluice.address_plan import AddressPlan
from sluice.failure import Failure
from sluice.resolver import resolver_objects
from xds.dialects import read
from xds.documents import ApiObject, parse

NODE = "local"
_SUFFIXES = (".yaml", ".yml", ".json")
_PODS = (ipaddress.ip_network("10.64.0.0/16"), ipaddress.ip_network("fd51:ce00:0:1::/64"))
#: What the node's own addresses would be.
HOSTS = tuple(str(block[1]) for block in _PODS)
_SERVICES = ("10.128.0.0/16", "fd51:ce00:0:2::/112")


@dataclass(frozen=True, slots=True)
class Manifests:
    """The objects of files, by name (of two the later counts), and what is wrong with the files."""

    objects: Mapping[ObjectRef, ApiObject]
    problems: tuple[Problem, ...] = ()

    def with_(self, newer: Manifests) -> Manifests:
        """These, with the newer ones added or in their place."""
        return Manifests({**self.objects, **newer.objects}, (*self.problems, *newer.problems))

    @property
    def refused(self) -> list[str]:
        """The objects that `sluice apply` would refuse, and files of which it could not read everything."""
        invalid = (str(ref) for ref, item in self.objects.items() if not read(item.content).valid)
        return [*invalid, *dict.fromkeys(str(problem.object) for problem in self.problems)]

    def mesh(self, hosts: Iterable[str] = ()) -> tuple[Mesh, tuple[Problem, ...]]:
        """The mesh that they describe, on a node with these addresses, and everything wrong with them."""
        fragments: dict[ObjectRef, Fragment | None] = {
            ref: read(item.content) for ref, item in self.objects.items()
        }
        own = [problem for fragment in fragments.values() if fragment for problem in fragment.problems]
        mesh = Mesh(Allocations(_SERVICES), hosts)
        mesh.apply(_addressed(fragments))
        return mesh, (*self.problems, *own, *mesh.problems)


def manifests_from(paths: Iterable[Path]) -> Manifests:
    """What these files and folders hold, and the resolver that every mesh has; `-` is standard input.

    Raises OSError for a path that cannot be read, Failure for one that is not there or holds no text."""
    given = map(ApiObject.of, resolver_objects(AddressPlan(0), ("python", "-m", "agent.dns")))
    objects = {own.ref: own for own in given}
    problems: list[Problem] = []
    for origin, text in texts_from(paths):
        documents = parse(text, origin)
        problems += documents.problems
        objects |= {document.ref: document for document in documents.objects}
    return Manifests(objects, tuple(problems))


def texts_from(paths: Iterable[Path]) -> Iterator[tuple[str, str]]:
    """The name and the text of every file; raises as `manifests_from` does."""
    for file in _files(paths):
        if str(file) == "-":
            yield "standard input", sys.stdin.read()
            continue
        try:
            yield str(file), file.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            raise Failure(f"{file} is not UTF-8") from None
        except FileNotFoundError:
            raise Failure(f"there is no {file}") from None


def tell(problems: Iterable[Problem]) -> None:
    """Problems on standard error, one a line."""
    for problem in problems:
        print(f"problem: {problem.object} {problem.field}: {problem.message}", file=sys.stderr)


def mesh_from(paths: Iterable[Path]) -> tuple[Mesh, tuple[Problem, ...]]:
    """The mesh that these files and folders describe, and everything wrong with them; raises as
    `manifests_from` does."""
    return manifests_from(paths).mesh()


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
