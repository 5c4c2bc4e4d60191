"""Envoy's access records, as Envoy's own messages say them."""

from __future__ import annotations

import dataclasses
import datetime
from typing import Any

import pytest
from envoy_data_plane.envoy.config.core.v3 import Address as EnvoyAddress
from envoy_data_plane.envoy.config.core.v3 import Metadata, RequestMethod, SocketAddress
from envoy_data_plane.envoy.data.accesslog.v3 import (
    AccessLogCommon,
    ConnectionProperties,
    HttpAccessLogEntry,
    HttpRequestProperties,
    HttpResponseProperties,
    ResponseFlags,
    TcpAccessLogEntry,
    TlsProperties,
    TlsPropertiesCertificateProperties,
    TlsPropertiesCertificatePropertiesSubjectAltName,
)
from envoy_data_plane.envoy.extensions.filters.http.grpc_stats.v3 import FilterObject
from envoy_data_plane.envoy.service.accesslog.v3 import (
    StreamAccessLogsMessage,
    StreamAccessLogsMessageHttpAccessLogEntries,
    StreamAccessLogsMessageTcpAccessLogEntries,
)
from envoy_data_plane.google.protobuf import Any as EnvoyAny
from envoy_data_plane.google.protobuf import Struct

from agent.access_log import Address, Leg, LoggedConnection, LoggedRequest, Principals, Refusal
from agent.access_log_messages import FIELDS
from mesh.discovery.wire import WireError, bytes_field, text_field
from tests.access_log import connections, refusals, requests

MESSAGES: dict[str, type[Any]] = {
    "StreamAccessLogsMessage": StreamAccessLogsMessage,
    "HTTPAccessLogEntries": StreamAccessLogsMessageHttpAccessLogEntries,
    "TCPAccessLogEntries": StreamAccessLogsMessageTcpAccessLogEntries,
    "HTTPAccessLogEntry": HttpAccessLogEntry,
    "TCPAccessLogEntry": TcpAccessLogEntry,
    "ConnectionProperties": ConnectionProperties,
    "AccessLogCommon": AccessLogCommon,
    "HTTPRequestProperties": HttpRequestProperties,
    "HTTPResponseProperties": HttpResponseProperties,
    "Metadata": Metadata,
    "Address": EnvoyAddress,
    "SocketAddress": SocketAddress,
    "FilterObject": FilterObject,
    "TLSProperties": TlsProperties,
    "CertificateProperties": TlsPropertiesCertificateProperties,
    "SubjectAltName": TlsPropertiesCertificatePropertiesSubjectAltName,
}


def kind(type_: str) -> str:
    """As the generated classes call it."""
    if type_.startswith("map<"):
        return "map"
    return type_ if type_ in ("string", "uint32", "uint64") else "message"


@pytest.mark.parametrize(
    ("message", "name"), [(message, name) for message, fields in FIELDS.items() for name in fields]
)
def test_a_field_has_the_number_and_type_that_envoy_gives_it(message: str, name: str) -> None:
    number, type_ = FIELDS[message][name]
    found = {field.name: field.metadata["betterproto"] for field in dataclasses.fields(MESSAGES[message])}
    assert found[name].number == number
    assert found[name].proto_type.replace("enum", "uint32") == kind(type_)
    assert found[name].repeated == type_.startswith("repeated ")


def at(ip: str, port: int) -> EnvoyAddress:
    return EnvoyAddress(socket_address=SocketAddress(address=ip, port_value=port))


