"""Random routes as their users write them, and who answers a request by the letter of their specifications:
HTTPRouteMatch and GRPCRouteMatch of the Gateway API, HTTPMatchRequest and Delegate of istio/api.

It reads what the user wrote and knows nothing of the mesh's own nouns, so that a mistake of theirs cannot be
its own.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import re2

from mesh.request import Request
from tests.traffic.shop import object_of

Object = dict[str, Any]

#: The header of an answer that names the rule.
RULE = "x-rule"
BACKENDS = ("web", "shadow")

PATHS = (
    "/",
    "/a",
    "/a/",
    "/a/b",
    "/a/b/c",
    "/ab",
    "/A/B",
    "/A",
    "/v1/x",
    "/v2",
    "/a%2fb",
    "/%61",
    "/a//b",
    "/./a/c/../b",
    "/shop.Cart/Add",
)
QUERIES = (
    "",
    "",
    "?",
    "?x=1",
    "?x=2",
    "?x=1&x=2",
    "?x=2&x=1",
    "?x",
    "?x=",
    "?X=1",
    "?x=%31",
    "?y=1&x=1",
    "?a=b?x=1",
)
CALLS = (
    "/shop.Cart/Add",
    "/shop.Cart/Get",
    "/shop.Cart2/Add",
    "/other.X/Add",
    "/other.X/Get",
    "/X/Add",
    "/shop.Cart/AddAll",
)
HEADERS: tuple[tuple[tuple[str, str], ...], ...] = (
    (),
    (("x-team", "a"),),
    (("x-team", "b"),),
    (("x-team", "a"), ("x-team", "b")),
    (("x-team", "b"), ("x-team", "a")),
    (("x-team", "a,b"),),
    (("x-team", ""),),
    (("x-team", "A"),),
    (("x-trace", "1"),),
    (("x-trace", "12"), ("x-team", "a")),
    (("x-trace", "1"), ("x-trace", "2")),
)
AUTHORITIES = ("web", "web:80", "other.example", "WEB")


def question(rng: random.Random, grpc: bool) -> Request:
    headers = rng.choice(HEADERS)
    if grpc:
        return Request("POST", rng.choice(CALLS), "web", headers)
    path = rng.choice(PATHS) + rng.choice(QUERIES)
    return Request(rng.choice(("GET", "POST", "PUT", "DELETE")), path, rng.choice(AUTHORITIES), headers)


# --- Gateway API ----------------------------------------------------------------------------------


def _gateway_values(rng: random.Random, name: str, values: Sequence[str]) -> list[Object]:
    if rng.random() < 0.6:
        return []
    if rng.random() < 0.3:
        return [{"name": name, "type": "RegularExpression", "value": rng.choice(("[ab]", "[0-9]+", "a,.*"))}]
    return [{"name": name, "value": rng.choice(values)}]


def _http_match(rng: random.Random) -> Object:
    kind, value = rng.choice(
        (
            ("Exact", "/a"),
            ("Exact", "/a/"),
            ("Exact", "/a/b"),
            ("PathPrefix", "/"),
            ("PathPrefix", "/a"),
            ("PathPrefix", "/a/"),
            ("PathPrefix", "/a/b"),
            ("PathPrefix", "/A"),
            ("RegularExpression", "/v[0-9].*"),
            ("RegularExpression", "/a.*"),
        )
    )
    found: Object = {"path": {"type": kind, "value": value}} if rng.random() < 0.8 else {}
    if rng.random() < 0.3:
        found["method"] = rng.choice(("GET", "POST"))
    headers = _gateway_values(rng, "X-Team", ("a", "b", "a,b")) + _gateway_values(rng, "x-trace", ("1", "12"))
    query = _gateway_values(rng, "x", ("1", "2"))
    return found | ({"headers": headers} if headers else {}) | ({"queryParams": query} if query else {})


def _grpc_match(rng: random.Random) -> Object:
    found: Object = {}
    if rng.random() < 0.6:
        found["service"] = rng.choice(("shop.Cart", "other.X", "X"))
    if rng.random() < 0.6:
        found["method"] = rng.choice(("Add", "Get"))
    headers = _gateway_values(rng, "X-Team", ("a", "b")) + _gateway_values(rng, "x-trace", ("1", "12"))
    return ({"method": found} if found else {}) | ({"headers": headers} if headers else {})


def _url_rewrite(rng: random.Random, matches: Sequence[Object]) -> Object:
    by_prefix = [match.get("path", {}).get("type") for match in matches] == ["PathPrefix"]
    kind, field = rng.choice(
        (("ReplaceFullPath", "replaceFullPath"), ("ReplacePrefixMatch", "replacePrefixMatch"))[
            : 1 + by_prefix
        ]
    )
    path = {"type": kind, field: rng.choice(("/new", "/new/", "/"))}
    return {"type": "URLRewrite", "urlRewrite": {"path": path}}


def _gateway_route(kind: str, match: Callable[[random.Random], Object]) -> Callable[..., list[Object]]:
    def make(rng: random.Random, service: str) -> list[Object]:
        found = []
        for name in rng.sample("pqrs", rng.randint(1, 3)):
            rules = []
            for index in range(rng.randint(1, 3)):
                mark = {"set": [{"name": RULE, "value": f"{service}-{name}/{index}"}]}
                rule: Object = {
                    "filters": [{"type": "ResponseHeaderModifier", "responseHeaderModifier": mark}],
                    "backendRefs": [{"name": rng.choice(BACKENDS), "port": 80}],
                }
                if matches := [match(rng) for _ in range(rng.choice((0, 1, 1, 2)))]:
                    rule["matches"] = matches
                if kind == "HTTPRoute" and rng.random() < 0.4:
                    rule["filters"].append(_url_rewrite(rng, matches))
                rules.append(rule)
            spec = {"parentRefs": [{"group": "", "kind": "Service", "name": service}], "rules": rules}
            route = object_of("gateway.networking.k8s.io/v1", kind, f"{service}-{name}", "shop", spec)
            if rng.random() < 0.7:
                route["metadata"]["creationTimestamp"] = f"2026-01-0{rng.randint(1, 3)}T00:00:00Z"
            found.append(route)
        return found

    return make


def _by_gateway_api(routes: Sequence[Object], request: Request) -> str | None:
    """The rule of the route that takes precedence."""
    fits = []
    for route in routes:
        age = route["metadata"].get("creationTimestamp", "9"), route["metadata"]["name"]
        for index, rule in enumerate(route["spec"]["rules"]):
            for match in rule.get("matches", [{}]):
                rank = (_http_rank if route["kind"] == "HTTPRoute" else _grpc_rank)(match, request)
                if rank is not None:
                    mark = rule["filters"][0]["responseHeaderModifier"]["set"][0]["value"]
                    fits.append((rank, age, index, mark))
    return min(fits)[-1] if fits else None


def _http_rank(match: Object, request: Request) -> tuple[int, ...] | None:
    """HTTPRouteMatch: exact path, longest prefix, method, most headers, most query parameters. The place of
    expressions is left to implementations: ours is behind exact paths, the longest first."""
    path, _, query = request.path.partition("?")
    wanted = match.get("path", {"type": "PathPrefix", "value": "/"})
    value, kind = wanted["value"], wanted["type"]
    prefix = value.rstrip("/")
    fits = {
        "Exact": path == value,
        "PathPrefix": path == prefix or path.startswith(prefix + "/"),
        "RegularExpression": bool(re2.fullmatch(value, path)) if kind == "RegularExpression" else False,
    }[kind]
    if not fits or match.get("method", request.method) != request.method:
        return None
    if not _all_fit(match.get("headers", ()), _headers(request)):
        return None
    if not _all_fit(match.get("queryParams", ()), _parameters(query)):
        return None
    order = {"Exact": 0, "RegularExpression": 1, "PathPrefix": 2}[kind]
    length = len(prefix) if kind == "PathPrefix" else len(value)
    more = len(match.get("headers", ())), len(match.get("queryParams", ()))
    return order, -length, "method" not in match, -more[0], -more[1]


def _grpc_rank(match: Object, request: Request) -> tuple[int, ...] | None:
    """GRPCRouteMatch: most characters of the service, then of the method, then most headers."""
    _, service, method = request.path.split("/")
    wanted = match.get("method", {})
    if wanted.get("service", service) != service or wanted.get("method", method) != method:
        return None
    if not _all_fit(match.get("headers", ()), _headers(request)):
        return None
    return -len(wanted.get("service", "")), -len(wanted.get("method", "")), -len(match.get("headers", ()))


def _all_fit(wanted: Sequence[Object], values: Mapping[str, str]) -> bool:
    for item in wanted:
        value = values.get(item["name"].lower())
        if value is None:
            return False
        expression = item.get("type") == "RegularExpression"
        if not (re2.fullmatch(item["value"], value) if expression else value == item["value"]):
            return False
    return True


# --- VirtualService -------------------------------------------------------------------------------


def _string(rng: random.Random, *values: str) -> Object:
    kind = rng.choice(("exact", "exact", "prefix", "regex"))
    return {kind: rng.choice(("a.*", "[0-9]+", "GET|PUT", "we.")) if kind == "regex" else rng.choice(values)}


def _istio_match(rng: random.Random) -> Object:
    found: Object = {}
    if rng.random() < 0.8:
        found["uri"] = rng.choice(
            (
                {"exact": "/a"},
                {"exact": "/a/b"},
                {"exact": "/A"},
                {"prefix": "/"},
                {"prefix": "/a"},
                {"prefix": "/a/"},
                {"prefix": "/a/b"},
                {"prefix": "/ab"},
                {"regex": "/v[0-9].*"},
                {"regex": "/a.*"},
            )
        )
        if rng.random() < 0.25:
            found["ignoreUriCase"] = True
    if rng.random() < 0.2:
        found["method"] = _string(rng, "GET", "POST", "P")
    if rng.random() < 0.15:
        found["authority"] = _string(rng, "web", "web:80", "other.example")
    if rng.random() < 0.1:
        found["scheme"] = {"exact": rng.choice(("http", "http", "https"))}
    for field, chance in (("headers", 0.3), ("withoutHeaders", 0.2)):
        if rng.random() < chance:
            name = rng.choice(("X-Team", "x-trace"))
            found[field] = {name: rng.choice(({}, _string(rng, "a", "b", "1", "a,b")))}
    if rng.random() < 0.2:
        found["queryParams"] = {"x": rng.choice(({}, _string(rng, "1", "2", "%31")))}
    if rng.random() < 0.1:
        found["port"] = rng.choice((80, 80, 90))
    if rng.random() < 0.15:
        found["sourceLabels"] = rng.choice(({"team": "a"}, {"team": "a", "app": "client"}, {"team": "b"}))
    if rng.random() < 0.1:
        found["sourceNamespace"] = rng.choice(("shop", "street"))
    if rng.random() < 0.1:
        found["gateways"] = rng.choice((["mesh"], ["mesh", "edge/public"], ["edge/public"]))
    return found


def _virtual_service(rng: random.Random, service: str) -> list[Object]:
    found = []
    for name in ("", "-d", "-e")[: rng.choice((1, 1, 2, 3))]:
        rules = []
        for index in range(rng.randint(1, 4)):
            rule: Object = {}
            if matches := [_istio_match(rng) for _ in range(rng.choice((0, 1, 1, 2)))]:
                rule["match"] = matches
            mark = {"response": {"set": {RULE: f"{service}{name}/{index}"}}}
            target = {"destination": {"host": rng.choice(BACKENDS), "port": {"number": 80}}}
            rules.append(rule | {"headers": mark, "route": [target]})
        spec: Object = {"http": rules} | ({} if name else {"hosts": [service]})
        found.append(object_of("networking.istio.io/v1", "VirtualService", service + name, "shop", spec))
    for delegate in found[1:]:
        rule = rng.choice(found[0]["spec"]["http"])
        if "route" in rule:
            del rule["route"], rule["headers"]
            rule["delegate"] = {"name": delegate["metadata"]["name"]}
    for rule in (rule for route in found for rule in route["spec"]["http"]):
        if rng.random() < 0.3:
            change = {"match": "^/(a)(/.*)?$", "rewrite": r"\2/\1"}
            rule["rewrite"] = rng.choice(({"uri": "/new"}, {"uri": "/new/"}, {"uriRegexRewrite": change}))
    return found


def _in_order(routes: Sequence[Object], request: Request) -> str | None:
    """The first rule that fits; a delegate's must fit together with the one that delegates."""
    named = {route["metadata"]["name"]: route["spec"]["http"] for route in routes}
    for rule in routes[0]["spec"]["http"]:
        pairs: Iterator[tuple[Object, Object]]
        if "delegate" in rule:
            pairs = ((rule, inner) for inner in named[rule["delegate"]["name"]])
        else:
            pairs = iter([({}, rule)])
        for outer, inner in pairs:
            for one in outer.get("match", [{}]):
                for other in inner.get("match", [{}]):
                    if _meet(one, other) and _fits(one, request) and _fits(other, request):
                        mark: str = inner["headers"]["response"]["set"][RULE]
                        return mark
    return None


