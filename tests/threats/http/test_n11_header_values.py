"""N11 (CVE-2023-27493): no byte in a value, of a client's or of a policy's, begins another header or another
request; and Envoy's formatters see no command where a policy has a per cent sign.
"""

from __future__ import annotations

import re
from typing import Any

import pytest

from mesh.model import HeaderChange, PathChange, Redirect, Rewrite
from tests.threats.http.application import Application
from tests.threats.http.served import Object, Served, mesh_config, network_policy
from tests.threats.http.speaking import ask, ask2_each, exchange, fields, get, statuses
from tests.xds.render.conftest import Serve
from tests.xds.render.standalone import Proxy
from tests.xds.render.views import destination, entry, part, prefix, routed, view
from tests.xds.render.views import to as towards
from xds.dialects import read

#: One whole request, nothing before or behind it, of lines that no server could read otherwise.
WHOLE = re.compile(rb"GET /[^\s]* HTTP/1\.1\r\n(?:[!-9;-~]+: [^\r\n\0]*\r\n)+\r\n")
HIDDEN = "GET /hidden HTTP/1.1\r\nhost: api"
VALUES = (
    *("a\rb", "a\nb", "a\0b", "\0", "a\r\n b", "a\r\n\tb", "a\n b", "a\r b", "a\x0bb", "a\x0cb", "a\x85b"),
    *(f"a\r\r{HIDDEN}", f"a\n\r{HIDDEN}", f"a\r\n \r\n {HIDDEN}", f"a\0\r\n {HIDDEN}"),
    *("a\r\n x-injected: 1", "a\rx-injected: 1", "a\x7fb", "\x01", "\xff\xfe", "a\xc4\x8d\xc4\x8ab"),
    *("%REQ(x-odd)%", "%0d%0ax-injected: 1", "%%", "%START_TIME%", "\\r\\n", "%DYNAMIC_METADATA(a)%", "%"),
)
#: What a policy writes, and what is to arrive of it.
COMMANDS = {
    "x-command": "%REQ(x-odd)%",
    "x-time": "100% %START_TIME% %%",
    "x-secret": "%DYNAMIC_METADATA(envoy.filters.http.rbac)%%FILE_CONTENT(/etc/hostname)%",
}
ROUTE = "{}.shop.svc.cluster.local:80"


@pytest.fixture(scope="module")
def acting(serve: Serve, application: Application) -> int:
    """A class that adds and replaces headers."""
    actions = [
        {"name": name, "value": value, "mismatch": mismatch}
        for (name, value), mismatch in zip(COMMANDS.items(), ("ADD", "REPLACE", "ADD"), strict=True)
    ]
    rule = network_policy({"path": "/shown.*", "headerMatches": actions})
    return Served(serve, application.port, rule).port()


@pytest.fixture(scope="module")
def routing(serve: Serve, application: Application) -> Proxy:
    """Routes that change headers, paths and hosts, and one that redirects."""
    change = HeaderChange(add=tuple(COMMANDS.items()))
    rewrite = Rewrite(path=PathChange("prefix", "/shown/%REQ(x-odd)%"))
    away = Redirect(hostname="b.example", path=PathChange("prefix", "/shown"))
    entries = {
        "changing": entry(prefix("/"), towards("api"), request_headers=change),
        "redirecting": entry(prefix("/"), redirect=away),
        "rewriting": entry(prefix("/"), towards("api"), rewrite=rewrite, request_headers=change),
    }
    ports = tuple(routed(name, found) for name, found in entries.items())
    return serve(view(routed=ports, destinations=(destination("api", part(application.port)),)))


def check(port: int, application: Application) -> None:
    """HTTP/1 and HTTP/2, value by value."""
    passed = 0
    for value in VALUES:
        application.forget()
        found = statuses(exchange(port, get("/shown", ("x-odd", value))))
        assert found in ([200], [400]), value
        assert len(application.requests) == found.count(200)
        if found == [200]:
            passed += 1
            assert WHOLE.fullmatch(application.heard), value
            sent = [application.requests[0].values(name) for name in COMMANDS]
            assert sent == [[text] for text in COMMANDS.values()]
    application.forget()
    found2 = ask2_each(port, [(fields("/shown", ("x-odd", value)), ()) for value in VALUES])
    assert set(found2) <= {0, 200, 400} and passed and 200 in found2
    for request in application.requests:
        assert not [value for _, value in request.fields if set(value) & set("\r\n\0")]
        assert [request.values(name) for name in COMMANDS] == [[text] for text in COMMANDS.values()]
    assert len(application.requests) == found2.count(200)


