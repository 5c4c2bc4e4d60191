"""N13 (CVE-2026-33186): a path that begins with no slash passes by no rule; an application may add one."""

from __future__ import annotations

import pytest

from tests.threats.http.application import Application
from tests.threats.http.served import Served, network_policy, policy, to
from tests.threats.http.speaking import ask, ask2, ask2_each, fields, get
from tests.xds.render.conftest import Serve

#: Each is about `/svc.Hidden/Get` and not about `/svc.Shown/Get`.
POLICIES = {
    "deny exact": policy("DENY", to(paths=["/svc.Hidden/Get"])),
    "deny prefix": policy("DENY", to(paths=["/svc.Hidden/*"])),
    "deny suffix": policy("DENY", to(paths=["*Hidden/Get"])),
    "deny template": policy("DENY", to(paths=["/svc.Hidden/{*}"])),
    "allow not": policy("ALLOW", to(notPaths=["/svc.Hidden*"])),
    "network policy": network_policy({"path": "/svc[.]Shown/.*"}),
}
FORMS = (
    *("svc.Hidden/Get", "*", "", "?", "svc.Hidden/Get?/", ".", "./svc.Hidden/Get", "../svc.Hidden/Get"),
    *("http://api/svc.Hidden/Get", "HTTP://api/svc.Hidden/Get", "https://api:80/svc.Hidden/Get"),
    *("//svc.Hidden/Get", "/.//svc.Hidden/Get", "\\svc.Hidden/Get", "%2fsvc.Hidden/Get", ";/svc.Hidden/Get"),
    *("api:80", "api", ":80/svc.Hidden/Get", "/\\svc.Hidden/Get", "//api/../svc.Hidden/Get"),
)
GRPC = (("content-type", "application/grpc"), ("te", "trailers"))


@pytest.mark.parametrize("name", POLICIES)
def test_no_form_of_a_path_walks_round_a_rule(name: str, serve: Serve, application: Application) -> None:
    port = Served(serve, application.port, POLICIES[name]).port()
    application.forget()
    assert ask(port, get("/svc.Shown/Get")) == 200
    assert ask2(port, fields("/svc.Shown/Get", *GRPC, method="POST"), bytes(5)) == 200
    for form in FORMS:
        for method in ("GET", "OPTIONS", "POST"):
            ask(port, get(form, method=method))
    plain = [(fields(form, method=method), ()) for form in FORMS for method in ("GET", "OPTIONS")]
    ask2_each(port, [*plain, *((fields(form, *GRPC, method="POST"), (bytes(5),)) for form in FORMS)])
    # Envoy makes `/` of a lone host; that, and `//api`, are paths of which no rule speaks.
    assert {found.path for found in application.requests} <= {"/svc.Shown/Get", "/"}


def test_two_paths_or_none_are_no_request(serve: Serve, application: Application) -> None:
    port = Served(serve, application.port, POLICIES["deny exact"]).port()
    application.forget()
    shown = list(fields("/svc.Shown/Get"))
    others = [
        [*shown, (":path", "/svc.Hidden/Get")],
        [(":path", "/svc.Hidden/Get"), *shown],
        [field for field in shown if field[0] != ":path"],
        [*shown, ("x", "y"), (":path", "/svc.Hidden/Get")],
    ]
    assert set(ask2_each(port, [(request, ()) for request in others])) <= {0, 400}
    assert application.requests == []
