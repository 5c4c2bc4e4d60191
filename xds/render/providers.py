"""External authorization services (MeshConfig's extension providers): the cluster that leads there, as to
rate limit services, and the filters that ask (CUSTOM of AuthorizationPolicy).

Whom to ask and when is a rule like any other, so it travels by route configuration (rule 6): the listener
holds an empty `filter_chain`, and the route fills it with pairs of filters, an RBAC shadow that finds out
whether a rule fits, and an `ext_authz` that asks unless none does.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import timedelta
from functools import lru_cache
from typing import Literal

from envoy_data_plane.envoy.config.cluster.v3 import (
    Cluster,
    ClusterDiscoveryType,
    ClusterDnsLookupFamily,
    ClusterEdsClusterConfig,
    ClusterLbPolicy,
)
from envoy_data_plane.envoy.config.core.v3 import (
    Address,
    ApiVersion,
    GrpcService,
    GrpcServiceEnvoyGrpc,
    HeaderValue,
    HttpUri,
    SocketAddress,
    TypedExtensionConfig,
)
from envoy_data_plane.envoy.config.endpoint.v3 import (
    ClusterLoadAssignment,
    Endpoint,
    LbEndpoint,
    LocalityLbEndpoints,
)
from envoy_data_plane.envoy.extensions.filters.http.ext_authz.v3 import (
    AuthorizationRequest,
    AuthorizationResponse,
    BufferSettings,
    ExtAuthz,
    HttpService,
)
from envoy_data_plane.envoy.extensions.filters.http.filter_chain.v3 import (
    FilterChain,
    FilterChainConfig,
    FilterChainConfigPerRoute,
)
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager.v3 import HttpFilter
from envoy_data_plane.envoy.type.matcher.v3 import (
    ListStringMatcher,
    MetadataMatcher,
    MetadataMatcherPathSegment,
    StringMatcher,
    ValueMatcher,
)
from envoy_data_plane.envoy.type.v3 import HttpStatus, StatusCode
from envoy_data_plane.google.protobuf import Any

from mesh.model import AuthorizationProvider, TextMatch
from mesh.proxy import AuthorizationPart
from xds.render import authorization, mutual_tls, naming, protocol, rbac, texts
from xds.render.clusters import CONNECT_TIMEOUT
from xds.render.encoding import encode, typed
from xds.render.headers import FORGEABLE
from xds.render.limits import no_breakers
from xds.render.mutual_tls import Peers
from xds.render.sources import ads

#: Where a service is, and what it speaks.
Place = tuple[str, int, Literal["grpc", "http"]]
#: The parts that ask one service.
Asking = tuple[AuthorizationProvider, tuple[AuthorizationPart, ...]]


def asking(parts: Iterable[AuthorizationPart]) -> tuple[Asking, ...]:
    """The services that CUSTOM parts ask, in the order of the parts."""
    found: dict[AuthorizationProvider, list[AuthorizationPart]] = {}
    for part in parts:
        if part.action == "custom" and not part.audit and part.provider is not None:
            found.setdefault(part.provider, []).append(part)
    return tuple((provider, tuple(own)) for provider, own in found.items())


def host(provider: AuthorizationProvider) -> str:
    """The name of the service, without the namespace that may stand before it."""
    return provider.service.rpartition("/")[2]


def place(provider: AuthorizationProvider) -> Place:
    return host(provider), provider.port, provider.kind


def cluster_name(provider: AuthorizationProvider) -> str:
    return naming.provider(*place(provider))


@lru_cache(maxsize=1024)
def cluster(
    host: str, port: int, kind: Literal["grpc", "http"], in_mesh: bool, peers: Peers | None = None
) -> bytes:
    """To a service of the mesh over EDS, some of whose endpoints may be `peers` in mutual TLS, to any other
    name by DNS."""
    name = naming.provider(host, port, kind)
    found = Cluster(
        name=name,
        connect_timeout=CONNECT_TIMEOUT,
        lb_policy=ClusterLbPolicy.LEAST_REQUEST,
        circuit_breakers=no_breakers(),
        typed_extension_protocol_options=protocol.fixed(http2=kind == "grpc"),
    )
    if in_mesh:
        found.type = ClusterDiscoveryType.EDS
        found.eds_cluster_config = ClusterEdsClusterConfig(eds_config=ads(), service_name=name)
    else:
        # One host, whose addresses are tried in turn: nobody may listen on some of them.
        found.type = ClusterDiscoveryType.LOGICAL_DNS
        found.dns_lookup_family = ClusterDnsLookupFamily.ALL
        socket = SocketAddress(address=host, port_value=port)
        endpoint = LbEndpoint(endpoint=Endpoint(address=Address(socket_address=socket)))
        found.load_assignment = ClusterLoadAssignment(
            cluster_name=name, endpoints=[LocalityLbEndpoints(lb_endpoints=[endpoint])]
        )
    if peers:
        found.transport_socket_matches = mutual_tls.to_some(peers)
    return encode(found)


# --- HTTP -------------------------------------------------------------------------------------------------


def dormant() -> HttpFilter:
    """What the listener holds: no filter at all."""
    return HttpFilter(name=naming.CUSTOM, typed_config=typed(FilterChainConfig()), disabled=True)


def per_route(found: tuple[Asking, ...]) -> Any:
    """An entry of `typed_per_filter_config`."""
    filters = [filter_ for index, asked in enumerate(found) for filter_ in _pair(index, *asked)]
    return typed(FilterChainConfigPerRoute(filter_chain=FilterChain(filters=filters)))


def prefix(index: int) -> str:
    """What the metadata keys of one pair begin with."""
    return f"custom_{index}_"


def _pair(
    index: int, provider: AuthorizationProvider, parts: tuple[AuthorizationPart, ...]
) -> Iterator[TypedExtensionConfig]:
    fitting = rbac.shadow(rbac.deny(authorization.policies(parts)), prefix(index))
    yield TypedExtensionConfig(name=f"{naming.RBAC}.custom.{index}", typed_config=typed(fitting))
    yield TypedExtensionConfig(
        name=f"{naming.EXT_AUTHZ}.{index}",
        typed_config=typed(_http(provider, unless_exempt(naming.RBAC, index))),
    )


def unless_exempt(judge: str, index: int) -> MetadataMatcher:
    """True unless the shadow has found that no rule fits (and so "allowed" the request)."""
    return MetadataMatcher(
        filter=judge,
        path=[MetadataMatcherPathSegment(key=f"{prefix(index)}shadow_engine_result")],
        value=ValueMatcher(string_match=StringMatcher(exact="allowed")),
        invert=True,
    )


def grpc_service(provider: AuthorizationProvider) -> GrpcService:
    return GrpcService(
        envoy_grpc=GrpcServiceEnvoyGrpc(cluster_name=cluster_name(provider), authority=host(provider)),
        timeout=timedelta(milliseconds=provider.timeout_ms),
    )


def _http(provider: AuthorizationProvider, enabled: MetadataMatcher) -> ExtAuthz:
    found = ExtAuthz(
        transport_api_version=ApiVersion.V3,
        stat_prefix=provider.name,
        filter_enabled_metadata=enabled,
        failure_mode_allow=provider.fail_open,
        status_on_error=HttpStatus(code=StatusCode(provider.status_on_error)),
        # They are still there: a route removes them only behind all filters.
        disallowed_headers=_names(tuple(TextMatch("exact", name) for name in FORGEABLE)),
    )
    if provider.body_bytes:
        found.with_request_body = BufferSettings(
            max_request_bytes=provider.body_bytes, allow_partial_message=provider.allow_partial_body
        )
    if provider.kind == "grpc":
        found.grpc_service = grpc_service(provider)
        return found
    if provider.include_request_headers:
        found.allowed_headers = _names(provider.include_request_headers)
    found.http_service = HttpService(
        server_uri=HttpUri(
            uri=f"http://{host(provider)}:{provider.port}",
            cluster=cluster_name(provider),
            timeout=timedelta(milliseconds=provider.timeout_ms),
        ),
        path_prefix=provider.path_prefix,
        authorization_request=AuthorizationRequest(
            headers_to_add=[
                HeaderValue(key=name, value=value.replace("%", "%%"))  # it begins a command of Envoy's
                for name, value in provider.include_additional_headers
            ]
        ),
        authorization_response=AuthorizationResponse(
            allowed_upstream_headers=_names(provider.headers_to_upstream_on_allow),
            allowed_client_headers=_names(provider.headers_to_downstream_on_deny),
            allowed_client_headers_on_success=_names(provider.headers_to_downstream_on_allow),
        ),
    )
    return found


def _names(matches: tuple[TextMatch, ...]) -> ListStringMatcher | None:
    found = [texts.matcher(name, ignore_case=True) for name in matches]
    return ListStringMatcher(patterns=found) if found else None