def test_a_class_with_header_actions_forwards_one_request(acting: int, application: Application) -> None:
    check(acting, application)


@pytest.mark.parametrize("name", ["changing", "rewriting"])
def test_a_route_with_filters_forwards_one_request(
    name: str, routing: Proxy, application: Application
) -> None:
    check(routing.ports[ROUTE.format(name)], application)


@pytest.mark.parametrize(
    "path",
    ["/a%0d%0ax-injected:1", "/a%0ax-injected:1", "/a%00b", "/a%E5%98%8A%E5%98%8Dx", "/a?b%0d%0ac:d", "/%25"],
)
def test_a_redirect_is_one_answer(path: str, routing: Proxy) -> None:
    heard = exchange(routing.ports[ROUTE.format("redirecting")], get(path))
    assert statuses(heard) in ([302], [400])
    assert not re.search(rb"\n(?:x-injected|c) *:", heard)


def test_a_request_line_that_breaks_ends_there(routing: Proxy, application: Application) -> None:
    """Without a version it is one of HTTP/0.9, whole and judged; what follows is nothing."""
    application.forget()
    for space in ("\r\n", "\n", "\r", "\0", "\t", "\x0b", " "):
        wanted = 200 if "\n" in space else 400
        assert ask(routing.ports[ROUTE.format("changing")], get(f"/shown{space}/hidden")) == wanted
        assert ask(routing.ports[ROUTE.format("changing")], get("/shown", host=f"api{space}x")) in (400, 200)
    assert b"hidden" not in application.heard
    assert {found.path for found in application.requests} == {"/shown"}


# --- what a policy may not write --------------------------------------------------------------------------


def route(*filters: Object) -> Object:
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": {"name": "api", "namespace": "shop"},
        "spec": {
            "parentRefs": [{"group": "", "kind": "Service", "name": "api", "port": 80}],
            "rules": [{"filters": list(filters)}],
        },
    }


def modifier(kind: str, change: str, **header: str) -> Object:
    return route({"type": f"{kind}Modifier", f"{kind[0].lower()}{kind[1:]}Modifier": {change: [header]}})


def rewriting(**change: Any) -> Object:
    return route({"type": "URLRewrite", "urlRewrite": change})


def provider(**settings: Any) -> Object:
    asked = {"service": "localhost", "port": 80, **settings}
    return mesh_config(extensionProviders=[{"name": "ask", "envoyExtAuthzHttp": asked}])


def writing(text: str) -> dict[str, Object]:
    """Every place where a policy writes what Envoy sends."""
    action = {"name": "x-a", "value": text, "mismatch": "ADD"}
    return {
        "header action": network_policy({"headerMatches": [action]}),
        "name of a header action": network_policy({"headerMatches": [action | {"name": f"x{text}"}]}),
        "set": modifier("RequestHeader", "set", name="x-a", value=text),
        "add": modifier("RequestHeader", "add", name="x-a", value=text),
        "name": modifier("RequestHeader", "add", name=f"x{text}", value="1"),
        "answer": modifier("ResponseHeader", "set", name="x-a", value=text),
        "host": rewriting(hostname=f"b{text}"),
        "path": rewriting(path={"type": "ReplaceFullPath", "replaceFullPath": f"/{text}"}),
        "redirect": route({"type": "RequestRedirect", "requestRedirect": {"hostname": f"b{text}"}}),
        "header for a provider": provider(includeAdditionalHeadersInCheck={"x-a": text}),
        "its name": provider(includeAdditionalHeadersInCheck={f"x{text}": "1"}),
        "prefix for a provider": provider(pathPrefix=f"/{text}"),
        "service of a provider": provider(service=f"b{text}"),
    }


@pytest.mark.parametrize(
    "text", ["a\r\nx-injected: 1", "a\nb", "a\rb", "a\0b", "\x1b[0m", "a\x7f"], ids=ascii
)
@pytest.mark.parametrize("place", writing(""))
def test_a_policy_writes_no_control_character(place: str, text: str) -> None:
    assert read(writing(text)[place]).problems
