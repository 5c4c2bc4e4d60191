"""Every field of NetworkPolicy, Cilium's policies and the Network Policy API."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tests.traffic.samples.sample import Sample, new, same_but_for
from tests.traffic.shop import Object, object_of

_ONLY_WEB = {"matchLabels": {"app": "web"}}
_CLIENT = {"matchLabels": {"app": "client"}}


def _network_policy(**spec: Any) -> Sample:
    content = {"podSelector": _ONLY_WEB} | spec
    return new(object_of("networking.k8s.io/v1", "NetworkPolicy", "web", "shop", content))


def _cilium(kind: str) -> Mapping[str, Sample]:
    peer = {"matchLabels": {"app": "client", "k8s:io.kubernetes.pod.namespace": "shop"}}
    port = {"ports": [{"port": "8080", "protocol": "TCP"}]}
    dns = {"ports": [{"port": "53", "protocol": "ANY"}], "rules": {"dns": [{"matchPattern": "*"}]}}
    http = port | {"rules": {"http": [{"method": "GET"}]}}
    hello = port | {"serverNames": ["web.example"]}
    names = {"matchLabels": {"k8s-app": "kube-dns", "k8s:io.kubernetes.pod.namespace": "kube-system"}}

    def policy(**spec: Any) -> Object:
        content = {"endpointSelector": _ONLY_WEB} | spec
        found = object_of("cilium.io/v2", kind, "web", "shop", content)
        if kind == "CiliumClusterwideNetworkPolicy":
            del found["metadata"]["namespace"]
        return found

    def out(**rule: Any) -> Object:
        return policy(endpointSelector=peer, egress=[{"toEndpoints": [_ONLY_WEB]} | rule])

    into = {"fromEndpoints": [peer]}
    plain = policy(ingress=[into])
    return {
        "endpointSelector": new(plain),
        "ingress": new(plain),
        "ingressDeny": new(policy(ingressDeny=[into])),
        "egress": new(out()),
        "egressDeny": new(policy(egressDeny=[{"toEndpoints": [peer]}])),
        "enableDefaultDeny": same_but_for(plain, "spec.enableDefaultDeny", {"ingress": False}),
        "ingress[].toPorts[].rules.http": new(policy(ingress=[into | {"toPorts": [http]}])),
        "egress[].toPorts[].rules.http": new(out(toPorts=[http])),
        "ingress[].toPorts[].serverNames": new(policy(ingress=[into | {"toPorts": [hello]}])),
        "egress[].toPorts[].serverNames": new(out(toPorts=[hello])),
        "egress[].toPorts[].rules.dns": new(policy(egress=[{"toEndpoints": [names], "toPorts": [dns]}])),
        "log": same_but_for(plain, "spec.log", {"value": "seen"}),
        "description": same_but_for(plain, "spec.description", "for people"),
        "labels": same_but_for(plain, "spec.labels", [{"key": "team", "value": "a", "source": "k8s"}]),
    }


_EVERY_POD = {"namespaces": {}}


def _cluster(kind: str, version: str, **more: Any) -> Mapping[str, Sample]:
    deny = {"action": "Deny", "from": [_EVERY_POD]}
    name = "default" if kind.startswith("Baseline") else "web"

    def policy(**spec: Any) -> Object:
        content = more | {"subject": {"namespaces": {}}, "ingress": [deny]} | spec
        found = object_of(f"policy.networking.k8s.io/{version}", kind, name, "", content)
        del found["metadata"]["namespace"]
        return found

    out = {"action": "Deny", "to": [_EVERY_POD]}
    found = {field: new(policy()) for field in ("subject", "ingress", *more)}
    return found | {"egress": new(policy(ingress=[], egress=[out]))}


SAMPLES: Mapping[str, Mapping[str, Sample]] = {
    "NetworkPolicy": {
        "podSelector": _network_policy(),
        "policyTypes": _network_policy(policyTypes=["Egress"]),
        "ingress": _network_policy(ingress=[{"from": [{"podSelector": _CLIENT}]}]),
        "egress": _network_policy(egress=[{"to": [{"podSelector": _CLIENT}]}]),
    },
    "CiliumNetworkPolicy": _cilium("CiliumNetworkPolicy"),
    "CiliumClusterwideNetworkPolicy": _cilium("CiliumClusterwideNetworkPolicy"),
    "ClusterNetworkPolicy": _cluster("ClusterNetworkPolicy", "v1alpha2", tier="Admin", priority=1),
    "AdminNetworkPolicy": _cluster("AdminNetworkPolicy", "v1alpha1", priority=1),
    "BaselineAdminNetworkPolicy": _cluster("BaselineAdminNetworkPolicy", "v1alpha1"),
}
