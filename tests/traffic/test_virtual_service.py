"""VirtualServices and DestinationRules as their users write them, followed by a real Envoy.

Istio's documentation of each field is the reference (istio/api, networking/v1alpha3).
"""

from __future__ import annotations

import socket
import time
from collections import Counter
from typing import Any

import pytest

from tests.traffic.shop import Object, Served, Shop, base, destination_rule, to, versions, virtual_service
from tests.xds.render.backend import Backend
from tests.xds.render.client import Client
from tests.xds.render.conftest import Serve

Servers = dict[str, Backend]

#: Path of its own -> the http routes that are asked for it. One Envoy serves them all.
ROUTES: dict[str, list[dict[str, Any]]] = {
    "first": [
        {"match": [{"uri": {"exact": "/first/a"}}], "route": [to(subset="v2")]},
        {"match": [{"uri": {"prefix": "/first"}}], "route": [to(subset="v1")]},
    ],
    "headers": [
        {
            "match": [{"uri": {"prefix": "/headers"}, "headers": {"end-user": {"exact": "jason"}}}],
            "route": [to(subset="v2")],
        },
        {
            "match": [{"uri": {"prefix": "/headers"}, "withoutHeaders": {"end-user": {}}}],
            "directResponse": {"status": 401, "body": {"string": "who are you?"}},
        },
        {"match": [{"uri": {"prefix": "/headers"}}], "route": [to(subset="v1")]},
    ],
    "method": [
        {
            "match": [{"uri": {"prefix": "/method"}, "method": {"regex": "PUT|POST"}}],
            "route": [to(subset="v2")],
        },
        {"match": [{"uri": {"prefix": "/method"}}], "route": [to(subset="v1")]},
    ],
    "case": [
        {"match": [{"uri": {"prefix": "/CaSe"}, "ignoreUriCase": True}], "route": [to(subset="v2")]},
    ],
    "query": [
        {
            "match": [{"uri": {"prefix": "/query"}, "queryParams": {"v": {"exact": "2"}}}],
            "route": [to(subset="v2")],
        },
        {"match": [{"uri": {"prefix": "/query"}}], "route": [to(subset="v1")]},
    ],
    "authority": [
        {
            "match": [{"uri": {"prefix": "/authority"}, "authority": {"exact": "beta.example"}}],
            "route": [to(subset="v2")],
        },
        {"match": [{"uri": {"prefix": "/authority"}}], "route": [to(subset="v1")]},
    ],
    "callers": [
        {
            "match": [{"uri": {"prefix": "/callers"}, "sourceLabels": {"team": "b"}}],
            "route": [to(subset="v2")],
        },
        {
            "match": [{"uri": {"prefix": "/callers"}, "sourceNamespace": "street"}],
            "route": [to(subset="v2")],
        },
        {
            "match": [{"uri": {"prefix": "/callers"}, "gateways": ["edge"]}],
            "route": [to(subset="v2")],
        },
        {"match": [{"uri": {"prefix": "/callers"}, "port": 90}], "route": [to(subset="v2")]},
        {
            "match": [{"uri": {"prefix": "/callers"}, "sourceLabels": {"team": "a"}, "port": 80}],
            "route": [to(subset="v1")],
        },
    ],
    "rewrite": [
        {
            "match": [{"uri": {"prefix": "/rewrite/"}}],
            "rewrite": {"uri": "/v1/", "authority": "new.example"},
            "route": [to(subset="v1")],
        },
    ],
    "regexed": [
        {
            "match": [{"uri": {"prefix": "/regexed"}}],
            "rewrite": {"uriRegexRewrite": {"match": "^/regexed/([^/]+)/(.*)$", "rewrite": r"/\2/of/\1"}},
            "route": [to(subset="v1")],
        },
    ],
    "redirect": [
        {
            "match": [{"uri": {"prefix": "/redirect"}}],
            "redirect": {"uri": "/new", "authority": "b.example", "scheme": "https", "redirectCode": 308},
        },
    ],
    "changed": [
        {
            "match": [{"uri": {"prefix": "/changed"}}],
            "headers": {
                "request": {"set": {"x-route": "yes"}, "remove": ["x-secret"]},
                "response": {"add": {"x-seen": "1"}},
            },
            "route": [
                to(
                    subset="v1",
                    headers={"request": {"add": {"x-to": "v1"}}, "response": {"remove": ["server"]}},
                )
            ],
        },
    ],
    "abort": [
        {
            "match": [{"uri": {"prefix": "/abort"}}],
            "fault": {"abort": {"httpStatus": 418, "percentage": {"value": 100}}},
            "route": [to()],
        },
    ],
    "half": [
        {
            "match": [{"uri": {"prefix": "/half"}}],
            "fault": {"abort": {"httpStatus": 418, "percentage": {"value": 50}}},
            "route": [to()],
        },
    ],
    "delay": [
        {
            "match": [{"uri": {"prefix": "/delay"}}],
            "fault": {"delay": {"fixedDelay": "300ms", "percentage": {"value": 100}}},
            "route": [to()],
        },
    ],
    "grpc": [
        {
            "match": [{"uri": {"prefix": "/grpc"}}],
            "fault": {"abort": {"grpcStatus": "UNAVAILABLE", "percentage": {"value": 100}}},
            "route": [to()],
        },
    ],
    "timeout": [
        {"match": [{"uri": {"prefix": "/slow/timeout"}}], "timeout": "0.05s", "route": [to(subset="v1")]},
    ],
    "mirror": [
        {
            "match": [{"uri": {"prefix": "/mirror"}}],
            "route": [to(subset="v1")],
            "mirror": {"host": "shadow", "port": {"number": 80}},
        },
    ],
    "weights": [
        {
            "match": [{"uri": {"prefix": "/weights"}}],
            "route": [to(subset="v1", weight=75), to(subset="v2", weight=25)],
        },
    ],
    "cors": [
        {
            "match": [{"uri": {"prefix": "/cors"}}],
            "route": [to()],
            "corsPolicy": {
                "allowOrigins": [{"exact": "https://a.example"}],
                "allowMethods": ["GET", "PUT"],
                "allowHeaders": ["x-a"],
                "maxAge": "1h",
            },
        },
    ],
    "lost": [
        {"match": [{"uri": {"prefix": "/lost/subset"}}], "route": [to(subset="v9")]},
        {"match": [{"uri": {"prefix": "/lost/nobody"}}], "route": [to("nobody")]},
        {
            "match": [{"uri": {"prefix": "/lost/half"}}],
            "route": [to(subset="v9", weight=50), to(subset="v1", weight=50)],
        },
    ],
}


