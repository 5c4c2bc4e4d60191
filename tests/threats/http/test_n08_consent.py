"""N08 (CVE-2021-32777): an authorization service is shown every line of a header, in the order they came."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.threats.http.application import Application
from tests.threats.http.served import Served, mesh_config, policy
from tests.threats.http.speaking import ask, ask2, fields, get
from tests.xds.render.conftest import Serve
from tests.xds.render.consent import GrpcConsent, HttpConsent

Lines = tuple[str, ...]
#: What was sent as `x-user`, and whether a service that reads all of it consents: it wants one good user.
LINES: list[tuple[Lines, bool]] = [
    (("good",), True),
    (("bad", "good"), False),
    (("good", "bad"), False),
    (("bad", "worse", "good"), False),
    (("", "good"), False),
    (("good", ""), False),
    (("bad, good",), False),
    (("c", "a", "b", "a"), False),
]


def check(port: int, shown: Callable[[], str]) -> None:
    """`shown` is what the service was shown last."""
    for lines, good in LINES:
        headers = [field for line in lines for field in (("x-user", line), ("x-between", "good"))]
        for status in (ask(port, get("/", *headers)), ask2(port, fields("/", *headers))):
            assert (status == 200) == good, lines
            assert shown().replace(" ", "") == ",".join(lines).replace(" ", "")


def served(serve: Serve, application: Application, **provider: Any) -> int:
    """Asks the provider about every request."""
    config = mesh_config(extensionProviders=[{"name": "ask", **provider}])
    custom = policy("CUSTOM", {}, provider={"name": "ask"})
    return Served(serve, application.port, custom, config).port()


def test_a_service_that_is_asked_over_grpc(
    serve: Serve, application: Application, by_grpc: GrpcConsent
) -> None:
    asked = {"service": "localhost", "port": by_grpc.port, "timeout": "5s"}
    port = served(serve, application, envoyExtAuthzGrpc=asked)
    check(port, lambda: str(by_grpc.asked[-1].request.http.headers["x-user"]))


def test_a_service_that_is_asked_over_http(
    serve: Serve, application: Application, by_http: HttpConsent
) -> None:
    asked = {
        "service": "localhost",
        "port": by_http.port,
        "timeout": "5s",
        "includeRequestHeadersInCheck": ["x-user"],
    }
    port = served(serve, application, envoyExtAuthzHttp=asked)
    check(port, lambda: by_http.asked[-1][2]["x-user"])
