"""What Envoy answers itself: HTTPRedirect and HTTPDirectResponse."""

from __future__ import annotations

import binascii
from base64 import b64decode
from collections.abc import Sequence

from istio_integration.hosts import authority
from mesh.dialects.reading import Fields, Reader, shown
from mesh.dialects.syntax import port, printable
from mesh.model import DirectResponse, PathChange, Redirect, RouteMatch

REDIRECT = Fields(("uri", "prefixRewrite", "authority", "port", "derivePort", "scheme", "redirectCode"))
DIRECT_RESPONSE = Fields(("status", "body"))
BODY = Fields(("string", "bytes"))

_CODES = (301, 302, 303, 307, 308)
_LARGEST_BODY = 1 << 20


def redirect(reader: Reader, matches: Sequence[RouteMatch]) -> Redirect:
    """Without a port none is written but the one that the request's own Host has."""
    reader.fields(REDIRECT)
    hostname, written_port = authority(reader.at("authority"))
    number, derived, code = reader.at("port"), reader.at("derivePort"), reader.at("redirectCode")
    if number.present and derived.present:
        derived.refuse("cannot stand beside port: write one of them")
    if written_port and (number.present or derived.present):
        reader.at("authority").refuse("has a port of its own: write the port once")
    chosen = derived.choice(("FROM_PROTOCOL_DEFAULT", "FROM_REQUEST_PORT"))
    status = code.integer(0, 999, 301) or 301
    if status not in _CODES:
        code.refuse(f"is {status}; must be one of {', '.join(map(str, _CODES))}")
    path = _path(reader, matches)
    scheme = reader.at("scheme").choice(("http", "https"))
    if reader.sound and not (hostname or path or scheme or number.present or derived.present):
        reader.refuse("says nothing: write uri, prefixRewrite, authority, scheme or port")
    return Redirect(
        scheme=scheme or None,
        hostname=hostname or None,
        port="dialled" if chosen == "FROM_REQUEST_PORT" else written_port or port(number) or None,
        path=path,
        status=status,
    )


def _path(reader: Reader, matches: Sequence[RouteMatch]) -> PathChange | None:
    uri, prefix = reader.at("uri"), reader.at("prefixRewrite")
    if uri.present and prefix.present:
        prefix.refuse("cannot stand beside uri: write one of them")
    if uri.text():
        return PathChange("full", path(uri))
    if not prefix.text():
        return None
    if any(match.path.kind in ("exact", "regex") for match in matches):
        prefix.refuse("needs uri matches of kind prefix only")
    return PathChange("start", path(prefix))


def path(reader: Reader) -> str:
    text = printable(reader, 4096)
    if reader.sound and text and not text.startswith("/"):
        reader.refuse(f"{shown(text)} is not a path: it begins with /")
    return text


def direct_response(reader: Reader) -> DirectResponse:
    reader.fields(DIRECT_RESPONSE)
    reader.at("status").require()
    return DirectResponse(reader.at("status").integer(200, 599, 503), _body(reader.at("body")))


def _body(reader: Reader) -> bytes:
    reader.fields(BODY)
    text, encoded = reader.at("string"), reader.at("bytes")
    if text.present and encoded.present:
        encoded.refuse("cannot stand beside string: write one of them")
    try:
        found = b64decode(encoded.text(), validate=True) if encoded.present else text.text().encode()
    except UnicodeEncodeError:
        text.refuse("is not text that can be written as UTF-8")
        return b""
    except (binascii.Error, ValueError):
        encoded.refuse("is not base64")
        return b""
    if len(found) > _LARGEST_BODY:
        reader.refuse(f"is {len(found)} bytes long; at most {_LARGEST_BODY} are allowed")
    return found