def _meet(outer: Object, inner: Object) -> bool:
    """istio/api, Delegate: the delegate's match must be a subset of the other one. Of paths that is: an
    expression meets only itself, a text only one that is written longer, in case as well."""
    if "uri" not in outer or "uri" not in inner:
        return True
    same = outer.get("ignoreUriCase", False) == inner.get("ignoreUriCase", False)
    if outer["uri"] == inner["uri"]:
        return same or "regex" in outer["uri"]
    longer = inner["uri"].get("exact", inner["uri"].get("prefix"))
    return bool(same and longer and "prefix" in outer["uri"] and longer.startswith(outer["uri"]["prefix"]))


def _fits(match: Object, request: Request) -> bool:
    """HTTPMatchRequest, asked by the pod `shop/client` (team a) at port 80."""
    path, _, query = request.path.partition("?")
    headers, parameters = _headers(request), _parameters(query)
    wanted = match.get("uri")
    if wanted and match.get("ignoreUriCase") and "regex" not in wanted:
        path, wanted = path.lower(), {kind: value.lower() for kind, value in wanted.items()}
    labels = {"team": "a", "app": "client"}
    return (
        (wanted is None or _string_fits(wanted, path))
        and _string_fits(match.get("method", {}), request.method)
        and _string_fits(match.get("authority", {}), request.authority)
        and _string_fits(match.get("scheme", {}), "http")
        and all(_string_fits(v, headers.get(k.lower())) for k, v in match.get("headers", {}).items())
        and not any(
            _string_fits(v, headers.get(k.lower())) for k, v in match.get("withoutHeaders", {}).items()
        )
        and all(_string_fits(v, parameters.get(k)) for k, v in match.get("queryParams", {}).items())
        and match.get("port", 80) == 80
        and all(labels.get(key) == value for key, value in match.get("sourceLabels", {}).items())
        and match.get("sourceNamespace", "shop") == "shop"
        and "mesh" in match.get("gateways", ["mesh"])
    )


def _string_fits(wanted: Object, value: str | None) -> bool:
    if value is None:
        return False
    match wanted:
        case {"exact": text}:
            return bool(value == text)
        case {"prefix": text}:
            return value.startswith(text)
        case {"regex": text}:
            return bool(re2.fullmatch(text, value))
    return True


# --- what requests say ------------------------------------------------------------------------------


def _headers(request: Request) -> dict[str, str]:
    """Lines of one name are one value (RFC 9110, 5.3)."""
    found: dict[str, str] = {}
    for name, value in request.headers:
        found[name] = f"{found[name]},{value}" if name in found else value
    return found


def _parameters(query: str) -> dict[str, str]:
    """Of several with one name the first counts, as Envoy does it; nothing is decoded."""
    found: dict[str, str] = {}
    for item in query.split("&"):
        name, _, value = item.partition("=")
        found.setdefault(name, value)
    return found


#: What makes routes, and what decides between them.
KINDS = {
    "HTTPRoute": (_gateway_route("HTTPRoute", _http_match), _by_gateway_api),
    "GRPCRoute": (_gateway_route("GRPCRoute", _grpc_match), _by_gateway_api),
    "VirtualService": (_virtual_service, _in_order),
}
