"""What is kept of a JSON Web Key Set. That Envoy takes all of it is asked of a real one, with every key that
is just good enough: it would refuse the whole route configuration otherwise."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from mesh.policies.key_set import MOST_KEYS, KeySetError, normalise


def encoded(number: int) -> str:
    data = number.to_bytes((number.bit_length() + 7) // 8, "big")
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def elliptic(curve: ec.EllipticCurve) -> dict[str, Any]:
    found: dict[str, Any] = ECAlgorithm.to_jwk(ec.generate_private_key(curve).public_key(), as_dict=True)
    return found


RSA: dict[str, Any] = RSAAlgorithm.to_jwk(rsa.generate_private_key(65537, 2048).public_key(), as_dict=True)
RSA = {name: RSA[name] for name in ("kty", "n", "e")}
P256 = elliptic(ec.SECP256R1())
ED25519: dict[str, Any] = OKPAlgorithm.to_jwk(ed25519.Ed25519PrivateKey.generate().public_key(), as_dict=True)

GOOD: dict[str, dict[str, Any]] = {
    "RSA": RSA,
    "RSA, the smallest": {**RSA, "n": encoded((1 << 2047) + 1), "e": "Aw"},
    "RSA, the largest": {**RSA, "n": encoded((1 << 8192) - 1), "e": encoded(65537)},
    "P-256": P256,
    "P-384": elliptic(ec.SECP384R1()),
    "P-521": elliptic(ec.SECP521R1()),
    "Ed25519": ED25519,
    **{
        f"RSA, {name}": {**RSA, "alg": name}
        for name in ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
    },
    "P-256, ES256": {**P256, "alg": "ES256"},
    "Ed25519, EdDSA": {**ED25519, "alg": "EdDSA"},
    "an empty name": {**P256, "kid": ""},
}
SECRET = {"kty": "oct", "k": "c2VjcmV0", "alg": "HS256"}
BAD: dict[str, Any] = {
    "no mapping": "key",
    "no kind": {},
    "another kind": {**RSA, "kty": "rsa"},
    "RSA, too small": {**RSA, "n": encoded((1 << 2046) + 1)},
    "RSA, too large": {**RSA, "n": encoded((1 << 8192) + 1)},
    "RSA, even": {**RSA, "n": encoded(1 << 2047)},
    "RSA, exponent 1": {**RSA, "e": "AQ"},
    "RSA, large exponent": {**RSA, "e": encoded(65539)},
    "RSA, even exponent": {**RSA, "e": "Ag"},
    "RSA, no exponent": {**RSA, "e": None},
    "RSA, no base64": {**RSA, "n": "!!!"},
    "another's algorithm": {**RSA, "alg": "ES256"},
    "for encryption": {**RSA, "use": "enc"},
    "a name that is none": {**RSA, "kid": 1},
    "a point off its curve": {**P256, "y": P256["x"]},
    "a point at infinity": {**P256, "x": encoded(1)[:0], "y": ""},
    "a short coordinate": {**P256, "x": "AQ"},
    "another curve": {**P256, "crv": "P-384"},
    "a curve that nobody has": {**P256, "crv": "P-999"},
    "Ed25519, short": {**ED25519, "x": "AA"},
    "X25519": {**ED25519, "crv": "X25519"},
    "a shared secret": SECRET,
}


def key_set(*keys: Any) -> str:
    return json.dumps({"keys": keys})


def keys_of(text: str) -> list[Any]:
    found: list[Any] = json.loads(text)["keys"]
    return found


@pytest.mark.parametrize("name", GOOD)
def test_a_good_key_is_kept_and_nothing_beside_it(name: str) -> None:
    key = GOOD[name]
    beside = {**key, "d": "c2VjcmV0", "x5u": "https://x", "key_ops": ["verify"], "use": "sig"}
    assert keys_of(normalise(key_set(beside), public=True)) == [key]


@pytest.mark.parametrize("name", BAD)
def test_a_bad_key_is_left_out(name: str) -> None:
    assert keys_of(normalise(key_set(BAD[name], P256), public=True)) == [P256]
    with pytest.raises(KeySetError, match="holds no key that can verify a token"):
        normalise(key_set(BAD[name]), public=True)


def test_a_shared_secret_is_one_where_only_its_owner_reads_it() -> None:
    assert keys_of(normalise(key_set(SECRET), public=False)) == [SECRET]


@pytest.mark.parametrize(
    "text", ["", "hunter2", '"hunter2"', "[]", "{}", '{"keys": {}}', "[" * 100_000, "NaN", " " * (1 << 21)]
)
def test_what_is_no_set_is_refused_without_being_quoted(text: str) -> None:
    with pytest.raises(KeySetError) as caught:
        normalise(text, public=True)
    assert "hunter2" not in str(caught.value)


def test_a_set_has_its_limit() -> None:
    assert len(keys_of(normalise(key_set(*[P256] * MOST_KEYS), public=True))) == MOST_KEYS
    with pytest.raises(KeySetError, match="at most"):
        normalise(key_set(*[P256] * (MOST_KEYS + 1)), public=True)


def test_one_meaning_has_one_form() -> None:
    padded = {name: f"{value}=" if name in "xy" else value for name, value in reversed(P256.items())}
    assert normalise(key_set(padded), public=True) == normalise(key_set(P256), public=True)
