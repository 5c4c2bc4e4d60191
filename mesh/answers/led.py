"""Where route entries lead: the backends behind them, with their shares, and what an Envoy answers itself."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction

from mesh.answers.reasons import Reason, reason
from mesh.answers.steering_table import CALLER
from mesh.assemble import Mesh
from mesh.model import Backend, RouteBackend, Workload
from mesh.proxy import RouteEntry, Target
from mesh.request import Request
from mesh.routes import routing, steer
from mesh.routes.nearness import nearest
from mesh.routes.route_effects import ALL, effects


def told(entry: RouteEntry) -> Iterator[Reason]:
    """What an entry does to a request that it takes."""
    effect = "begins mutual TLS" if entry.origin.kind == "PeerAuthentication" else "route"
    yield reason(str(entry.origin), entry.rule.field, effect, CALLER)
    for found in effects(entry):
        yield reason(str(entry.origin), found.field, found.text, found.row.place)


def destinations(
    mesh: Mesh,
    caller: Workload,
    entries: Sequence[RouteEntry],
    request: Request | None,
    asked: dict[Backend, Request],
    reasons: list[dict[str, str]],
) -> tuple[list[tuple[Backend, float | None]], int | None]:
    """The backends behind route entries with their share, and the status that Envoy answers itself. Among
    several rules the requests decide, and nobody knows their shares.

    `asked` receives the request that each backend is sent, `reasons` what gets lost."""
    shares: dict[Backend, float] = {}
    status: int | None = None
    for entry in entries:
        rule = entry.rule
        if rule.redirect is not None or rule.direct is not None:
            status = rule.redirect.status if rule.redirect else rule.direct.status if rule.direct else None
            continue
        if rule.fault is not None and rule.fault.status and rule.fault.aborted == ALL:
            status = rule.fault.status
            continue
        total = sum(b.weight for b in rule.backends)
        if not total:
            status = rule.lost
        for target in rule.backends:
            if not target.weight:
                continue
            backends = _behind(mesh, caller, target)
            if not backends:
                status = rule.lost if backends is None else 503
                share = "" if target.weight == total else f"{target.weight / total:.0%} of the requests get "
                effect = f"{share}{status}: nothing is behind {_named(target)}"
                reasons.append(reason(str(entry.origin), rule.field, effect, CALLER))
                continue
            whole = sum(weight for _, weight in backends)
            for backend, weight in backends:
                part = target.weight / total * float(weight / whole)
                shares[backend] = shares.get(backend, 0.0) + part
                if request is not None:
                    asked[backend] = routing.forwarded(entry, target, request)
    alone = len(entries) == 1
    found = [(backend, share if alone else None) for backend, share in sorted(shares.items())]
    return found, status if not shares else None


def _named(target: RouteBackend) -> str:
    subset = f", subset {target.subset}" if target.subset else ""
    return f"{target.service}:{target.port}{subset}" if target.service else "a backend that is unknown"


def _behind(
    mesh: Mesh, caller: Workload, target: RouteBackend
) -> tuple[tuple[Backend, Fraction], ...] | None:
    """The nearest, with their weights; None where the mesh has no such service port or subset."""
    goal, address, seen = Target.of(target), caller.addresses[0], mesh.callers.of(caller.name)
    found = steer.members(mesh, seen, goal) if goal else None
    if goal is None or found is None:
        return None
    return nearest(mesh, seen, goal.service, found[1], family(found[0], address, address))


def family(backends: Sequence[Backend], source: str, target: str) -> list[Backend]:
    """Backends of the family that is dialled; a name prefers the caller's first family."""
    like = target if target.count(":") > 1 or target.replace(".", "").isdigit() else source
    return [b for b in backends if (":" in b.address) == (":" in like)]
