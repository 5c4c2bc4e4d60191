"""Which workloads a policy about requests is for: `selector` or `targetRefs` (istio/api,
type/v1beta1/selector.proto, which our own kinds follow)."""

from __future__ import annotations

from mesh.dialects.reading import Fields, Reader
from mesh.dialects.selection import in_namespace, pod_key, selector
from mesh.dialects.syntax import label_value, name
from mesh.model import ObjectRef, Requirement, Selector, ServiceName
from mesh.routes.gateways import GATEWAY_NAME

WORKLOADS = Fields(("matchLabels",))
TARGET = Fields(("group", "kind", "name", "namespace"))
#: What may be meant, and its groups, the first of which is to be written.
GROUPS = {"Service": ("", "core"), "Gateway": ("gateway.networking.k8s.io",)}
#: The fields of `spec` that are read here.
TARGETS = ("targetRef", "targetRefs")
SUBJECT = ("selector", *TARGETS)


def read_subject(spec: Reader, ref: ObjectRef) -> tuple[Selector, tuple[ServiceName, ...] | None]:
    """Without a selector the whole namespace; an unreadable one is that, too. A Gateway means the pods that
    serve it."""
    chosen = spec.at("selector").fields(WORKLOADS)
    targets = _targets(spec, "selector")
    found = [_target(target, ref) for target in targets]
    gateways = [own for kind, own in found if kind == "Gateway"]
    if gateways and len(found) > 1:
        targets[-1].refuse("a Gateway stands alone: write a policy for each")
    wanted = [
        Requirement(pod_key(value, key), "In", (label_value(value),))
        for key, value in chosen.at("matchLabels").entries()
    ]
    sound = chosen.sound and all(target.sound for target in targets)
    if not sound:
        return Selector(), None
    if gateways:
        served = Requirement(GATEWAY_NAME, "In", tuple(gateways))
        return selector([in_namespace(ref.namespace), served]), None
    return selector(wanted), tuple(sorted(ServiceName(ref.namespace, own) for _, own in found)) or None


def read_gateway(spec: Reader, ref: ObjectRef, beside: str) -> str:
    """The Gateway in `targetRefs` of kinds that mean nothing else by them, "" if there is none; a selector
    `beside` does not go with it. An unreadable one is refused."""
    targets = _targets(spec, beside)
    found = [_target(target, ref) for target in targets]
    for target, (kind, _) in zip(targets, found, strict=True):
        if kind == "Service":
            target.at("kind").refuse("must be Gateway: there are no waypoints, which would serve a Service")
    if len(found) > 1:
        targets[-1].refuse("stands alone: write an object for each Gateway")
    return found[0][1] if found else ""


def _targets(spec: Reader, beside: str) -> list[Reader]:
    targets = spec.at("targetRefs").items()
    if spec.at("targetRef").present:
        targets.append(spec.at("targetRef"))
    if targets and spec.at(beside).present:
        spec.at(beside).refuse(f"stands alone: there is a {beside} or there are targetRefs")
    return targets


def _target(reader: Reader, ref: ObjectRef) -> tuple[str, str]:
    """Kind and name."""
    reader.fields(TARGET)
    kind, group = reader.at("kind"), reader.at("group")
    kind.require()
    chosen = kind.choice(tuple(GROUPS), unsupported=("GatewayClass", "ServiceEntry"))
    if chosen in GROUPS and group.text() not in GROUPS[chosen]:
        group.refuse(f'of a {chosen} is "{GROUPS[chosen][0]}"')
    namespace = reader.at("namespace")
    if name(namespace, ref.namespace, label=True) != ref.namespace:
        namespace.refuse(f"must be the policy's own, {ref.namespace}")
    reader.at("name").require()
    return chosen, name(reader.at("name"), label=True)
