"""CorsPolicy: which other origins' pages may ask, and for what."""

from __future__ import annotations

from istio_integration.duration import duration_ms
from mesh.dialects.reading import Fields, Reader, shown
from mesh.dialects.string_match import value_match
from mesh.dialects.syntax import printable, token
from mesh.model import CorsPolicy, ValueMatch

CORS = Fields(
    (
        "allowOrigins",
        "allowOrigin",
        "allowMethods",
        "allowHeaders",
        "exposeHeaders",
        "maxAge",
        "allowCredentials",
        "unmatchedPreflights",
    )
)

_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "CONNECT", "OPTIONS", "TRACE", "*")
_PREFLIGHTS = ("UNSPECIFIED", "FORWARD", "IGNORE")


def cors(reader: Reader) -> CorsPolicy | None:
    if not reader.fields(CORS).present:
        return None
    old, origins, age = reader.at("allowOrigin"), reader.at("allowOrigins"), reader.at("maxAge")
    if old.present and origins.present:
        old.refuse("is the old form of allowOrigins: write only that")
    age_ms = duration_ms(age)
    if age_ms % 1000:
        age.refuse(f"is {shown(age.value)}; must be whole seconds")
    credentials = reader.at("allowCredentials")
    return CorsPolicy(
        origins=tuple(_origin(item) for item in origins.items())
        + tuple(_exact(item) for item in old.items()),
        methods=tuple(item.choice(_METHODS) for item in reader.at("allowMethods").items()),
        headers=_names(reader.at("allowHeaders")),
        exposed=_names(reader.at("exposeHeaders")),
        max_age_s=age_ms // 1000 if age.present else None,
        credentials=credentials.boolean() if credentials.present else None,
        forward_unmatched=reader.at("unmatchedPreflights").choice(_PREFLIGHTS) != "IGNORE",
    )


def _origin(reader: Reader) -> ValueMatch:
    found = value_match(reader, "origin", present=False)
    if found.value == "" and reader.sound:
        reader.refuse("must not be empty")
    return _any_if_star(found)


def _exact(reader: Reader) -> ValueMatch:
    return _any_if_star(ValueMatch("origin", "exact", printable(reader, 4096)))


def _any_if_star(match: ValueMatch) -> ValueMatch:
    """To Envoy what fits `*` fits every origin."""
    return ValueMatch("origin", "regex", ".*") if match.value == "*" else match


def _names(group: Reader) -> tuple[str, ...]:
    return tuple(item.text() if item.value == "*" else token(item, item.text()) for item in group.items())
