"""Every field of AuthorizationPolicy, RequestAuthentication and PeerAuthentication."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tests.traffic.samples.sample import Sample, new, put, same_but_for
from tests.traffic.shop import Object, object_of

ONLY_WEB = {"matchLabels": {"app": "web"}}
TARGET = {"group": "", "kind": "Service", "name": "web"}
_KEYS = '{"keys": [{"kty": "oct", "k": "c2VjcmV0"}]}'


def _security(kind: str, **spec: Any) -> Object:
    return object_of("security.istio.io/v1", kind, "web", "shop", spec)


_TOKENS = _security("RequestAuthentication", jwtRules=[{"issuer": "shop", "jwks": _KEYS}])
_ASKED = {"to": [{"operation": {"methods": ["GET"]}}]}
_GET = _security("AuthorizationPolicy", rules=[_ASKED])


def _protects(base: Object, without_rules: Object) -> Mapping[str, Sample]:
    fields: Mapping[str, Any] = {"selector": ONLY_WEB, "targetRef": TARGET, "targetRefs": [TARGET]}
    return {
        name: same_but_for(base, f"spec.{name}", value, (put(without_rules, f"spec.{name}", value),))
        for name, value in fields.items()
    }


def _source(field: str, value: str) -> Sample:
    return new(_security("AuthorizationPolicy", rules=[{"from": [{"source": {field: [value]}}]}]))


def _operation(field: str, value: str) -> Sample:
    return new(_security("AuthorizationPolicy", rules=[{"to": [{"operation": {field: [value]}}]}]))


def _when(key: str, value: str) -> Sample:
    return new(_security("AuthorizationPolicy", rules=[{"when": [{"key": key, "values": [value]}]}]))


def _opposites(field: str) -> tuple[str, str]:
    return field, f"not{field[0].upper()}{field[1:]}"


_SOURCES = {
    "principals": "cluster.local/ns/shop/sa/web",
    "namespaces": "shop",
    "serviceAccounts": "web",
    "ipBlocks": "10.64.0.10",
    "requestPrincipals": "shop/ann",
    "remoteIpBlocks": "192.0.2.1",
}
_OPERATIONS = {"ports": "8080", "hosts": "web", "methods": "GET", "paths": "/a"}
_CONDITIONS = {
    "source.ip": "10.64.0.10",
    "source.namespace": "shop",
    "source.principal": "cluster.local/ns/shop/sa/web",
    "source.serviceAccount": "shop/web",
    "destination.port": "8080",
    "request.headers[x-a]": "b",
    "request.auth.principal": "shop/ann",
    "request.auth.audiences": "shop",
    "request.auth.presenter": "ann",
    "request.auth.claims[group]": "admin",
    "remote.ip": "192.0.2.1",
    "connection.sni": "web.example",
    "destination.ip": "10.64.0.10",
}


def mesh_config(mesh: str) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "istio", "namespace": "istio-system"},
        "data": {"mesh": mesh},
    }


_OPA = mesh_config(
    "extensionProviders: [{name: opa, envoyExtAuthzGrpc: {service: shadow.shop.svc.cluster.local, port: 80}}]"
)
_AUTHORIZATION = {
    **_protects(_GET, _security("AuthorizationPolicy")),
    "action": same_but_for(_GET, "spec.action", "DENY", (_security("AuthorizationPolicy", action="ALLOW"),)),
    "provider": Sample(
        (_OPA,),
        (_OPA, _security("AuthorizationPolicy", action="CUSTOM", provider={"name": "opa"}, rules=[{}])),
    ),
    **{
        f"rules[].from[].source.{name}": _source(name, value)
        for field, value in _SOURCES.items()
        for name in _opposites(field)
    },
    **{
        f"rules[].to[].operation.{name}": _operation(name, value)
        for field, value in _OPERATIONS.items()
        for name in _opposites(field)
    },
    **{
        f"rules[].when[].{key.partition('[')[0]}{'[]' if '[' in key else ''}": _when(key, value)
        for key, value in _CONDITIONS.items()
    },
}
_AUTHENTICATION = {
    **_protects(_TOKENS, _security("RequestAuthentication")),
    "jwtRules": new(_TOKENS),
}


_STRICT = _security("PeerAuthentication", mtls={"mode": "STRICT"})
_SELECTING = _security("PeerAuthentication", selector=ONLY_WEB)
_PEERS = {
    "selector": same_but_for(_STRICT, "spec.selector", ONLY_WEB, (_SELECTING,)),
    "mtls": new(_STRICT),
    "portLevelMtls": same_but_for(_SELECTING, "spec.portLevelMtls", {8080: {"mode": "STRICT"}}, ()),
}


SAMPLES: Mapping[str, Mapping[str, Sample]] = {
    "PeerAuthentication": _PEERS,
    "RequestAuthentication": _AUTHENTICATION,
    "AuthorizationPolicy": _AUTHORIZATION,
}
