"""Envoy's format language of access logs, as far as a format is read: literal text and commands such as
`%REQ(:METHOD)%`. A command that Envoy would refuse costs a whole listener, so it is refused here, by name.

https://www.envoyproxy.io/docs/envoy/latest/configuration/observability/access_log/usage
"""

from __future__ import annotations

import json
import re

from mesh.dialects.reading import Reader, shown

#: Istio's labels, where nobody gives any.
_DEFAULT_LABELS = {
    "start_time": "START_TIME",
    "route_name": "ROUTE_NAME",
    "method": "REQ(:METHOD)",
    "path": "REQ(X-ENVOY-ORIGINAL-PATH?:PATH)",
    "protocol": "PROTOCOL",
    "response_code": "RESPONSE_CODE",
    "response_flags": "RESPONSE_FLAGS",
    "response_code_details": "RESPONSE_CODE_DETAILS",
    "connection_termination_details": "CONNECTION_TERMINATION_DETAILS",
    "bytes_received": "BYTES_RECEIVED",
    "bytes_sent": "BYTES_SENT",
    "duration": "DURATION",
    "upstream_service_time": "RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)",
    "x_forwarded_for": "REQ(X-FORWARDED-FOR)",
    "user_agent": "REQ(USER-AGENT)",
    "request_id": "REQ(X-REQUEST-ID)",
    "authority": "REQ(:AUTHORITY)",
    "upstream_host": "UPSTREAM_HOST",
    "upstream_cluster": "UPSTREAM_CLUSTER_RAW",
    "upstream_local_address": "UPSTREAM_LOCAL_ADDRESS",
    "downstream_local_address": "DOWNSTREAM_LOCAL_ADDRESS",
    "downstream_remote_address": "DOWNSTREAM_REMOTE_ADDRESS",
    "requested_server_name": "REQUESTED_SERVER_NAME",
    "upstream_transport_failure_reason": "UPSTREAM_TRANSPORT_FAILURE_REASON",
}
DEFAULT_LABELS = json.dumps({name: f"%{what}%" for name, what in _DEFAULT_LABELS.items()}, sort_keys=True)

#: Commands that take nothing.
_PLAIN = """
    ACCESS_LOG_TYPE BYTES_RECEIVED BYTES_SENT CONNECTION_ID CONNECTION_TERMINATION_DETAILS
    DOWNSTREAM_DIRECT_REMOTE_ADDRESS DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT
    DOWNSTREAM_HEADER_BYTES_RECEIVED DOWNSTREAM_HEADER_BYTES_SENT DOWNSTREAM_LOCAL_ADDRESS
    DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT DOWNSTREAM_LOCAL_PORT DOWNSTREAM_LOCAL_SUBJECT
    DOWNSTREAM_LOCAL_URI_SAN DOWNSTREAM_PEER_CERT_V_END DOWNSTREAM_PEER_CERT_V_START
    DOWNSTREAM_PEER_FINGERPRINT_256 DOWNSTREAM_PEER_ISSUER DOWNSTREAM_PEER_SERIAL DOWNSTREAM_PEER_SUBJECT
    DOWNSTREAM_PEER_URI_SAN DOWNSTREAM_REMOTE_ADDRESS DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT
    DOWNSTREAM_REMOTE_PORT DOWNSTREAM_TLS_CIPHER DOWNSTREAM_TLS_SESSION_ID DOWNSTREAM_TLS_VERSION
    DOWNSTREAM_TRANSPORT_FAILURE_REASON DOWNSTREAM_WIRE_BYTES_RECEIVED DOWNSTREAM_WIRE_BYTES_SENT DURATION
    FILTER_CHAIN_NAME GRPC_STATUS GRPC_STATUS_NUMBER HOSTNAME PROTOCOL REQUESTED_SERVER_NAME
    REQUEST_DURATION REQUEST_HEADERS_BYTES REQUEST_TX_DURATION RESPONSE_CODE RESPONSE_CODE_DETAILS
    RESPONSE_DURATION RESPONSE_FLAGS RESPONSE_FLAGS_LONG RESPONSE_HEADERS_BYTES RESPONSE_TRAILERS_BYTES
    RESPONSE_TX_DURATION ROUTE_NAME SPAN_ID STREAM_ID TLS_JA3_FINGERPRINT TRACE_ID UNIQUE_ID
    UPSTREAM_CLUSTER UPSTREAM_CLUSTER_RAW UPSTREAM_CONNECTION_ID UPSTREAM_HEADER_BYTES_RECEIVED
    UPSTREAM_HEADER_BYTES_SENT UPSTREAM_HOST UPSTREAM_LOCAL_ADDRESS UPSTREAM_LOCAL_ADDRESS_WITHOUT_PORT
    UPSTREAM_LOCAL_PORT UPSTREAM_PROTOCOL UPSTREAM_REMOTE_ADDRESS UPSTREAM_REMOTE_ADDRESS_WITHOUT_PORT
    UPSTREAM_REMOTE_PORT UPSTREAM_REQUEST_ATTEMPT_COUNT UPSTREAM_TLS_CIPHER UPSTREAM_TLS_VERSION
    UPSTREAM_TRANSPORT_FAILURE_REASON UPSTREAM_WIRE_BYTES_RECEIVED UPSTREAM_WIRE_BYTES_SENT
    VIRTUAL_CLUSTER_NAME
"""
PLAIN = frozenset(_PLAIN.split())
_HEADER = re.compile(r"[:A-Za-z0-9!#$&'*+.^_`|~-]{1,256}(\?[:A-Za-z0-9!#$&'*+.^_`|~-]{1,256})?")
_KEYS = re.compile(r"[A-Za-z0-9_.@/-]{1,256}(:[A-Za-z0-9_.@/-]{1,256})*")
_STATE = re.compile(r"[A-Za-z0-9_./-]{1,256}(:(PLAIN|TYPED))?")
_TIME = re.compile(r"[-%A-Za-z0-9:/., _+]{1,256}")
#: Commands that take something, and what.
TAKING = {
    **dict.fromkeys(("REQ", "RESP", "TRAILER", "REQ_WITHOUT_QUERY"), _HEADER),
    **dict.fromkeys(("DYNAMIC_METADATA", "CLUSTER_METADATA", "UPSTREAM_METADATA"), _KEYS),
    "FILTER_STATE": _STATE,
}
#: Of those, the ones that take no length.
UNCUT = frozenset(("CLUSTER_METADATA", "UPSTREAM_METADATA"))
_COMMAND = re.compile(r"%([A-Z][A-Z0-9_]*)(?:\(([^()\r\n]*)\))?(?::([0-9]{1,5}))?%")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff]")
_LONGEST, _DEEPEST = 8192, 8


