"""Which setting about places counts for a service, and by what it tells callers apart (istio/api,
LocalityLoadBalancerSetting; Kubernetes, Service spec.trafficDistribution).

Failing over is by readiness, that of an Envoy also by outlier detection. As in Istio a setting that names no
order has no effect without outlier detection. Other than in Istio one that names an order has.
"""

from __future__ import annotations

from mesh.model import DestinationRule, LocalitySetting, MeshConfig, Service, TrafficPolicy
from mesh.topology import HOSTNAME, LOCALITY, ZONE

_NEAR = {
    "zone": LocalitySetting(priority=(ZONE,)),
    "node": LocalitySetting(priority=(ZONE, HOSTNAME)),
}


def asked_of_callers(noun: Service | DestinationRule | MeshConfig) -> frozenset[str]:
    """The labels of callers by which this may make them prefer other backends."""
    match noun:
        case Service():
            return frozenset(_NEAR[noun.near].priority) if noun.near else frozenset()
        case MeshConfig():
            return _keys(noun.locality) | (frozenset(LOCALITY) if noun.locality.distribute else frozenset())
        case DestinationRule():
            found: frozenset[str] = frozenset()
            for policy in noun.policies:
                setting = policy.balancer.locality if policy.balancer else None
                if policy.outliers or setting:
                    found = found.union(LOCALITY, _keys(setting) if setting else ())
            return found


def setting_for(service: Service, policy: TrafficPolicy, config: MeshConfig) -> tuple[LocalitySetting, str]:
    """What counts for a service, and the field that says so: that of the DestinationRule, the Service or the
    mesh. The field is "" where it has no effect."""
    own = policy.balancer.locality if policy.balancer else None
    if own is not None:
        field, setting, asked = "trafficPolicy.loadBalancer.localityLbSetting", own, _names_an_order(own)
    elif service.near:
        field, setting, asked = "trafficDistribution", _NEAR[service.near], True
    else:
        field, setting, asked = "localityLbSetting", config.locality, bool(config.locality.distribute)
    counts = setting.enabled and not service.headless and (asked or policy.outliers is not None)
    return setting, field if counts else ""


def _names_an_order(setting: LocalitySetting) -> bool:
    return bool(setting.distribute or setting.failover or setting.priority)


def _keys(setting: LocalitySetting) -> frozenset[str]:
    return frozenset(key for key in setting.priority if "=" not in key)
