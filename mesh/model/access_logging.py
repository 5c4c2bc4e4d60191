"""Access logs: where they go and what they say, and which requests and connections get a line."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from mesh.model.names import Direction

#: A line where nobody says what it should be: Istio's.
DEFAULT_TEXT = (
    '[%START_TIME%] "%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%" %RESPONSE_CODE% '
    "%RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% %CONNECTION_TERMINATION_DETAILS% "
    '"%UPSTREAM_TRANSPORT_FAILURE_REASON%" %BYTES_RECEIVED% %BYTES_SENT% %DURATION% '
    '%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% "%REQ(X-FORWARDED-FOR)%" "%REQ(USER-AGENT)%" '
    '"%REQ(X-REQUEST-ID)%" "%REQ(:AUTHORITY)%" "%UPSTREAM_HOST%" %UPSTREAM_CLUSTER_RAW% '
    "%UPSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_REMOTE_ADDRESS% "
    "%REQUESTED_SERVER_NAME% %ROUTE_NAME%\n"
)


@dataclass(frozen=True, slots=True)
class AccessLogProvider:
    """What takes access logs (MeshConfig, extensionProviders), in Envoy's format language. A file has a
    `path` and either `text` or `labels`, an object of JSON; OpenTelemetry has a service, `text` is the body
    of a record and `labels` are its attributes, all of them texts."""

    name: str
    kind: Literal["file", "opentelemetry"]
    text: str = ""
    labels: str = ""
    path: str = ""
    omit_empty: bool = False
    service: str = ""
    port: int = 0
    log_name: str = ""


@dataclass(frozen=True, slots=True)
class AccessLogRule:
    """What one entry of a Telemetry says for what a workload sends (egress) or gets (ingress); None: nothing,
    a wider one decides. `filter` is a CEL expression (`mesh.observability.cel`), "" keeps everything."""

    directions: tuple[Direction, ...] = ("egress", "ingress")
    providers: tuple[str, ...] | None = None
    disabled: bool | None = None
    filter: str | None = None


@dataclass(frozen=True, slots=True)
class MeshAccessLogging:
    """What MeshConfig says of access logs: who can take them, and names of those who do where no Telemetry
    says."""

    providers: tuple[AccessLogProvider, ...] = ()
    defaults: tuple[str, ...] = ()


#: The provider that a Telemetry may name where MeshConfig has none, as in Istio.
BUILT_IN_LOG = AccessLogProvider("envoy", "file", DEFAULT_TEXT, path="/dev/stdout")
#: Where nobody has said anything: nobody logs.
DEFAULT_ACCESS_LOGGING = MeshAccessLogging((BUILT_IN_LOG,))
