"""JSON Web Key Sets (RFC 7517) that Envoy can use, in one form: only what verifies a signature, and nothing
else of what stood there.

Envoy refuses a whole route configuration for a set without one usable key. So each key is asked here what
Envoy will ask of it (BoringSSL's limits; points lie on their curve), and the rest are left out.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterator, Mapping
from typing import Any

#: More keys than this, or longer texts (in characters), have no use and a cost.
MOST_KEYS, LONGEST = 100, 1 << 20

_RSA_BITS, _RSA_EXPONENTS = range(2048, 8193), range(3, 65538, 2)
_RSA_ALGORITHMS = frozenset({"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"})
_P256 = (1 << 256) - (1 << 224) + (1 << 192) + (1 << 96) - 1
_P384 = (1 << 384) - (1 << 128) - (1 << 96) + (1 << 32) - 1
_P521 = (1 << 521) - 1
_B256 = 0x5AC635D8AA3A93E7B3EBBD55769886BC651D06B0CC53B0F63BCE3C3E27D2604B
_B384 = int(
    "b3312fa7e23ee7e4988e056be3f82d19181d9c6efe8141120314088f5013875ac656398d8a2ed19d2a85c8edd3ec2aef", 16
)
_B521 = int(
    "0051953eb9618e1c9a1f929a21a0b68540eea2da725b99b315f3b8b489918ef109e156193951ec7e937b1652c0bd3bb1bf07"
    "3573df883d2c34f1ef451fd46b503f00",
    16,
)
#: Curve -> its prime and coefficient b (FIPS 186-4, D.1.2; a is -3), a coordinate's bytes, the algorithm.
_CURVES = {
    "P-256": (_P256, _B256, 32, "ES256"),
    "P-384": (_P384, _B384, 48, "ES384"),
    "P-521": (_P521, _B521, 66, "ES512"),
}
_SECRET_ALGORITHMS = frozenset({"HS256", "HS384", "HS512"})


class KeySetError(Exception):
    """Why a text is no key set. The message never quotes the text."""


def normalise(text: str, *, public: bool) -> str:
    """The usable keys of a set, as compact JSON. `public`: the set was found where anybody can read it, so a
    shared secret in it is none. Raises KeySetError if none is usable."""
    if len(text) > LONGEST:
        raise KeySetError(f"is longer than {LONGEST} characters")
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        raise KeySetError("is not JSON") from None
    keys = document.get("keys") if isinstance(document, Mapping) else None
    if not isinstance(keys, list):
        raise KeySetError('is no JSON Web Key Set: a mapping with a list "keys"')
    if len(keys) > MOST_KEYS:
        raise KeySetError(f"has {len(keys)} keys; at most {MOST_KEYS} are allowed")
    usable = [key for entry in keys if (key := _usable(entry, public)) is not None]
    if not usable:
        secret = "" if public else ", or a shared secret (oct)"
        raise KeySetError(
            "holds no key that can verify a token: RSA of 2048 to 8192 bits, EC on P-256, P-384 or P-521, "
            f"Ed25519{secret}"
        )
    return json.dumps({"keys": usable}, separators=(",", ":"), sort_keys=True)


def _usable(entry: object, public: bool) -> dict[str, str] | None:
    """The members that count, or None. A key for encryption verifies nothing."""
    if not isinstance(entry, Mapping) or entry.get("use", "sig") != "sig":
        return None
    try:
        match entry.get("kty"):
            case "RSA":
                members, algorithms = _rsa(entry)
            case "EC":
                members, algorithms = _ec(entry)
            case "OKP" if entry.get("crv") == "Ed25519":
                members, algorithms = {"crv": "Ed25519", "x": _bytes(entry, "x", 32)}, frozenset({"EdDSA"})
            case "oct" if not public:
                members, algorithms = {"k": _bytes(entry, "k")}, _SECRET_ALGORITHMS
            case _:
                return None
        return {"kty": entry["kty"], **members, **dict(_labels(entry, algorithms))}
    except _Unusable:
        return None


class _Unusable(Exception):
    pass


def _rsa(entry: Mapping[str, Any]) -> tuple[dict[str, str], frozenset[str]]:
    modulus, exponent = _number(entry, "n"), _number(entry, "e")
    if modulus.bit_length() not in _RSA_BITS or not modulus & 1:
        raise _Unusable
    if exponent not in _RSA_EXPONENTS:
        raise _Unusable
    return {"n": _bytes(entry, "n"), "e": _bytes(entry, "e")}, _RSA_ALGORITHMS


def _ec(entry: Mapping[str, Any]) -> tuple[dict[str, str], frozenset[str]]:
    curve = entry.get("crv")
    if not isinstance(curve, str) or curve not in _CURVES:
        raise _Unusable
    prime, b, size, algorithm = _CURVES[curve]
    x, y = _number(entry, "x"), _number(entry, "y")
    if x >= prime or y >= prime or (y * y - (x * x * x - 3 * x + b)) % prime:
        raise _Unusable
    members = {"crv": curve, "x": _bytes(entry, "x", size), "y": _bytes(entry, "y", size)}
    return members, frozenset({algorithm})


def _labels(entry: Mapping[str, Any], algorithms: frozenset[str]) -> Iterator[tuple[str, str]]:
    for name in ("kid", "alg"):
        value = entry.get(name)
        if value is None:
            continue
        if not isinstance(value, str) or (name == "alg" and value not in algorithms):
            raise _Unusable
        yield name, value


def _decoded(entry: Mapping[str, Any], name: str) -> bytes:
    value = entry.get(name)
    if not isinstance(value, str) or not value.isascii():
        raise _Unusable
    try:
        text = value.rstrip("=")
        found = base64.b64decode(text + "=" * (-len(text) % 4), b"-_", validate=True)
    except (ValueError, binascii.Error):
        raise _Unusable from None
    if not found:
        raise _Unusable
    return found


def _number(entry: Mapping[str, Any], name: str) -> int:
    return int.from_bytes(_decoded(entry, name), "big")


def _bytes(entry: Mapping[str, Any], name: str, size: int = 0) -> str:
    found = _decoded(entry, name)
    if size and len(found) != size:
        raise _Unusable
    return base64.urlsafe_b64encode(found).rstrip(b"=").decode()