@pytest.fixture(scope="module")
def served(serve: Serve, servers: Servers) -> Served:
    routes = [route for group in ROUTES.values() for route in group]
    return Served(serve, servers, virtual_service(*routes), versions(), accept=["no subset v9"])


def test_the_first_route_that_matches_wins(served: Served) -> None:
    assert [served.ask(path).backend for path in ("/first/a", "/first/b", "/firstly")] == [
        "two",
        "one",
        "one",
    ]
    assert served.ask("/nothing").status == 404


def test_headers_must_be_there_or_must_not(served: Served) -> None:
    assert served.ask("/headers", "GET", ("end-user", "jason")).backend == "two"
    assert served.ask("/headers", "GET", ("End-User", "ann")).backend == "one"
    answer = served.ask("/headers")
    assert (answer.status, answer.body) == (401, "who are you?")


def test_method_case_query_and_authority_are_matched(served: Served) -> None:
    assert [served.ask("/method", m).backend for m in ("PUT", "POST", "GET")] == ["two", "two", "one"]
    assert [served.ask(p).backend for p in ("/case", "/CASE/x")] == ["two", "two"]
    assert [served.ask(p).backend for p in ("/query?v=2", "/query?v=3", "/query")] == ["two", "one", "one"]
    assert served.ask("/authority", "GET", ("host", "beta.example")).backend == "two"
    assert served.ask("/authority").backend == "one"


def test_a_route_for_other_callers_is_none_of_this_one(served: Served) -> None:
    assert served.ask("/callers").backend == "one"


