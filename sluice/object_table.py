"""Stored objects as kubectl's tables show them: a line each, with what their status says. Pure but for the
time, which is told."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from sluice.text_table import text_table

Object = Mapping[str, Any]
Column = tuple[str, Callable[[Object], str]]

_NONE = "-"
#: Age in the largest unit of which there are two, as kubectl has it.
_UNITS = (("y", 2 * 365 * 86400, 365 * 86400), ("d", 2 * 86400, 86400), ("h", 3 * 3600, 3600), ("m", 120, 60))


def object_table(kind: str, items: Sequence[Object], now: datetime, *, namespaces: bool, wide: bool) -> str:
    """`namespaces` shows whose each is, `wide` why something is not as it should be."""
    columns: list[Column] = [("NAME", lambda item: _text(item, "metadata", "name"))]
    if namespaces:
        columns.insert(0, ("NAMESPACE", lambda item: _text(item, "metadata", "namespace") or "default"))
    columns += _COLUMNS.get(kind, ())
    if any(_age(item, now) for item in items):
        columns.append(("AGE", lambda item: _age(item, now)))
    if wide and kind in _COLUMNS:
        columns.append(("MESSAGE", lambda item: "; ".join(dict.fromkeys(_complaints(item)))))
    rows = [tuple(show(item) or _NONE for _, show in columns) for item in items]
    return text_table([name for name, _ in columns], rows)


def _text(item: Any, *path: str) -> str:
    for key in path:
        item = item.get(key) if isinstance(item, Mapping) else None
    return item if isinstance(item, str) else ""


def _age(item: Object, now: datetime) -> str:
    try:
        created = datetime.fromisoformat(_text(item, "metadata", "creationTimestamp"))
    except ValueError:
        return ""
    seconds = int((now - created.replace(tzinfo=created.tzinfo or UTC)).total_seconds())
    for unit, least, length in _UNITS:
        if seconds >= least:
            return f"{seconds // length}{unit}"
    return f"{max(0, seconds)}s"


def _conditions(item: Object) -> Iterator[Mapping[str, Any]]:
    """All that stand in a status, wherever."""
    status = item.get("status")
    if not isinstance(status, Mapping):
        return
    yield from status.get("conditions", ())
    for listed in ("listeners", "parents", "ancestors"):
        for part in status.get(listed, ()):
            yield from part.get("conditions", ())


def _complaints(item: Object) -> Iterator[str]:
    for found in _conditions(item):
        good = found["status"] == ("False" if found["type"] in ("Conflicted", "PartiallyInvalid") else "True")
        if not good and found.get("message"):
            yield str(found["message"])


def _said(kind: str) -> Callable[[Object], str]:
    """One word for all conditions of a type."""

    def show(item: Object) -> str:
        found = [c for c in _conditions(item) if c["type"] == kind]
        bad = next((c for c in found if c["status"] != "True"), None)
        return f"False ({bad['reason']})" if bad else "True" if found else ""

    return show


def _condition(kind: str) -> Callable[[Object], str]:
    """Of the object itself, not of its parts."""

    def show(item: Object) -> str:
        status = item.get("status")
        conditions = status.get("conditions") if isinstance(status, Mapping) else None
        found = conditions if isinstance(conditions, list) else []
        return next((_text(c, "status") for c in found if _text(c, "type") == kind), "")

    return show


def _addresses(item: Object) -> str:
    return ",".join(address["value"] for address in item.get("status", {}).get("addresses", ()))


def _hostnames(item: Object) -> str:
    return ",".join(map(str, item.get("spec", {}).get("hostnames", ())))


_ROUTE: tuple[Column, ...] = (("ACCEPTED", _said("Accepted")), ("RESOLVED", _said("ResolvedRefs")))
_NAMED: tuple[Column, ...] = (("HOSTNAMES", _hostnames), *_ROUTE)
_COLUMNS: Mapping[str, tuple[Column, ...]] = {
    "GatewayClass": (
        ("CONTROLLER", lambda item: _text(item, "spec", "controllerName")),
        ("ACCEPTED", _said("Accepted")),
    ),
    "Gateway": (
        ("CLASS", lambda item: _text(item, "spec", "gatewayClassName")),
        ("ADDRESS", _addresses),
        ("PROGRAMMED", _condition("Programmed")),
    ),
    "Pod": (
        ("READY", _condition("Ready")),
        ("STATUS", lambda item: _text(item, "status", "phase")),
        ("IP", lambda item: _text(item, "status", "podIP")),
    ),
    "WorkloadEntry": (
        ("ADDRESS", lambda item: _text(item, "spec", "address")),
        ("HEALTHY", _condition("Healthy")),
    ),
    "HTTPRoute": _NAMED,
    "GRPCRoute": _NAMED,
    "TLSRoute": _NAMED,
    "TCPRoute": _ROUTE,
    "UDPRoute": _ROUTE,
    "BackendTLSPolicy": _ROUTE,
}