COMMON = AccessLogCommon(
    downstream_remote_address=at("8.8.8.8", 1),  # what X-Forwarded-For says
    downstream_direct_remote_address=at("10.0.0.1", 40000),
    downstream_local_address=at("10.128.0.1", 80),
    upstream_remote_address=at("10.0.0.2", 8080),
    upstream_local_address=at("10.0.0.1", 50000),
    start_time=datetime.datetime(2023, 11, 14, 22, 13, 20, 500_000, tzinfo=datetime.UTC),
    time_to_first_upstream_tx_byte=datetime.timedelta(milliseconds=1),
    time_to_last_upstream_rx_byte=datetime.timedelta(milliseconds=2),
    time_to_last_downstream_tx_byte=datetime.timedelta(milliseconds=3),
    duration=datetime.timedelta(milliseconds=4),
    upstream_cluster="outbound|80||web.shop.svc.cluster.local",
    response_flags=ResponseFlags(upstream_connection_failure=True, rate_limited=True),
    metadata=Metadata(
        filter_metadata={
            "envoy.filters.http.rbac": Struct.from_dict({"enforced_engine_result": "allowed"}),
            "envoy.filters.http.jwt_authn": Struct.from_dict(
                {
                    "payload": {"sub": "ann", "groups": ["readers"], "exp": 4102444800},
                    "a rule": {"code": "1", "message": "Jwt is expired"},
                }
            ),
            "envoy.filters.http.other": Struct.from_dict({"enforced_engine_result": "denied"}),
        }
    ),
    route_name="inbound|300",
    filter_state_objects={
        "envoy.filters.http.grpc_stats": EnvoyAny.pack(
            FilterObject(request_message_count=3, response_message_count=5)
        )
    },
    downstream_wire_bytes_sent=2000,
    downstream_wire_bytes_received=100,
)
REQUEST = HttpRequestProperties(
    request_method=RequestMethod.POST,
    authority="web",
    path="/a?b=ä",
    request_headers={
        "content-type": "application/grpc",
        "traceparent": f"00-{1:032x}-{2:016x}-01",
    },
)
RESPONSE = HttpResponseProperties(
    response_code=503,
    response_code_details="via_upstream",
    response_headers={"grpc-status": "2"},
    response_trailers={"grpc-status": "14"},
)


def message(*entries: HttpAccessLogEntry) -> bytes:
    logs = StreamAccessLogsMessageHttpAccessLogEntries(log_entry=list(entries))
    return bytes(StreamAccessLogsMessage(http_logs=logs))


def test_a_record_is_read_with_all_that_is_asked_of_it() -> None:
    (found,) = requests(message(HttpAccessLogEntry(COMMON, request=REQUEST, response=RESPONSE)))
    assert found == LoggedRequest(
        remote=Address("10.0.0.1", 40000),
        local=Address("10.128.0.1", 80),
        upstream=Address("10.0.0.2", 8080),
        started=1_700_000_000.5,
        duration=0.003,
        method="POST",
        path="/a?b=ä",
        authority="web",
        status=503,
        details="via_upstream",
        route="inbound|300",
        said={"enforced_engine_result": "allowed"},
        tokens={"a rule": "Jwt is expired"},
        lasted=0.004,
        received=100,
        sent=2000,
        flags="UF,RL",
        cluster="outbound|80||web.shop.svc.cluster.local",
        is_grpc=True,
        grpc_status="14",
        messages=(3, 5),
        traceparent=f"00-{1:032x}-{2:016x}-01",
        leg=Leg(Address("10.0.0.1", 50000), 0.001, 0.002),
    )


@pytest.mark.parametrize("traceparent", ["", "00", f"00-{1:032x}-{2:016x}-00", f"00-{1:032x}-{2:016x}-02"])
def test_a_trace_that_is_not_recorded_is_none(traceparent: str) -> None:
    asked = HttpRequestProperties(request_headers={"traceparent": traceparent})
    (found,) = requests(message(HttpAccessLogEntry(COMMON, request=asked)))
    assert (found.traceparent, found.leg) == ("", Leg())


WEB, CLIENT = (f"spiffe://cluster.local/ns/shop/sa/{name}" for name in ("web", "client"))


def certificate(*uris: str, **more: str) -> TlsPropertiesCertificateProperties:
    found = [TlsPropertiesCertificatePropertiesSubjectAltName(uri=uri) for uri in uris]
    return TlsPropertiesCertificateProperties(subject_alt_name=found, issuer="O=cluster.local", **more)


