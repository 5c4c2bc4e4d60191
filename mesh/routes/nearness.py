"""Which backends a caller prefers by where both are. One answer for both who ask: an Envoy gets the order of
all that are ready, the kernel shares connections out among the first of them.

Where nobody knows the caller's place all backends are alike.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from mesh.assemble import Mesh
from mesh.caller import Caller
from mesh.locality import setting_for
from mesh.model import Backend, Distribution, Locality, LocalitySetting, ServiceName, TrafficPolicy
from mesh.proxy import Place
from mesh.routes.shares import parts as whole
from mesh.topology import PLACES, labels_at, locality_of

#: What `failover` may tell apart below one match of `priority`.
_LEVELS = 5


@dataclass(frozen=True, slots=True)
class Preferred:
    """Where a backend stands for a caller: the least `priority` first, and of its share of that by `weight`.
    `shared`: the weights of places are what somebody said."""

    backend: Backend
    locality: Locality
    priority: int
    weight: Fraction
    shared: bool = False


def preferred(
    mesh: Mesh, caller: Caller, service: ServiceName, policy: TrafficPolicy, backends: Sequence[Backend]
) -> tuple[Preferred, ...] | None:
    """The backends that a caller may have, priorities from 0 without a gap; None if all are alike to it."""
    setting, field = setting_for(mesh.services[service], policy, mesh.config)
    if not field:
        return None
    placed = {backend: _labels(mesh, backend) for backend in backends}
    own = dict(caller.labels)
    if setting.distribute:
        return _distributed(setting.distribute, locality_of(own), placed)
    far = {backend: _distance(setting, own, labels) for backend, labels in placed.items()}
    order = {distance: at for at, distance in enumerate(sorted(set(far.values())))}
    if len(order) < 2:
        return None
    return tuple(Preferred(b, locality_of(placed[b]), order[far[b]], Fraction(b.weight)) for b in backends)


def nearest(
    mesh: Mesh, caller: Caller, service: ServiceName, policy: TrafficPolicy, backends: Sequence[Backend]
) -> tuple[tuple[Backend, Fraction], ...]:
    """Among whom connections are shared out, and how, as long as all of these backends are ready. An address
    of the other family is no help to who dials one."""
    found: list[tuple[Backend, Fraction]] = []
    for six in (False, True):
        like = [backend for backend in backends if (":" in backend.address) == six]
        order = preferred(mesh, caller, service, policy, like)
        if order is None:
            found += [(backend, Fraction(backend.weight)) for backend in like]
        else:
            found += [(one.backend, one.weight) for one in order if not one.priority]
    return tuple(found)


def places(order: Iterable[Preferred], parts: Mapping[Backend, int]) -> dict[Backend, Place]:
    """The same for an Envoy, in whose terms a place has the weight of all its backends in a part."""
    known = tuple(order)
    shares: defaultdict[tuple[int, Locality], Fraction] = defaultdict(Fraction)
    for one in known:
        shares[parts[one.backend], one.locality] += one.weight if one.shared else 0
    weights = dict(zip(shares, whole(list(shares.values())), strict=True))
    return {
        one.backend: Place(one.priority, one.locality, weights[parts[one.backend], one.locality])
        for one in known
    }


def _labels(mesh: Mesh, backend: Backend) -> Mapping[str, str]:
    pod = mesh.workloads.get(backend.workload) if backend.workload else None
    return mesh.callers.labels(pod) if pod else dict(backend.labels) | labels_at(backend.locality)


# --- the nearest first ---------------------------------------------------------------------------


def _distance(setting: LocalitySetting, own: Mapping[str, str], labels: Mapping[str, str]) -> int:
    if setting.priority and not setting.failover:
        return _mismatch(setting.priority, own, labels)
    far = _away(setting.failover, locality_of(own), locality_of(labels))
    return _mismatch(setting.priority, own, labels) * _LEVELS + far


def _mismatch(priority: Sequence[str], own: Mapping[str, str], labels: Mapping[str, str]) -> int:
    """How many of the labels are left at the first that differs; what both lack is alike."""
    asked = [entry for entry in priority if entry not in PLACES or own.get(entry)]
    for at, entry in enumerate(asked):
        key, said, value = entry.partition("=")
        if labels.get(key, "") != (value if said else own.get(key, "")):
            return len(asked) - at
    return 0


def _away(failover: Iterable[tuple[str, str]], own: Locality, other: Locality) -> int:
    """0 in one subzone, 1 in one zone, 2 in one region; then the region that is named, then all others."""
    if not any(own):
        return 0
    same = next((at for at in range(3) if own[at] != other[at]), 3)
    if same:
        return 3 - same
    aim = next((to for origin, to in failover if origin == own.region), other.region)
    return 3 if other.region == aim else 4


# --- shares for places ---------------------------------------------------------------------------


def _distributed(
    rules: Iterable[Distribution], own: Locality, placed: Mapping[Backend, Mapping[str, str]]
) -> tuple[Preferred, ...] | None:
    """The first rule for the caller's place counts. A place gets the share of the pattern that says most of
    it; in that backends share by their weights."""
    to = next((rule.to for rule in rules if any(own) and _is_in(own, rule.origin)), None)
    if to is None:
        return None
    chosen: dict[Backend, tuple[Locality, str]] = {}
    for backend, labels in placed.items():
        place = locality_of(labels)
        fitting = [pattern for pattern, _ in to if _is_in(place, pattern)]
        if fitting:
            chosen[backend] = place, max(fitting, key=_precision)
    there: Counter[str] = Counter()
    for backend, (_, pattern) in chosen.items():
        there[pattern] += backend.weight
    return tuple(
        Preferred(b, place, 0, Fraction(dict(to)[pattern] * b.weight, there[pattern]), True)
        for b, (place, pattern) in chosen.items()
    )


def _is_in(place: Locality, pattern: str) -> bool:
    return all(wanted in ("*", "", found) for wanted, found in zip(Locality.of(pattern), place, strict=True))


def _precision(pattern: str) -> int:
    return sum(part not in ("", "*") for part in Locality.of(pattern))
