"""Formats of access logs, filled in as Envoy does: `istio_integration.log_format` has read them, so that what
stands here is well-formed.

https://www.envoyproxy.io/docs/envoy/latest/configuration/observability/access_log/usage
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from agent.connection_logs.connection import Connection

#: A part of a line: text, a number, or None for what is not there.
_Part = Callable[[Connection], str | int | None]
Template = Callable[[Connection], str]

_COMMAND = re.compile(r"%%|%([A-Z][A-Z0-9_]*)(?:\(([^()\r\n]*)\))?(?::([0-9]{1,5}))?%")
#: Of a time: a fraction of so many digits, seconds since the epoch.
_FRACTION = re.compile(r"%([1-9]?)f|%s")
_MISSING = "-"
#: Of labels, what `omit_empty_values` omits.
_EMPTY: tuple[None, Mapping[str, Any]] = (None, {})


@lru_cache(maxsize=256)
def text(form: str, omit_empty: bool = False) -> Template:
    """Of a format of text."""
    parts = _parts(form)
    missing = "" if omit_empty else _MISSING
    return lambda connection: "".join(_word(part(connection), missing) for part in parts)


@lru_cache(maxsize=256)
def labels(form: str, omit_empty: bool = False) -> Template:
    """Of a format of labels: one line of JSON."""
    fill = _filling(json.loads(form), omit_empty)
    return lambda connection: f"{json.dumps(fill(connection), separators=(',', ':'), ensure_ascii=False)}\n"


@lru_cache(maxsize=256)
def attributes(form: str) -> Callable[[Connection], dict[str, str]]:
    """Of labels that are all texts, for OpenTelemetry."""
    templates = {name: text(value) for name, value in json.loads(form).items()} if form else {}
    return lambda connection: {name: template(connection) for name, template in templates.items()}


def _filling(form: Any, omit_empty: bool) -> Callable[[Connection], Any]:
    match form:
        case Mapping():
            members = {name: _filling(value, omit_empty) for name, value in sorted(form.items())}

            def fill(connection: Connection) -> dict[str, Any]:
                found = {name: member(connection) for name, member in members.items()}
                return {name: value for name, value in found.items() if not omit_empty or value not in _EMPTY}

            return fill
        case str():
            parts = _parts(form)
            # A command alone is told as what it is, a number or null among them.
            return parts[0] if len(parts) == 1 else text(form, omit_empty)
    return lambda connection: form


def _parts(form: str) -> tuple[_Part, ...]:
    found: list[_Part] = []
    at = 0
    for command in _COMMAND.finditer(form):
        if command.start() > at:
            found.append(_literal(form[at : command.start()]))
        found.append(_literal("%") if command[1] is None else _command(command[1], command[2]))
        at = command.end()
    if at < len(form) or not found:
        found.append(_literal(form[at:]))
    return tuple(found)


def _literal(written: str) -> _Part:
    return lambda connection: written


def _command(name: str, argument: str | None) -> _Part:
    if name == "START_TIME":
        return lambda connection: _time(connection.began, argument or "")
    if argument is not None:
        return lambda connection: None  # Of requests, or of what filters leave: a connection has none.
    return lambda connection: connection.value(name)


def _word(value: str | int | None, missing: str) -> str:
    return missing if value is None else str(value)


def _time(nanoseconds: int, form: str) -> str:
    seconds, rest = divmod(nanoseconds, 10**9)
    at = datetime.fromtimestamp(seconds, UTC)
    if not form:
        return f"{at:%Y-%m-%dT%H:%M:%S}.{rest // 10**6:03}Z"

    def fraction(found: re.Match[str]) -> str:
        return str(seconds) if found[0] == "%s" else f"{rest:09}"[: int(found[1] or 9)]

    return at.strftime(_FRACTION.sub(fraction, form))
