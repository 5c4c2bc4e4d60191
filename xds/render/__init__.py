"""From what a proxy has to do (`mesh.proxy`) to Envoy's resources, encoded once. The only room that builds
Envoy's messages; it knows no object of any API, no stream and no agent.
"""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Sequence
from hashlib import sha256
from typing import Any

from mesh.proxy import ProxyView
from xds.render.resource import EnvoyResource, Rendered

__all__ = ["EnvoyResource", "Rendered", "preload", "readable", "render"]


def preload() -> None:
    """Import Envoy's messages, which takes a second, before the first rule needs them."""
    from xds.render import proxy  # noqa: F401


def render(view: ProxyView) -> Rendered:
    """The resources of one proxy, sorted by (type, name), clusters first. Equal views give equal bytes."""
    # Not above: who only wants to read rendered resources need not load Envoy's messages.
    from xds.render.proxy import resources

    return resources(view)


def readable(
    rendered: Sequence[EnvoyResource], *, with_keys: bool = False
) -> dict[str, list[dict[str, Any]]]:
    """The resources as plain data with Envoy's field names, by kind, `typed_config`s unfolded, without the
    modules. Private keys are left out unless they are asked for."""
    from xds.render.encoding import decode

    kinds: dict[str, list[dict[str, Any]]] = {}
    for resource in rendered:
        kinds.setdefault(resource.kind, []).append(decode(resource.any))
    for extension in kinds.get("extensions", []):
        _shorten(extension.get("typed_config", {}))
    for secret in kinds.get("secrets", []) if not with_keys else ():
        if "tls_certificate" in secret:
            secret["tls_certificate"]["private_key"] = "[redacted]"
    return kinds


def _shorten(filter_: dict[str, Any]) -> None:
    """A module is named by its checksum and not shown: it may be megabytes."""
    local = filter_.get("config", {}).get("vm_config", {}).get("code", {}).get("local", {})
    if "inline_bytes" in local:
        local["inline_bytes"] = f"[sha256:{sha256(b64decode(local['inline_bytes'])).hexdigest()}]"
