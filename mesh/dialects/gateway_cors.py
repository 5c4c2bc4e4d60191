"""The CORS filter of an HTTPRoute (GEP-1767)."""

from __future__ import annotations

import re

from mesh.dialects.reading import Fields, Reader, shown
from mesh.dialects.syntax import token
from mesh.model import CorsPolicy, ValueMatch
from mesh.routes.origin_pattern import ANY, expression_of

CORS = Fields(("allowOrigins", "allowCredentials", "allowMethods", "allowHeaders", "exposeHeaders", "maxAge"))

METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH")
#: Seconds, where the filter does not say it.
MAX_AGE = 5

_ORIGIN = re.compile(r"(https?)://(\*|(?:\*\.)?[a-z0-9-]+(?:\.[a-z0-9-]+)*)(?::([0-9]{1,5}))?")
_DEFAULT_PORTS = {"http": "80", "https": "443"}


def read_cors(reader: Reader) -> CorsPolicy:
    """A preflight of another origin is answered without leave, and not forwarded."""
    reader.fields(CORS)
    credentials = reader.at("allowCredentials").boolean()
    exposed = _names(reader.at("exposeHeaders"), alone=False)
    if credentials and "*" in exposed:
        # Beside credentials browsers take it for the name of a header (Fetch, 3.2.3).
        reader.at("exposeHeaders").note("* has no effect beside allowCredentials: name the headers")
        exposed = tuple(name for name in exposed if name != "*")
    return CorsPolicy(
        origins=_origins(reader.at("allowOrigins")),
        methods=_methods(reader.at("allowMethods")),
        headers=_names(reader.at("allowHeaders")),
        exposed=exposed,
        max_age_s=reader.at("maxAge").integer(1, (1 << 31) - 1, MAX_AGE),
        credentials=credentials,
        forward_unmatched=False,
    )


def _origins(reader: Reader) -> tuple[ValueMatch, ...]:
    items = reader.items(at_most=64)
    found = tuple(dict.fromkeys(_origin(item) for item in items))
    _alone(reader, [item.value for item in items])
    return found


def _origin(reader: Reader) -> ValueMatch:
    """As browsers send it (RFC 6454, 6.2): in lower case, without the port that follows from the scheme."""
    text = reader.text()
    if text == "*":
        return ValueMatch("origin", "regex", ANY)
    parts = _ORIGIN.fullmatch(text.lower())
    if parts is None or len(text) > 253 or int(parts[3] or 1) not in range(1, 65536):
        if reader.sound:
            reader.refuse(
                f"{shown(text)} is not an origin: write * or one such as https://*.example.com:8443"
            )
        return ValueMatch("origin", "exact", "")
    scheme, host, port = parts[1], parts[2], parts[3]
    ending = "" if port in (None, _DEFAULT_PORTS[scheme]) else f":{int(port)}"
    if "*" not in host:
        return ValueMatch("origin", "exact", f"{scheme}://{host}{ending}")
    return ValueMatch("origin", "regex", expression_of(scheme, host, ending))


def _methods(reader: Reader) -> tuple[str, ...]:
    found = [item.choice((*METHODS, "*")) for item in reader.items(at_most=9)]
    _alone(reader, found)
    return tuple(dict.fromkeys(found))


def _names(reader: Reader, alone: bool = True) -> tuple[str, ...]:
    """Names of headers in lower case, or `*`."""
    found = [token(item, item.text()).lower() for item in reader.items(at_most=64)]
    if alone:
        _alone(reader, found)
    return tuple(dict.fromkeys(found))


def _alone(reader: Reader, found: list[str]) -> None:
    if "*" in found and len(found) > 1:
        reader.refuse("has more than *, which stands alone: it is all of them")
