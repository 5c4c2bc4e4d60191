"""VirtualServices for tests, and short ways to read them."""

from __future__ import annotations

from typing import Any

from mesh.model import Fragment, Route, RouteMatch, RouteRule, ServiceName
from tests.mesh.dialects.objects import obj
from xds.dialects import read

WEB = ServiceName("shop", "web")
ROUTE = {"route": [{"destination": {"host": "web"}}]}


def fragment(spec: Any, version: str = "v1") -> Fragment:
    return read(obj(f"networking.istio.io/{version}", "VirtualService", {"hosts": ["web"]} | spec))


def route(spec: Any, version: str = "v1") -> Route:
    found = fragment(spec, version)
    assert found.valid, found.problems
    (noun,) = found.nouns
    assert isinstance(noun, Route)
    return noun


def rules(http: Any, **spec: Any) -> tuple[RouteRule, ...]:
    return route({"http": [http]} | spec).rules


def rule(http: Any, **spec: Any) -> RouteRule:
    (found,) = rules(http, **spec)
    return found


def match(**fields: Any) -> RouteMatch:
    (found,) = rule(ROUTE | {"match": [fields]}).matches
    return found


def weighted(*weights: int | None) -> Any:
    return {
        "route": [
            {"destination": {"host": "web"}} | ({} if weight is None else {"weight": weight})
            for weight in weights
        ]
    }


def refused(spec: Any) -> dict[str, str]:
    found = fragment(spec)
    assert not found.valid and not found.nouns
    return {problem.field.removeprefix("spec."): problem.message for problem in found.problems}


def refused_rule(http: Any) -> dict[str, str]:
    """The messages about a VirtualService's only rule, by the field of the rule."""
    found = refused({"http": [http]})
    return {field.removeprefix("http[0]").removeprefix("."): message for field, message in found.items()}
