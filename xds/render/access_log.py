"""Where requests and connections are reported: to the agent, which makes flow records and metrics of them.

The log's name is the listener's, so the agent knows the class that judged; the metadata of the RBAC filter
(`enforced_effective_policy_id`) names the rule that allowed, the route's name the rule that routed. The
client is `downstream_direct_remote_address`: every other notion of it can be forged.
"""

from __future__ import annotations

from datetime import timedelta

from envoy_data_plane.envoy.config.accesslog.v3 import (
    AccessLog,
    AccessLogFilter,
    ExtensionFilter,
    OrFilter,
    ResponseFlagFilter,
)
from envoy_data_plane.envoy.config.core.v3 import ApiVersion, GrpcService, GrpcServiceEnvoyGrpc
from envoy_data_plane.envoy.extensions.access_loggers.filters.cel.v3 import ExpressionFilter
from envoy_data_plane.envoy.extensions.access_loggers.grpc.v3 import (
    CommonGrpcAccessLogConfig,
    HttpGrpcAccessLogConfig,
    TcpGrpcAccessLogConfig,
)
from envoy_data_plane.envoy.extensions.filters.network.tcp_proxy.v3 import (
    TcpProxy,
    TcpProxyTcpAccessLogOptions,
)
from envoy_data_plane.envoy.type.tracing.v3 import CustomTag, CustomTagLiteral

from mesh.proxy import AccessLog as WantedLog
from xds.render import naming
from xds.render.access_logging import of_ended
from xds.render.encoding import typed

_FLUSH = timedelta(milliseconds=100)
#: Bytes of records that are sent at once even so, some 75 of them. Each time costs the agent as much as ten
#: records do, and while it reads them it does nothing else.
_BATCH = 64 << 10

#: Tags of refused connections (read by `agent.access_log`): by which class, and where that takes nothing but
#: mutual TLS which name the hello asked for ("-": there was none).
REFUSED_BY, ASKED_FOR = "refused_by", "asked_for"
_FAILED = "connection.transport_failure_reason != ''"


def access_log(listener: str, *, traced: bool = False) -> AccessLog:
    """Requests of `listener`, sent at most 0.1 s after they ended. They are lost while the agent is away.
    Where they are `traced` they say by which span, whose child the kernel's is (rule 26)."""
    return AccessLog(
        name=naming.ACCESS_LOG,
        typed_config=typed(
            HttpGrpcAccessLogConfig(
                common_config=_to_agent(listener, naming.GRPC_STATS),
                # What a metric needs to tell gRPC from other HTTP, and how a call ended.
                additional_request_headers_to_log=["content-type", *(["traceparent"] if traced else ())],
                additional_response_headers_to_log=["grpc-status"],
                additional_response_trailers_to_log=["grpc-status"],
            )
        ),
    )


def tell(proxy: TcpProxy, listener: str, logs: tuple[WantedLog, ...]) -> None:
    """Have a proxy tell the agent of the connections of `listener`, when there is a backend and when they
    have ended; `logs` are those besides."""
    own = TcpGrpcAccessLogConfig(common_config=_to_agent(listener))
    proxy.access_log = [AccessLog(name=naming.TCP_ACCESS_LOG, typed_config=typed(own)), *of_ended(logs)]
    proxy.access_log_options = TcpProxyTcpAccessLogOptions(flush_access_log_on_connected=True)


def refusals(listener: str, routes: str, *, strict: bool) -> AccessLog:
    """Connections that `listener` closes before any filter sees them: no chain is for them, or their
    handshake failed. `routes` names the class that judged; is it `strict` about mutual TLS?"""
    config = _to_agent(listener)
    config.custom_tags = [CustomTag(tag=REFUSED_BY, literal=CustomTagLiteral(value=routes))]
    if strict:
        config.custom_tags.append(CustomTag(tag=ASKED_FOR, value="%REQUESTED_SERVER_NAME%"))
    unmatched = AccessLogFilter(response_flag_filter=ResponseFlagFilter(flags=["NR"]))
    failed = ExtensionFilter(name=naming.CEL_FILTER, typed_config=typed(ExpressionFilter(expression=_FAILED)))
    either = OrFilter(filters=[unmatched, AccessLogFilter(extension_filter=failed)])
    return AccessLog(
        name=naming.TCP_ACCESS_LOG,
        filter=AccessLogFilter(or_filter=either),
        typed_config=typed(TcpGrpcAccessLogConfig(common_config=config)),
    )


def _to_agent(listener: str, *filter_state: str) -> CommonGrpcAccessLogConfig:
    return CommonGrpcAccessLogConfig(
        log_name=listener,
        grpc_service=GrpcService(envoy_grpc=GrpcServiceEnvoyGrpc(cluster_name=naming.AGENT)),
        transport_api_version=ApiVersion.V3,
        buffer_flush_interval=_FLUSH,
        buffer_size_bytes=_BATCH,
        filter_state_objects_to_log=list(filter_state),
    )
