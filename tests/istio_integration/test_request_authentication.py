from __future__ import annotations

import json
from typing import Any

import pytest

from mesh.model import JwtRule, KeySource, RequestAuthentication, Requirement, Selector, ServiceName
from tests.mesh.dialects.objects import obj
from xds.dialects import read

ISSUER = "https://issuer.example"
#: A public key on P-256 (RFC 7517, A.1), and a set as it is kept.
KEY = {
    "kty": "EC",
    "crv": "P-256",
    "x": "MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4",
    "y": "4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM",
}
KEYS = json.dumps({"keys": [{**KEY, "use": "enc"}, {**KEY, "kid": "1", "use": "sig", "d": "870MB6gfuTJ4"}]})
KEPT = json.dumps({"keys": [{**KEY, "kid": "1"}]}, separators=(",", ":"), sort_keys=True)


def policy(spec: Any) -> Any:
    return obj("security.istio.io/v1", "RequestAuthentication", spec)


def noun(spec: Any) -> RequestAuthentication:
    (found,) = read(policy(spec)).nouns
    assert isinstance(found, RequestAuthentication)
    return found


def rule(**fields: Any) -> JwtRule:
    fragment = read(policy({"jwtRules": [{"issuer": ISSUER, **fields}]}))
    assert fragment.problems == ()
    return fragment.nouns[0].rules[0]  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("fields", "keys"),
    [
        ({"jwks": KEYS}, KEPT),
        ({"jwksUri": "https://keys.example/a"}, KeySource("https://keys.example/a")),
        ({"jwksUri": "http://k", "timeout": "250ms"}, KeySource("http://k", timeout_ms=250)),
        ({}, KeySource(f"{ISSUER}/.well-known/openid-configuration", discovery=True)),
    ],
)
def test_where_keys_come_from(fields: Any, keys: Any) -> None:
    """Of a key only what verifies a signature is kept."""
    assert rule(**fields) == JwtRule("jwtRules[0]", ISSUER, keys)


def test_a_slash_at_the_end_of_an_issuer_is_none_of_its_configuration() -> None:
    assert rule(issuer=f"{ISSUER}/").keys == rule().keys


def test_where_tokens_are_and_what_is_told_of_them() -> None:
    found = rule(
        jwks=KEYS,
        audiences=["shop"],
        fromHeaders=[{"name": "X-Token", "prefix": "Token "}, {"name": "authorization"}],
        fromParams=["token"],
        fromCookies=["session"],
        forwardOriginalToken=True,
        outputPayloadToHeader="X-Claims",
        outputClaimToHeaders=[{"header": "X-User", "claim": "user.name"}],
        spaceDelimitedClaims=["groups"],
    )
    assert found == JwtRule(
        "jwtRules[0]",
        ISSUER,
        KEPT,
        ("shop",),
        (("x-token", "Token "), ("authorization", "")),
        ("token",),
        ("session",),
        True,
        "x-claims",
        (("x-user", "user.name"),),
        ("groups",),
    )


def test_whom_it_selects() -> None:
    assert noun({}).subject == Selector()
    assert noun({"selector": {"matchLabels": {"app": "web"}}}).subject == Selector(
        (Requirement("app", "In", ("web",)),)
    )
    target = {"group": "", "kind": "Service", "name": "web"}
    assert noun({"targetRefs": [target]}).services == (ServiceName("shop", "web"),)


@pytest.mark.parametrize(
    ("fields", "where", "says"),
    [
        ({"issuer": None}, "issuer", "is required"),
        ({"issuer": ""}, "issuer", "is empty"),
        ({"issuer": "ann@example.com"}, "issuer", "with jwksUri or jwks it need be none"),
        ({"audiences": [""]}, "audiences[0]", "is empty"),
        ({"jwks": KEYS, "jwksUri": "https://k"}, "jwks", "stands alone"),
        ({"jwks": "hunter2"}, "jwks", "is not JSON"),
        ({"jwks": "[]"}, "jwks", "is no JSON Web Key Set"),
        ({"jwks": '{"keys": []}'}, "jwks", "holds no key"),
        ({"jwksUri": "keys.example"}, "jwksUri", "is no URL"),
        ({"jwksUri": "file:///etc/passwd"}, "jwksUri", "is no URL"),
        ({"jwksUri": "https://user@keys.example/"}, "jwksUri", "is no URL"),
        ({"timeout": "soon"}, "timeout", "is not a duration"),
        ({"timeout": "0s"}, "timeout", "at most 60s"),
        ({"fromHeaders": [{"name": "a b"}]}, "fromHeaders[0].name", "is not a name"),
        ({"fromHeaders": [{"prefix": "a"}]}, "fromHeaders[0].name", "is required"),
        ({"fromCookies": ["a=b"]}, "fromCookies[0]", "is not a name"),
        ({"fromParams": [""]}, "fromParams[0]", "is empty"),
        ({"outputPayloadToHeader": "Host"}, "outputPayloadToHeader", "HTTP itself needs it"),
        ({"outputPayloadToHeader": "Authorization"}, "outputPayloadToHeader", "where the token comes in"),
        (
            {"fromHeaders": [{"name": "x"}], "outputClaimToHeaders": [{"header": "X", "claim": "sub"}]},
            "outputClaimToHeaders[0].header",
            "where the token comes in",
        ),
        ({"outputClaimToHeaders": [{"header": "x"}]}, "outputClaimToHeaders[0].claim", "is required"),
        ({"jwks_uri": "https://k"}, "jwks_uri", "unknown field"),
    ],
)
def test_what_cannot_be_read_is_refused_and_believes_nothing(fields: Any, where: str, says: str) -> None:
    good = {"issuer": "https://good.example", "jwks": KEYS}
    fragment = read(policy({"jwtRules": [{"issuer": ISSUER, **fields}, good]}))
    assert not fragment.valid
    assert [p.field for p in fragment.problems] == [f"spec.jwtRules[0].{where}"]
    assert says in fragment.problems[0].message
    assert "hunter2" not in fragment.problems[0].message
    (found,) = fragment.nouns
    assert isinstance(found, RequestAuthentication)
    assert found.rules[0] == JwtRule("jwtRules[0]", "", "")
    assert found.rules[1].keys == KEPT


@pytest.mark.parametrize("spec", ["x", {"jwtRules": "x"}, {"rules": []}, {"jwtRules": [None]}])
def test_one_that_is_not_understood_at_all_believes_no_token(spec: Any) -> None:
    assert noun(spec).rules == (JwtRule("jwtRules", "", ""),)


def test_an_unreadable_selector_is_the_whole_namespace() -> None:
    found = noun({"selector": {"matchLabels": {"app": "-"}}, "jwtRules": [{"issuer": ISSUER, "jwks": KEYS}]})
    assert (found.subject, found.services, found.rules[0].keys) == (Selector(), None, KEPT)
