"""N06 (ISTIO-SECURITY-2021-008): a port behind a host, or what passes for one, hides it from no rule."""

from __future__ import annotations

import pytest

from tests.threats.http.application import Application
from tests.threats.http.served import Served, policy, to
from tests.threats.http.speaking import ask, ask2, fields, get
from tests.xds.render.backend import Backend
from tests.xds.render.client import ask as routed_to
from tests.xds.render.conftest import Serve
from tests.xds.render.views import destination, entry, part, prefix, routed, view
from tests.xds.render.views import to as towards

#: Servers cut a host at its colon and do not look at what follows (nginx, Go's ServeMux).
ENDINGS = ("", ":80", ":8080", ":0080", ":", ":99999", ":80a", ":+80", ":80:80", ".:80", ".:")
ADDRESS_ENDINGS = tuple(ending for ending in ENDINGS if not ending.startswith("."))
#: What hosts of a rule mean, and what they do not.
TABLE: dict[str, tuple[list[str], list[str], list[str]]] = {
    "name": (
        ["secret.com"],
        [f"secret.com{ending}" for ending in ENDINGS],
        ["public.com:80", "public:secret.com", "secret.com.org:80", "a.secret.com:80"],
    ),
    "suffix": (
        ["*.com"],
        [f"secret.com{ending}" for ending in ENDINGS],
        ["secret.org:80", "public:secret.com", "com:80", "a.comm:80"],
    ),
    "digits": (["*7", "web8"], ["a7", "a7:80", "web8:8", "web8:"], ["web:7", "web:77", "a:web8", "a7a:7"]),
    "prefix": (["secret.*"], [f"secret.com{ending}" for ending in ENDINGS], ["xsecret.com:80", "secret:80"]),
    "address": (
        ["[::1]", "10.1.2.3"],
        [f"{host}{ending}" for host in ("[::1]", "10.1.2.3") for ending in ADDRESS_ENDINGS],
        ["[::11]:80", "[::2]", "10.1.2.33:80", "110.1.2.3"],
    ),
    "address, suffix": (
        ["*:beef]"],
        [f"[fd00::beef]{ending}" for ending in ADDRESS_ENDINGS],
        ["[fd00::beee]", "[::1]:beef", "beef:80"],
    ),
    "one port": (["secret.com:80", "[::1]:80"], ["secret.com:80", "[::1]:80"], ["secret.com", "[::1]:8080"]),
}


@pytest.mark.parametrize("name", TABLE)
@pytest.mark.parametrize(("action", "fitting", "rest"), [("DENY", 403, 200), ("ALLOW", 200, 403)])
def test_a_host_is_meant_with_every_port(
    action: str, fitting: int, rest: int, name: str, serve: Serve, application: Application
) -> None:
    hosts, meant, others = TABLE[name]
    port = Served(serve, application.port, policy(action, to(hosts=hosts))).port()
    wanted = {**dict.fromkeys(meant, fitting), **dict.fromkeys(others, rest)}
    assert {host: ask(port, get("/", host=host)) for host in wanted} == wanted
    assert {host: ask2(port, fields("/", host=host)) for host in wanted} == wanted


def test_the_host_that_is_judged_is_the_one_that_is_forwarded(serve: Serve, application: Application) -> None:
    """An absolute target overrules Host in HTTP/1, `:authority` overrules it in HTTP/2."""
    port = Served(serve, application.port, policy("DENY", to(hosts=["secret.com"]))).port()
    hidden = [
        ask(port, get("http://secret.com:8080/", host="public.com")),
        ask(port, get("http://user@secret.com:80/", host="public.com")),
        ask2(port, [*fields("/", host="secret.com:80"), ("host", "public.com")]),
    ]
    assert hidden == [403, 403, 403]
    application.forget()
    shown = [
        ask(port, get("http://public.com/", host="secret.com")),
        ask2(port, [*fields("/", host="public.com"), ("host", "secret.com")]),
    ]
    assert shown == [200, 200]
    forwarded = [[*found.values("host"), *found.values(":authority")] for found in application.requests]
    assert forwarded == [["public.com"], ["public.com"]]


def test_no_host_leads_to_another_service_than_the_one_that_was_dialled(
    serve: Serve, servers: dict[str, Backend]
) -> None:
    """Rule 4: so the verdict about a host and the choice of a backend cannot differ."""
    proxy = serve(
        view(
            routed=tuple(routed(name, entry(prefix("/"), towards(name))) for name in ("one", "two")),
            destinations=tuple(destination(name, part(servers[name].port)) for name in ("one", "two")),
        )
    )
    hosts = ("two", "two.shop", "two.shop.svc.cluster.local", "TWO.shop.svc.cluster.local.", "[::1]")
    port = proxy.ports["one.shop.svc.cluster.local:80"]
    spellings = [f"{host}{ending}" for host in hosts for ending in ENDINGS]
    found = {host: routed_to(port, "/", headers=[("host", host)]).backend for host in spellings}
    assert found == dict.fromkeys(spellings, "one")
