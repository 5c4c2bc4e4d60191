"""Which workloads a policy about requests is for: `selector` or `targetRefs` (istio/api,
type/v1beta1/selector.proto, which our own kinds follow)."""

from __future__ import annotations

from mesh.dialects.reading import Fields, Reader
from mesh.dialects.selection import pod_key, selector
from mesh.dialects.syntax import label_value, name
from mesh.model import ObjectRef, Requirement, Selector, ServiceName

WORKLOADS = Fields(("matchLabels",))
TARGET = Fields(("group", "kind", "name", "namespace"))
#: The fields of `spec` that are read here.
SUBJECT = ("selector", "targetRef", "targetRefs")


def read_subject(spec: Reader, ref: ObjectRef) -> tuple[Selector, tuple[ServiceName, ...] | None]:
    """Without a selector the whole namespace; an unreadable one is that, too."""
    chosen = spec.at("selector").fields(WORKLOADS)
    targets = spec.at("targetRefs").items()
    if spec.at("targetRef").present:
        targets.append(spec.at("targetRef"))
    if targets and chosen.present:
        spec.at("selector").refuse("stands alone: a policy has a selector or targetRefs")
    services = [_service(target, ref) for target in targets]
    wanted = [
        Requirement(pod_key(value, key), "In", (label_value(value),))
        for key, value in chosen.at("matchLabels").entries()
    ]
    sound = chosen.sound and all(target.sound for target in targets)
    if not sound:
        return Selector(), None
    return selector(wanted), tuple(sorted(services)) if services else None


def _service(reader: Reader, ref: ObjectRef) -> ServiceName:
    reader.fields(TARGET)
    kind, group = reader.at("kind"), reader.at("group")
    kind.require()
    kind.choice(("Service",), unsupported=("Gateway", "GatewayClass", "ServiceEntry"))
    if kind.sound and group.text() not in ("", "core"):
        group.refuse('of a Service is ""')
    namespace = reader.at("namespace")
    if name(namespace, ref.namespace, label=True) != ref.namespace:
        namespace.refuse(f"must be the policy's own, {ref.namespace}")
    reader.at("name").require()
    return ServiceName(ref.namespace, name(reader.at("name"), label=True))
