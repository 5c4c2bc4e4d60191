"""N25 (CVE-2026-31837): only whoever has the issuer's key makes tokens that are believed. Nothing stands in
for keys that are not known."""

from __future__ import annotations

import base64
import hashlib
import hmac
import http.client
import json
import time
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from mesh.model import KeySet, KeySource
from tests.threats.http.application import Application
from tests.threats.http.served import Served, policy
from tests.threats.http.speaking import ask, ask2, fields, get
from tests.threats.http.tokens import DAY, ISSUER, Issuer, authentication, bearer, believing, required
from tests.threats.key_server import saying, serving, silent
from tests.xds.render.conftest import Serve
from xds import jwks
from xds.allowed import Allowed
from xds.fetch import Unfetched
from xds.jwks import Fetched

KNOWN, STRANGER = Issuer(), Issuer()
NOW = int(time.time())


def part(content: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(content).encode()).rstrip(b"=").decode()


def unsigned(algorithm: str, signature: str = "") -> str:
    claims = {"iss": ISSUER, "sub": "ann", "exp": NOW + DAY}
    return f"{part({'alg': algorithm, 'typ': 'JWT', 'kid': 'first'})}.{part(claims)}.{signature}"


def with_secret(secret: bytes) -> str:
    """HS256, for which a verifier that lets the token choose takes whatever it has as shared secret."""
    head = unsigned("HS256").rpartition(".")[0]
    signature = hmac.new(secret, head.encode(), hashlib.sha256).digest()
    return f"{head}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}"


def public_key(encoding: Encoding) -> bytes:
    return KNOWN.private.public_key().public_bytes(encoding, PublicFormat.SubjectPublicKeyInfo)


def tampered() -> str:
    head, _, signature = KNOWN.token().split(".")
    return f"{head}.{part({'iss': ISSUER, 'sub': 'root', 'exp': NOW + DAY})}.{signature}"


FORGED = {
    "no algorithm": unsigned("none"),
    "no algorithm, in capitals": unsigned("NONE"),
    "no algorithm, but a signature": unsigned("none", KNOWN.token().rpartition(".")[2]),
    "no signature": unsigned("RS256"),
    "another algorithm": unsigned("ES256", KNOWN.token().rpartition(".")[2]),
    "public key as secret, PEM": with_secret(public_key(Encoding.PEM)),
    "public key as secret, DER": with_secret(public_key(Encoding.DER)),
    "empty secret": with_secret(b""),
    "somebody else's key": STRANGER.token(),
    "somebody else's key, which it brings along": jwt.encode(
        {"iss": ISSUER, "sub": "ann"}, STRANGER.private, "RS256", {"jwk": STRANGER.key, "kid": "first"}
    ),
    "a key by its address": jwt.encode(
        {"iss": ISSUER, "sub": "ann"}, STRANGER.private, "RS256", {"jku": "http://127.0.0.1/", "kid": "first"}
    ),
    "a key id that is a path": STRANGER.token(key_id="../../../../dev/null"),
    "a key id that is SQL": STRANGER.token(key_id="first' UNION SELECT 'secret"),
    "a key id that is unknown": KNOWN.token(key_id="second"),
    "claims changed": tampered(),
    "expired": KNOWN.token(exp=NOW - 120),
    "not yet valid": KNOWN.token(nbf=NOW + DAY),
    "another issuer": KNOWN.token(iss="https://issuer.example.org"),
    "the issuer with a slash": KNOWN.token(iss=f"{ISSUER}/"),
    "no issuer": KNOWN.token(iss=None),
    "garbage": "garbage",
    "two parts": ".".join(KNOWN.token().split(".")[:2]),
    "five parts": f"{KNOWN.token()}.a.b",
}


@pytest.fixture(scope="module")
def port(serve: Serve, application: Application) -> int:
    rule = believing(KNOWN)
    return Served(serve, application.port, authentication(rule), policy("ALLOW", required())).port()


def test_a_good_token_is_believed_and_none_is_nobody(port: int) -> None:
    assert ask(port, get("/", bearer(KNOWN.token()))) == 200
    assert ask2(port, fields("/", bearer(KNOWN.token()))) == 200
    assert ask(port, get("/")) == 403


@pytest.mark.parametrize("name", FORGED)
def test_a_forged_token_is_refused(name: str, port: int, application: Application) -> None:
    application.forget()
    found = [ask(port, get("/", bearer(FORGED[name]))), ask2(port, fields("/", bearer(FORGED[name])))]
    assert found == [401, 401]
    assert not application.requests


