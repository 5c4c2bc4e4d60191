"""Whose traffic a match is for: source labels, source namespace and gateways, alike in http, tls and tcp."""

from __future__ import annotations

from mesh.dialects.reading import Reader, shown
from mesh.dialects.syntax import is_label, labels, name
from mesh.model import MESH_GATEWAY, Callers

#: The fields that say it.
CALLERS = ("sourceLabels", "sourceNamespace", "gateways")


def callers(match: Reader) -> Callers:
    return Callers(
        name(match.at("sourceNamespace"), label=True),
        labels(match.at("sourceLabels")),
        gateways(match.at("gateways")),
    )


def gateways(reader: Reader) -> tuple[str, ...] | None:
    """As `namespace/name`, sorted; None if none is named."""
    return tuple(sorted({_gateway(item) for item in reader.items()})) or None


def _gateway(reader: Reader) -> str:
    """A bare name is of the own namespace; `name.namespace...` is how it was written long ago."""
    text = reader.text()
    if text == MESH_GATEWAY or not reader.sound:
        return text
    namespace, slash, own = text.partition("/")
    if not slash:
        own, dot, rest = text.partition(".")
        namespace = rest.partition(".")[0] if dot else reader.ref.namespace
    if not is_label(namespace) or not is_label(own):
        reader.refuse(f"{shown(text)} is not a gateway: write mesh, name or namespace/name")
    return f"{namespace}/{own}"
