"""Access logs that somebody asked for: lines of an Envoy's own standard output, or records by OpenTelemetry.

They stand in the listener, for Envoy has no other place for them: a change of who logs what lets live
connections finish as they were (rule 9). The agent's own log is another matter (`xds.render.access_log`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, Literal

from envoy_data_plane.envoy.config.accesslog.v3 import AccessLog as EnvoyLog
from envoy_data_plane.envoy.config.accesslog.v3 import (
    AccessLogFilter,
    AndFilter,
    ExtensionFilter,
    LogTypeFilter,
)
from envoy_data_plane.envoy.config.core.v3 import (
    DataSource,
    GrpcService,
    GrpcServiceEnvoyGrpc,
    SubstitutionFormatString,
    TypedExtensionConfig,
)
from envoy_data_plane.envoy.data.accesslog.v3 import AccessLogType
from envoy_data_plane.envoy.extensions.access_loggers.file.v3 import FileAccessLog
from envoy_data_plane.envoy.extensions.access_loggers.filters.cel.v3 import ExpressionFilter
from envoy_data_plane.envoy.extensions.access_loggers.open_telemetry.v3 import OpenTelemetryAccessLogConfig
from envoy_data_plane.envoy.extensions.formatter.req_without_query.v3 import ReqWithoutQuery
from envoy_data_plane.google.protobuf import Struct
from envoy_data_plane.opentelemetry.proto.common.v1 import AnyValue, KeyValue, KeyValueList

from mesh.model import AccessLogProvider
from mesh.proxy import AccessLog
from xds.render import naming
from xds.render.encoding import typed

#: A command that Envoy knows by an extension only.
_WITHOUT_QUERY = "%REQ_WITHOUT_QUERY("


def asked_for(logs: tuple[AccessLog, ...]) -> list[EnvoyLog]:
    """Entries of `access_log`, of a connection manager."""
    return [_log(log) for log in logs]


def of_ended(logs: tuple[AccessLog, ...]) -> list[EnvoyLog]:
    """The same of a TCP proxy, which tells of connections when they are opened, too."""
    ended = AccessLogFilter(log_type_filter=LogTypeFilter(types=[AccessLogType.TcpConnectionEnd]))
    found = asked_for(logs)
    for log in found:
        log.filter = (
            AccessLogFilter(and_filter=AndFilter(filters=[ended, log.filter])) if log.filter else ended
        )
    return found


def place(provider: AccessLogProvider) -> tuple[str, int, Literal["grpc", "http"]]:
    """Where a provider that is a service is."""
    return provider.service.rpartition("/")[2], provider.port, "grpc"


def _log(log: AccessLog) -> EnvoyLog:
    if log.provider.kind == "file":
        found = EnvoyLog(name=naming.FILE_LOG, typed_config=typed(_file(log.provider)))
    else:
        found = EnvoyLog(name=naming.OPENTELEMETRY_LOG, typed_config=typed(_opentelemetry(log)))
    if log.filter:
        kept = ExpressionFilter(expression=log.filter)
        extension = ExtensionFilter(name=naming.CEL_FILTER, typed_config=typed(kept))
        found.filter = AccessLogFilter(extension_filter=extension)
    return found


def _file(provider: AccessLogProvider) -> FileAccessLog:
    form = SubstitutionFormatString(
        omit_empty_values=provider.omit_empty, formatters=list(_formatters(provider))
    )
    if provider.labels:
        form.json_format = Struct.from_dict(json.loads(provider.labels))
    else:
        form.text_format_source = DataSource(inline_string=provider.text)
    return FileAccessLog(path=provider.path, log_format=form)


def _opentelemetry(log: AccessLog) -> OpenTelemetryAccessLogConfig:
    provider = log.provider
    host, port, kind = place(provider)
    service = GrpcServiceEnvoyGrpc(cluster_name=naming.provider(host, port, kind), authority=host)
    return OpenTelemetryAccessLogConfig(
        log_name=provider.log_name,
        grpc_service=GrpcService(envoy_grpc=service),
        # As Istio: what Envoy says of itself means nothing to others.
        disable_builtin_labels=True,
        resource_attributes=_attributes(dict(log.resource)),
        body=AnyValue(string_value=provider.text),
        attributes=_attributes(json.loads(provider.labels)) if provider.labels else None,
        formatters=list(_formatters(provider)),
    )


def _attributes(found: Mapping[str, Any]) -> KeyValueList:
    return KeyValueList(
        values=[KeyValue(key=key, value=AnyValue(string_value=value)) for key, value in sorted(found.items())]
    )


def _formatters(provider: AccessLogProvider) -> Iterator[TypedExtensionConfig]:
    if _WITHOUT_QUERY in provider.text + provider.labels:
        yield TypedExtensionConfig(name=naming.WITHOUT_QUERY, typed_config=typed(ReqWithoutQuery()))
