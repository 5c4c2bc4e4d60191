"""The request that a question is about, as it is written: on the command line, or in a query."""

from __future__ import annotations

import re
from collections.abc import Iterable

from mesh.request import Request

_CLAIM = re.compile(r"([^\[\]]+)((\[[^\[\]]+\])*)")


def pair(text: str) -> tuple[str, str]:
    """NAME=VALUE. Raises ValueError."""
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise ValueError(f"{text!r} is not NAME=VALUE")
    return name, value


def claim(text: str) -> tuple[tuple[str, ...], str]:
    """NAME=VALUE, or NAME[INNER]=VALUE for one that holds others, as a policy has it. Raises ValueError."""
    name, value = pair(text)
    match = _CLAIM.fullmatch(name)
    if match is None:
        raise ValueError(f"{name!r} is not the name of a claim: want NAME or NAME[INNER]")
    inner = match[2][1:-1].split("][") if match[2] else []
    return (match[1], *inner), value


def asked_request(
    method: str,
    path: str,
    host: str,
    headers: Iterable[tuple[str, str]],
    claims: Iterable[tuple[tuple[str, ...], str]],
) -> Request | None:
    """None if nothing of it is known. A claim that is given several times has several values."""
    sent = tuple((name.lower(), value) for name, value in headers)
    proven: dict[tuple[str, ...], tuple[str, ...]] = {}
    for name, value in claims:
        proven[name] = (*proven.get(name, ()), value)
    if not (method or path or host or sent or proven):
        return None
    return Request(method or "GET", path or "/", host, sent, claims=tuple(proven.items()))
