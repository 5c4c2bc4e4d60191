"""Makes a token (RFC 7519) as the issuer of this example would: `mint.py ann --group editors`.

The standard library is enough for HS256. `--secret` signs with another one, `--age` makes an old token.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import hmac
import json
import time

#: The one in tokens.yaml.
SECRET = "this secret is of the example only"
LIFETIME = 600


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("subject")
    parser.add_argument("--group", action="append", default=[])
    parser.add_argument("--secret", default=SECRET)
    parser.add_argument("--age", type=int, default=0, metavar="SECONDS")
    options = parser.parse_args()
    issued = int(time.time()) - options.age
    claims = {
        "iss": "https://issuer.example",
        "aud": "reviews",
        "sub": options.subject,
        "groups": options.group,
        "iat": issued,
        "exp": issued + LIFETIME,
    }
    print(token(claims, options.secret.encode()))


def token(claims: dict[str, object], secret: bytes) -> str:
    """Header, claims and signature."""
    head = ".".join(_part(json.dumps(part).encode()) for part in ({"alg": "HS256", "typ": "JWT"}, claims))
    return f"{head}.{_part(hmac.digest(secret, head.encode(), hashlib.sha256))}"


def _part(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


if __name__ == "__main__":
    main()
