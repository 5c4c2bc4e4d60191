"""What policy costs a request: a server whose Envoy checks an RS256 token, judges by claims and rules, traces
one request in a hundred and reports each, against the same server whose Envoy only lets all requests pass.

Both are asked by one client on the kernel path, so that there is one Envoy on the way, the destination's.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa

from bench.figures import Figure, ratio
from bench.load import LOAD
from bench.mesh import address_of, mesh
from bench.mesh_size import Manifest, metadata, put, running, service
from bench.paths import in_pod, interleave, wrk

CLIENT = "caller/client"
ISSUER = "https://issuer.bench"
#: More than an Envoy remembers, so that each is checked when its turn comes.
TOKENS = 5_000


class Issuer:
    """Signs tokens, and says by which key they are checked."""

    def __init__(self) -> None:
        self._key = rsa.generate_private_key(public_exponent=65537, key_size=2048)

    def keys(self) -> str:
        own: dict[str, Any] = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(self._key.public_key()))
        return json.dumps({"keys": [own | {"kid": "bench", "alg": "RS256"}]})

    def token(self, number: int) -> str:
        until = int(time.time()) + 86_400
        claims = {"iss": ISSUER, "sub": f"user-{number}", "groups": ["readers"], "exp": until}
        return jwt.encode(claims, self._key, algorithm="RS256", headers={"kid": "bench"})


def policy(name: str, *rules: Manifest) -> Manifest:
    return {
        "apiVersion": "security.istio.io/v1",
        "kind": "AuthorizationPolicy",
        "metadata": metadata(name),
        "spec": {"selector": {"matchLabels": {"app": name}}, "rules": list(rules)},
    }


def prepare(folder: Path, issuer: Issuer) -> None:
    """`bare` and `full`, each with all that it needs; `sink` takes the spans."""
    provider = {"service": "sink.bench.svc.cluster.local", "port": 80, "http": {"path": "/v1/traces"}}
    config = {"extensionProviders": [{"name": "sink", "opentelemetry": provider}]}
    subject = {"matchLabels": {"app": "full"}}
    put(
        folder / "requests.yaml",
        *(
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
            for name in ("bench", "caller", "istio-system")
        ),
        *(running(name, (*LOAD, "serve")) for name in ("bare", "full", "sink")),
        running("client", ("sleep", "infinity"), "caller"),
        *(service(name, name) for name in ("bare", "full", "sink")),
        policy("bare", {"to": [{"operation": {"paths": ["/*"]}}]}),
        policy(
            "full",
            {"to": [{"operation": {"methods": ["POST"], "paths": ["/admin/*"]}}]},
            {"when": [{"key": "request.auth.claims[groups]", "values": ["readers"]}]},
        ),
        {
            "apiVersion": "security.istio.io/v1",
            "kind": "RequestAuthentication",
            "metadata": metadata("full"),
            "spec": {"selector": subject, "jwtRules": [{"issuer": ISSUER, "jwks": issuer.keys()}]},
        },
        {
            "apiVersion": "telemetry.istio.io/v1",
            "kind": "Telemetry",
            "metadata": metadata("full"),
            "spec": {
                "selector": subject,
                "tracing": [{"providers": [{"name": "sink"}], "randomSamplingPercentage": 1}],
            },
        },
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "istio", "namespace": "istio-system"},
            "data": {"mesh": json.dumps(config)},
        },
    )


def script(path: Path, tokens: list[str]) -> Path:
    """For wrk: a token after the other."""
    listed = ",\n".join(json.dumps(token) for token in tokens)
    path.write_text(
        f"local tokens = {{{listed}}}\nlocal turn = 0\nrequest = function()\n  turn = turn % #tokens + 1\n"
        '  return wrk.format("GET", "/", {authorization = "Bearer " .. tokens[turn]})\nend\n'
    )
    return path


def figures(folder: Path, rounds: int) -> list[Figure]:
    issuer = Issuer()
    prepare(folder, issuer)
    tokens = [issuer.token(number) for number in range(TOKENS)]
    one, many = (str(script(folder / f"{len(some)}.lua", some)) for some in (tokens[:1], tokens))
    with mesh(folder) as live:
        sides = {}
        for name in ("bare", "full"):
            address = address_of(live, CLIENT, f"{name}.bench", 80)
            probes = {"one token": wrk(address, 80, "-s", one), "many tokens": wrk(address, 80, "-s", many)}
            sides[name] = (in_pod(live, CLIENT), probes)
        values = interleave(rounds, sides)
    pairs = {key: (values["full", key], values["bare", key]) for key in ("one token", "many tokens")}
    what = "RBAC, JWT, 1 % traced, metrics / let pass, one Envoy: requests"
    return [
        ratio(f"{what}, tokens unknown", *pairs["many tokens"], "/s", at_least=0.55),
        ratio(f"{what}, token remembered", *pairs["one token"], "/s", at_least=0.7),
    ]
