"""The filters of HTTPRoutes and GRPCRoutes: header changes, redirects, rewrites and mirrors.

A filter that is not supported is refused, never skipped: the API says that a request must not pass
by a filter that it should have met.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from mesh.dialects.gateway_cors import read_cors
from mesh.dialects.gateway_route import TARGET, target
from mesh.dialects.reading import Fields, Reader, shown
from mesh.dialects.syntax import is_subdomain, port, printable, token
from mesh.model import CorsPolicy, HeaderChange, Mirror, PathChange, Redirect, Rewrite, RouteMatch

#: The field that holds the settings of each type.
FILTERS = {
    "RequestHeaderModifier": "requestHeaderModifier",
    "ResponseHeaderModifier": "responseHeaderModifier",
    "RequestRedirect": "requestRedirect",
    "URLRewrite": "urlRewrite",
    "RequestMirror": "requestMirror",
    "CORS": "cors",
    "ExternalAuth": "externalAuth",
    "ExtensionRef": "extensionRef",
}
HEADER_FILTERS = ("RequestHeaderModifier", "ResponseHeaderModifier")
_HEADERS = tuple(FILTERS[kind] for kind in HEADER_FILTERS)
_REDIRECTS = ("requestRedirect", "urlRewrite")
HTTP_FILTER = Fields(
    ("type", *_HEADERS, *_REDIRECTS, "requestMirror", "cors"), refused=("externalAuth", "extensionRef")
)
HTTP_BACKEND_FILTER = Fields(
    ("type", *_HEADERS),
    refused=(*_REDIRECTS, "requestMirror", "cors", "externalAuth", "extensionRef"),
)
GRPC_FILTER = Fields(("type", *_HEADERS, "requestMirror"), refused=("extensionRef",))
GRPC_BACKEND_FILTER = Fields(("type", *_HEADERS), refused=("requestMirror", "extensionRef"))
HEADER_MODIFIER = Fields(("set", "add", "remove"))
HEADER = Fields(("name", "value"))
REDIRECT = Fields(("scheme", "hostname", "path", "port", "statusCode"))
REWRITE = Fields(("hostname", "path"))
PATH = Fields(("type", "replaceFullPath", "replacePrefixMatch"))
MIRROR = Fields(("backendRef", "percent", "fraction"))
MIRROR_TARGET = Fields(TARGET)
FRACTION = Fields(("numerator", "denominator"))

STATUS_CODES = (301, 302, 303, 307, 308)
#: Headers that only a rewrite may change, because Envoy routes by them.
_ROUTED_BY = ("host",)
_LARGEST = (1 << 31) - 1


@dataclass(frozen=True, slots=True)
class Filters:
    request_headers: HeaderChange
    response_headers: HeaderChange
    redirect: Redirect | None = None
    rewrite: Rewrite | None = None
    mirrors: tuple[Mirror, ...] = ()
    cors: CorsPolicy | None = None


def read_http_filters(reader: Reader, matches: Sequence[RouteMatch]) -> Filters:
    """The filters of a rule of an HTTPRoute with these matches."""
    found = _settings(reader, HTTP_FILTER)
    redirect, rewrite, cors = (found.one(kind) for kind in ("RequestRedirect", "URLRewrite", "CORS"))
    mirrors = _mirrors(found)
    if redirect and rewrite:
        reader.refuse("RequestRedirect and URLRewrite exclude each other")
    if redirect and mirrors:
        reader.refuse(
            "RequestRedirect and RequestMirror exclude each other: what is answered at once goes nowhere"
        )
    by_prefix = len(matches) == 1 and matches[0].path.kind == "prefix"
    return Filters(
        *_header_changes(found),
        _redirect(redirect, by_prefix) if redirect else None,
        _rewrite(rewrite, by_prefix) if rewrite else None,
        mirrors,
        read_cors(cors) if cors else None,
    )


def read_grpc_filters(reader: Reader) -> Filters:
    """The filters of a rule of a GRPCRoute."""
    found = _settings(reader, GRPC_FILTER)
    return Filters(*_header_changes(found), mirrors=_mirrors(found))


def read_backend_filters(reader: Reader, fields: Fields) -> Filters:
    """The filters of one backend: only header changes can be made there."""
    return Filters(*_header_changes(_settings(reader, fields)))


class _Found(dict[str, list[Reader]]):
    """The settings of the filters of each type."""

    def one(self, kind: str) -> Reader | None:
        return self[kind][0] if kind in self else None


def _settings(reader: Reader, fields: Fields) -> _Found:
    found = _Found()
    supported = tuple(kind for kind, field in FILTERS.items() if field in fields.read)
    others = tuple(kind for kind, field in FILTERS.items() if field in fields.refused)
    for item in reader.items(at_most=16):
        item.fields(fields)
        type_ = item.at("type")
        type_.require()
        chosen = type_.choice(supported, unsupported=others)
        if chosen not in supported:
            continue
        for kind in supported:
            if kind != chosen and item.at(FILTERS[kind]).present:
                item.at(FILTERS[kind]).refuse(f"does not belong to a filter of type {chosen}")
        if chosen in found and chosen != "RequestMirror":
            type_.refuse(f"{chosen} stands here twice; put both changes into one")
        if item.at(FILTERS[chosen]).require():
            found.setdefault(chosen, []).append(item.at(FILTERS[chosen]))
    return found


# --- copies ------------------------------------------------------------------------------------


def _mirrors(found: _Found) -> tuple[Mirror, ...]:
    return tuple(_mirror(item) for item in found.get("RequestMirror", ()))


def _mirror(reader: Reader) -> Mirror:
    reader.fields(MIRROR)
    backend = reader.at("backendRef").fields(MIRROR_TARGET)
    service, number = target(backend, "nothing is mirrored") if backend.require() else (None, 0)
    return Mirror(service, number, share=_share(reader))


def _share(reader: Reader) -> int:
    """In millionths."""
    percent, fraction = reader.at("percent"), reader.at("fraction").fields(FRACTION)
    if percent.present and fraction.present:
        percent.refuse("stands alone, without fraction")
    if not fraction.present:
        return percent.integer(0, 100, 100) * 10_000
    fraction.at("numerator").require()
    whole = fraction.at("denominator").integer(1, _LARGEST, 100)
    part = fraction.at("numerator").integer(0, _LARGEST)
    if part > whole:
        fraction.at("numerator").refuse(f"is {part}, which is more than the denominator, {whole}")
    return round(part * 1_000_000 / whole)


# --- headers -----------------------------------------------------------------------------------


def _header_changes(found: _Found) -> tuple[HeaderChange, HeaderChange]:
    """Of requests and of responses."""
    request, response = (_header_change(found.one(kind)) for kind in HEADER_FILTERS)
    return request, response


def _header_change(reader: Reader | None) -> HeaderChange:
    if reader is None:
        return HeaderChange()
    reader.fields(HEADER_MODIFIER)
    removed = [_changeable(item, item.text()) for item in reader.at("remove").items(at_most=16)]
    return HeaderChange(_headers(reader.at("set")), _headers(reader.at("add")), tuple(dict.fromkeys(removed)))


def _headers(reader: Reader) -> tuple[tuple[str, str], ...]:
    """Of equivalent names the first counts (HTTPHeader.name)."""
    found: dict[str, str] = {}
    for item in reader.items(at_most=16):
        item.fields(HEADER)
        name, value = item.at("name"), item.at("value")
        own = _changeable(name, name.text()) if name.require() else ""
        text = printable(value, 4096)
        if value.require() and not text and value.sound:
            value.refuse("must not be empty")
        if own in found:
            name.note(f"{shown(own)} stands here twice: the first counts, this one has no effect")
        found.setdefault(own, text)
    return tuple(found.items())


def _changeable(reader: Reader, text: str) -> str:
    name = token(reader, text).lower()
    if name in _ROUTED_BY:
        reader.refuse("host is changed by a URLRewrite, not as a header")
    return name


# --- addresses ---------------------------------------------------------------------------------


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
    # Of a full path nothing is left but the root.
    return PathChange(kind, text or ("/" if kind == "full" else ""))