def test_paths_and_hosts_are_rewritten(served: Served) -> None:
    answer = served.ask("/rewrite/x?q")
    assert (answer.read["path"], answer.sent("host")) == ("/v1/x?q", ["new.example"])
    assert served.ask("/regexed/a/b/c").read["path"] == "/b/c/of/a"


def test_a_redirect_is_answered_at_once(served: Served) -> None:
    answer = served.ask("/redirect/x")
    assert (answer.status, answer.headers["location"]) == (308, "https://b.example/new")


def test_headers_change_by_route_and_destination(served: Served) -> None:
    answer = served.ask("/changed", "GET", ("x-secret", "1"))
    assert [answer.sent(name) for name in ("x-route", "x-to", "x-secret")] == [["yes"], ["v1"], []]
    assert answer.headers["x-seen"] == "1" and "server" not in answer.headers


def test_faults_hit_the_share_that_is_meant(served: Served) -> None:
    assert {served.ask("/abort").status for _ in range(20)} == {418}
    found = Counter(served.ask("/half").status for _ in range(400))
    assert found.keys() == {200, 418} and 120 < found[418] < 280
    begun = time.monotonic()
    assert served.ask("/delay").status == 200
    assert time.monotonic() - begun > 0.2  # of 0.3: Envoy's clock ticks in milliseconds
    answer = served.ask("/grpc", "POST", ("content-type", "application/grpc"))
    assert answer.headers["grpc-status"] == "14"


def test_a_timeout_answers_504(served: Served) -> None:
    assert served.ask("/slow/timeout").status == 504


def test_a_mirror_gets_a_copy_and_the_client_the_answer(served: Served, servers: Servers) -> None:
    before = servers["three"].requests
    assert {served.ask("/mirror").backend for _ in range(5)} == {"one"}
    deadline = time.monotonic() + 10
    while servers["three"].requests < before + 5:
        assert time.monotonic() < deadline, "the copies do not arrive"
        time.sleep(0.01)


def test_weights_share_requests_out(served: Served) -> None:
    client = Client(served.port())
    found = Counter(client.ask("/weights").backend for _ in range(1000))
    client.close()
    assert found.keys() == {"one", "two"} and 180 < found["two"] < 320


def test_other_origins_are_answered_by_the_policy(served: Served) -> None:
    asking = (("origin", "https://a.example"), ("access-control-request-method", "PUT"))
    answer = served.ask("/cors", "OPTIONS", *asking)
    assert answer.status == 200 and answer.backend is None
    found = {key: value for key, value in answer.headers.items() if key.startswith("access-control")}
    assert found == {
        "access-control-allow-origin": "https://a.example",
        "access-control-allow-methods": "GET,PUT",
        "access-control-allow-headers": "x-a",
        "access-control-max-age": "3600",
    }
    simple = served.ask("/cors", "GET", ("origin", "https://b.example"))
    assert simple.status == 200 and "access-control-allow-origin" not in simple.headers


def test_beside_credentials_a_star_is_said_as_what_was_asked_for(serve: Serve, servers: Servers) -> None:
    """Fetch, 3.2.3: to browsers it would be the name of a method or header."""
    cors = {
        "allowOrigins": [{"exact": "https://a.example"}],
        "allowMethods": ["*"],
        "allowHeaders": ["*"],
        "allowCredentials": True,
    }
    shop = Served(serve, servers, virtual_service({"route": [to()], "corsPolicy": cors}))
    answer = shop.ask(
        "/",
        "OPTIONS",
        ("origin", "https://a.example"),
        ("access-control-request-method", "PATCH"),
        ("access-control-request-headers", "x-odd,authorization"),
    )
    assert answer.headers["access-control-allow-methods"] == "PATCH"
    assert answer.headers["access-control-allow-headers"] == "x-odd,authorization"
    assert answer.headers["access-control-allow-credentials"] == "true"


def test_a_share_that_is_lost_is_answered_503(served: Served) -> None:
    assert [served.ask(path).status for path in ("/lost/subset", "/lost/nobody")] == [503, 503]
    found = Counter(served.ask("/lost/half").status for _ in range(200))
    assert found.keys() == {200, 503} and 50 < found[503] < 150


