"""RequestAuthentication at a real Envoy: where tokens are looked for, what is told of them, and to whom."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from tests.threats.http.application import Application
from tests.threats.http.served import (
    ANN,
    HTTP,
    TCP,
    Compiled,
    Served,
    mesh_config,
    network_policy,
    policy,
    to,
)
from tests.threats.http.speaking import ask, ask2, exchange, fields, get, statuses
from tests.threats.http.tokens import ISSUER, Issuer, authentication, bearer, believing, required
from tests.xds.render.conftest import Serve
from tests.xds.render.consent import GrpcConsent

KNOWN, OTHER = Issuer(), Issuer()
#: A port that no Service declares.
UNDECLARED = 7000


def when(key: str, *values: str) -> Any:
    return {"when": [{"key": key, "values": list(values)}]}


# --- claims decide ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rule", "claims", "good"),
    [
        (required(requestPrincipals=[f"{ISSUER}/ann"]), {}, True),
        (required(requestPrincipals=[f"{ISSUER}/bob"]), {}, False),
        (required(requestPrincipals=["*/ann"]), {}, True),
        (required(requestPrincipals=["*"]), {"sub": None}, False),
        (when("request.auth.audiences", "shop"), {"aud": ["market", "shop"]}, True),
        (when("request.auth.audiences", "shop"), {"aud": "shop"}, True),
        (when("request.auth.audiences", "shop"), {"aud": "bank"}, False),
        (when("request.auth.presenter", "web"), {"azp": "web"}, True),
        (when("request.auth.claims[groups]", "admin"), {"groups": ["user", "admin"]}, True),
        (when("request.auth.claims[groups]", "admin"), {"groups": ["user"]}, False),
        (when("request.auth.claims[groups]", "admin"), {}, False),
        (when("request.auth.claims[team][name]", "a*"), {"team": {"name": "alpha"}}, True),
        (when("request.auth.claims[https://a.example/x]", "a"), {"https://a.example/x": "a"}, True),
        (when("request.auth.claims[team.name]", "a"), {"team": {"name": "a"}}, False),
        (when("request.auth.claims[scope]", "read"), {"scope": "write read"}, True),
        (when("request.auth.claims[scope]", "write read"), {"scope": "write read"}, False),
        (when("request.auth.claims[tags]", "read"), {"tags": "write read"}, True),
    ],
)
def test_what_a_token_claims_decides(
    rule: Any, claims: dict[str, Any], good: bool, serve: Serve, application: Application
) -> None:
    tokens = authentication(believing(KNOWN, spaceDelimitedClaims=["tags"]))
    port = Served(serve, application.port, tokens, policy("ALLOW", rule)).port()
    assert ask(port, get("/", bearer(KNOWN.token(**claims)))) == (200 if good else 403)
    assert ask(port, get("/")) == 403


def test_n04_no_form_of_a_path_needs_no_token(serve: Serve, application: Application) -> None:
    secret = {**to(paths=["/secret*"]), "from": [{"source": {"notRequestPrincipals": ["*"]}}]}
    tokens = authentication(believing(KNOWN))
    port = Served(serve, application.port, tokens, policy("DENY", secret)).port()
    for path in ("/secret", "/secret?", "/secret?x", "/secret;a=b", "//secret", "/a/../secret", "/%73ecret"):
        assert ask(port, get(path)) == 403, path
        assert ask(port, get(path, bearer(KNOWN.token()))) == 200, path
        assert ask(port, get(path, bearer(OTHER.token()))) == 401, path
    assert ask(port, get("/public")) == 200


def test_a_service_that_is_asked_for_consent_is_asked_behind_the_token(
    serve: Serve, application: Application, by_grpc: GrpcConsent
) -> None:
    """As in Istio: whether it is asked may depend on claims, and a bad token does not come so far."""
    asked = {"service": "localhost", "port": by_grpc.port, "timeout": "5s"}
    config = mesh_config(extensionProviders=[{"name": "ask", "envoyExtAuthzGrpc": asked}])
    custom = policy("CUSTOM", required(), provider={"name": "ask"})
    tokens = authentication(believing(KNOWN, forwardOriginalToken=True))
    port = Served(serve, application.port, tokens, custom, config).port()
    before = len(by_grpc.asked)
    assert ask(port, get("/")) == 200
    assert ask(port, get("/", bearer(OTHER.token()))) == 401
    assert len(by_grpc.asked) == before
    ask(port, get("/", ("x-user", "good"), bearer(KNOWN.token())))
    assert len(by_grpc.asked) == before + 1


# --- where a token is, and what becomes of it -------------------------------------------------------------

PLACES: dict[str, tuple[dict[str, Any], Any]] = {
    "by default": ({}, lambda token: ("/", [bearer(token)])),
    "by default, in the query": ({}, lambda token: (f"/?access_token={token}", [])),
    "a header": ({"fromHeaders": [{"name": "X-Token"}]}, lambda token: ("/", [("x-token", token)])),
    "a header, behind a prefix": (
        {"fromHeaders": [{"name": "X-Token", "prefix": "Token "}]},
        lambda token: ("/", [("x-token", f"Token {token}")]),
    ),
    "a parameter": ({"fromParams": ["t"]}, lambda token: (f"/?a=b&t={token}", [])),
    "a cookie": ({"fromCookies": ["t"]}, lambda token: ("/", [("cookie", f"a=b; t={token}")])),
}


@pytest.mark.parametrize("place", PLACES)
def test_a_token_is_looked_for_where_its_rule_says(
    place: str, serve: Serve, application: Application
) -> None:
    rule, brings = PLACES[place]
    port = Served(
        serve, application.port, authentication(believing(KNOWN, **rule)), policy("ALLOW", required())
    ).port()
    for issuer, wanted in ((KNOWN, 200), (OTHER, 401)):
        path, headers = brings(issuer.token())
        assert ask(port, get(path, *headers)) == wanted
    if rule:
        assert ask(port, get("/", bearer(KNOWN.token()))) == 403


@pytest.mark.parametrize("forward", [False, True])
def test_the_token_itself_goes_on_only_if_that_is_wanted(
    forward: bool, serve: Serve, application: Application
) -> None:
    rule = believing(KNOWN, forwardOriginalToken=forward)
    port = Served(serve, application.port, authentication(rule)).port()
    token = KNOWN.token()
    for path, headers in (("/", [bearer(token)]), (f"/?access_token={token}", [])):
        application.forget()
        assert ask(port, get(path, *headers)) == 200
        (seen,) = application.requests
        assert (token in repr(seen.fields)) == forward


# --- headers that tell of claims --------------------------------------------------------------------------

TOLD = {
    "outputPayloadToHeader": "x-claims",
    "outputClaimToHeaders": [
        {"header": "X-User", "claim": "sub"},
        {"header": "x-team", "claim": "team.name"},
    ],
}


def test_the_application_is_told_of_claims(serve: Serve, application: Application) -> None:
    port = Served(serve, application.port, authentication(believing(KNOWN, **TOLD))).port()
    application.forget()
    assert ask(port, get("/", bearer(KNOWN.token(team={"name": "alpha"})))) == 200
    (seen,) = application.requests
    assert (seen.values("x-user"), seen.values("x-team")) == (["ann"], ["alpha"])
    (payload,) = seen.values("x-claims")
    assert json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))["iss"] == ISSUER


def test_no_client_tells_of_claims(serve: Serve, application: Application) -> None:
    """Rule 20: not without a token, not with one that says less, not with the token of another rule."""
    other = {"issuer": "https://other.example", "jwks": OTHER.keys}
    mine = authentication(other, believing(KNOWN, **TOLD))
    port = Served(serve, application.port, mine).port()
    forged = [
        ("x-user", "root"),
        ("X-USER", "root"),
        ("x-claims", "e30"),
        ("x-team", "root"),
        ("x-free", "root"),
    ]
    lowered = [(name.lower(), value) for name, value in forged]
    cases = {
        "none": ([], []),
        "mine": ([bearer(KNOWN.token())], ["ann"]),
        "another rule's": ([bearer(OTHER.token(iss="https://other.example"))], []),
    }
    for name, (token, user) in cases.items():
        for status in (ask(port, get("/", *forged, *token)), ask2(port, fields("/", *lowered, *token))):
            assert status == 200, name
        for seen in application.requests[-2:]:
            assert seen.values("x-user") == user, name
            assert "root" not in (*seen.values("x-team"), *seen.values("x-claims")), name
            assert seen.values("x-free") == ["root"]


# --- which connections ------------------------------------------------------------------------------------


def test_no_preflight_tells_of_claims_either(serve: Serve, application: Application) -> None:
    """A browser's question brings no token, so `jwt_authn` does not look at it."""
    port = Served(serve, application.port, authentication(believing(KNOWN, **TOLD))).port()
    asks = [("origin", "https://web.example"), ("access-control-request-method", "GET")]
    application.forget()
    forged = [("x-user", "root"), ("X-Claims", "root")]
    assert ask(port, get("/", *asks, *forged, bearer(OTHER.token()), method="OPTIONS")) == 200
    assert ask2(port, fields("/", *asks, ("x-user", "root"), method="OPTIONS")) == 200
    for seen in application.requests:
        assert seen.values("x-user") == seen.values("x-claims") == []


