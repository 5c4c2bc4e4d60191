"""Header actions of Cilium's HTTP rules, as a real Envoy takes them."""

from __future__ import annotations

import pytest

from mesh.model import HeaderAction, HeaderMatch, HttpMatch
from tests.xds.render.backend import Backend
from tests.xds.render.client import Client, ask
from tests.xds.render.conftest import Serve
from tests.xds.render.standalone import Proxy
from tests.xds.render.views import destination, entry, l7, part, prefix, routed, to, view

ADD = HeaderAction("x-add", "1", "ADD")
DELETE = HeaderAction("x-delete", "1", "DELETE")
REPLACE = HeaderAction("x-replace", "100%", "REPLACE")
LOG = HeaderAction("x-log", "1", "LOG")
SEEN = ("x-add", "x-delete", "x-replace", "x-log")

MATCHES = (
    HttpMatch(path="/plain.*"),
    HttpMatch(path="/all.*", headers=(HeaderMatch("x-team", "a"),), actions=(ADD, DELETE, REPLACE, LOG)),
    HttpMatch(path="/(all|host).*", actions=(HeaderAction("host", "inside", "REPLACE"),)),
    HttpMatch(path="/twice", actions=(ADD, HeaderAction("x-add", "2", "ADD"))),
    HttpMatch(path="/plain/all", actions=(REPLACE,)),
    HttpMatch(path="/many", actions=tuple(HeaderAction(f"x-{i}", "1", "ADD") for i in range(5))),
    HttpMatch(path="/rest"),
)

#: Path, headers sent, and what of them is read.
TABLE = [
    ("/plain", {"x-add": "7"}, {"x-add": ["7"]}),
    ("/plain/all", {}, {}),
    ("/all", {"x-team": "a"}, {"x-add": ["1"], "x-replace": ["100%"]}),
    (
        "/all?q",
        {"x-team": "a", "x-add": "1", "x-delete": "1", "x-replace": "100%", "x-log": "1"},
        {"x-add": ["1"], "x-delete": ["1"], "x-replace": ["100%"], "x-log": ["1"]},
    ),
    (
        "/all",
        {"x-team": "a", "x-add": "7", "x-delete": "7", "x-replace": "7", "x-log": "7"},
        {"x-add": ["7", "1"], "x-replace": ["100%"], "x-log": ["7"]},
    ),
    (
        "/all",
        {"x-team": "a", "x-add": "1", "x-delete": "7", "x-replace": "100%"},
        {"x-add": ["1"], "x-replace": ["100%"]},
    ),
    ("/all", {"x-team": "b", "x-add": "7"}, {"x-add": ["7"]}),
    ("/twice", {}, {"x-add": ["1", "2"]}),
    ("/twice", {"x-add": "2"}, {"x-add": ["2", "1"]}),
    ("/rest", {"x-replace": "7"}, {"x-replace": ["7"]}),
]


@pytest.fixture(scope="module")
def proxy(serve: Serve, servers: dict[str, Backend]) -> Proxy:
    shown = view(
        ingress=(l7(300, "ingress", *MATCHES),),
        egress=(l7(301, "egress", MATCHES[1]),),
        routed=(routed("api", entry(prefix("/"), to("api"))),),
        destinations=(destination("api", part(servers["one"].port, l7=301)),),
    )
    return serve(shown, ("127.0.0.1", servers["one"].port))


@pytest.mark.parametrize("index", range(len(TABLE)))
def test_the_first_match_that_fits_changes_headers_that_differ(index: int, proxy: Proxy) -> None:
    path, sent, read = TABLE[index]
    answer = ask(proxy.ports["virtualInbound|300"], path, headers=[("host", "outside"), *sent.items()])
    assert answer.status == 200
    assert {name: found for name in SEEN if (found := answer.sent(name))} == read


def test_the_host_can_be_replaced(proxy: Proxy) -> None:
    port = proxy.ports["virtualInbound|300"]
    found = [
        ask(port, path, headers=[("host", "outside")]).sent("host") for path in ("/host", "/all", "/rest")
    ]
    assert found == [["inside"], ["inside"], ["outside"]]


def test_where_actions_cannot_be_taken_a_request_that_calls_for_one_is_refused(proxy: Proxy) -> None:
    good = [("x-team", "a"), ("x-add", "1"), ("x-delete", "1"), ("x-replace", "100%")]
    port, many = proxy.ports["api.shop.svc.cluster.local:80"], proxy.ports["virtualInbound|300"]
    assert [ask(port, "/all", headers=sent).status for sent in (good, good[:-1])] == [200, 403]
    fitting = [(f"x-{i}", "1") for i in range(5)]
    assert [ask(many, "/many", headers=sent).status for sent in (fitting, fitting[:-1])] == [200, 403]


def test_an_edit_of_actions_binds_a_connection_that_is_open_already(
    serve: Serve, servers: dict[str, Backend]
) -> None:
    proxy = serve(
        view(ingress=(l7(300, "ingress", HttpMatch()),)), ("127.0.0.1", servers["one"].port), updated=True
    )
    client = Client(proxy.ports["virtualInbound|300"])
    assert client.ask("/").sent("x-add") == []
    proxy.update(view(ingress=(l7(300, "ingress", HttpMatch(actions=(ADD,))),)))
    assert client.ask("/").sent("x-add") == ["1"]
    client.close()
