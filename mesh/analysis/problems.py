"""What the dialects refused and what does not fit together between objects, as findings."""

from __future__ import annotations

from collections.abc import Iterator

from mesh.analysis.finding import Check, Trap
from mesh.analysis.view import View


def unreadable(view: View) -> Iterator[Trap]:
    """Semantics rule 18: what cannot be read is refused, or fails closed where it is already stored."""
    known = _notes(view)
    for problem in view.problems:
        if problem not in known:
            yield Trap(
                problem.object,
                problem.field,
                problem.message,
                "mend the field; until then an earlier valid version counts, or the object fails closed",
            )


def inconsistent(view: View) -> Iterator[Trap]:
    """Objects that are valid by themselves and do not fit together, and fields without effect."""
    known = _notes(view)
    for problem in view.problems:
        if problem in known:
            remedy = "create what is missing, or take the mention of it out"
            yield Trap(problem.object, problem.field, problem.message, remedy)


def _notes(view: View) -> set[object]:
    """Problems of objects that are in force all the same."""
    within = {
        problem
        for fragment in view.mesh.fragments().values()
        if fragment.valid
        for problem in fragment.problems
    }
    return {*within, *view.mesh.problems}


CHECKS = (
    Check("SL0001", "Error", "an object or a file cannot be read", unreadable),
    Check("SL0002", "Warning", "an object does not fit the others, or a field has no effect", inconsistent),
)
