"""Where Envoy gets what a resource only names: over the stream that everything comes by."""

from __future__ import annotations

from envoy_data_plane.envoy.config.core.v3 import (
    AggregatedConfigSource,
    ApiConfigSource,
    ApiConfigSourceApiType,
    ApiVersion,
    ConfigSource,
    GrpcService,
    GrpcServiceEnvoyGrpc,
)
from envoy_data_plane.envoy.extensions.transport_sockets.tls.v3 import SdsSecretConfig

from xds.render import naming


def ads() -> ConfigSource:
    return ConfigSource(ads=AggregatedConfigSource(), resource_api_version=ApiVersion.V3)


def apart() -> ConfigSource:
    """Over a stream that is there for nothing else. Nobody serves it."""
    service = GrpcService(envoy_grpc=GrpcServiceEnvoyGrpc(cluster_name=naming.AGENT))
    source = ApiConfigSource(
        api_type=ApiConfigSourceApiType.GRPC, transport_api_version=ApiVersion.V3, grpc_services=[service]
    )
    return ConfigSource(api_config_source=source, resource_api_version=ApiVersion.V3)


def secret(name: str) -> SdsSecretConfig:
    """A certificate with its key, or authorities."""
    return SdsSecretConfig(name=name, sds_config=ads())