# --- what else shapes how a service is called ------------------------------------------------------


def test_retries_try_again_what_the_rule_names(serve: Serve, servers: Servers) -> None:
    """A backend that nobody answers at is tried again as often as is said."""
    broken = Backend("broken")
    broken.refuse()
    route = {
        "match": [{"uri": {"prefix": "/never"}}],
        "retries": {"attempts": 0},
        "route": [to(subset="v2")],
    }
    again = {"retries": {"attempts": 2, "retryOn": "connect-failure,404"}, "route": [to(subset="v2")]}
    shop = Served(serve, servers | {"two": broken}, virtual_service(route, again), versions())
    assert shop.ask("/never").status == 503
    assert shop.ask("/again").status == 503
    stats = shop.proxy.admin("/stats?filter=outbound.80.v2.*upstream_rq_retry$")
    assert stats.strip().endswith(": 2"), stats


def test_a_hash_sends_a_user_to_one_backend(serve: Serve, servers: Servers) -> None:
    rule = destination_rule(trafficPolicy={"loadBalancer": {"consistentHash": {"httpHeaderName": "x-user"}}})
    shop = Served(serve, servers, rule)
    for user in ("ann", "bob", "cid", "dan"):
        assert len({shop.ask("/", "GET", ("x-user", user)).backend for _ in range(10)}) == 1
    users = [str(number) for number in range(40)]
    assert {shop.ask("/", "GET", ("x-user", user)).backend for user in users} == {"one", "two"}


def test_a_cookie_is_made_for_who_has_none(serve: Serve, servers: Servers) -> None:
    cookie = {"consistentHash": {"httpCookie": {"name": "user", "ttl": "60s", "path": "/"}}}
    shop = Served(serve, servers, destination_rule(trafficPolicy={"loadBalancer": cookie}))
    made = shop.ask("/").headers["set-cookie"]
    assert made.startswith("user=") and "Max-Age=60" in made and "Path=/" in made
    pair = made.partition(";")[0]
    assert len({shop.ask("/", "GET", ("cookie", pair)).backend for _ in range(10)}) == 1


def test_a_backend_that_fails_is_left_out_for_a_while(serve: Serve, servers: Servers) -> None:
    broken = Backend("broken")
    broken.refuse()
    outliers = {
        "splitExternalLocalOriginErrors": True,
        "consecutiveLocalOriginFailures": 1,
        "interval": "0.1s",
        "baseEjectionTime": "60s",
        "maxEjectionPercent": 100,
    }
    never = {"retries": {"attempts": 0}, "route": [to()]}
    shop = Served(
        serve,
        servers | {"two": broken},
        virtual_service(never),
        destination_rule(
            trafficPolicy={"outlierDetection": outliers, "loadBalancer": {"simple": "ROUND_ROBIN"}}
        ),
    )
    for _ in range(10):
        shop.ask("/")
    assert {shop.ask("/").backend for _ in range(10)} == {"one"}


def test_more_requests_than_the_pool_holds_are_answered_503(serve: Serve) -> None:
    slow = {name: Backend(name) for name in ("one", "two")}
    pool = {"http": {"http1MaxPendingRequests": 1}, "tcp": {"maxConnections": 1}}
    shop = Served(
        serve,
        slow,
        virtual_service({"retries": {"attempts": 0}, "route": [to(subset="v1")]}),
        versions(connectionPool=pool),
    )
    waiting: list[socket.socket] = []
    cluster = "cluster.outbound|80|v1|web.shop.svc.cluster.local"
    try:
        for held in ("upstream_rq_active: 1", "upstream_rq_pending_active: 1"):
            waiting.append(socket.create_connection(("127.0.0.1", shop.port())))
            waiting[-1].sendall(b"GET /slow HTTP/1.1\r\nhost: web\r\n\r\n")
            deadline = time.monotonic() + 10
            while f"{cluster}.{held}" not in shop.proxy.admin("/stats"):
                assert time.monotonic() < deadline, "the pool does not fill"
                time.sleep(0.01)
        assert shop.ask("/slow").status == 503
    finally:
        for connection in waiting:
            connection.close()
        for server in slow.values():
            server.stop()


