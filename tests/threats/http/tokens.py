"""An issuer of tokens with keys of its own, and policies that believe it."""

from __future__ import annotations

import json
import time
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm

from tests.threats.http.served import Object

ISSUER = "https://issuer.example"
#: Seconds: longer than the whole suite takes.
DAY = 86_400


class Issuer:
    """Signs with RS256. Making a key takes a moment, so tests share them."""

    def __init__(self, key_id: str = "first") -> None:
        self.key_id = key_id
        self.private = rsa.generate_private_key(65537, 2048)

    @property
    def key(self) -> dict[str, Any]:
        """The public key as JSON Web Key."""
        found: dict[str, Any] = RSAAlgorithm.to_jwk(self.private.public_key(), as_dict=True)
        return {**found, "kid": self.key_id, "use": "sig", "alg": "RS256"}

    @property
    def keys(self) -> str:
        return json.dumps({"keys": [self.key]})

    def token(self, *, key_id: str | None = None, **claims: Any) -> str:
        """A claim that is None is left out."""
        now = int(time.time())
        known = {"iss": ISSUER, "sub": "ann", "iat": now, "exp": now + DAY} | claims
        told = {name: value for name, value in known.items() if value is not None}
        return jwt.encode(told, self.private, "RS256", {"kid": key_id or self.key_id})


def bearer(token: str) -> tuple[str, str]:
    return "authorization", f"Bearer {token}"


def authentication(*rules: Object, name: str = "tokens", **spec: Any) -> Object:
    """A RequestAuthentication for `shop/api`."""
    return {
        "apiVersion": "security.istio.io/v1",
        "kind": "RequestAuthentication",
        "metadata": {"name": name, "namespace": "shop"},
        "spec": {"selector": {"matchLabels": {"app": "api"}}, "jwtRules": list(rules), **spec},
    }


def believing(issuer: Issuer, **rule: Any) -> Object:
    """A rule with the issuer's key inside."""
    return {"issuer": ISSUER, "jwks": issuer.keys, **rule}


def required(**source: Any) -> Object:
    """A rule of an AuthorizationPolicy about who is named by the token; without anything, somebody."""
    return {"from": [{"source": source or {"requestPrincipals": ["*"]}}]}
