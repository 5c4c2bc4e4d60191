"""Real traffic obeys every language: one policy at a time, what a client then meets, and by which path."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from tests.node.mesh import RunningMesh, until

CILIUM = "apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata: {name: p, namespace: shop}\nspec:\n"
ISTIO = (
    "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n"
    "metadata: {name: p, namespace: shop}\nspec:\n"
)
DRY_RUN = ISTIO.replace("shop}", 'shop, annotations: {istio.io/dry-run: "true"}}')
TIER = (
    "apiVersion: policy.networking.k8s.io/v1alpha2\nkind: ClusterNetworkPolicy\nmetadata: {name: p}\nspec:\n"
)
ADMIN = (
    "apiVersion: policy.networking.k8s.io/v1alpha1\nkind: AdminNetworkPolicy\nmetadata: {name: p}\nspec:\n"
)
WEB = "{matchLabels: {app: web}}"
PODS = f"{{pods: {{namespaceSelector: {{}}, podSelector: {WEB}}}}}"

#: Refused at connect().
NO = 0


@dataclass(frozen=True)
class Case:
    """`client` and `other` are of namespace shop, `stranger` of street; each gives the status of a GET of
    /public. `secret` and `post` are the client's GET of /secret and POST to /public."""

    policy: str
    client: int = 200
    other: int = 200
    stranger: int = 200
    secret: int | None = None
    post: int | None = None
    envoy: bool = False


CASES = {
    "cilium deny beats all": Case(
        f"{CILIUM}  endpointSelector: {WEB}\n  enableDefaultDeny: {{ingress: false}}\n"
        "  ingressDeny: [{fromEndpoints: [{matchLabels: {app: client}}]}]",
        client=NO,
    ),
    "cilium entities": Case(
        f"{CILIUM}  endpointSelector: {WEB}\n  ingress: [{{fromEntities: [cluster]}}]",
    ),
    "cilium nobody": Case(
        f"{CILIUM}  endpointSelector: {WEB}\n  ingress: [{{fromEntities: [none]}}]",
        client=NO,
        other=NO,
        stranger=NO,
    ),
    "cilium services": Case(
        f"{CILIUM}  endpointSelector: {{matchLabels: {{app: client}}}}\n"
        "  egress: [{toServices: [{k8sService: {serviceName: nobody, namespace: shop}}]}]",
        client=NO,
    ),
    "cilium selected services": Case(
        f"{CILIUM}  endpointSelector: {{matchLabels: {{app: client}}}}\n"
        "  egress: [{toServices: [{k8sServiceSelector: {selector: {}}}]}]",
    ),
    "cilium http with a header action": Case(
        f"{CILIUM}  endpointSelector: {WEB}\n  ingress:\n  - fromEntities: [all]\n    toPorts:\n"
        '    - ports: [{port: "8080", protocol: TCP}]\n'
        '      rules: {http: [{path: "/public.*", method: GET,'
        " headerMatches: [{name: x-team, value: a, mismatch: REPLACE}]}]}",
        secret=403,
        post=403,
        envoy=True,
    ),
    "cilium server names refuse what is no TLS": Case(
        f"{CILIUM}  endpointSelector: {WEB}\n  ingress:\n  - toPorts:\n"
        '    - {ports: [{port: "8080", protocol: TCP}], serverNames: [web.example.com]}',
        client=NO,
        other=NO,
        stranger=NO,
        envoy=True,
    ),
    "admin tier denies a namespace": Case(
        f"{TIER}  tier: Admin\n  priority: 1\n  subject: {PODS}\n"
        "  ingress: [{action: Deny, from: [{namespaces: "
        "{matchLabels: {kubernetes.io/metadata.name: street}}}]}]",
        stranger=NO,
    ),
    "baseline tier denies what nothing else decides": Case(
        f"{TIER}  tier: Baseline\n  priority: 1\n  subject: {PODS}\n"
        "  ingress: [{action: Deny, from: [{namespaces: {}}], "
        "protocols: [{tcp: {destinationPort: {number: 8080}}}]}]",
        client=NO,
        other=NO,
        stranger=NO,
    ),
    "a pass goes before a deny": Case(
        f"{ADMIN}  priority: 1\n  subject: {PODS}\n  ingress:\n"
        "  - {action: Pass, from: [{namespaces: {matchLabels: {kubernetes.io/metadata.name: shop}}}]}\n"
        "  - {action: Deny, from: [{namespaces: {}}]}",
        stranger=NO,
    ),
    "authorization by namespace is the kernel's": Case(
        f"{ISTIO}  selector: {WEB}\n  rules: [{{from: [{{source: {{namespaces: [shop]}}}}]}}]",
        stranger=NO,
    ),
    "authorization by principal and path is asked of Envoy": Case(
        f"{ISTIO}  selector: {WEB}\n  rules:\n"
        '  - from: [{source: {principals: ["*/ns/shop/sa/default"]}}]\n'
        "    to: [{operation: {methods: [GET], paths: [/public]}}]",
        stranger=NO,
        secret=403,
        post=403,
        envoy=True,
    ),
    "authorization denies by header": Case(
        f"{ISTIO}  selector: {WEB}\n  action: DENY\n  rules:\n"
        '  - when: [{key: "request.headers[user-agent]", values: ["curl*"]}]',
        client=403,
        other=403,
        stranger=403,
        envoy=True,
    ),
    "authorization without rules denies everything": Case(
        f"{ISTIO}  selector: {WEB}", client=NO, other=NO, stranger=NO
    ),
    "a provider that nobody knows consents to nothing": Case(
        f"{ISTIO}  selector: {WEB}\n  action: CUSTOM\n  provider: {{name: nobody}}\n"
        "  rules: [{to: [{operation: {paths: [/secret]}}]}]",
        secret=403,
        envoy=True,
    ),
    "authorization in dry-run changes nothing": Case(
        f"{DRY_RUN}  selector: {WEB}\n  action: DENY\n"
        "  rules: [{to: [{operation: {paths: [/secret]}}]}]",
        secret=200,
        envoy=True,
    ),
    "audit mode changes nothing": Case(
        f"{CILIUM}  endpointSelector: {WEB}\n  ingressDeny: [{{fromEntities: [all]}}]".replace(
            "namespace: shop}", 'namespace: shop, annotations: {sluice.io/audit: "true"}}'
        ),
    ),
}