# --- who is steered -----------------------------------------------------------------------------------


def test_a_virtual_service_steers_its_callers_at_http_ports_only() -> None:
    shop = Shop(virtual_service({"route": [to()]}))
    assert shop.steers("shop/client", "web") and shop.steers("shop/one", "web")
    assert not shop.steers("shop/client", "web", 90), "declared as TCP"
    assert shop.steers("shop/client", "web", 70), "sniffed"
    assert not shop.steers("shop/client", "shadow")


def test_labels_of_callers_choose_who_is_steered() -> None:
    """Rule 3: who no route is for goes by the kernel."""
    match = [{"sourceLabels": {"team": "b"}}]
    shop = Shop(virtual_service({"match": match, "route": [to()]}))
    assert {name: shop.steers(f"shop/{name}", "web") for name in ("client", "other", "one")} == {
        "client": False,
        "other": True,
        "one": False,
    }
    assert list(shop.node.proxies) == ["shop/other"]


def test_a_virtual_service_of_another_namespace_binds_its_own_callers() -> None:
    """Threat N50: nobody takes another namespace's host from everyone."""
    route = {"route": [to("web.shop.svc.cluster.local")]}
    shop = Shop(virtual_service(route, namespace="street", hosts=["web.shop.svc.cluster.local"]))
    assert not shop.steers("shop/client", "web")
    assert shop.node.proxies == {}


def test_what_only_rides_along_steers_nobody() -> None:
    """Rule 20."""
    policy = {"loadBalancer": {"simple": "RANDOM"}, "connectionPool": {"tcp": {"connectTimeout": "1s"}}}
    assert Shop(versions(**policy)).node.proxies == {}
    shop = Shop(destination_rule(trafficPolicy={"outlierDetection": {"consecutive5xxErrors": 3}}))
    assert shop.steers("shop/client", "web") and shop.steers("shop/client", "web", 90)
    reasons = shop.node.state.pods["shop/client"].reasons
    assert reasons == ("DestinationRule shop/web trafficPolicy.outlierDetection",)
    answer = shop.explain("shop/web:80")
    assert (answer["path"], answer["verdict"]) == ("envoy", "allow")


def test_what_is_not_http_passes_a_port_that_says_nothing(serve: Serve, servers: Servers) -> None:
    """Rule 21: a VirtualService is about requests, and leaves other bytes alone."""
    shop = Shop(virtual_service({"route": [to()]}))
    port = next(port for port in shop.view().routed if port.port == 70)
    assert port.entries and port.connections


def test_weighted_connections_stay_in_the_kernel() -> None:
    """Rule 20: what needs nothing above layer 4 is the kernel's."""
    shares = [to("web", weight=75), to("shadow", weight=25)]
    tcp = virtual_service(hosts=["web"], tcp=[{"match": [{"port": 90}], "route": shares}])
    shop = Shop(tcp)
    assert shop.node.proxies == {}
    record = shop.node.state.services["shop/web"]
    (balance,) = next(port.balanced for port in record.ports if port.port == 90)
    view, by_client, backends = balance
    assert (view, by_client) == ("*", False)
    # Nobody has an IPv6 address: that family is refused.
    assert backends == (
        ("10.64.0.10", 9090, 3),
        ("10.64.0.11", 9090, 3),
        ("::", 0, 6),
        ("10.64.0.12", 9090, 2),
        ("::", 0, 2),
    )
    answer = shop.explain("shop/web:90")
    assert answer["path"] == "kernel"
    assert answer["reasons"][0]["object"] == "VirtualService shop/web"
    assert [(b["pod"], b["share"]) for b in answer["backends"]] == [
        ("shop/one", 0.375),
        ("shop/two", 0.375),
        ("shop/three", 0.25),
    ]


def test_the_clients_address_chooses_in_the_kernel() -> None:
    policy = {"loadBalancer": {"consistentHash": {"useSourceIp": True}}}
    shop = Shop(destination_rule(trafficPolicy=policy))
    assert shop.node.proxies == {}
    record = shop.node.state.services["shop/web"]
    (balance,) = next(port.balanced for port in record.ports if port.port == 80)
    assert balance[:2] == ("*", True)


