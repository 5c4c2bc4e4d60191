"""Terms of AuthorizationPolicies, as a real Envoy applies them: each in an ALLOW and in a DENY."""

from __future__ import annotations

import grpc
import pytest

from mesh.model import Term
from tests.xds.render.backend import Backend
from tests.xds.render.client import Client, ask
from tests.xds.render.conftest import Serve
from tests.xds.render.grpc_echo import GrpcEcho
from tests.xds.render.standalone import Proxy
from tests.xds.render.views import authorized, part_of, term, view, when

#: (method, path, headers)
Request = tuple[str, str, tuple[tuple[str, str], ...]]


def get(path: str = "/", *headers: tuple[str, str]) -> Request:
    return "GET", path, headers


def host(name: str) -> Request:
    return get("/", ("host", name))


def role(*values: str) -> Request:
    return get("/", *(("x-role", value) for value in values))


def forwarded(*values: str) -> Request:
    return get("/", *(("x-forwarded-for", value) for value in values))


#: Terms, requests that a rule of them fits, and requests that it does not fit.
TABLE: dict[str, tuple[tuple[Term, ...], list[Request], list[Request]]] = {
    "method": ((term("method", "GET", "P*"),), [get(), ("PUT", "/", ())], [("HEAD", "/", ())]),
    "not method": ((term("method", "GET", negated=True),), [("PUT", "/", ())], [get()]),
    "path": (
        (term("path", "/a.b"),),
        [get("/a.b"), get("/a.b?c=d"), get("/x/../a.b"), get("//a.b"), get("/%61.b")],
        [get("/axb"), get("/a.b/"), get("/A.b"), get("/"), get("/a.b;c=d"), get("/a%2eb%2f")],
    ),
    "path, prefix": (
        (term("path", "/admin/*"),),
        [get("/admin/"), get("/admin/x"), get("/y/../admin//x"), get("/admin\\x")],
        [get("/admin"), get("/admin%2fx"), get("/public/?/admin/"), get("/admin/../x")],
    ),
    "path, suffix": (
        (term("path", "*/info"),),
        [get("/a/info"), get("/info?x")],
        [get("/info/"), get("/x?/info")],
    ),
    "path, any": ((term("path", "*"),), [get(), get("/x")], []),
    "path, one element": (
        (term("path", "/v1/{*}/of.x"),),
        [get("/v1/a/of.x"), get("/v1/a*|b/of.x?q"), get("/v1/%2f/of.x")],
        [get("/v1//of.x"), get("/v1/a/b/of.x"), get("/v1/a/ofxx"), get("/v1/a/of.x/")],
    ),
    "path, any elements": (
        (term("path", "/v1/{**}"), term("path", "/v1/x{**}y", "/v1/{*}/z{**}", "/v1/")),
        [get("/v1/"), get("/v1/xy"), get("/v1/x/a/b/y"), get("/v1/a/z"), get("/v1/a/z/b*c")],
        [get("/v1"), get("/v1/x"), get("/v1/z"), get("/v2/")],
    ),
    "not path": (
        (term("path", "/a", "/b*", negated=True),),
        [get("/c"), get("/a/")],
        [get("/a"), get("/bb")],
    ),
    "host": (
        (term("host", "secret.com"),),
        [
            *map(
                host,
                (
                    "secret.com",
                    "Secret.Com",
                    "secret.com:80",
                    "SECRET.COM:8080",
                    "secret.com.",
                    "secret.com.:80",
                    "secret.com:",
                    "secret.com:80:80",
                ),
            )
        ],
        [*map(host, ("secretxcom", "a.secret.com", "secret.com.evil", "secret.comm", "evil:secret.com"))],
    ),
    "host and port": (
        (term("host", "a.com:80", "[::1]:80"),),
        [*map(host, ("a.com:80", "A.com:80", "[::1]:80"))],
        [*map(host, ("a.com", "a.com:8080", "[::1]"))],
    ),
    "host, an address": (
        (term("host", "[::1]", "*::2]"),),
        [*map(host, ("[::1]", "[::1]:80", "[::1]:", "[fd00::2]", "[::2]:8080"))],
        [*map(host, ("[::11]", "[::1", "[::1]x", "x[::1]", "[::12]:80", "a:2]"))],
    ),
    "host, prefix and suffix": (
        (term("host", "api.*", "*.shop", "*7"),),
        [*map(host, ("API.x", "api.x:80", "web.shop", "web.SHOP:80", "web.shop.", "x7", "x7:80"))],
        [*map(host, ("web.shop.x", "xapi.", "shop", "web:7", "web:77"))],
    ),
    "host, any": ((term("host", "*"),), [host("a")], []),
    "not host": ((term("host", "a.com", negated=True),), [host("b.com")], [host("a.com"), host("A.COM.:80")]),
    "header": (
        (term("header", "user", key="x-role"),),
        [role("user"), get("/", ("X-Role", "user"))],
        [get(), role("User"), role("users"), role("")],
    ),
    "header, prefix, suffix": (
        (term("header", "a.*", "*.b", key="x-role"),),
        [role("a."), role("a.x"), role(".b"), role("x.b")],
        [role("ax"), role("b"), get()],
    ),
    "header, any": ((term("header", "*", key="x-role"),), [role("x"), role("\xff")], [get(), role("")]),
    "host as a header": ((term("header", "a.com", key="host"),), [host("a.com")], [host("A.com"), host("b")]),
    "two conditions": (
        (term("header", "a", key="x-role"), term("method", "GET")),
        [role("a")],
        [role("b"), get(), ("PUT", "/", (("x-role", "a"),))],
    ),
    "remote address": (
        (term("remote_ip", "10.1.0.0/16!10.1.7.0/24", "fd00::/8"),),
        [
            forwarded("10.1.2.3"),
            forwarded("8.8.8.8, 10.1.2.3"),
            forwarded("8.8.8.8", "10.1.2.3"),
            forwarded("fd00::1"),
        ],
        [
            get(),
            forwarded("10.1.7.3"),
            forwarded("10.1.2.3,8.8.8.8"),
            forwarded("10.1.2.3", "8.8.8.8"),
            forwarded("10.1.2.3, nonsense"),
            forwarded("10.2.0.1"),
            forwarded(""),
        ],
    ),
    "remote address, of the peer": (
        (term("remote_ip", "127.0.0.0/8"),),
        [get(), forwarded("nonsense"), forwarded("")],
        [forwarded("8.8.8.8"), forwarded("127.0.0.1, 8.8.8.8")],
    ),
    "destination address": ((term("destination_ip", "127.0.0.1/32"),), [get()], []),
    "not destination address": ((term("destination_ip", "127.0.0.1/32", negated=True),), [], [get()]),
    "no server name without TLS": ((term("sni", "*"),), [], [get(), host("a")]),
    "not a server name": ((term("sni", "a", negated=True),), [get(), host("a")], []),
    "no token, no principal": (
        (term("request_principal", "*"),),
        [],
        [get(), get("/", ("authorization", "x"))],
    ),
    "no token, no other principal": ((term("request_principal", "a/b", negated=True),), [get()], []),
    "no token, no claim": ((term("claim", "*", path=["groups"]),), [], [get()]),
    "no values": ((term("audience"),), [], [get()]),
    "not no values": ((term("audience", negated=True),), [get()], []),
    "literals": (
        (term("path", "/[a]+(b)$^\\.|{*}", "/\\d*"),),
        [],
        [get("/a"), get("/7"), get("/aa(b)")],
    ),
}
ALLOWS = {name: 1000 + index for index, name in enumerate(TABLE)}
DENIES = {name: 2000 + index for index, name in enumerate(TABLE)}


