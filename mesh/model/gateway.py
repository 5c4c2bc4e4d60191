"""Gateways, where traffic enters the mesh: who may attach to them, and what they are trusted with."""

from __future__ import annotations

from dataclasses import dataclass

from mesh.model.names import ObjectRef


@dataclass(frozen=True, slots=True)
class GatewayParent:
    """The Gateway (Gateway API) to which a route attaches: at the listener called `section` and those on
    `port`; "" and None are all of them, and with both a listener must fit both."""

    gateway: ObjectRef
    section: str = ""
    port: int | None = None
