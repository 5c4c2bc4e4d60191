"""N44: a selector of a namespaced policy that reaches into other namespaces."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mesh.assemble import Mesh
from mesh.datapath import Node
from mesh.identity import NAMESPACE_NAME_LABEL, PORTS_KEY
from mesh.model import (
    NAMESPACE_KEY,
    NAMESPACE_LABEL_PREFIX,
    SERVICE_ACCOUNT_KEY,
    Authorization,
    Direction,
    ObjectRef,
    WorkloadPeer,
)
from mesh.policies.references import rules_of
from tests.mesh.shop import mesh_of
from xds.dialects import read

OWN, OTHERS = "shop", ("street", "kube-system", "default")
#: Labels in all namespaces alike, some of which look like what the mesh derives.
LABELS: tuple[dict[str, str], ...] = (
    {},
    {"app": "web", "tier": "front"},
    {"app": "db", "reserved.init": "", "role": "shop"},
    {"app": "web", NAMESPACE_KEY: OWN, "io.cilium.k8s.policy.cluster": "default", PORTS_KEY: "http"},
)
PODS = "\n---\n".join(
    f"""
apiVersion: v1
kind: Pod
metadata: {{name: "pod-{index}", namespace: {namespace}, labels: {labels}}}
spec: {{nodeName: here, containers: [{{name: c, command: ["true"]}}]}}
status: {{podIPs: [{{ip: 10.64.{place}.{index + 1}}}]}}
"""
    for place, namespace in enumerate((OWN, *OTHERS))
    for index, labels in enumerate(LABELS)
)
MESH = mesh_of(PODS)
NODE = Node(MESH, "here")

_NAMES = (
    *("app", "tier", "role", "init", "host", "world", "unmanaged", "ns", "", ":", "nothing"),
    *(NAMESPACE_KEY, SERVICE_ACCOUNT_KEY, PORTS_KEY, NAMESPACE_NAME_LABEL, NAMESPACE_LABEL_PREFIX + "team"),
    *(NAMESPACE_LABEL_PREFIX + NAMESPACE_NAME_LABEL, "io.cilium.k8s.policy.cluster", "io.cilium.k8s.x"),
)
_SOURCES = ("", "k8s:", "any:", "reserved:", "reserved.", "container:", "cidr:", "k8s:k8s:", "fqdn:", "*:")
_VALUES = ("web", "db", "front", "", OWN, *OTHERS, "default", "shop street", "*", "!shop")
_SCALARS = st.sampled_from((None, True, 0, "x", [], {}, [{}]))

KEYS = st.builds(str.__add__, st.sampled_from(_SOURCES), st.sampled_from(_NAMES)) | st.text(max_size=12)
VALUES = st.sampled_from(_VALUES) | st.text(max_size=6)
#: What can be read ...
_SOUND_KEYS = st.builds(
    str.__add__, st.sampled_from(("", "k8s:", "any:")), st.sampled_from([n for n in _NAMES if n.strip(":")])
)
_SOUND_VALUES = st.sampled_from(("web", "db", OWN, *OTHERS))
SOUND = st.fixed_dictionaries(
    {},
    optional={
        "matchLabels": st.dictionaries(_SOUND_KEYS, _SOUND_VALUES, max_size=1),
        "matchExpressions": st.lists(
            st.fixed_dictionaries(
                {
                    "key": _SOUND_KEYS,
                    "operator": st.sampled_from(("In", "NotIn")),
                    "values": st.lists(_SOUND_VALUES, min_size=1, max_size=2),
                }
            )
            | st.fixed_dictionaries(
                {"key": _SOUND_KEYS, "operator": st.sampled_from(("Exists", "DoesNotExist"))}
            ),
            max_size=2,
        ),
    },
)
#: ... and what mostly cannot.
EXPRESSIONS = st.fixed_dictionaries(
    {"key": KEYS, "operator": st.sampled_from(("In", "NotIn", "Exists", "DoesNotExist", "Equals", "in", ""))},
    optional={"values": st.lists(VALUES, max_size=3) | _SCALARS},
)
SELECTORS = (
    SOUND
    | st.fixed_dictionaries(
        {},
        optional={
            "matchLabels": st.dictionaries(KEYS, VALUES, max_size=2) | _SCALARS,
            "matchExpressions": st.lists(EXPRESSIONS | _SCALARS, max_size=3) | _SCALARS,
            "matchNothing": _SCALARS,
        },
    )
    | _SCALARS
)
DIRECTIONS: tuple[tuple[Direction, str], ...] = (("ingress", "from"), ("egress", "to"))


def network_policy(selector: Any, peer: Any) -> Any:
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "spec": {
            "podSelector": selector,
            "policyTypes": ["Ingress", "Egress"],
            **{direction: [{side: [{"podSelector": peer}]}] for direction, side in DIRECTIONS},
        },
    }


def cilium_policy(selector: Any, peer: Any) -> Any:
    rules: dict[str, Any] = {}
    for direction, side in DIRECTIONS:
        rule = {f"{side}Endpoints": [peer]}
        rules |= {direction: [rule], f"{direction}Deny": [rule]}
    spec = {"endpointSelector": selector, **rules}
    return {"apiVersion": "cilium.io/v2", "kind": "CiliumNetworkPolicy", "spec": spec, "specs": [spec]}


def authorization_policy(selector: Any, peer: Any) -> Any:
    spec = {"selector": selector, "action": "DENY", "rules": [{}]}
    return {"apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy", "spec": spec}


WRITERS = {write.__name__: write for write in (network_policy, cilium_policy, authorization_policy)}


def applied(mesh: Mesh, document: Any) -> ObjectRef:
    """One object at a time; what cannot be read counts as rule 18 has it."""
    fragment = read(document | {"metadata": {"name": "one", "namespace": OWN}})
    ref = fragment.ref
    NODE.update(mesh.apply({known: None for known in list(mesh.fragments()) if known.name == "one"}))
    NODE.update(mesh.apply({ref: fragment}))
    return ref


def namespaces(numbers: set[int]) -> set[str]:
    return {MESH.identities.all[number].mapping[NAMESPACE_KEY] for number in numbers}


@pytest.mark.parametrize("kind", WRITERS)
@settings(max_examples=400, deadline=None)
@given(selector=SELECTORS, peer=SELECTORS)
def test_whatever_it_says_it_selects_pods_of_its_own_namespace_only(
    kind: str, selector: Any, peer: Any
) -> None:
    """In the reference, in the compiler's index and in what the kernel is told."""
    ref = applied(MESH, WRITERS[kind](selector, peer))
    for policy in MESH.policies.get(ref, ()):
        matched = {n for n, i in MESH.identities.all.items() if policy.subject.matches(i.mapping)}
        assert matched == MESH.identities.select(policy.subject)
        assert namespaces(matched) <= {OWN}
    bound = {pod.name.namespace for pod in NODE.state.pods.values() if pod.ingress_set or pod.egress_set}
    assert bound <= {OWN}


@pytest.mark.parametrize("kind", ["network_policy", "cilium_policy"])
@settings(max_examples=400, deadline=None)
@given(peer=SELECTORS)
def test_a_peer_that_names_no_namespace_is_of_its_own_too(kind: str, peer: Any) -> None:
    """In Cilium a key of the namespace, of whatever source, names one."""
    if kind == "cilium_policy" and ("io.kubernetes.pod" in str(peer) or NAMESPACE_LABEL_PREFIX in str(peer)):
        return
    ref = applied(MESH, WRITERS[kind]({}, peer))
    for policy in MESH.policies.get(ref, ()):
        assert not isinstance(policy, Authorization)
        for rule in rules_of(policy):
            if rule.peers is None:  # a deny that cannot be read denies everyone
                assert "Deny" in rule.field
            for found in rule.peers or ():
                if isinstance(found, WorkloadPeer):
                    assert namespaces(set(MESH.identities.select(found.selector))) <= {OWN}
