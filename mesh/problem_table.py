"""What is wrong between objects, by object; what is wrong inside one stands in its Fragment."""

from __future__ import annotations

from collections.abc import Iterable

from mesh.model import ObjectRef, Problem


class ProblemTable:
    def __init__(self) -> None:
        self._of: dict[ObjectRef, tuple[Problem, ...]] = {}

    @property
    def all(self) -> tuple[Problem, ...]:
        return tuple(problem for ref in sorted(self._of) for problem in self._of[ref])

    def tell(self, found: Iterable[tuple[ObjectRef, Iterable[Problem]]]) -> None:
        """All that is wrong with these objects now; what was told of them before is not."""
        for ref, problems in found:
            if told := tuple(problems):
                self._of[ref] = told
            else:
                self.forget(ref)

    def forget(self, ref: ObjectRef) -> None:
        self._of.pop(ref, None)
