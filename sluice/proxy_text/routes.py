"""Route configurations, a row for each route of each virtual host."""

from __future__ import annotations

from collections.abc import Iterable

from sluice.proxy_text.dump import Data, routes
from sluice.proxy_text.origin import origin
from sluice.proxy_text.wanted import Wanted

HEAD = ("NAME", "VHOST NAME", "DOMAINS", "MATCH", "VIRTUAL SERVICE")

_DOMAINS = 2


def select(dump: Data, wanted: Wanted) -> list[Data]:
    found = (route for _, route in routes(dump) if wanted.route in (None, route["name"]))
    return sorted(found, key=lambda route: str(route["name"]))


def rows(selected: Iterable[Data]) -> list[tuple[str, ...]]:
    found: list[tuple[str, ...]] = []
    for configuration in selected:
        for host in configuration.get("virtual_hosts", ()):
            place = (configuration["name"], host["name"], _domains(host["domains"]))
            # As istioctl has it: without any route every request is answered 404.
            found += [(*place, match(route["match"]), origin(route)) for route in host.get("routes", ())] or [
                (*place, "/*", "404")
            ]
    return found


def _domains(domains: list[str]) -> str:
    if len(domains) == 1:
        return domains[0]
    plain = [name for name in domains if ":" not in name or name.endswith("]")]
    more = len(plain) - _DOMAINS
    return ", ".join(plain[:_DOMAINS]) + (f" + {more} more..." if more > 0 else "")


def match(found: Data) -> str:
    """A path, then headers and query parameters that are asked for."""
    conditions = [_path(found)]
    conditions += [f"header {_value(header)}" for header in found.get("headers", ())]
    conditions += [f"query {_value(parameter)}" for parameter in found.get("query_parameters", ())]
    return "; ".join(conditions)


def _path(found: Data) -> str:
    match found:
        case {"prefix": prefix}:
            return f"{prefix}*"
        case {"path_separated_prefix": prefix}:
            return f"{prefix}/*"
        case {"path": path}:
            return str(path)
        case {"safe_regex": {"regex": regex}}:
            return f"regex {regex}"
        case {"path_match_policy": {"typed_config": {"path_template": template}}}:
            return f"template {template}"
        case {"connect_matcher": _}:
            return "CONNECT"
    return "unknown path"


def _value(found: Data) -> str:
    """A HeaderMatcher or QueryParameterMatcher."""
    name: str = found["name"]
    match found.get("string_match"):
        case {"exact": value}:
            said = f"{name}={value}"
        case {"prefix": value}:
            said = f"{name}={value}*"
        case {"suffix": value}:
            said = f"{name}=*{value}"
        case {"contains": value}:
            said = f"{name}=*{value}*"
        case {"safe_regex": {"regex": regex}}:
            said = f"{name}~{regex}"
        case _:
            said = name
    return f"not ({said})" if found.get("invert_match") else said