def test_session_affinity_of_a_service_holds_where_a_route_decides(serve: Serve, servers: Servers) -> None:
    """Rule 22. Whoever says how to choose has the last word."""
    web = next(item for item in base() if item["kind"] == "Service" and item["metadata"]["name"] == "web")
    sticky = web | {"spec": web["spec"] | {"sessionAffinity": "ClientIP"}}
    route = virtual_service({"timeout": "5s", "route": [to()]})
    spread = destination_rule(trafficPolicy={"loadBalancer": {"simple": "ROUND_ROBIN"}})
    for objects, backends in (((sticky,), 1), ((), 2), ((sticky, spread), 2)):
        shop = Served(serve, servers, route, *objects)
        assert len({shop.ask("/").backend for _ in range(20)}) == backends, objects


def test_a_delegate_without_headers_has_those_of_the_rule_that_delegates(
    serve: Serve, servers: Servers
) -> None:
    """Of both, its own count alone, as in Istio; a redirect tells of them as well."""

    def inner(name: str, **rule: Any) -> Object:
        found = virtual_service({"route": [to()], **rule}, name=name)
        del found["spec"]["hosts"]
        return found

    def outer(path: str) -> Object:
        said = {
            "request": {"set": {"x-from": "outer", "x-outer": "1"}},
            "response": {"set": {"x-told": "outer"}},
        }
        return {"match": [{"uri": {"prefix": path}}], "delegate": {"name": path[1:]}, "headers": said}

    own = {"request": {"set": {"x-from": "inner"}}}
    redirected = inner("redirected", redirect={"uri": "/there"})
    del redirected["spec"]["http"][0]["route"]
    shop = Served(
        serve,
        servers,
        virtual_service(
            outer("/silent"), outer("/speaking"), outer("/single"), outer("/redirected"), name="all"
        ),
        inner("silent"),
        inner("speaking", headers=own),
        inner("single", route=[to(headers=own)]),
        redirected,
    )
    silent, speaking, single, sent = (
        shop.ask(path) for path in ("/silent", "/speaking", "/single", "/redirected")
    )
    names = ("x-from", "x-outer")
    assert [silent.sent(name) for name in names] == [["outer"], ["1"]]
    assert [speaking.sent(name) for name in names] == [["inner"], []]
    assert [single.sent(name) for name in names] == [["inner"], ["1"]]
    assert [answer.headers.get("x-told") for answer in (silent, speaking, single, sent)] == [
        "outer",
        None,
        "outer",
        "outer",
    ]


@pytest.mark.parametrize(
    ("outer", "inner", "rewritten"),
    [
        # What is rewritten and what headers say of the authority are merged each on its own.
        ({"rewrite": {"uri": "/b"}}, {"headers": {"request": {"set": {"host": "in"}}}}, ("in", "/b")),
        ({"headers": {"request": {"set": {"host": "out"}}}}, {"rewrite": {"uri": "/b"}}, ("out", "/b")),
        ({"headers": {"request": {"set": {"host": "out"}}}}, {"headers": {}}, (None, None)),
        ({"rewrite": {"authority": "out"}}, {"headers": {}}, ("out", None)),
        ({"rewrite": {"authority": "out"}}, {"rewrite": {"uri": "/b"}}, (None, "/b")),
        (
            {"rewrite": {"uri": "/b"}},
            {"route": [to(headers={"request": {"set": {"host": "to"}}})]},
            ("to", "/b"),
        ),
    ],
)
def test_a_delegate_is_joined_field_by_field(
    outer: dict[str, Any], inner: dict[str, Any], rewritten: tuple[str | None, str | None]
) -> None:
    part = virtual_service({"route": [to()], **inner}, name="part")
    del part["spec"]["hosts"]
    root = virtual_service({"delegate": {"name": "part"}, **outer}, name="root")
    (port,) = (found for found in Shop(part, root).view().routed if found.port == 80)
    found = port.entries[0].rule.rewrite
    assert (found and found.hostname, found and found.path and found.path.value) == rewritten
