"""Every name that Envoy sees, in Istio's forms where Istio has one, so that its tools can read them.

Names carry identity, never content: a resource keeps its name for as long as it means the same thing.
"""

from __future__ import annotations

from mesh.model import Direction, ObjectRef, ServiceName
from mesh.proxy import GatewayPort, L7Class, Target

#: Clusters that go where the client meant to go: out of the pod, or to the pod's own application.
PASSTHROUGH = "PassthroughCluster"
INBOUND_PASSTHROUGH = "InboundPassthroughCluster"
#: Begins the names of clusters to a pod's own endpoints.
INBOUND = "inbound|"
#: The share of a route whose backend must not or cannot be reached. No cluster ever has this name:
#: Envoy answers 500 for it (`cluster_not_found_response_code`), as the Gateway API demands.
INVALID_BACKEND = "InvalidBackend"
#: Where nobody answers, and connections are closed: Istio's name of it.
NO_BACKEND = "BlackHoleCluster"
#: The RBAC policy where none is asked for.
EVERYTHING = "everything"
#: Static cluster of the bootstrap to which access logs go.
AGENT = "sluice-agent"

ROUTING_LISTENER = "virtualOutbound"

#: Secrets of a workload: its own certificate, and the roots that judge those of others.
WORKLOAD_CERTIFICATE, ROOTS = "default", "ROOTCA"

RBAC = "envoy.filters.http.rbac"
#: Of RequestAuthentication; Envoy's own filter leaves the claims of a good token under its name and this key.
AUTHENTICATION = "envoy.filters.http.filter_chain.jwt"
JWT_AUTHN, PAYLOAD = "envoy.filters.http.jwt_authn", "payload"
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
UDP_PROXY = "envoy.filters.udp_listener.udp_proxy"
TLS_INSPECTOR = "envoy.filters.listener.tls_inspector"
HTTP_INSPECTOR = "envoy.filters.listener.http_inspector"
CORS = "envoy.filters.http.cors"
FAULT = "envoy.filters.http.fault"
#: Of RateLimits, and the filters that a route puts into it.
RATE_LIMITS = "envoy.filters.http.filter_chain.ratelimit"
LOCAL_RATE_LIMIT = "envoy.filters.http.local_ratelimit"
RATE_LIMIT = "envoy.filters.http.ratelimit"
ROUTER = "envoy.filters.http.router"
#: Also the name of what it leaves in a request's filter state (`agent.access_log`).
GRPC_STATS = "envoy.filters.http.grpc_stats"
#: Begins the names of WasmPlugins' filters.
PLUGIN = "extensions.istio.io/wasmplugin/"
V8 = "envoy.wasm.runtime.v8"
UPSTREAM_CODEC = "envoy.filters.http.upstream_codec"
HTTP_CONNECTION_MANAGER = "envoy.filters.network.http_connection_manager"
ORIGINAL_DST = "envoy.filters.listener.original_dst"
ACCESS_LOG = "envoy.access_loggers.http_grpc"
TCP_ACCESS_LOG = "envoy.access_loggers.tcp_grpc"
FILE_LOG = "envoy.access_loggers.file"
OPENTELEMETRY_LOG = "envoy.access_loggers.open_telemetry"
CEL_FILTER = "envoy.access_loggers.extension_filters.cel"
WITHOUT_QUERY = "envoy.formatter.req_without_query"
TLS = "envoy.transport_sockets.tls"
RAW_BUFFER = "envoy.transport_sockets.raw_buffer"
PROXY_PROTOCOL = "envoy.transport_sockets.upstream_proxy_protocol"
#: The label of endpoints that are spoken to in mutual TLS.
LABEL, VALUE = "tlsMode", "istio"
#: Begins the server names that hellos of mutual TLS ask for.
MUTUAL_TLS = "outbound_."
PREVIOUS_PRIORITIES = "envoy.retry_priorities.previous_priorities"
PREVIOUS_HOSTS = "envoy.retry_host_predicates.previous_hosts"
HTTP_PROTOCOL_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"

#: Tracers, and where the resource's attributes come from.
OPENTELEMETRY, ZIPKIN, DATADOG = (f"envoy.tracers.{name}" for name in ("opentelemetry", "zipkin", "datadog"))
STATIC_RESOURCE = "envoy.tracers.opentelemetry.resource_detectors.static_config"
PARENT_SAMPLER = "envoy.tracers.opentelemetry.samplers.parent_based"
RATIO_SAMPLER = "envoy.tracers.opentelemetry.samplers.trace_id_ratio_based"

_LISTENER = {"egress": ROUTING_LISTENER, "ingress": "virtualInbound"}
_ROUTES = {"egress": "outbound", "ingress": "inbound"}


def cluster(target: Target, l7: int) -> str:
    """Such as `outbound|80|v1|api.shop.svc.cluster.local`. Behind the subset, if there is one, stands the
    number of the egress class that judges these backends, if one does: `v1~256`, `~256`; or `~udp`, for the
    same number may be a port of TCP. One backend of a headless service is `@10.64.0.5`."""
    judged = "~udp" if target.protocol == "UDP" else f"~{l7}" if l7 else ""
    one = f"@{target.address}" if target.address else ""
    return f"outbound|{target.port}|{target.subset}{judged}{one}|{target.service.host}"