def test_every_caller_and_port_is_asked_but_one_that_is_declared_as_something_else(
    serve: Serve, application: Application
) -> None:
    served = Served(serve, application.port, authentication(believing(KNOWN)))
    rules = ("RequestAuthentication shop/tokens jwtRules[0]",)
    for caller in (ANN, ("", "", "", "198.51.100.7")):
        for port in (HTTP, UNDECLARED):
            verdict = served.verdict(caller, port)
            assert (verdict.verdict, verdict.rules) == ("steer", rules)
            assert served.reference(caller, port) == "steer"
        assert served.verdict(caller, TCP).verdict == served.reference(caller, TCP) == "allow"
    assert served.view.reasons == rules
    assert ask(served.port(port=UNDECLARED), get("/", bearer(OTHER.token()))) == 401


@pytest.mark.parametrize(
    "begins", [b"\x00\x01binary\r\n\r\n", b"\x16\x03\x01\x00\x05hello", b"SSH-2.0-x\r\n"]
)
def test_on_such_a_port_nothing_but_http_passes(
    begins: bytes, serve: Serve, application: Application
) -> None:
    """Rule 21: no token, no bytes."""
    served = Served(serve, application.port, authentication(believing(KNOWN)))
    application.forget()
    heard = exchange(served.port(port=UNDECLARED), begins)
    assert (application.heard, set(statuses(heard)) <= {400}) == (b"", True)