def has_envoy(mesh: RunningMesh) -> bool:
    return any("envoy" in mesh.processes(pod) for pod in ("shop/web-v1", "shop/web-v2"))


@pytest.mark.parametrize("name", CASES)
def test_a_policy_does_what_it_says_and_nothing_once_it_is_gone(mesh: RunningMesh, name: str) -> None:
    case = CASES[name]
    mesh.apply(case.policy)
    try:
        for pod, url, wanted in (
            ("shop/client", "http://web.shop/public", case.client),
            ("shop/other", "http://web.shop/public", case.other),
            ("street/stranger", "http://web.shop/public", case.stranger),
            ("shop/client", "http://web.shop/secret", case.secret),
        ):
            if wanted is not None:
                assert mesh.get(pod, url)[0] == wanted, (pod, url)
        if case.post is not None:
            assert mesh.get("shop/client", "http://web.shop/public", "-X", "POST")[0] == case.post
        # The one before may still drain.
        until(lambda: has_envoy(mesh) == case.envoy, f"an Envoy: {case.envoy}", 90)
        if not case.envoy:
            said = mesh.explain("shop/client", "shop/web:80")
            assert (said["verdict"], said["path"]) == ("deny" if case.client == NO else "allow", "kernel")
    finally:
        mesh.delete(case.policy)
    assert mesh.get("shop/client", "http://web.shop/public")[0] == 200


def test_what_audit_mode_would_do_stands_in_the_flows_and_what_the_policy_says_of_it(
    mesh: RunningMesh,
) -> None:
    policy = CASES["audit mode changes nothing"].policy.replace("spec:", "spec:\n  log: {value: T-12}", 1)
    mesh.apply(policy)
    try:
        assert mesh.get("shop/client", "http://web.shop/public")[0] == 200
        flows = mesh.observe("--from", "shop/client", "--last", "5")
        assert any(
            flow.get("audit") == "DROPPED"
            and flow["audit_policies"] == ["CiliumNetworkPolicy shop/p ingressDeny[0]"]
            and flow["policy_log"] == ["T-12"]
            for flow in flows
        ), flows
    finally:
        mesh.delete(policy)
