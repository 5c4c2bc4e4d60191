"""Which route entry a request takes: the reference for what Envoy is configured to do.

Follows Gateway API's HTTPRouteMatch; entries come in the order of precedence.
"""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import parse_qsl

from mesh.expression import compile_expression
from mesh.model import PathMatch, RouteMatch, ValueMatch
from mesh.policy import Request
from mesh.proxy import RouteEntry


def choose(entries: Sequence[RouteEntry], request: Request) -> RouteEntry | None:
    """The first entry that matches; None is answered with 404."""
    return next((entry for entry in entries if matches(entry.match, request)), None)


def matches(match: RouteMatch, request: Request) -> bool:
    path, _, query = request.path.partition("?")
    headers = dict(request.headers)
    parameters: dict[str, str] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        parameters.setdefault(name, value)
    return (
        _path_fits(match.path, path)
        and match.method in (None, request.method)
        and all(_value_fits(header, headers) for header in match.headers)
        and all(_value_fits(parameter, parameters) for parameter in match.query)
    )


def _path_fits(match: PathMatch, path: str) -> bool:
    if match.kind == "exact":
        return path == match.value
    if match.kind == "regex":
        return compile_expression(match.value).matches(path)
    prefix = match.value.rstrip("/")
    return path == prefix or path.startswith(prefix + "/")


def _value_fits(match: ValueMatch, values: dict[str, str]) -> bool:
    value = values.get(match.name)
    if value is None:
        return False
    return value == match.value if match.kind == "exact" else compile_expression(match.value).matches(value)
