"""MeshConfig's extensionProviders (istio/api, mesh/v1alpha1/config.proto): services that are asked for
consent, and collectors of spans. What else stands there belongs to other features and is left alone.
"""

from __future__ import annotations

from typing import Literal

from istio_integration.duration import duration_ms
from mesh.dialects.reading import Fields, Reader, shown
from mesh.dialects.syntax import port, printable, token
from mesh.model import AuthorizationProvider, TextMatch, TracingProvider

_ZIPKIN_PATH = "/api/v2/spans"
#: Where Envoy's own tracer sends.
_DATADOG_PATH = "/v0.4/traces"

BODY = Fields(("maxRequestBytes", "allowPartialMessage"), refused=("packAsBytes",))
GRPC = Fields(
    ("service", "port", "timeout", "failOpen", "statusOnError", "includeRequestBodyInCheck"),
    refused=("clearRouteCache",),
)
HTTP = Fields(
    (
        *GRPC.read,
        "pathPrefix",
        "includeRequestHeadersInCheck",
        "includeHeadersInCheck",
        "includeAdditionalHeadersInCheck",
        "headersToUpstreamOnAllow",
        "headersToDownstreamOnDeny",
        "headersToDownstreamOnAllow",
    ),
    refused=("clearRouteCache",),
)
OPENTELEMETRY = Fields(
    ("service", "port", "maxTagLength", "http"),
    refused=("grpc", "resourceDetectors", "dynatraceSampler", "disableContextPropagation"),
)
OPENTELEMETRY_HTTP = Fields(("path", "timeout", "headers"))
HEADER = Fields(("name", "value"), refused=("envName",))
ZIPKIN = Fields(
    ("service", "port", "maxTagLength", "enable64bitTraceId", "path"),
    refused=("traceContextOption", "timeout", "headers"),
)
DATADOG = Fields(("service", "port", "maxTagLength"))

_TRACING: tuple[Literal["opentelemetry", "zipkin", "datadog"], ...] = ("opentelemetry", "zipkin", "datadog")


def _port(reader: Reader) -> int:
    """MeshConfig is read by protobuf's JSON mapping, in which a number may be text: Istio's documentation has
    it so."""
    text = reader.value
    if isinstance(text, str) and text.isascii() and text.isdecimal() and len(text) < 6:
        return port(reader.part(int(text), reader.path))
    return port(reader)


def authorization_provider(item: Reader) -> AuthorizationProvider | None:
    """None for providers of other features."""
    grpc, http = item.mapping().at("envoyExtAuthzGrpc"), item.at("envoyExtAuthzHttp")
    if not grpc.present and not http.present:
        return None
    item.at("name").require()
    reader = grpc.fields(GRPC) if grpc.present else http.fields(HTTP)
    reader.at("service").require()
    reader.at("port").require()
    body = reader.at("includeRequestBodyInCheck").fields(BODY)
    # includeHeadersInCheck is the former name.
    included = reader.at("includeRequestHeadersInCheck")
    included = included if included.present else reader.at("includeHeadersInCheck")
    return AuthorizationProvider(
        name=printable(item.at("name"), 253),
        kind="grpc" if grpc.present else "http",
        service=printable(reader.at("service"), 253),
        port=_port(reader.at("port")),
        timeout_ms=duration_ms(reader.at("timeout"), 600_000, at_least=0),
        fail_open=reader.at("failOpen").boolean(),
        status_on_error=_status(reader.at("statusOnError")),
        path_prefix=printable(reader.at("pathPrefix"), 1024),
        include_request_headers=_matches(included),
        include_additional_headers=tuple(
            sorted(
                (token(value, key).lower(), printable(value, 4096))
                for key, value in reader.at("includeAdditionalHeadersInCheck").entries()
            )
        ),
        headers_to_upstream_on_allow=_matches(reader.at("headersToUpstreamOnAllow")),
        headers_to_downstream_on_deny=_matches(reader.at("headersToDownstreamOnDeny")),
        headers_to_downstream_on_allow=_matches(reader.at("headersToDownstreamOnAllow")),
        body_bytes=body.at("maxRequestBytes").integer(1, 1 << 30, 0),
        allow_partial_body=body.at("allowPartialMessage").boolean(),
    )


def tracing_provider(item: Reader) -> TracingProvider | None:
    """None for providers of other features."""
    found = [key for key in _TRACING if item.mapping().at(key).present]
    if not found:
        return None
    item.at("name").require()
    reader = item.at(found[0])
    path, timeout, long_ids = "", 0, True
    headers: tuple[tuple[str, str], ...] = ()
    match found[0]:
        case "opentelemetry":
            http = reader.fields(OPENTELEMETRY).at("http").fields(OPENTELEMETRY_HTTP)
            if http.present and http.at("path").require():
                path = _path(http.at("path"))
            timeout = duration_ms(http.at("timeout"))
            headers = tuple(_header(entry) for entry in http.at("headers").items())
        case "zipkin":
            path = _path(reader.fields(ZIPKIN).at("path")) or _ZIPKIN_PATH
            long_ids = not reader.at("enable64bitTraceId").boolean()
        case "datadog":
            reader.fields(DATADOG)
            path = _DATADOG_PATH
    reader.at("service").require()
    reader.at("port").require()
    return TracingProvider(
        name=printable(item.at("name"), 253),
        kind=found[0],
        service=printable(reader.at("service"), 253),
        port=_port(reader.at("port")),
        path=path,
        timeout_ms=timeout,
        headers=headers,
        max_tag_length=reader.at("maxTagLength").integer(1, 1 << 16, 0),
        long_ids=long_ids,
    )


def _header(entry: Reader) -> tuple[str, str]:
    name = entry.fields(HEADER).at("name")
    name.require()
    return token(name, name.text() or "x").lower(), printable(entry.at("value"), 4096)


def _path(reader: Reader) -> str:
    text = printable(reader, 1024)
    if text and not text.startswith("/"):
        reader.refuse(f"{shown(text)} is not a path: it begins with /")
    return text


def _matches(group: Reader) -> tuple[TextMatch, ...]:
    """Names of headers: exact, prefix* or *suffix."""
    found = []
    for item in group.items():
        written = printable(item, 256).lower()
        if written.startswith("*"):
            found.append(TextMatch("suffix", written[1:]))
        elif written.endswith("*"):
            found.append(TextMatch("prefix", written[:-1]))
        else:
            found.append(TextMatch("exact", token(item, written)))
    return tuple(dict.fromkeys(found))


def _status(reader: Reader) -> int:
    """A status code, as text in Istio's API."""
    if not reader.present:
        return 403
    code = str(reader.value)
    if not (code.isascii() and code.isdigit() and 200 <= int(code) <= 599):
        reader.refuse(f"{shown(reader.value)} is not a status code from 200 to 599")
        return 403
    return int(code)
