"""What the targets of routes are for whom, each asked once and kept until what it is made of changes.

A caller whom no policy restricts gets what all of its kind get, on every node; whom one does, what the
verdicts of its egress set leave.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import filterfalse

from mesh.assemble import Mesh
from mesh.caller import Caller
from mesh.hashed import HashedTuple
from mesh.model import Backend, Protocol, ServiceName
from mesh.node import PortVerdict
from mesh.proxy import Destination, Target
from mesh.routes import steer
from mesh.routes.bindings import Bindings

#: What an egress set says of a backend that is called by a protocol.
Judge = Callable[[int, Backend, Protocol], PortVerdict]


@dataclass(slots=True)
class _Reached:
    """What one caller's routes lead to; of the last targets the whole answer."""

    known: dict[Target, Destination | None] = field(default_factory=dict)
    whole: tuple[Sequence[Target], HashedTuple[Destination]] | None = None


class Destinations:
    """`judge` decides by egress set; set 0 restricts nobody."""

    def __init__(self, mesh: Mesh, bindings: Bindings, judge: Judge) -> None:
        self._mesh = mesh
        self._bindings = bindings
        self._judge = judge
        self._of: defaultdict[
            ServiceName, defaultdict[Target, dict[tuple[int, Caller], Destination | None]]
        ] = defaultdict(lambda: defaultdict(dict))
        #: One object for all that are equal: they are looked up by what they are.
        self._alike: defaultdict[ServiceName, dict[Destination, Destination]] = defaultdict(dict)
        #: By egress set and caller.
        self._reached: defaultdict[tuple[int, Caller], _Reached] = defaultdict(_Reached)

    def reached(self, egress: int, caller: Caller, targets: Sequence[Target]) -> tuple[Destination, ...]:
        """Those of the targets that there are."""
        reached = self._reached[egress, caller]
        if reached.whole is None or reached.whole[0] is not targets:
            known = reached.known
            for target in filterfalse(known.__contains__, targets):
                known[target] = self._destination(egress, caller, target)
            reached.whole = targets, HashedTuple(filter(None, map(known.__getitem__, targets)))
        return reached.whole[1]

    def forget(self, services: Iterable[ServiceName]) -> None:
        """Targets of these may be other ones now."""
        for service in services:
            self._alike.pop(service, None)
            for target in self._of.pop(service, ()):
                for reached in self._reached.values():
                    if target in reached.known:
                        del reached.known[target]
                        reached.whole = None

    def forget_callers(self) -> None:
        """Some are not there any more."""
        for key in [key for key in self._reached if key[1] not in self._mesh.callers]:
            del self._reached[key]

    def clear(self) -> None:
        self._of.clear()
        self._alike.clear()
        self._reached.clear()

    def _destination(self, egress: int, caller: Caller, target: Target) -> Destination | None:
        kind, known = self._bindings.kind(caller, target.service), self._of[target.service][target]
        if (egress, kind) not in known:
            found = steer.destination(
                self._mesh, kind, target, lambda backend: self._judge(egress, backend, target.protocol)
            )
            known[egress, kind] = found and self._alike[target.service].setdefault(found, found)
        return known[egress, kind]
