"""The Istio dialect: objects of Istio's APIs to Fragments, one file per kind.

`DIALECTS` is the list of the kinds that are read, `MISSING` of those that are refused by name; whoever reads
objects joins the first with `mesh.dialects.DIALECTS`.
"""

from __future__ import annotations

from collections.abc import Mapping

from istio_integration.authorization_policy import read_authorization_policy
from istio_integration.destination_rule import read_destination_rule
from istio_integration.envoy_filter import read_envoy_filter
from istio_integration.gateway import read_gateway
from istio_integration.mesh_config import read_config_map
from istio_integration.peer_authentication import read_peer_authentication
from istio_integration.proxy_config import read_pod, read_proxy_config
from istio_integration.request_authentication import read_request_authentication
from istio_integration.service_entry import read_service_entry
from istio_integration.sidecar import read_sidecar
from istio_integration.telemetry import read_telemetry
from istio_integration.virtual_service import read_virtual_service
from istio_integration.wasm_plugin import read_wasm_plugin
from istio_integration.workload_entry import read_workload_entry
from istio_integration.workload_group import read_workload_group
from mesh.dialects import Dialect

DIALECTS: Mapping[tuple[str, str], Dialect] = {
    ("security.istio.io/v1", "AuthorizationPolicy"): Dialect(read_authorization_policy, fail_closed=True),
    ("security.istio.io/v1beta1", "AuthorizationPolicy"): Dialect(
        read_authorization_policy, fail_closed=True
    ),
    ("networking.istio.io/v1", "Gateway"): Dialect(read_gateway),
    ("networking.istio.io/v1beta1", "Gateway"): Dialect(read_gateway),
    ("networking.istio.io/v1alpha3", "Gateway"): Dialect(read_gateway),
    ("networking.istio.io/v1", "VirtualService"): Dialect(read_virtual_service),
    ("networking.istio.io/v1beta1", "VirtualService"): Dialect(read_virtual_service),
    ("networking.istio.io/v1alpha3", "VirtualService"): Dialect(read_virtual_service),
    ("networking.istio.io/v1", "DestinationRule"): Dialect(read_destination_rule),
    ("networking.istio.io/v1beta1", "DestinationRule"): Dialect(read_destination_rule),
    ("networking.istio.io/v1alpha3", "DestinationRule"): Dialect(read_destination_rule),
    ("networking.istio.io/v1", "ServiceEntry"): Dialect(read_service_entry),
    ("networking.istio.io/v1beta1", "ServiceEntry"): Dialect(read_service_entry),
    ("networking.istio.io/v1alpha3", "ServiceEntry"): Dialect(read_service_entry),
    ("networking.istio.io/v1", "Sidecar"): Dialect(read_sidecar, fail_closed=True),
    ("networking.istio.io/v1beta1", "Sidecar"): Dialect(read_sidecar, fail_closed=True),
    ("networking.istio.io/v1alpha3", "Sidecar"): Dialect(read_sidecar, fail_closed=True),
    ("networking.istio.io/v1alpha3", "EnvoyFilter"): Dialect(read_envoy_filter),
    ("networking.istio.io/v1", "WorkloadEntry"): Dialect(read_workload_entry),
    ("networking.istio.io/v1beta1", "WorkloadEntry"): Dialect(read_workload_entry),
    ("networking.istio.io/v1alpha3", "WorkloadEntry"): Dialect(read_workload_entry),
    ("networking.istio.io/v1", "WorkloadGroup"): Dialect(read_workload_group),
    ("networking.istio.io/v1beta1", "WorkloadGroup"): Dialect(read_workload_group),
    ("networking.istio.io/v1alpha3", "WorkloadGroup"): Dialect(read_workload_group),
    ("security.istio.io/v1", "RequestAuthentication"): Dialect(read_request_authentication, fail_closed=True),
    ("security.istio.io/v1beta1", "RequestAuthentication"): Dialect(
        read_request_authentication, fail_closed=True
    ),
    ("security.istio.io/v1", "PeerAuthentication"): Dialect(read_peer_authentication, fail_closed=True),
    ("security.istio.io/v1beta1", "PeerAuthentication"): Dialect(read_peer_authentication, fail_closed=True),
    ("telemetry.istio.io/v1", "Telemetry"): Dialect(read_telemetry),
    ("telemetry.istio.io/v1alpha1", "Telemetry"): Dialect(read_telemetry),
    ("networking.istio.io/v1beta1", "ProxyConfig"): Dialect(read_proxy_config),
    ("extensions.istio.io/v1alpha1", "WasmPlugin"): Dialect(read_wasm_plugin, fail_closed=True),
    ("v1", "ConfigMap"): Dialect(read_config_map),
    ("v1", "Pod"): Dialect(read_pod),
}

#: Kinds of Istio that are not read, and why.
MISSING: Mapping[str, str] = {
    "TrafficExtension": "write a WasmPlugin; an EnvoyFilter can insert Lua and any filter Envoy has",
}

__all__ = ["DIALECTS", "MISSING"]
