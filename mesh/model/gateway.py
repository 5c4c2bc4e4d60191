"""Gateways, where traffic enters the mesh: who may attach to them, and what they are trusted with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from mesh.model.names import ObjectRef


@dataclass(frozen=True, slots=True)
class GatewayParent:
    """The Gateway (Gateway API) to which a route attaches: at the listener called `section` and those on
    `port`; "" and None are all of them, and with both a listener must fit both."""

    gateway: ObjectRef
    section: str = ""
    port: int | None = None


# --- references to other namespaces --------------------------------------------------------------


class GrantFrom(NamedTuple):
    """Objects of one kind in one namespace, that may refer."""

    group: str
    kind: str
    namespace: str


class GrantTo(NamedTuple):
    """What may be referred to; "" is every name."""

    group: str
    kind: str
    name: str = ""


@dataclass(frozen=True, slots=True)
class ReferenceGrant:
    """Leave to refer from other namespaces to objects of its own; grants add up."""

    ref: ObjectRef
    froms: tuple[GrantFrom, ...]
    tos: tuple[GrantTo, ...]

    @property
    def namespace(self) -> str:
        return self.ref.namespace

    def permits(self, source: GrantFrom, target: GrantTo) -> bool:
        """May objects like `source` refer to `target`, of the grant's namespace?"""
        return source in self.froms and (target in self.tos or target._replace(name="") in self.tos)
