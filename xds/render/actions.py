"""Header actions of Cilium's HTTP rules (HeaderMatch, mismatch) as routes: a request that a rule fits, but
whose headers have other values, is changed on its way.

The first match that fits decides. It becomes one route for each combination of its headers that may differ,
fewest first, so that a route needs to ask only for those that must be equal.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import combinations

from envoy_data_plane.envoy.config.route.v3 import Route, RouteAction, RouteMatch

from mesh.model import HeaderAction, HeaderChange, HttpMatch
from mesh.proxy import HttpRule
from xds.render import rbac
from xds.render.headers import header_mutations, host_change

#: Makes the action of a route, with another Host if one is given.
Forward = Callable[[str | None], RouteAction]


def routes(name: str, rules: tuple[HttpRule, ...], forward: Forward) -> Iterator[Route]:
    """All that stands before the route of `name` that takes every request; nothing, where no rule acts."""
    matches = [match for rule in rules for match in rule.matches]
    while matches and not rbac.changes(matches[-1]):
        matches.pop()
    for match in matches:
        yield from _variants(name, match, forward)


def _variants(name: str, match: HttpMatch, forward: Forward) -> Iterator[Route]:
    acts = rbac.changes(match)
    if len(acts) > rbac.MOST_ACTIONS:
        acts = ()  # then such requests are refused
    for count in range(len(acts) + 1):
        for different in combinations(acts, count):
            same = [rbac.equal(act.name, act.value) for act in acts if act not in different]
            changes = [_as_change(act) for act in different]
            additions, removals = header_mutations(*changes)
            yield Route(
                name=name,
                match=RouteMatch(prefix="/", headers=[*rbac.conditions(match), *same]),
                route=forward(next(filter(None, map(host_change, changes)), None)),
                request_headers_to_add=additions,
                request_headers_to_remove=removals,
            )


def _as_change(action: HeaderAction) -> HeaderChange:
    match action.action:
        case "ADD":
            return HeaderChange(add=((action.name, action.value),))
        case "REPLACE":
            return HeaderChange(set=((action.name, action.value),))
        case _:
            return HeaderChange(remove=(action.name,))
