"""The manifests of one node's pods. The names of a proxy's thousands of resources are dealt out to pages by
their hash, so that a change of one of them sends about fifty names and not all.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import compress
from operator import is_not, not_
from zlib import crc32

from mesh.model import WorkloadName
from mesh.node import Manifest
from xds.render import EnvoyResource, Rendered

#: Names that fit on a pod's only page. One with more of them has pages of half as many to as many.
_FULL = 64

#: Page by number: type URL -> Envoy name -> content hash.
_Page = dict[str, dict[str, str]]


class Manifests:
    """Kept current pod by pod. What is returned became of pages, by name; None: it is gone."""

    def __init__(self) -> None:
        self._pages: dict[WorkloadName, list[_Page]] = {}

    def update(
        self, pod: WorkloadName, fresh: Iterable[EnvoyResource], stale: Iterable[EnvoyResource], count: int
    ) -> dict[str, Manifest | None]:
        """The pod's Envoy is to be served `fresh` and no longer `stale`, `count` resources in all. Without
        any there is still one page."""
        pages, found = self._pages.get(pod, []), dict[str, Manifest | None]()
        touched = set[int]()
        if (wanted := _wanted(count)) != len(pages):
            found.update(self._names(pod))
            pages = self._pages[pod] = _dealt(pages, wanted)
            touched.update(range(wanted))
        for resource in stale:
            number = _number(resource.type_url, resource.name, wanted)
            del pages[number][resource.type_url][resource.name]
            touched.add(number)
        for resource in fresh:
            number = _number(resource.type_url, resource.name, wanted)
            pages[number].setdefault(resource.type_url, {})[resource.name] = resource.digest
            touched.add(number)
        for number in touched:
            found[_name(pod, number, wanted)] = Manifest(pod, _sorted(pages[number]))
        return found

    def remove(self, pod: WorkloadName) -> dict[str, Manifest | None]:
        """The pod needs no Envoy any more."""
        gone = self._names(pod)
        del self._pages[pod]
        return gone

    def _names(self, pod: WorkloadName) -> dict[str, Manifest | None]:
        count = len(self._pages.get(pod, ()))
        return {_name(pod, number, count): None for number in range(count)}


def difference(old: Rendered, new: Rendered) -> tuple[list[EnvoyResource], list[EnvoyResource]]:
    """What only `new` has, and what only `old` has. What did not change is the same object in both."""
    if len(old) == len(new):
        # Most stand where they stood.
        moved = [*map(is_not, old, new)]
        old, new = tuple(compress(old, moved)), tuple(compress(new, moved))
    before, after = set(map(id, old)), set(map(id, new))
    return _without(new, before), _without(old, after)


def _without(rendered: Rendered, known: set[int]) -> list[EnvoyResource]:
    """At C's pace, for it is asked of every resource at every change."""
    return [*compress(rendered, map(not_, map(known.__contains__, map(id, rendered))))]


def pod_of(name: str) -> str:
    """Whose the page of this name is."""
    return "/".join(name.split("/", 2)[:2])


def _wanted(resources: int) -> int:
    return 1 if resources <= _FULL else 1 << (resources // _FULL).bit_length()


def _name(pod: WorkloadName, number: int, count: int) -> str:
    return str(pod) if count == 1 else f"{pod}/{number + 1}of{count}"


def _number(type_url: str, name: str, count: int) -> int:
    return crc32(f"{type_url}\0{name}".encode()) & (count - 1)


def _dealt(pages: Iterable[_Page], count: int) -> list[_Page]:
    found: list[_Page] = [{} for _ in range(count)]
    for page in pages:
        for type_url, names in page.items():
            for name, digest in names.items():
                found[_number(type_url, name, count)].setdefault(type_url, {})[name] = digest
    return found


def _sorted(page: _Page) -> _Page:
    """Equal contents give equal bytes, whatever they came from."""
    return {type_url: dict(sorted(names.items())) for type_url, names in sorted(page.items()) if names}
