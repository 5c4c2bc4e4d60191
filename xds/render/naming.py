"""Every name that Envoy sees, in Istio's forms where Istio has one, so that its tools can read them.

Names carry identity, never content: a resource keeps its name for as long as it means the same thing.
"""

from __future__ import annotations

from mesh.model import Direction, ObjectRef, ServiceName

#: Clusters that go where the client meant to go: out of the pod, or to the pod's own application.
PASSTHROUGH = "PassthroughCluster"
INBOUND_PASSTHROUGH = "InboundPassthroughCluster"
#: The share of a route whose backend must not or cannot be reached. No cluster ever has this name:
#: Envoy answers 500 for it (`cluster_not_found_response_code`), as the Gateway API demands.
INVALID_BACKEND = "InvalidBackend"
#: The RBAC policy where none is asked for.
EVERYTHING = "everything"
#: Static cluster of the bootstrap to which access logs go.
AGENT = "sluice-agent"

ROUTING_LISTENER = "virtualOutbound"

RBAC = "envoy.filters.http.rbac"
#: Filters beside that one, which judges network policy: AuthorizationPolicy, and what would be if policies in
#: audit mode counted.
CUSTOM = "envoy.filters.http.filter_chain"
DENY, ALLOW = f"{RBAC}.deny", f"{RBAC}.allow"
AUDIT_ACTION = f"{RBAC}.audit"
AUDIT_RBAC, AUDIT_DENY, AUDIT_ALLOW = f"{RBAC}.audit_rules", f"{RBAC}.audit_deny", f"{RBAC}.audit_allow"
EXT_AUTHZ = "envoy.filters.http.ext_authz"
NETWORK_EXT_AUTHZ = "envoy.filters.network.ext_authz"
NETWORK_RBAC = "envoy.filters.network.rbac"
TCP_PROXY = "envoy.filters.network.tcp_proxy"
TLS_INSPECTOR = "envoy.filters.listener.tls_inspector"
HTTP_INSPECTOR = "envoy.filters.listener.http_inspector"
ROUTER = "envoy.filters.http.router"
UPSTREAM_CODEC = "envoy.filters.http.upstream_codec"
HTTP_CONNECTION_MANAGER = "envoy.filters.network.http_connection_manager"
ORIGINAL_DST = "envoy.filters.listener.original_dst"
ACCESS_LOG = "envoy.access_loggers.http_grpc"
PREVIOUS_HOSTS = "envoy.retry_host_predicates.previous_hosts"
HTTP_PROTOCOL_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"

#: Tracers, and where the resource's attributes come from.
OPENTELEMETRY, ZIPKIN, DATADOG = (f"envoy.tracers.{name}" for name in ("opentelemetry", "zipkin", "datadog"))
STATIC_RESOURCE = "envoy.tracers.opentelemetry.resource_detectors.static_config"
PARENT_SAMPLER = "envoy.tracers.opentelemetry.samplers.parent_based"
RATIO_SAMPLER = "envoy.tracers.opentelemetry.samplers.trace_id_ratio_based"

_LISTENER = {"egress": ROUTING_LISTENER, "ingress": "virtualInbound"}
_ROUTES = {"egress": "outbound", "ingress": "inbound"}


def host(service: ServiceName) -> str:
    """The full DNS name of a service."""
    return f"{service.name}.{service.namespace}.svc.cluster.local"


def cluster(service: ServiceName, port: int, l7: int) -> str:
    """Such as `outbound|80||api.shop.svc.cluster.local`; the subset is the egress class, if any."""
    return f"outbound|{port}|{l7 or ''}|{host(service)}"


def routed_port(service: ServiceName, port: int) -> str:
    """The route configuration, virtual host and filter chain of a service port."""
    return f"{host(service)}:{port}"


def class_listener(direction: Direction, number: int) -> str:
    """Such as `virtualInbound|256`."""
    return f"{_LISTENER[direction]}|{number}"


def class_routes(direction: Direction, number: int) -> str:
    """The route configuration, virtual host and route of a class, such as `inbound|256`."""
    return f"{_ROUTES[direction]}|{number}"


def blackhole(listener: str) -> str:
    """The filter chain of sockets that came without an original destination (rule 14)."""
    return f"{listener}-blackhole"


def passthrough(direction: Direction) -> str:
    """The cluster behind a class."""
    return PASSTHROUGH if direction == "egress" else INBOUND_PASSTHROUGH


def route(origin: ObjectRef, field: str) -> str:
    """Such as `HTTPRoute shop/api rules[0]`; access logs carry it back."""
    return f"{origin} {field}"


def rbac_policy(origin: ObjectRef, field: str) -> str:
    """Such as `CiliumNetworkPolicy-ns[shop]-policy[web]-rule[ingress[0].toPorts[0]]`, from `ns` on as Istio's
    tools read it. The agent makes the key of the rule of it again (`agent.names`)."""
    return f"{origin.kind}-ns[{origin.namespace}]-policy[{origin.name}]-rule[{field}]"


def provider(host: str, port: int, kind: str) -> str:
    """The cluster of an extension provider, such as `outbound|9000|grpc|authz.shop...`: apart from that of
    routes to the same port, for it fixes the protocol."""
    return f"outbound|{port}|{kind}|{host}"


def plain_chain(listener: str) -> str:
    """The filter chain of what is not HTTP, such as `virtualInbound|256-plain`."""
    return f"{listener}-plain"


def asking_chain(listener: str) -> str:
    """The same, where a CUSTOM policy asks for consent."""
    return f"{listener}-custom"
