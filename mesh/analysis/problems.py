"""What the dialects refused and what does not fit together between objects, as findings."""

from __future__ import annotations

from collections.abc import Iterator

from mesh.analysis.finding import Check, Trap
from mesh.analysis.view import View
from mesh.model import MESH_GATEWAY, ObjectRef
from mesh.routes.gateways import GATEWAY_NAME

_ISTIO = ("VirtualService", "Gateway.networking.istio.io")


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


def not_found(view: View) -> Iterator[Trap]:
    """A Service, port, subset, Secret or pod that an object of Istio's names and that is not there."""
    missing = _missing(view)
    for problem in view.problems:
        if problem in missing:
            remedy = "create it, or correct the name"
            yield Trap(problem.object, problem.field, problem.message, remedy)
    for ref, route in sorted(view.mesh.routes.all.items()):
        for index, name in enumerate(route.gateways):
            if route.in_order and name != MESH_GATEWAY and not _has_gateway(view, name):
                message = f"there is no Gateway {name}: the routes do not count there"
                yield Trap(ref, f"spec.gateways[{index}]", message, "create it, or correct the name")
    yield from (trap for ref, trap in _unserved(view) if ref.kind in _ISTIO)


def nobody_serves(view: View) -> Iterator[Trap]:
    """A Gateway of ours without a pod; where the mesh makes one itself, that is so for a moment."""
    return (trap for ref, trap in _unserved(view) if ref.kind not in _ISTIO)


def inconsistent(view: View) -> Iterator[Trap]:
    """Objects that are valid by themselves and do not fit together, and fields without effect."""
    known = _notes(view) - _missing(view)
    for problem in view.problems:
        if problem in known:
            remedy = "create what is missing, or take the mention of it out"
            yield Trap(problem.object, problem.field, problem.message, remedy)


def _unserved(view: View) -> Iterator[tuple[ObjectRef, Trap]]:
    for ref, gateway in sorted(view.mesh.gateways.all.items()):
        if view.mesh.gateways.is_ours(gateway) and not view.mesh.gateways.pods(gateway):
            where = "spec.selector" if gateway.subject else "metadata.name"
            wanted = "the selector" if gateway.subject else f"{GATEWAY_NAME}: {ref.name}"
            message = f"no pod serves it: none has the labels of {wanted}"
            yield ref, Trap(ref, where, message, "run a pod with these labels, or correct them")


def _notes(view: View) -> set[object]:
    """Problems of objects that are in force all the same."""
    within = {
        problem
        for fragment in view.mesh.fragments().values()
        if fragment.valid
        for problem in fragment.problems
    }
    return {*within, *view.mesh.problems}


def _missing(view: View) -> set[object]:
    """What Istio's objects refer to in vain. Hosts of a VirtualService need be nobody's, and a delegate that
    is there, but cannot be one, is not missing."""
    return {
        problem
        for problem in view.mesh.problems
        if problem.object.kind in _ISTIO
        and not problem.field.startswith("spec.hosts")
        and not problem.field.endswith(".delegate")
    }


def _has_gateway(view: View, name: str) -> bool:
    namespace, _, own = name.partition("/")
    return ObjectRef("Gateway.networking.istio.io", namespace, own) in view.mesh.gateways.all


CHECKS = (
    Check("IST0101", "Error", "an object of Istio's names what is not there", not_found),
    Check("SL0704", "Warning", "a Gateway that no pod serves", nobody_serves),
    Check("SL0001", "Error", "an object or a file cannot be read", unreadable),
    Check("SL0002", "Warning", "an object does not fit the others, or a field has no effect", inconsistent),
)