def ended(
    peer: TlsPropertiesCertificateProperties | None, local: TlsPropertiesCertificateProperties
) -> AccessLogCommon:
    """As Envoy tells of TLS that it has ended."""
    return AccessLogCommon(
        tls_properties=TlsProperties(
            tls_sni_hostname="web",
            tls_session_id="8d3f",
            local_certificate_properties=local,
            # Envoy writes that of no certificate too.
            peer_certificate_properties=peer or TlsPropertiesCertificateProperties(),
        )
    )


@pytest.mark.parametrize(
    ("peer", "expected"),
    [
        (certificate(CLIENT), Principals(CLIENT, WEB)),
        (certificate("https://shop.example", CLIENT, WEB), Principals(CLIENT, WEB)),
        (certificate(subject="CN=stranger"), Principals("", WEB)),
        (certificate("https://shop.example", f"urn:{CLIENT}"), Principals("", WEB)),
        (None, Principals()),
    ],
)
def test_principals_are_the_spiffe_identities_of_a_connection_whose_client_has_a_certificate(
    peer: TlsPropertiesCertificateProperties | None, expected: Principals
) -> None:
    common = ended(peer, certificate(WEB))
    (request,) = requests(message(HttpAccessLogEntry(common)))
    assert request == LoggedRequest(principals=expected)
    logs = StreamAccessLogsMessageTcpAccessLogEntries(log_entry=[TcpAccessLogEntry(common)])
    (connection,) = connections(bytes(StreamAccessLogsMessage(tcp_logs=logs)))
    assert connection == LoggedConnection(principals=expected)


@pytest.mark.parametrize(
    ("asked_for", "failure", "unproven"),
    [
        ({}, "", False),
        ({"asked_for": "web.example"}, "", False),
        ({"asked_for": "-"}, "", True),
        ({}, "TLS_error:PEER_DID_NOT_RETURN_A_CERTIFICATE", True),
    ],
)
def test_a_refused_connection_says_by_which_class_and_whether_a_certificate_was_missing(
    asked_for: dict[str, str], failure: str, unproven: bool
) -> None:
    common = AccessLogCommon(
        downstream_direct_remote_address=at("10.0.0.1", 40000),
        downstream_local_address=at("10.0.0.2", 8080),
        start_time=datetime.datetime.fromtimestamp(1_700_000_000, datetime.UTC),
        custom_tags={"refused_by": "inbound|256", **asked_for},
        downstream_transport_failure_reason=failure,
    )
    logs = StreamAccessLogsMessageTcpAccessLogEntries(log_entry=[TcpAccessLogEntry(common)])
    (refusal,) = refusals(bytes(StreamAccessLogsMessage(tcp_logs=logs)))
    ends = Address("10.0.0.1", 40000), Address("10.0.0.2", 8080)
    assert refusal == Refusal(*ends, 1_700_000_000.0, "inbound|256", unproven)


def test_what_a_record_does_not_say_is_empty() -> None:
    first, second = requests(message(HttpAccessLogEntry(), HttpAccessLogEntry(COMMON)))
    assert first == LoggedRequest()
    assert (second.method, second.leg, second.lasted) == ("", Leg(), 0.004)


def test_bytes_that_are_no_records_are_refused_and_unknown_fields_are_skipped() -> None:
    entry = bytes(HttpAccessLogEntry(request=REQUEST)) + text_field(999, "of a newer Envoy")
    (found,) = requests(bytes_field(2, bytes_field(1, entry)))
    assert found.path == "/a?b=ä"
    with pytest.raises(WireError):
        list(requests(bytes_field(2, b"\x0a\xff")))
    cut = bytes_field(1, bytes_field(3, b"\x0a\xff"))  # an address
    with pytest.raises(WireError):
        list(requests(bytes_field(2, bytes_field(1, cut))))
