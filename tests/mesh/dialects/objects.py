"""API objects for the tests of the dialects, and short ways to read them."""

from __future__ import annotations

from typing import Any

from mesh.dialects import read
from mesh.model import NAMESPACE_KEY, Fragment, Policy, Requirement, Route, Selector

IN_SHOP = Requirement(NAMESPACE_KEY, "In", ("shop",))
APP_WEB = Requirement("app", "In", ("web",))
ALL_OF_SHOP = Selector((IN_SHOP,))
WEB = {"matchLabels": {"app": "web"}}


def obj(
    version: str, kind: str, spec: Any, name: str = "one", namespace: str | None = "shop", **rest: Any
) -> Any:
    metadata = {"name": name} | ({"namespace": namespace} if namespace else {})
    return {"apiVersion": version, "kind": kind, "metadata": metadata, "spec": spec, **rest}


def network_policy(spec: Any) -> Any:
    return obj("networking.k8s.io/v1", "NetworkPolicy", spec)


def cilium_policy(spec: Any) -> Any:
    return obj("cilium.io/v2", "CiliumNetworkPolicy", spec)


def clusterwide(spec: Any) -> Any:
    return obj("cilium.io/v2", "CiliumClusterwideNetworkPolicy", spec, namespace=None)


def http_route(rule: Any, **spec: Any) -> Any:
    return gateway_route("HTTPRoute", rule, **spec)


def gateway_route(kind: str, rule: Any, version: str = "v1", **spec: Any) -> Any:
    parent = {"group": "", "kind": "Service", "name": "web"}
    whole = {"parentRefs": [parent], "rules": [rule]} | spec
    return obj(f"gateway.networking.k8s.io/{version}", kind, whole)


def policy(object: Any) -> Policy:
    """The one policy of a valid object."""
    return one_policy(valid(object))


def one_policy(fragment: Fragment) -> Policy:
    (noun,) = fragment.nouns
    assert isinstance(noun, Policy)
    return noun


def route(object: Any) -> Route:
    (noun,) = valid(object).nouns
    assert isinstance(noun, Route)
    return noun


def valid(object: Any) -> Fragment:
    fragment = read(object)
    assert fragment.valid, fragment.problems
    return fragment


def refused(object: Any) -> dict[str, str]:
    """The messages of an object that is not valid, by field."""
    fragment = read(object)
    assert not fragment.valid
    return {p.field: p.message for p in fragment.problems}
