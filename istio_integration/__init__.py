"""The Istio dialect: objects of Istio's APIs to Fragments, one file per kind.

`DIALECTS` is the list of the kinds that are read; whoever reads objects joins it with
`mesh.dialects.DIALECTS`.
"""

from __future__ import annotations

from collections.abc import Mapping

from istio_integration.authorization_policy import read_authorization_policy
from istio_integration.mesh_config import read_config_map
from istio_integration.request_authentication import read_request_authentication
from mesh.dialects import Dialect

DIALECTS: Mapping[tuple[str, str], Dialect] = {
    ("security.istio.io/v1", "AuthorizationPolicy"): Dialect(read_authorization_policy, fail_closed=True),
    ("security.istio.io/v1beta1", "AuthorizationPolicy"): Dialect(
        read_authorization_policy, fail_closed=True
    ),
    ("security.istio.io/v1", "RequestAuthentication"): Dialect(read_request_authentication, fail_closed=True),
    ("security.istio.io/v1beta1", "RequestAuthentication"): Dialect(
        read_request_authentication, fail_closed=True
    ),
    ("v1", "ConfigMap"): Dialect(read_config_map),
}

__all__ = ["DIALECTS"]
