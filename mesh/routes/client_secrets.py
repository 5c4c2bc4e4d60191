"""Secrets that DestinationRules name for what a proxy sends (istio/api, ClientTLSSettings.credential_name).

Each is in the namespace of the pod that sends: so who has one rule may have another Secret. Where it is not
there nothing is sent, and never without what it would have shown.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from mesh.hashed import HashedTuple
from mesh.model import ClientTls, ObjectRef, Secret, TrustBundle
from mesh.proxy import Destination

Credentials = Mapping[ObjectRef, Secret | TrustBundle]


def with_secrets(
    destinations: tuple[Destination, ...], namespace: str, known: Credentials, *, is_gateway: bool
) -> tuple[tuple[Destination, ...], tuple[Secret, ...]]:
    """The destinations as a pod of the namespace reaches them, and the Secrets that it needs for that."""
    found: dict[ObjectRef, Secret] = {}

    def reached(destination: Destination) -> Destination:
        tls = destination.policy.tls
        if tls is None or not tls.credential:
            return destination
        secured: ClientTls | None = replace(tls, credential="")
        if is_gateway or tls.selected:
            secret = known.get(ref := ObjectRef("Secret", namespace, tls.credential))
            secured = _secured(tls, secret if isinstance(secret, Secret) else None, namespace, known)
            if secured is None:
                return replace(destination, parts=(), policy=replace(destination.policy, tls=None))
            if secured.credential and isinstance(secret, Secret):
                found[ref] = secret
        return replace(destination, policy=replace(destination.policy, tls=secured))

    return HashedTuple(map(reached, destinations)), tuple(found[ref] for ref in sorted(found))


def _secured(tls: ClientTls, secret: Secret | None, namespace: str, known: Credentials) -> ClientTls | None:
    """With the Secret's authorities, or those of one that is called like it with `-cacert` behind; None if it
    lacks what it should have."""
    beside = known.get(ObjectRef("Secret", namespace, f"{tls.credential}-cacert"))
    judge = next((found for found in (secret, beside) if found and found.authorities), None)
    judged = replace(tls, authorities=judge.authorities, revoked=judge.revoked) if judge else tls
    if tls.mode == "MUTUAL":
        return judged if secret and secret.certificate else None
    return replace(judged, credential="") if judge else None