def test_a_token_for_others_is_refused(serve: Serve, application: Application) -> None:
    """Envoy answers 403, as in Istio: the token is good, and not for us."""
    rule = believing(KNOWN, audiences=["shop", "market"])
    port = Served(serve, application.port, authentication(rule)).port()
    tokens = [
        KNOWN.token(),
        KNOWN.token(aud="bank"),
        KNOWN.token(aud=["x", "shop"]),
        KNOWN.token(aud="market"),
    ]
    assert [ask(port, get("/", bearer(token))) for token in tokens] == [403, 403, 200, 200]


@pytest.mark.parametrize("source", [{"jwksUri": "http://keys.example/"}, {}])
def test_without_keys_no_token_is_believed(
    source: dict[str, str], serve: Serve, application: Application
) -> None:
    served = Served(serve, application.port, authentication({"issuer": ISSUER, **source}))
    application.forget()
    tokens = [KNOWN.token(), STRANGER.token(), *FORGED.values()]
    assert {ask(served.port(), get("/", bearer(token))) for token in tokens} == {401}
    assert not application.requests
    assert ask(served.port(), get("/")) == 200


NO_KEYS = {
    "500": saying(STRANGER.keys, 500),
    "silence": silent,
    "garbage": saying("garbage"),
    "no keys": saying('{"keys": []}'),
    "a secret that everybody can read": saying('{"keys": [{"kty": "oct", "k": "c2VjcmV0", "kid": "first"}]}'),
    "too long": saying("[" * (1 << 21)),
}


async def fetched(source: KeySource) -> Fetched:
    """What the control plane makes of a server's answer, without keys from before."""
    try:
        return Fetched(source, KeySet(source, await jwks.ask(source, Allowed.of(["127.0.0.1"]))))
    except Unfetched as error:
        return Fetched(source, KeySet(source, "", str(error)))


async def test_a_server_that_gives_no_keys_makes_no_token_good(
    serve: Serve, application: Application
) -> None:
    async with serving(silent) as server:
        rule = {"issuer": ISSUER, "jwksUri": server.url(), "timeout": "300ms"}
        served = Served(serve, application.port, authentication(rule), updated=True)
        source = KeySource(server.url(), timeout_ms=300)
        tokens = [KNOWN.token(), STRANGER.token(), with_secret(b"secret"), *FORGED.values()]
        for name, answer in NO_KEYS.items():
            server.answer = answer
            served.learn(await fetched(source))
            served.proxy.update(served.view)
            for token in tokens:
                assert ask(served.port(), get("/", bearer(token))) == 401, name
        assert len(server.paths) == len(NO_KEYS)


async def test_keys_change_under_a_connection_that_is_kept(serve: Serve, application: Application) -> None:
    """Rule 6: whom to believe travels by route, so what lives already is bound, idle or not."""
    async with serving(saying(KNOWN.keys)) as server:
        rule = authentication({"issuer": ISSUER, "jwksUri": server.url()})
        served = Served(serve, application.port, rule, updated=True)
        kept = http.client.HTTPConnection("127.0.0.1", served.port(), timeout=10)
        idle = http.client.HTTPConnection("127.0.0.1", served.port(), timeout=10)

        def statuses(connection: http.client.HTTPConnection) -> list[int]:
            found = []
            for issuer in (KNOWN, STRANGER):
                connection.request("GET", "/", headers=dict([bearer(issuer.token())]))
                response = connection.getresponse()
                response.read()
                found.append(response.status)
            return found

        assert [statuses(kept), statuses(idle)] == [[401, 401]] * 2
        for keys, wanted in ((KNOWN.keys, [200, 401]), (STRANGER.keys, [401, 200])):
            server.answer = saying(keys)
            served.learn(await fetched(KeySource(server.url())))
            served.proxy.update(served.view)
            assert statuses(kept) == wanted
        socket = idle.sock
        assert (statuses(idle), idle.sock) == ([401, 200], socket)
        kept.close()
        idle.close()


def test_the_keys_of_one_rule_make_no_tokens_of_another(serve: Serve, application: Application) -> None:
    other = {"issuer": "https://other.example", "jwks": STRANGER.keys}
    objects = [authentication(believing(KNOWN)), authentication(other, name="other")]
    port = Served(serve, application.port, *objects, policy("ALLOW", required())).port()
    good = [KNOWN.token(), STRANGER.token(iss="https://other.example")]
    swapped = [STRANGER.token(), KNOWN.token(iss="https://other.example"), KNOWN.token(iss="https://third")]
    assert [ask(port, get("/", bearer(token))) for token in good] == [200, 200]
    assert [ask(port, get("/", bearer(token))) for token in swapped] == [401] * 3
    assert ask(port, get("/")) == 403
