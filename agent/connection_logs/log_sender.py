"""Takes connections to a collector as log records of OpenTelemetry."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from agent.collectors import Addresses
from agent.connection_logs import template
from agent.connection_logs.connection import Connection
from agent.sender import Sender
from mesh.node import Collector, ConnectionLog

#: Connections, and the log that they are for.
Batch = list[tuple[ConnectionLog, Collection[Connection]]]

_METHOD = "/opentelemetry.proto.collector.logs.v1.LogsService/Export"


class LogSender:
    """To one collector."""

    def __init__(self, collector: Collector, addresses: Addresses) -> None:
        self._sender = Sender("connection logs", collector, addresses, _METHOD)

    @property
    def lost(self) -> int:
        """Records that nobody took."""
        return self._sender.lost

    def send(self, batch: Batch) -> None:
        """Send what logs say of connections."""
        self._sender.send(encoded(batch), sum(len(connections) for _, connections in batch))

    def close(self) -> None:
        """Let go of the connection."""
        self._sender.close()


def encoded(batch: Batch) -> bytes:
    """An ExportLogsServiceRequest, as Envoy's logger makes it."""
    # Costs memory that an agent does not need whose mesh has no such provider.
    from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
    from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue

    def said(values: Mapping[str, str]) -> list[KeyValue]:
        return [
            KeyValue(key=key, value=AnyValue(string_value=value)) for key, value in sorted(values.items())
        ]

    request = ExportLogsServiceRequest()
    for one, connections in batch:
        body, attributes = template.text(one.text), template.attributes(one.labels)
        logs = request.resource_logs.add()
        logs.resource.attributes.extend(said(dict(one.resource)))
        records = logs.scope_logs.add().log_records
        for connection in connections:
            text = AnyValue(string_value=body(connection))
            record = records.add(time_unix_nano=connection.began, body=text)
            record.attributes.extend(said(attributes(connection)))
    return bytes(request.SerializeToString())
