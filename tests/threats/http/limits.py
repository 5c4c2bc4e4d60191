"""RateLimits as their users write them."""

from __future__ import annotations

from typing import Any

from tests.threats.http.served import Object


def rate_limit(*limits: Object, **spec: Any) -> Object:
    """A RateLimit for `shop/api`."""
    return {
        "apiVersion": "sluice.io/v1alpha1",
        "kind": "RateLimit",
        "metadata": {"name": "api", "namespace": "shop"},
        "spec": {"selector": {"matchLabels": {"app": "api"}}, "limits": list(limits), **spec},
    }


def hourly(requests: int, **limit: Any) -> Object:
    """One that is not filled again while a test runs."""
    return {"requests": requests, "per": "hour", **limit}
