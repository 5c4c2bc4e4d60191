"""Which BackendTLSPolicy counts for what a Gateway sends to (Gateway API, GEP-1897).

One that names the port comes before one for the whole Service, then the oldest does. Where none of the
authorities is there nobody can be believed: nothing is sent then, and never in plain text.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal

from mesh.age import age
from mesh.model import BackendTls, ClientTls, ObjectRef, Secret, ServicePort, TrustBundle
from mesh.proxy import Target


def backend_tls(
    target: Target,
    ports: Iterable[ServicePort],
    policies: Iterable[BackendTls],
    credentials: Mapping[ObjectRef, Secret | TrustBundle],
) -> ClientTls | Literal["nobody"] | None:
    """How a gateway secures what it sends to a target; None: no policy says anything."""
    name = next((port.name for port in ports if port.port == target.port and port.protocol == "TCP"), "")
    found = [
        ((tls_target.port == "", age(policy)), policy)
        for policy in policies
        for tls_target in policy.targets
        if tls_target.service == target.service and tls_target.port in ("", name)
    ]
    if not found:
        return None
    policy = min(found, key=lambda ranked: ranked[0])[1]
    bundles = [c for ref in policy.authorities if (c := credentials.get(ref)) and c.authorities]
    if policy.authorities and not bundles:
        return "nobody"
    return ClientTls(
        "SIMPLE",
        policy.hostname,
        tuple(name.value for name in policy.names),
        authorities=b"\n".join(bundle.authorities for bundle in bundles) or "",
        revoked=b"\n".join(bundle.revoked for bundle in bundles if bundle.revoked) or "",
    )
