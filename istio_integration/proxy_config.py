"""ProxyConfig of networking.istio.io/v1beta1 (istio/api, proxy_config.proto), and the annotation
`proxy.istio.io/config` of Pods.

Both say how an Envoy is run, make nothing reachable and nothing judged. A ProxyConfig that cannot be read has
no effect; nor has such an annotation, and its Pod is a Pod all the same. This file knows nothing of whose
Envoy it is in the end (`mesh.proxy_config`).
"""

from __future__ import annotations

from dataclasses import replace

from istio_integration.nested_yaml import nested
from istio_integration.proxy_settings import concurrency, environment, mesh_settings
from mesh.dialects import kubernetes
from mesh.dialects.reading import OBJECT, Fields, Reader, shown
from mesh.dialects.selection import pod_key, selector
from mesh.dialects.syntax import created, label_value, printable
from mesh.model import NO_SETTINGS, ObjectRef, Problem, ProxyConfig, ProxySettings, Requirement, Workload

SPEC = Fields(("selector", "concurrency", "environmentVariables", "image"))
IMAGE = Fields(("imageType",))
WORKLOADS = Fields(("matchLabels",))

ANNOTATION = "proxy.istio.io/config"
#: What an annotation may say; Istio knows more.
_READ = ("concurrency", "proxyMetadata", "terminationDrainDuration")


def read_proxy_config(root: Reader, ref: ObjectRef) -> tuple[ProxyConfig, ...]:
    root.fields(OBJECT)
    spec = root.at("spec").fields(SPEC)
    chosen = spec.at("selector").fields(WORKLOADS)
    wanted = [
        Requirement(pod_key(value, key), "In", (label_value(value),))
        for key, value in chosen.at("matchLabels").entries()
    ]
    variables = environment(spec.at("environmentVariables"))
    if printable(spec.at("image").fields(IMAGE).at("imageType"), 253):
        spec.at("image").note("has no effect: an Envoy is a process of the node here, not a container")
    settings = ProxySettings(concurrency(spec.at("concurrency")), variables)
    return (ProxyConfig(ref, selector(wanted) if wanted else None, settings, created(root)),)


def read_pod(root: Reader, ref: ObjectRef) -> tuple[Workload, ...]:
    """A Pod of Kubernetes with its annotation, if it has one."""
    annotation = root.at("metadata").at("annotations").at(ANNOTATION)
    (workload,) = kubernetes.read_pod(root, ref)
    return (replace(workload, proxy=_annotated(annotation)),) if annotation.present else (workload,)


def _annotated(annotation: Reader) -> ProxySettings:
    """Whatever is wrong is noted: it must not take the Pod out of the mesh."""
    try:
        content = nested(annotation.value)
    except ValueError as error:
        annotation.note(f"is not YAML: {shown(str(error))}")
        return NO_SETTINGS
    problems: list[Problem] = []
    reader = Reader(content, annotation.ref, problems)
    settings = mesh_settings(reader)
    sound = reader.sound
    for key, value in reader.entries() if sound else ():
        if key not in _READ:
            value.refuse(f"has no effect; what is read here is {', '.join(_READ)}")
    for problem in problems:
        annotation.note(f"{problem.field} {problem.message}".strip())
    return settings if sound else NO_SETTINGS
