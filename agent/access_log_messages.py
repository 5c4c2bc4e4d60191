"""Envoy's access-log messages: of envoy.data.accesslog.v3 and what is in it, the fields that are read.

They are described here and read by protobuf's own parser, for which no generated code is needed: in Python
the wire alone took four times as long as all that is made of a record. What stands here as `bytes` is a
message that is the same in most records, and is read once (`agent.access_log`). Unknown fields are skipped.
"""

from __future__ import annotations

from typing import Any

from google.protobuf import (
    any_pb2,
    descriptor_pool,
    duration_pb2,
    message_factory,
    timestamp_pb2,
    wrappers_pb2,
)
from google.protobuf.descriptor_pb2 import DescriptorProto, FieldDescriptorProto, FileDescriptorProto

#: Message -> field -> its number and type, as the `.proto` files have them.
FIELDS = {
    "StreamAccessLogsMessage": {
        "http_logs": (2, "HTTPAccessLogEntries"),
        "tcp_logs": (3, "TCPAccessLogEntries"),
    },
    "HTTPAccessLogEntries": {"log_entry": (1, "repeated HTTPAccessLogEntry")},
    "TCPAccessLogEntries": {"log_entry": (1, "repeated TCPAccessLogEntry")},
    "HTTPAccessLogEntry": {
        "common_properties": (1, "AccessLogCommon"),
        "request": (3, "HTTPRequestProperties"),
        "response": (4, "HTTPResponseProperties"),
    },
    "TCPAccessLogEntry": {
        "common_properties": (1, "AccessLogCommon"),
        "connection_properties": (2, "ConnectionProperties"),
    },
    "ConnectionProperties": {"received_bytes": (1, "uint64"), "sent_bytes": (2, "uint64")},
    "AccessLogCommon": {
        "downstream_local_address": (3, "bytes"),
        "tls_properties": (4, "TLSProperties"),
        "start_time": (5, "google.protobuf.Timestamp"),
        "time_to_first_upstream_tx_byte": (7, "google.protobuf.Duration"),
        "time_to_last_upstream_rx_byte": (10, "google.protobuf.Duration"),
        "time_to_last_downstream_tx_byte": (12, "google.protobuf.Duration"),
        "upstream_remote_address": (13, "bytes"),
        "upstream_local_address": (14, "bytes"),
        "upstream_cluster": (15, "string"),
        "response_flags": (16, "bytes"),
        "metadata": (17, "Metadata"),
        "route_name": (19, "string"),
        "downstream_direct_remote_address": (20, "bytes"),
        "filter_state_objects": (21, "map<string, google.protobuf.Any>"),
        "custom_tags": (22, "map<string, string>"),
        "duration": (23, "google.protobuf.Duration"),
        "downstream_transport_failure_reason": (28, "string"),
        "downstream_wire_bytes_sent": (29, "uint64"),
        "downstream_wire_bytes_received": (30, "uint64"),
        "access_log_type": (33, "uint32"),
    },
    "TLSProperties": {
        "local_certificate_properties": (4, "bytes"),
        "peer_certificate_properties": (5, "bytes"),
    },
    "CertificateProperties": {"subject_alt_name": (1, "repeated SubjectAltName")},
    "SubjectAltName": {"uri": (1, "string")},
    "HTTPRequestProperties": {
        "request_method": (1, "uint32"),
        "authority": (3, "string"),
        "path": (5, "string"),
        "request_headers": (13, "map<string, string>"),
    },
    "HTTPResponseProperties": {
        "response_code": (1, "google.protobuf.UInt32Value"),
        "response_headers": (4, "map<string, string>"),
        "response_trailers": (5, "map<string, string>"),
        "response_code_details": (6, "string"),
    },
    "Metadata": {"filter_metadata": (1, "map<string, bytes>")},
    "Address": {"socket_address": (1, "SocketAddress")},
    "SocketAddress": {"address": (2, "string"), "port_value": (3, "uint32")},
    "FilterObject": {"request_message_count": (1, "uint64"), "response_message_count": (2, "uint64")},
}

_PACKAGE = "sluice.access_log"
_SCALARS = {
    name: getattr(FieldDescriptorProto, f"TYPE_{name.upper()}")
    for name in ("string", "bytes", "uint32", "uint64")
}
_WELL_KNOWN = (any_pb2, duration_pb2, timestamp_pb2, wrappers_pb2)


def _describe(message: DescriptorProto, name: str, number: int, kind: str) -> None:
    """Add a field to a message."""
    field = message.field.add(name=name, number=number, label=FieldDescriptorProto.LABEL_OPTIONAL)
    if kind.startswith("map<"):
        entry = message.nested_type.add(name="".join(part.title() for part in name.split("_")) + "Entry")
        entry.options.map_entry = True
        key, value = kind.removeprefix("map<").removesuffix(">").split(", ")
        _describe(entry, "key", 1, key)
        _describe(entry, "value", 2, value)
        kind = f"repeated {message.name}.{entry.name}"
    if kind.startswith("repeated "):
        field.label = FieldDescriptorProto.LABEL_REPEATED
        kind = kind.removeprefix("repeated ")
    if kind in _SCALARS:
        field.type = _SCALARS[kind]
    else:
        field.type = FieldDescriptorProto.TYPE_MESSAGE
        field.type_name = f".{kind}" if kind.startswith("google.") else f".{_PACKAGE}.{kind}"


def _messages() -> dict[str, Any]:
    """The class of each message."""
    file = FileDescriptorProto(name=f"{_PACKAGE}.proto", package=_PACKAGE, syntax="proto3")
    file.dependency.extend(known.DESCRIPTOR.name for known in _WELL_KNOWN)
    for name, fields in FIELDS.items():
        message = file.message_type.add(name=name)
        for field, (number, kind) in fields.items():
            _describe(message, field, number, kind)
    pool = descriptor_pool.Default()
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.{name}"))
        for name in FIELDS
    }


_FOUND = _messages()
StreamAccessLogsMessage = _FOUND["StreamAccessLogsMessage"]
Address = _FOUND["Address"]
CertificateProperties = _FOUND["CertificateProperties"]
FilterObject = _FOUND["FilterObject"]
