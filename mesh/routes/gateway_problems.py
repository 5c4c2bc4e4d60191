"""What is wrong between a Gateway, the pods that could serve it, and the credentials that it names."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from mesh.aliases import Aliases
from mesh.grants import Grants
from mesh.model import (
    Backend,
    Gateway,
    ObjectRef,
    Problem,
    Protocol,
    Route,
    Secret,
    ServiceName,
    TrustBundle,
)
from mesh.routes.gateways import Gateways, names, rival

Credentials = Mapping[ObjectRef, Secret | TrustBundle]


def gateway_problems(
    gateway: Gateway, gateways: Gateways, credentials: Credentials, grants: Grants
) -> Iterator[Problem]:
    """A listener whose certificate cannot be had answers nobody; the others do."""
    if not gateways.is_ours(gateway):
        return
    namespaces = {pod.namespace for pod in gateways.pods(gateway)}
    for index, listener in enumerate(gateway.listeners):
        at = f"spec.{'servers' if gateway.subject else 'listeners'}[{index}]"
        if other := rival(gateway, listener):
            said = f"port {listener.port} is {other.protocol}'s, by {other.name}, so this one is not served"
            yield Problem(gateway.ref, f"{at}.port", said)
        where = f"{at}.tls"
        for ref in (*listener.tls.certificates, *listener.tls.authorities) if listener.tls else ():
            yield from _credential(gateway, where, ref, namespaces, credentials, grants)


def returning(
    route: Route,
    backends: Mapping[ServiceName, Mapping[tuple[int, Protocol], Sequence[Backend]]],
    aliases: Aliases,
    gateways: Gateways,
) -> Iterator[Problem]:
    """What a Gateway would send to itself comes again and again, until its Envoy has no socket left."""
    for rule in route.all_rules:
        found = (
            (target.service, gateway.ref)
            for target in rule.targets
            if target.service
            for (port, protocol), ready in backends.get(aliases.sent_to(route, target.service), {}).items()
            if protocol == route.protocol and target.port in (0, port)
            for backend in ready
            for gateway in gateways.at(backend.address, backend.port, protocol)
            if names(route, gateway)
        )
        for service, ref in dict.fromkeys(found):
            text = f"Service {service} leads back to {ref} itself: nothing is sent there"
            yield Problem(route.ref, f"spec.{rule.field}", text)


def _credential(
    gateway: Gateway,
    where: str,
    ref: ObjectRef,
    namespaces: Iterable[str],
    credentials: Credentials,
    grants: Grants,
) -> Iterator[Problem]:
    if gateway.subject is None and not grants.secret(gateway.ref, ref):
        yield Problem(gateway.ref, where, f"no ReferenceGrant in {ref.namespace} lets it use {ref}")
        return
    for namespace in [ref.namespace] if ref.namespace else sorted(namespaces):
        full = ref._replace(namespace=namespace)
        if full not in credentials:
            yield Problem(gateway.ref, where, f"there is no {full} with a certificate; nobody is answered")