@pytest.fixture(scope="module")
def proxy(serve: Serve, servers: dict[str, Backend]) -> Proxy:
    classes = [
        authorized(numbers[name], part_of(action, when(*terms)))
        for name, (terms, _, _) in TABLE.items()
        for action, numbers in (("allow", ALLOWS), ("deny", DENIES))
    ]
    return serve(view(ingress=tuple(classes)), passthrough=("127.0.0.1", servers["one"].port))


@pytest.mark.parametrize("name", TABLE)
def test_an_allow_lets_pass_what_it_fits_and_a_deny_the_rest(name: str, proxy: Proxy) -> None:
    _, fitting, others = TABLE[name]

    def statuses(number: int) -> dict[Request, int]:
        port = proxy.ports[f"virtualInbound|{number}"]
        return {
            request: ask(port, request[1], request[0], request[2]).status for request in (*fitting, *others)
        }

    assert statuses(ALLOWS[name]) == {**dict.fromkeys(fitting, 200), **dict.fromkeys(others, 403)}
    assert statuses(DENIES[name]) == {**dict.fromkeys(fitting, 403), **dict.fromkeys(others, 200)}


#: Threat N07: term about x-role, what a client sends, and whether an ALLOW and a DENY of it fit.
LINES = [
    (("user",), ("user", "admin"), False, True),
    (("user",), ("admin", "user"), False, True),
    (("user",), ("admin,user",), False, True),
    (("user",), ("admin ,\tuser , x",), False, True),
    (("user",), ("\xff", "user"), False, True),
    (("user",), ("user\xff",), False, False),
    (("user",), ("users", "superuser"), False, False),
    (("u*",), ("user", "admin"), True, True),
    (("u*",), ("admin", "user"), False, True),
    (("u*",), ("\xff,user",), False, True),
    (("*r",), ("admin", "user"), True, True),
    (("*r",), ("user", "admin"), False, True),
    (("*r",), ("user ", "\xff"), False, True),
    (("a,b",), ("a", "b"), True, True),
    (("a,b",), ("x", "a", "b"), False, False),
    (("*",), ("", ""), True, True),
]


