"""The filters of an HTTPRoute: header changes, redirects and rewrites.

A filter that is not supported is refused, never skipped: the API says that a request must not pass
by a filter that it should have met.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from mesh.dialects.reading import Fields, Reader, shown
from mesh.dialects.syntax import is_subdomain, port, printable, token
from mesh.model import HeaderChange, PathChange, Redirect, Rewrite, RouteMatch

#: The field that holds the settings of each type.
FILTERS = {
    "RequestHeaderModifier": "requestHeaderModifier",
    "ResponseHeaderModifier": "responseHeaderModifier",
    "RequestRedirect": "requestRedirect",
    "URLRewrite": "urlRewrite",
}
REFUSED_FILTERS = ("RequestMirror", "CORS", "ExternalAuth", "ExtensionRef")
FILTER = Fields(
    ("type", *FILTERS.values()), refused=("requestMirror", "cors", "externalAuth", "extensionRef")
)
HEADER_MODIFIER = Fields(("set", "add", "remove"))
HEADER = Fields(("name", "value"))
REDIRECT = Fields(("scheme", "hostname", "path", "port", "statusCode"))
REWRITE = Fields(("hostname", "path"))
PATH = Fields(("type", "replaceFullPath", "replacePrefixMatch"))

STATUS_CODES = (301, 302, 303, 307, 308)
#: Headers that only a rewrite may change, because Envoy routes by them.
_ROUTED_BY = ("host",)


@dataclass(frozen=True, slots=True)
class Filters:
    request_headers: HeaderChange
    response_headers: HeaderChange
    redirect: Redirect | None = None
    rewrite: Rewrite | None = None


def read_filters(reader: Reader, matches: Sequence[RouteMatch]) -> Filters:
    """The filters of a rule with these matches."""
    found = _settings(reader, tuple(FILTERS))
    redirect, rewrite = found.get("RequestRedirect"), found.get("URLRewrite")
    if redirect and rewrite:
        reader.refuse("RequestRedirect and URLRewrite exclude each other")
    by_prefix = len(matches) == 1 and matches[0].path.kind == "prefix"
    return Filters(
        _header_change(found.get("RequestHeaderModifier")),
        _header_change(found.get("ResponseHeaderModifier")),
        _redirect(redirect, by_prefix) if redirect else None,
        _rewrite(rewrite, by_prefix) if rewrite else None,
    )


def read_backend_filters(reader: Reader) -> Filters:
    """The filters of one backend: only header changes can be made there."""
    found = _settings(reader, ("RequestHeaderModifier", "ResponseHeaderModifier"))
    return Filters(
        _header_change(found.get("RequestHeaderModifier")),
        _header_change(found.get("ResponseHeaderModifier")),
    )


def _settings(reader: Reader, supported: tuple[str, ...]) -> dict[str, Reader]:
    found: dict[str, Reader] = {}
    for item in reader.items(at_most=16):
        item.fields(FILTER)
        kind = item.at("type")
        kind.require()
        others = tuple(k for k in (*FILTERS, *REFUSED_FILTERS) if k not in supported)
        chosen = kind.choice(supported, unsupported=others)
        if chosen not in FILTERS:
            continue
        for field in FILTERS.values():
            if field != FILTERS[chosen] and item.at(field).present:
                item.at(field).refuse(f"does not belong to a filter of type {chosen}")
        if chosen in found:
            kind.refuse(f"{chosen} stands here twice; put both changes into one")
        if item.at(FILTERS[chosen]).require():
            found[chosen] = item.at(FILTERS[chosen])
    return found


def _header_change(reader: Reader | None) -> HeaderChange:
    if reader is None:
        return HeaderChange()
    reader.fields(HEADER_MODIFIER)
    removed = [_changeable(item, item.text()) for item in reader.at("remove").items(at_most=16)]
    return HeaderChange(_headers(reader.at("set")), _headers(reader.at("add")), tuple(dict.fromkeys(removed)))


def _headers(reader: Reader) -> tuple[tuple[str, str], ...]:
    found: dict[str, str] = {}
    for item in reader.items(at_most=16):
        item.fields(HEADER)
        name, value = item.at("name"), item.at("value")
        own = _changeable(name, name.text()) if name.require() else ""
        text = printable(value, 4096)
        if value.require() and not text and value.sound:
            value.refuse("must not be empty")
        if own in found:
            name.refuse(f"{shown(own)} stands here twice")
        found[own] = text
    return tuple(found.items())


def _changeable(reader: Reader, text: str) -> str:
    name = token(reader, text).lower()
    if name in _ROUTED_BY:
        reader.refuse("host is changed by a URLRewrite, not as a header")
    return name


def _redirect(reader: Reader, by_prefix: bool) -> Redirect:
    reader.fields(REDIRECT)
    status = reader.at("statusCode")
    code = status.integer(0, 999, 302)
    if code not in STATUS_CODES:
        status.refuse(f"is {code}; must be one of {', '.join(map(str, STATUS_CODES))}")
    return Redirect(
        scheme=reader.at("scheme").choice(("http", "https")) or None,
        hostname=_hostname(reader.at("hostname")),
        port=port(reader.at("port")) or "derived",
        path=_path_change(reader.at("path"), by_prefix),
        status=code,
    )


def _rewrite(reader: Reader, by_prefix: bool) -> Rewrite:
    reader.fields(REWRITE)
    return Rewrite(_hostname(reader.at("hostname")), _path_change(reader.at("path"), by_prefix))


def _hostname(reader: Reader) -> str | None:
    text = reader.text()
    if reader.present and reader.sound and not is_subdomain(text):
        reader.refuse(f"{shown(text)} is not a hostname: wildcards and addresses cannot stand here")
    return text or None


def _path_change(reader: Reader, by_prefix: bool) -> PathChange | None:
    if not reader.fields(PATH).present:
        return None
    kinds: dict[str, tuple[Literal["full", "prefix"], str]] = {
        "ReplaceFullPath": ("full", "replaceFullPath"),
        "ReplacePrefixMatch": ("prefix", "replacePrefixMatch"),
    }
    type_ = reader.at("type")
    type_.require()
    chosen = type_.choice(tuple(kinds))
    if chosen not in kinds:
        return None
    kind, field = kinds[chosen]
    for _, other in kinds.values():
        if other != field and reader.at(other).present:
            reader.at(other).refuse(f"does not belong to type {chosen}")
    value = reader.at(field)
    value.require()
    if kind == "prefix" and not by_prefix:
        value.refuse("needs a rule with exactly one match, and that of type PathPrefix")
    text = printable(value, 1024)
    if text and not text.startswith("/"):
        value.refuse(f"{shown(text)} is not a path: it begins with /")
    return PathChange(kind, text)
