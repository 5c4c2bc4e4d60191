"""Leave to refer to objects of other namespaces (Gateway API, ReferenceGrant). Without it, a reference leads
nowhere, as if the object were not there (threat N51)."""

from __future__ import annotations

from mesh.model import GrantFrom, GrantTo, ObjectRef, ReferenceGrant, Route, ServiceName

_GATEWAY_GROUP = "gateway.networking.k8s.io"


class Grants:
    def __init__(self) -> None:
        self._all: dict[ObjectRef, ReferenceGrant] = {}

    def put(self, grant: ReferenceGrant) -> None:
        self._all[grant.ref] = grant

    def remove(self, ref: ObjectRef) -> None:
        del self._all[ref]

    def service(self, route: Route, service: ServiceName) -> bool:
        """May a route send to a Service? VirtualServices may, as in Istio; policy still counts."""
        if route.in_order:
            return True
        return self._permit(route.ref, ObjectRef("Service", *service))

    def secret(self, gateway: ObjectRef, secret: ObjectRef) -> bool:
        """May a Gateway use a Secret or ConfigMap?"""
        return self._permit(gateway, secret)

    def _permit(self, source: ObjectRef, target: ObjectRef) -> bool:
        if source.namespace == target.namespace:
            return True
        who = GrantFrom(_GATEWAY_GROUP, source.kind, source.namespace)
        what = GrantTo("", target.kind, target.name)
        grants = (grant for grant in self._all.values() if grant.namespace == target.namespace)
        return any(grant.permits(who, what) for grant in grants)