def server_name(target: Target) -> str:
    """What the hello of mutual TLS asks for, such as `outbound_.80_.v1_.api.shop.svc.cluster.local`."""
    return f"{MUTUAL_TLS}{target.port}_.{target.subset}_.{target.service.host}"


def routed_port(service: ServiceName, port: int, address: str = "") -> str:
    """The route configuration, virtual host and filter chain of a service port; of a headless service there
    are such of each backend, with its `address` behind an @."""
    return f"{service.host}:{port}" + (f"@{address}" if address else "")


def class_listener(direction: Direction, number: int) -> str:
    """Such as `virtualInbound|256`."""
    return f"{_LISTENER[direction]}|{number}"


def class_routes(direction: Direction, number: int) -> str:
    """The route configuration, virtual host and route of a class, such as `inbound|256`."""
    return f"{_ROUTES[direction]}|{number}"


def blackhole(listener: str) -> str:
    """The filter chain of sockets that came without an original destination (rule 14)."""
    return f"{listener}-blackhole"


def refused(listener: str) -> str:
    """The name of no filter chain: what a matcher sends there is closed, and told as refused."""
    return f"{listener}-refused"


def passthrough(direction: Direction) -> str:
    """The cluster of what goes on to where it was sent."""
    return PASSTHROUGH if direction == "egress" else INBOUND_PASSTHROUGH


def behind(l7: L7Class) -> str:
    """The cluster behind a class, such as `inbound|8080||` where a Sidecar hands the port on."""
    taken = l7.ingress and l7.ingress.listener
    return f"{INBOUND}{taken.port}||" if taken and taken.endpoint else passthrough(l7.direction)


def route(origin: ObjectRef, field: str) -> str:
    """Such as `HTTPRoute shop/api rules[0]`; access logs carry it back."""
    return f"{origin} {field}"


def config(rule: ObjectRef) -> str:
    """The DestinationRule of a cluster, as Istio's tools read it from its metadata."""
    return f"/apis/networking.istio.io/v1/namespaces/{rule.namespace}/destination-rule/{rule.name}"


def rbac_policy(origin: ObjectRef, field: str) -> str:
    """Such as `CiliumNetworkPolicy-ns[shop]-policy[web]-rule[ingress[0].toPorts[0]]`, from `ns` on as Istio's
    tools read it. The agent makes the key of the rule of it again (`agent.names`)."""
    return f"{origin.kind}-ns[{origin.namespace}]-policy[{origin.name}]-rule[{field}]"


def provider(host: str, port: int, kind: str) -> str:
    """The cluster of a service that Envoy itself calls (authorization, rate limits, tracing, access logs), as
    `outbound|9000|grpc|authz...`: apart from that of routes to the same port, for it fixes the protocol."""
    return f"outbound|{port}|{kind}|{host}"


def gateway_listener(port: GatewayPort) -> str:
    """Such as `0.0.0.0_80`, `udp_0.0.0.0_53`."""
    return f"{'udp_' if port.transport == 'UDP' else ''}{port.bind or '0.0.0.0'}_{port.port}"


def judged_routes(server: str, number: int) -> str:
    """The same routes of a Gateway's server, where a class judges requests first: such as `http.80|256`."""
    return f"{server}|{number}"


def gateway_host(host: str, port: int) -> str:
    """The virtual host of a host at a Gateway's port, such as `www.example.com:443`."""
    return f"{host}:{port}"


def misdirected(port: int) -> str:
    """The virtual host of hosts that are for other connections to a Gateway's port."""
    return f"misdirected:{port}"


def secret(ref: ObjectRef) -> str:
    """Such as `kubernetes://shop/www`."""
    return f"kubernetes://{ref.namespace}/{ref.name}"


def own_secret(name: str) -> str:
    """The Secret of a DestinationRule in the namespace of whoever sends, such as `kubernetes://client`."""
    return f"kubernetes://{name}"


def authorities(ref: ObjectRef) -> str:
    """The authorities of a Secret or ConfigMap, such as `kubernetes://shop/www-cacert`."""
    return f"{secret(ref)}-cacert"


def plugin(origin: ObjectRef) -> str:
    """The filter of a WasmPlugin and what configures it: `extensions.istio.io/wasmplugin/shop.auth`."""
    return f"{PLUGIN}{origin.namespace}.{origin.name}"


def connections_chain(routed: str, index: int) -> str:
    """The filter chain of what is not HTTP at a routed port, by the place of its rule."""
    return f"{routed}-tcp{index or ''}"


def mutual_chain(chain: str) -> str:
    """The same filters behind mutual TLS, such as `virtualInbound|256-mtls`."""
    return f"{chain}-mtls"


def plain_chain(listener: str) -> str:
    """The filter chain of what is not HTTP, such as `virtualInbound|256-plain`."""
    return f"{listener}-plain"


def asking_chain(listener: str) -> str:
    """The same, where a CUSTOM policy asks for consent."""
    return f"{listener}-custom"
