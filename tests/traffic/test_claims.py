"""Routes that ask for claims, at Gateways: tokens are real, and so is the Envoy."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from mesh.request import Request
from mesh.routes.routing import choose
from tests.threats.http.tokens import Issuer, bearer, believing
from tests.traffic.edge import Certificate, Edge, gate, istio_gateway, tokens
from tests.traffic.shop import Object, Shop, to, versions, virtual_service
from tests.traffic.test_gateways import HTTP
from tests.traffic.test_virtual_service import Servers
from tests.xds.render.client import Answer
from tests.xds.render.conftest import Serve
from xds.render import render

#: Who answers: the backend `one` or `two`, which are the versions of `web`.
ONE, TWO = {"route": [to(subset="v1")]}, {"route": [to(subset="v2")]}
BOUND = {"gateways": ["edge/public"], "hosts": ["a.example"]}
GATEWAY = istio_gateway(HTTP | {"hosts": ["*"]})
CLAIM = "@request.auth.claims"


@pytest.fixture(scope="module")
def issuer() -> Issuer:
    return Issuer()


def asking(key: str, wanted: Object, answer: Object = ONE, *, without: bool = False) -> Object:
    return {"match": [{"withoutHeaders" if without else "headers": {f"{CLAIM}{key}": wanted}}], **answer}


def edge(serve: Serve, servers: Servers, issuer: Issuer, *http: Object, **rule: Any) -> Edge:
    believed = tokens(believing(issuer, **rule))
    return Edge(serve, servers, GATEWAY, versions(), virtual_service(*http, **BOUND), believed)


def get(found: Edge, token: str = "", *headers: tuple[str, str]) -> Answer:
    return found.get("/", "a.example", 80, *([bearer(token)] if token else []), *headers)


def test_a_claim_chooses_the_route(serve: Serve, servers: Servers, issuer: Issuer) -> None:
    found = edge(serve, servers, issuer, asking(".group", {"exact": "admin"}), TWO)
    assert get(found, issuer.token(group="admin")).backend == "one"
    assert get(found, issuer.token(group=["user", "admin"])).backend == "one", "any element is enough"
    for token in (issuer.token(group="user"), issuer.token(group=["user"]), issuer.token(), ""):
        assert get(found, token).backend == "two"


def test_only_a_good_token_has_claims(serve: Serve, servers: Servers, issuer: Issuer) -> None:
    found = edge(serve, servers, issuer, asking(".group", {"exact": "admin"}), TWO)
    bad = {
        "forged": Issuer().token(group="admin"),
        "expired": issuer.token(group="admin", exp=int(time.time()) - 600),
        "of another issuer": issuer.token(group="admin", iss="https://other.example"),
        "cut": issuer.token(group="admin")[:-4],
    }
    assert {what: get(found, token).status for what, token in bad.items()} == dict.fromkeys(bad, 401)


def test_a_header_that_is_called_like_a_claim_is_none(serve: Serve, servers: Servers, issuer: Issuer) -> None:
    found = edge(serve, servers, issuer, asking(".group", {"exact": "admin"}), TWO)
    for name in (f"{CLAIM}.group", f"{CLAIM}[group]", "group", "x-jwt-payload"):
        assert get(found, "", (name, "admin")).backend != "one"


def test_without_a_route_for_the_rest_a_claim_is_still_asked(
    serve: Serve, servers: Servers, issuer: Issuer
) -> None:
    """The token is looked at although no route fits before."""
    found = edge(serve, servers, issuer, asking(".group", {"exact": "admin"}))
    assert get(found, issuer.token(group="admin")).backend == "one"
    assert [get(found, token).status for token in (issuer.token(), "")] == [404, 404]


#: Key, what is wanted, and claims of tokens that fit; and of some that do not.
KEYS: list[tuple[str, Object, list[Object], list[Object]]] = [
    (".group", {"prefix": "adm"}, [{"group": "admin"}], [{"group": "user"}, {}]),
    (".group", {"regex": "a.*n"}, [{"group": "admin"}], [{"group": "admins"}, {}]),
    (".group", {}, [{"group": "x"}, {"group": ["x"]}, {"group": 7}, {"group": {"x": "y"}}], [{}]),
    (".team.name", {"exact": "a"}, [{"team": {"name": "a"}}], [{"team.name": "a"}, {"team": "a"}]),
    ("[team][name]", {"exact": "a"}, [{"team": {"name": "a"}}], [{"team": {"name": "b"}}]),
    ("[x.example/team]", {"exact": "a"}, [{"x.example/team": "a"}], [{"x": {"example/team": "a"}}]),
    (".Group", {"exact": "a"}, [{"Group": "a"}], [{"group": "a"}]),
    (".scope", {"exact": "read"}, [{"scope": "write read"}], [{"scope": "reads"}]),
]


@pytest.mark.parametrize(("key", "wanted", "fit", "others"), KEYS)
def test_keys_and_matches(
    serve: Serve,
    servers: Servers,
    issuer: Issuer,
    key: str,
    wanted: Object,
    fit: list[Object],
    others: list[Object],
) -> None:
    """And `withoutHeaders` fits whom `headers` does not, those without any token as well."""
    found = edge(serve, servers, issuer, asking(key, wanted), TWO)
    without = edge(serve, servers, issuer, asking(key, wanted, without=True), TWO)
    for claims in fit:
        token = issuer.token(**claims)
        assert (get(found, token).backend, get(without, token).backend) == ("one", "two"), claims
    for claims in others:
        token = issuer.token(**claims)
        assert (get(found, token).backend, get(without, token).backend) == ("two", "one"), claims
    assert (get(found).backend, get(without).backend) == ("two", "one")


def test_without_anybody_who_judges_tokens_there_are_no_claims(
    serve: Serve, servers: Servers, issuer: Issuer
) -> None:
    routes = virtual_service(asking(".group", {"exact": "admin"}), TWO, **BOUND)
    found = Edge(serve, servers, GATEWAY, versions(), routes)
    assert get(found, issuer.token(group="admin")).backend == "two"


def test_the_token_stays_at_the_gateway_unless_it_is_to_be_forwarded(
    serve: Serve, servers: Servers, issuer: Issuer
) -> None:
    rule = asking(".group", {"exact": "admin"})
    token = issuer.token(group="admin")
    assert get(edge(serve, servers, issuer, rule), token).sent("authorization") == []
    kept = edge(serve, servers, issuer, rule, forwardOriginalToken=True)
    assert get(kept, token).sent("authorization") == [f"Bearer {token}"]


def test_claims_choose_redirects_faults_and_preflights(
    serve: Serve, servers: Servers, issuer: Issuer
) -> None:
    """Which filters a request meets is settled before its token is read."""
    broken = {"fault": {"abort": {"httpStatus": 418, "percentage": {"value": 100}}}, **ONE}
    shared = {"corsPolicy": {"allowOrigins": [{"exact": "https://a.example"}]}, **ONE}
    found = edge(
        serve,
        servers,
        issuer,
        asking(".group", {"exact": "old"}, {"redirect": {"uri": "/new"}}),
        asking(".group", {"exact": "broken"}, broken),
        asking(".group", {"exact": "shared"}, shared),
        TWO,
    )
    answer = get(found, issuer.token(group="old"))
    assert (answer.status, answer.headers["location"]) == (301, "http://a.example/new")
    assert get(found, issuer.token(group="broken")).status == 418
    origin = "origin", "https://a.example"
    allowed = "access-control-allow-origin"
    assert get(found, issuer.token(group="shared"), origin).headers[allowed] == origin[1]
    answer = get(found, issuer.token(), origin)
    assert (answer.backend, allowed in answer.headers) == ("two", False)
    back = edge(
        serve, servers, issuer, asking(".group", {"exact": "admin"}, without=True, answer=broken), TWO
    )
    assert (get(back).status, get(back, issuer.token(group="admin")).backend) == (418, "two")


def test_a_new_rule_about_tokens_leaves_the_listener_alone(issuer: Issuer) -> None:
    """Rule 6."""
    routes = virtual_service(asking(".group", {"exact": "admin"}), TWO, **BOUND)

    def listener(*objects: Object) -> bytes:
        view = Shop(gate(), GATEWAY, versions(), routes, *objects).view("edge/gate")
        (found,) = (r.any for r in render(view) if r.name == "0.0.0.0_80")
        return found

    assert listener() == listener(tokens(believing(issuer)))


def test_tokens_are_judged_where_tls_ends(
    serve: Serve, servers: Servers, issuer: Issuer, folder: Path
) -> None:
    a = Certificate("a.example", folder)
    server = {
        "port": {"number": 443, "name": "https", "protocol": "HTTPS"},
        "hosts": ["a.example"],
        "tls": {"mode": "SIMPLE", "credentialName": "a"},
    }
    destinations = (to(subset=version) for version in ("v1", "v2"))
    one, two = (
        {"route": [d | {"destination": {**d["destination"], "port": {"number": 80}}}]} for d in destinations
    )
    found = Edge(
        serve,
        servers,
        istio_gateway(server),
        versions(),
        virtual_service(asking(".group", {"exact": "admin"}, one), two, **BOUND),
        tokens(believing(issuer)),
        a.secret("a"),
    )
    admin, forged = issuer.token(group="admin"), Issuer().token(group="admin")
    assert (found.tls("a.example", a), found.tls("a.example", a, headers=[bearer(admin)])) == ("two", "one")
    with pytest.raises(ConnectionError, match="401"):
        found.tls("a.example", a, headers=[bearer(forged)])


def test_the_reference_chooses_the_same() -> None:
    for key, wanted, _, _ in KEYS[:3]:
        routes = virtual_service(asking(key, wanted), TWO, **BOUND)
        (port,) = Shop(gate(), GATEWAY, versions(), routes).view("edge/gate").gateway
        (host,) = port.servers[0].hosts
        for claims, index in ((((("group",), ("x", "admin")),), 0), ((), 1)):
            assert choose(host.entries, Request(claims=claims)) is host.entries[index]


def test_a_match_with_claims_is_nobodys_in_the_mesh() -> None:
    """Where no token is judged `withoutHeaders` would fit everybody: a delegate does not know where it is."""
    delegate = virtual_service(asking(".group", {"exact": "admin"}, without=True), TWO, name="delegate")
    del delegate["spec"]["hosts"]
    root = virtual_service({"delegate": {"name": "delegate"}})
    routed = next(port for port in Shop(versions(), root, delegate).view().routed if port.port == 80)
    assert [entry.match.claims for entry in routed.entries] == [()]


def test_a_delegates_claims_are_asked_as_well(serve: Serve, servers: Servers, issuer: Issuer) -> None:
    delegate = virtual_service(asking(".group", {"exact": "admin"}), name="delegate")
    del delegate["spec"]["hosts"]
    root = virtual_service({"delegate": {"name": "delegate", "namespace": "shop"}}, TWO, name="root", **BOUND)
    found = Edge(serve, servers, GATEWAY, versions(), root, delegate, tokens(believing(issuer)))
    assert get(found, issuer.token(group="admin")).backend == "one"
    assert get(found, issuer.token()).backend == get(found).backend == "two"
