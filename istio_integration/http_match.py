"""HTTPMatchRequest: which requests a rule is for."""

from __future__ import annotations

from collections.abc import Iterator

from istio_integration.callers import CALLERS, callers
from mesh.dialects.reading import Fields, Reader
from mesh.dialects.string_match import path_match, value_match
from mesh.dialects.syntax import port, printable, token
from mesh.model import RouteMatch, ValueMatch

HTTP_MATCH = Fields(
    (
        "name",
        "uri",
        "ignoreUriCase",
        "scheme",
        "method",
        "authority",
        "headers",
        "withoutHeaders",
        "queryParams",
        "port",
        *CALLERS,
    ),
    refused=("statPrefix",),
    why="is not supported: there are no statistics for single routes",
)

_PSEUDO = ("scheme", "method", "authority")


def http_match(reader: Reader) -> RouteMatch:
    reader.fields(HTTP_MATCH)
    printable(reader.at("name"), 253)
    request = [
        value_match(reader.at(field), f":{field}", present=False)
        for field in _PSEUDO
        if reader.at(field).present
    ]
    headers = [*_headers(reader.at("headers")), *_headers(reader.at("withoutHeaders"), negated=True)]
    query = [value_match(value, token(value, key)) for key, value in _named(reader.at("queryParams"))]
    return RouteMatch(
        path_match(reader.at("uri"), reader.at("ignoreUriCase").boolean()),
        tuple(sorted([*request, *headers], key=_order)),
        tuple(sorted(query, key=_order)),
        port(reader.at("port")),
        callers(reader),
    )


def _order(match: ValueMatch) -> tuple[str, bool, str, str]:
    return match.name, match.negated, match.kind, match.value


def _headers(group: Reader, negated: bool = False) -> Iterator[ValueMatch]:
    for written, value in _named(group):
        yield _any_value(value, written, negated)


def _any_value(value: Reader, written: str, negated: bool) -> ValueMatch:
    name = written.lower()
    if name.startswith("@request.auth.claims"):
        value.refuse("claims of a token are not matched yet: they need a gateway and RequestAuthentication")
    elif name in _PSEUDO or name == "uri":
        # Istio's reference says that these keys are ignored, which would widen the rule.
        value.refuse(f"{name} is no header; it stands beside headers")
    elif name.removeprefix(":") not in _PSEUDO:
        token(value, name)
    if negated and value.value == {"regex": "*"}:
        # Istio's word for any value, which RE2 does not know.
        return ValueMatch(name, "present", negated=True)
    return value_match(value, name, negated=negated)


def _named(group: Reader) -> Iterator[tuple[str, Reader]]:
    for key, value in group.entries():
        if not value.present:
            value.refuse("must not be null; {} asks whether it is there")
        else:
            yield key, value
