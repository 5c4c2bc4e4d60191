"""Header changes of the Gateway API (HTTPHeaderFilter) in Envoy's terms."""

from __future__ import annotations

from envoy_data_plane.envoy.config.core.v3 import (
    HeaderValue,
    HeaderValueOption,
    HeaderValueOptionHeaderAppendAction,
)

from mesh.model import HeaderChange

#: Envoy's own headers that it does not remove itself, and that servers behind it believe: not from clients
#: (threat N09).
FORGEABLE = ("x-envoy-original-path", "x-envoy-original-host", "x-envoy-decorator-operation")

_OVERWRITE = HeaderValueOptionHeaderAppendAction.OVERWRITE_IF_EXISTS_OR_ADD
_APPEND = HeaderValueOptionHeaderAppendAction.APPEND_IF_EXISTS_OR_ADD


def header_mutations(*changes: HeaderChange) -> tuple[list[HeaderValueOption], list[str]]:
    """(headers to add, headers to remove) that do what `changes` do one after the other."""
    keep: dict[str, bool] = {}  # whether the value that came stays
    values: dict[str, list[str]] = {}  # what is there besides
    for change in changes:
        for name in map(str.lower, change.remove):
            keep[name], values[name] = False, []
        for name, value in change.set:
            keep[name.lower()], values[name.lower()] = False, [value]
        for name, value in change.add:
            keep.setdefault(name.lower(), True)
            values.setdefault(name.lower(), []).append(value)
    for name in ("host", ":authority"):
        keep.pop(name, None)
    additions = [
        _option(name, value, _APPEND if index or keep[name] else _OVERWRITE)
        for name in sorted(keep)
        for index, value in enumerate(values[name])
    ]
    return additions, [name for name in sorted(keep) if not keep[name] and not values[name]]


def host_change(change: HeaderChange) -> str | None:
    """Envoy has a field of its own for the Host header, and refuses it as one of the others."""
    return next((value for name, value in change.set if name.lower() == "host"), None)


def _option(name: str, value: str, action: HeaderValueOptionHeaderAppendAction) -> HeaderValueOption:
    return HeaderValueOption(
        header=HeaderValue(key=name, value=value.replace("%", "%%")),  # it begins a command of Envoy's
        append_action=action,
        keep_empty_value=True,
    )