def test_what_the_kernel_refuses_needs_no_envoy() -> None:
    compiled = Compiled(authentication(believing(KNOWN)), policy("DENY", {}))
    assert compiled.verdict().verdict == compiled.reference() == "deny"


def test_a_network_policy_and_a_token_are_both_asked(serve: Serve, application: Application) -> None:
    objects = [authentication(believing(KNOWN)), network_policy({"path": "/public"})]
    port = Served(serve, application.port, *objects).port()
    found = [
        ask(port, get(path, *headers))
        for path in ("/public", "/secret")
        for headers in ([], [bearer(KNOWN.token())], [bearer(OTHER.token())])
    ]
    assert found == [200, 200, 401, 403, 403, 401]


def test_a_policy_that_cannot_be_read_believes_no_token(serve: Serve, application: Application) -> None:
    broken = authentication(believing(KNOWN, audience=["shop"]))
    served = Served(serve, application.port, broken, unreadable=True)
    assert ask(served.port(), get("/", bearer(KNOWN.token()))) == 401
    assert ask(served.port(), get("/")) == 200


def test_an_edit_keeps_the_listener(serve: Serve, application: Application) -> None:
    """Rule 6: what changes is a route."""
    before, after = (
        Compiled(authentication(believing(issuer, **more))).view.ingress
        for issuer, more in ((KNOWN, {}), (OTHER, {"audiences": ["shop"], **TOLD}))
    )
    assert [found.number for found in before] == [found.number for found in after]
