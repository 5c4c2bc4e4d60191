"""Which object of an API a resource goes back to, as far as the resource itself says."""

from __future__ import annotations

import re

from sluice.proxy_text.dump import Data

#: Our names of routes: `HTTPRoute shop/api rules[0]` (`xds.render.naming.route`).
_ROUTE_NAME = re.compile(r"(?P<kind>[A-Z]\w+) (?P<namespace>[^ /]+)/(?P<name>[^ ]+) \S+")
#: Istio's `metadata.filter_metadata.istio.config`.
_CONFIG = re.compile(r"/apis/[^/]+/[^/]+/namespaces/(?P<namespace>[^/]+)/[^/]+/(?P<name>[^/]+)")


def origin(resource: Data) -> str:
    """Such as `reviews.shop`, with its kind if the resource names it; empty where it does not say."""
    if match := _ROUTE_NAME.fullmatch(resource.get("name", "")):
        return f"{match['kind']} {match['name']}.{match['namespace']}"
    config = resource.get("metadata", {}).get("filter_metadata", {}).get("istio", {}).get("config", "")
    match = _CONFIG.fullmatch(config)
    return f"{match['name']}.{match['namespace']}" if match else ""