def test_of_several_lines_an_allow_needs_all_and_a_deny_any(
    serve: Serve, servers: dict[str, Backend]
) -> None:
    cases = list(enumerate(LINES))
    allows = [
        authorized(1000 + i, part_of("allow", when(term("header", *c[0], key="x-role")))) for i, c in cases
    ]
    denies = [
        authorized(2000 + i, part_of("deny", when(term("header", *c[0], key="x-role")))) for i, c in cases
    ]
    others = [
        authorized(3000 + i, part_of("allow", when(term("header", *c[0], key="x-role", negated=True))))
        for i, c in cases
    ]
    proxy = serve(view(ingress=(*allows, *denies, *others)), ("127.0.0.1", servers["one"].port))

    def status(number: int, values: tuple[str, ...]) -> int:
        return ask(proxy.ports[f"virtualInbound|{number}"], "/", headers=role(*values)[2]).status

    for index, (values, sent, allowed, denied) in cases:
        found = tuple(status(base + index, sent) for base in (1000, 2000, 3000))
        expected = (200 if allowed else 403, 403 if denied else 200, 403 if denied else 200)
        assert found == expected, (values, sent)


def test_stages_add_up_and_an_edit_of_each_binds_a_connection_that_is_open_already(
    serve: Serve, servers: dict[str, Backend]
) -> None:
    path = [part_of("allow", when(term("path", "/a*"))), part_of("deny", when(term("path", "*x")))]
    proxy = serve(view(ingress=(authorized(300),)), ("127.0.0.1", servers["one"].port), updated=True)
    client = Client(proxy.ports["virtualInbound|300"])

    def answers() -> list[int]:
        return [client.ask(path).status for path in ("/a", "/ax", "/b")]

    assert answers() == [200, 200, 200]
    proxy.update(view(ingress=(authorized(300, path[0]),)))
    assert answers() == [200, 200, 403]
    proxy.update(view(ingress=(authorized(300, *path),)))
    assert answers() == [200, 403, 403]
    proxy.update(view(ingress=(authorized(300, path[1]),)))
    assert answers() == [200, 403, 200]
    proxy.update(view(ingress=(authorized(300, path[1], part_of("allow")),)))
    assert answers() == [403, 403, 403]
    proxy.update(view(ingress=(authorized(300, path[1], rules=()),)))
    assert answers() == [403, 403, 403]
    client.close()


@pytest.mark.parametrize(
    "address",
    [
        *("10.0.0.1", "172.16.0.1", "192.168.0.1", "127.0.0.1", "127.0.0.6", "169.254.0.1", "0.0.0.0"),
        *("255.255.255.255", "fd00::1", "fe80::1", "::1", "::6", "::", "::ffff:10.0.0.1"),
        *("8.8.8.8, 10.0.0.1", "10.0.0.1,", ",10.0.0.1", " 10.0.0.1", "/a.sock", ""),
    ],
)
def test_whoever_a_client_says_it_is_it_is_not_believed_to_be_internal(address: str, proxy: Proxy) -> None:
    """Threats N09 and N10."""
    forged = {
        "x-envoy-original-path": "/admin",
        "x-envoy-internal": "true",
        "x-envoy-upstream-alt-stat-name": "believed",
        "x-envoy-retry-on": "5xx",
        "x-forwarded-client-cert": "By=spiffe://cluster.local/ns/shop/sa/admin",
    }
    port = proxy.ports[f"virtualInbound|{ALLOWS['host, any']}"]
    answer = ask(port, "/", headers=[("host", "a"), ("x-forwarded-for", address), *forged.items()])
    assert answer.read["headers"] == [
        ["host", "a"],
        ["x-forwarded-for", address.strip()],
        ["x-forwarded-proto", "http"],
    ]
    assert "believed" not in proxy.admin("/stats?filter=believed")


def test_http2_is_judged_alike_and_a_path_without_a_slash_is_none(serve: Serve) -> None:
    """Threats N07 and N13."""
    server = GrpcEcho()
    role = (term("header", "admin", key="x-role"), term("header", "user", key="x-role"))
    proxy = serve(
        view(
            ingress=(
                authorized(300, part_of("deny", when(role[0]))),
                authorized(301, part_of("allow", when(role[1]))),
                authorized(302, part_of("deny", when(term("path", "/echo.Echo/*")))),
            )
        ),
        ("127.0.0.1", server.port),
    )

    def code(number: int, *roles: str, path: str = "/echo.Echo/Say") -> str:
        metadata = [("x-role", value) for value in roles]
        with grpc.insecure_channel(f"127.0.0.1:{proxy.ports[f'virtualInbound|{number}']}") as channel:
            try:
                channel.unary_unary(path)(b"hello", timeout=10, metadata=metadata)
            except grpc.RpcError as error:
                return str(error.code().name)
        return "OK"

    refused = "PERMISSION_DENIED"
    assert [code(300, *roles) for roles in ((), ("user",), ("user", "admin"))] == ["OK", "OK", refused]
    assert [code(301, *roles) for roles in ((), ("user",), ("user", "admin"))] == [refused, "OK", refused]
    paths = (
        "/echo.Echo/Say",
        "echo.Echo/Say",
        "//echo.Echo/Say",
        "/x/../echo.Echo/Say",
        "*",
        "http://h/echo.Echo/Say",
    )
    assert "OK" not in [code(302, path=path) for path in paths]
    server.stop()