def read_text(reader: Reader) -> str:
    """A format that was given, "" where there is none."""
    text = reader.text()
    if len(text) > _LONGEST:
        reader.refuse(f"has {len(text)} characters; at most {_LONGEST} are allowed")
    elif _CONTROL.search(text):
        reader.refuse("holds control characters")
    elif problem := _wrong(text):
        reader.refuse(problem)
    return text


def read_labels(reader: Reader, *, flat: bool = False) -> str:
    """Labels that were given, as JSON; "" where there are none. If `flat` all must be texts."""
    _check(reader, flat, _DEEPEST)
    return json.dumps(reader.value, sort_keys=True) if reader.sound and reader.value else ""


def parse_labels(reader: Reader, text: str) -> str:
    """Labels that were given as a text of JSON, which stands in `reader`."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        reader.refuse(f"is not JSON, as accessLogEncoding says: {error}")
        return ""
    return read_labels(reader.part(value, reader.path))


def line(text: str) -> str:
    """A line of text, which Istio ends where the user does not."""
    return text if text.endswith("\n") else f"{text}\n"


def _check(reader: Reader, flat: bool, levels: int) -> None:
    for name, value in reader.entries():
        if _CONTROL.search(name):
            value.refuse("the name holds control characters")
        match value.value:
            case str():
                read_text(value)
            case dict() if levels and not flat:
                _check(value, flat, levels - 1)
            case bool() | int() if not flat and abs(value.value) < 1 << 53:
                continue
            case _:
                value.refuse(f"{shown(value.value)} is no label: write a text such as '%PROTOCOL%'")


def _wrong(text: str) -> str:
    """What Envoy would have against a format."""
    at = 0
    while (at := text.find("%", at)) >= 0:
        if text.startswith("%%", at):
            at += 2
            continue
        found = _COMMAND.match(text, at)
        if found is None:
            said = shown(text[at : at + 40])
            return f"{said} begins no command such as %PROTOCOL%; % alone is written %%"
        if problem := _misused(found[1], found[2], found[3]):
            return problem
        at = found.end()
    return ""


def _misused(name: str, argument: str | None, length: str | None) -> str:
    if name == "START_TIME":
        fits = length is None and (argument is None or _TIME.fullmatch(argument))
        return "" if fits else "%START_TIME% takes a time format such as %START_TIME(%Y-%m-%d)%"
    if name in PLAIN:
        return "" if (argument, length) == (None, None) else f"%{name}% takes no parentheses and no length"
    if name in UNCUT and length is not None:
        return f"%{name}(...)% takes no length"
    if name in TAKING:
        fits = argument is not None and TAKING[name].fullmatch(argument)
        return "" if fits else f"{shown(argument or '')} is nothing that %{name}(...)% takes"
    return f"%{name}% is not supported"
