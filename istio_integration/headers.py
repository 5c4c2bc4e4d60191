"""Header changes of a route or a destination (Headers)."""

from __future__ import annotations

from typing import NamedTuple

from mesh.dialects.reading import Fields, Reader, shown
from mesh.dialects.syntax import printable, token
from mesh.model import HeaderChange

HEADERS = Fields(("request", "response"))
OPERATIONS = Fields(("set", "add", "remove"))

#: Under these names `set` and `add` mean the authority, which is no header to Envoy.
_AUTHORITY = ("host", ":authority")


class Headers(NamedTuple):
    """`authority` is what a request's is changed to, None: not at all."""

    request: HeaderChange = HeaderChange()
    response: HeaderChange = HeaderChange()
    authority: str | None = None


def read_headers(reader: Reader) -> Headers:
    reader.fields(HEADERS)
    request, authorities = _operations(reader.at("request"))
    response, misplaced = _operations(reader.at("response"))
    if len(authorities) > 1:
        reader.at("request").refuse("changes the authority twice: write it once")
    if misplaced:
        reader.at("response").refuse("has no authority to change: that belongs to a request")
    return Headers(request, response, authorities[0] if authorities else None)


def _operations(reader: Reader) -> tuple[HeaderChange, list[str]]:
    """The change, and every authority that it sets or adds."""
    reader.fields(OPERATIONS)
    authorities: list[str] = []
    found: dict[str, list[tuple[str, str]]] = {"set": [], "add": []}
    for kind, pairs in found.items():
        for written, value in reader.at(kind).entries():
            text = _value(value)
            if written.lower() in _AUTHORITY:
                authorities.append(text)
            else:
                pairs.append((token(value, written).lower(), text))
    removed = [_removable(item) for item in reader.at("remove").items()]
    change = HeaderChange(tuple(found["set"]), tuple(found["add"]), tuple(removed))
    return HeaderChange().then(change), authorities


def _removable(reader: Reader) -> str:
    text = reader.text().lower()
    if text in _AUTHORITY:
        reader.refuse("cannot be removed: a request goes to some authority")
        return text
    return token(reader, text)


def _value(reader: Reader) -> str:
    """In Envoy a percent sign begins a command, and two of them are one."""
    text = printable(reader, 4096)
    if reader.require() and reader.sound and not text:
        reader.refuse("must not be empty: remove takes a header away")
    if "%" in text.replace("%%", ""):
        reader.refuse(f"{shown(text)}: commands of Envoy are not supported yet; %% is a percent sign")
    return text.replace("%%", "%")
