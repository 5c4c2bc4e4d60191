"""Telemetry. Tracing: where spans go, and which requests make some."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from mesh.model.access_logging import AccessLogRule
from mesh.model.metrics import MetricRule
from mesh.model.names import Direction, ObjectRef
from mesh.model.selection import Selector

#: Sampling is told in hundredths of a percent.
ALL = 10_000


@dataclass(frozen=True, slots=True)
class TracingProvider:
    """What takes spans (MeshConfig, extensionProviders). OpenTelemetry goes by HTTP where it has a `path`,
    else by gRPC; Zipkin and Datadog go by HTTP. `long_ids`: Zipkin's trace ids have 128 bits.
    `max_tag_length` is in bytes of a path in a tag, 0: Envoy's default."""

    name: str
    kind: Literal["opentelemetry", "zipkin", "datadog"]
    service: str
    port: int
    path: str = ""
    timeout_ms: int = 0
    headers: tuple[tuple[str, str], ...] = ()
    max_tag_length: int = 0
    long_ids: bool = True

    @property
    def protocol(self) -> Literal["grpc", "http"]:
        """What it is spoken to in."""
        return "grpc" if self.kind == "opentelemetry" and not self.path else "http"


@dataclass(frozen=True, slots=True, order=True)
class CustomTag:
    """A tag of every span: `value` itself, or that of the environment variable or request header of that
    name (`default` where there is none)."""

    name: str
    kind: Literal["literal", "environment", "header"]
    value: str
    default: str = ""


@dataclass(frozen=True, slots=True)
class TracingRule:
    """What one entry of a Telemetry says for requests that a workload sends (egress) or gets (ingress);
    None: nothing, a wider one decides. `sampling` is of ALL; `provider` names one. `by_request_id`: who is
    sampled follows from the request's id, else the tracer decides alone. `istio_tags`: there are those of
    Istio's names beside `tags`."""

    directions: tuple[Direction, ...] = ("egress", "ingress")
    provider: str | None = None
    sampling: int | None = None
    disabled: bool | None = None
    tags: tuple[CustomTag, ...] | None = None
    by_request_id: bool | None = None
    istio_tags: bool | None = None


@dataclass(frozen=True, slots=True)
class Telemetry:
    """Istio's Telemetry: for the whole mesh (root namespace), a namespace, or (with a `subject`) some
    workloads of it. It rides along and never steers (rule 20)."""

    ref: ObjectRef
    subject: Selector | None = None
    tracing: tuple[TracingRule, ...] = ()
    logging: tuple[AccessLogRule, ...] = ()
    metrics: tuple[MetricRule, ...] = ()


@dataclass(frozen=True, slots=True)
class MeshTracing:
    """What MeshConfig says of tracing: the `default` provider's name ("": none) and how much of all
    requests is traced where no Telemetry says."""

    providers: tuple[TracingProvider, ...] = ()
    default: str = ""
    sampling: int = ALL // 100
    tags: tuple[CustomTag, ...] = ()


#: Where nobody has said anything: one request in a hundred, and nobody who takes it.
DEFAULT_TRACING = MeshTracing()
