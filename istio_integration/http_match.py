"""HTTPMatchRequest: which requests a rule is for."""

from __future__ import annotations

import re
from collections.abc import Iterator
from operator import attrgetter

from istio_integration.callers import CALLERS, callers, gateways
from mesh.dialects.reading import Fields, Reader
from mesh.dialects.string_match import path_match, value_match
from mesh.dialects.syntax import port, printable, token
from mesh.model import MESH_GATEWAY, ClaimMatch, RouteMatch, ValueMatch

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

_AT_GATEWAYS = "claims of a token choose routes at a Gateway only: name it in gateways, without mesh"
#: What a key begins with that is no header but a claim of the token.
_CLAIMS = "@request.auth.claims"
_BRACKETS = re.compile(r"(\[[^\[\]]+\])+")

_PSEUDO = ("scheme", "method", "authority")


def http_match(reader: Reader) -> RouteMatch:
    reader.fields(HTTP_MATCH)
    printable(reader.at("name"), 253)
    request = [
        value_match(reader.at(field), f":{field}", present=False)
        for field in _PSEUDO
        if reader.at(field).present
    ]
    values = [*_values(reader.at("headers")), *_values(reader.at("withoutHeaders"), negated=True)]
    headers = [value for value in values if isinstance(value, ValueMatch)]
    claims = [value for value in values if isinstance(value, ClaimMatch)]
    query = [value_match(value, token(value, key)) for key, value in _named(reader.at("queryParams"))]
    return RouteMatch(
        path_match(reader.at("uri"), reader.at("ignoreUriCase").boolean()),
        tuple(sorted([*request, *headers], key=_order)),
        tuple(sorted(query, key=_order)),
        port(reader.at("port")),
        callers(reader),
        claims=tuple(sorted(claims, key=attrgetter("path", "negated", "kind", "value"))),
    )


def _order(match: ValueMatch) -> tuple[str, bool, str, str]:
    return match.name, match.negated, match.kind, match.value


def _values(group: Reader, negated: bool = False) -> Iterator[ValueMatch | ClaimMatch]:
    for written, value in _named(group):
        if written.lower().startswith(_CLAIMS):
            yield _claim(value, written, negated)
        else:
            yield _header(value, written, negated)


def _claim(value: Reader, written: str, negated: bool) -> ClaimMatch:
    """The name of a claim is of the case in which it is written. Behind a dot each further dot leads into an
    object; in brackets a dot is part of a name."""
    rest = written[len(_CLAIMS) :]
    path = tuple(rest[1:].split(".")) if rest.startswith(".") else ()
    if _BRACKETS.fullmatch(rest):
        path = tuple(rest[1:-1].split("]["))
    if not path or not all(path):
        value.refuse(f"names no claim: write {_CLAIMS}.NAME or {_CLAIMS}[NAME][INNER]")
    if negated and value.value == {"regex": "*"}:
        return ClaimMatch(path, "present", negated=True)
    found = value_match(value, written)
    return ClaimMatch(path, found.kind, found.value, negated)


def refuse_claims(item: Reader, bound: tuple[str, ...]) -> None:
    """Of a rule in a VirtualService for these gateways: tokens are judged before routes at Gateways only."""
    for match in item.at("match").items():
        if MESH_GATEWAY in (gateways(match.at("gateways")) or bound):
            for field in ("headers", "withoutHeaders"):
                for written, value in match.at(field).entries():
                    if written.lower().startswith(_CLAIMS):
                        value.refuse(_AT_GATEWAYS)


def _header(value: Reader, written: str, negated: bool) -> ValueMatch:
    name = written.lower()
    if name in _PSEUDO or name == "uri":
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
