"""WorkloadEntry of networking.istio.io, v1, v1beta1 and v1alpha3 (istio/api, workload_entry.proto).

One that cannot be read has no effect. This file knows nothing of who selects it.
"""

from __future__ import annotations

from dataclasses import replace

from istio_integration.endpoint import ENDPOINT, endpoint
from mesh.dialects.reading import OBJECT, Reader
from mesh.dialects.syntax import labels, name
from mesh.model import ObjectRef, WorkloadEntry, WorkloadName

#: Istio's annotations: the WorkloadGroup of an entry, and whether one waits to be found healthy.
GROUP = "istio.io/autoRegistrationGroup"
CHECKED = "proxy.istio.io/health-checks-enabled"


def read_workload_entry(root: Reader, ref: ObjectRef) -> tuple[WorkloadEntry, ...]:
    """As in Istio its own labels count beside those of `spec`, and before them."""
    root.fields(OBJECT)
    spec = root.at("spec").fields(ENDPOINT)
    spec.require()
    found = endpoint(spec, names=True)
    own = dict(labels(root.at("metadata").at("labels")))
    whole = replace(found, labels=tuple(sorted((dict(found.labels) | own).items())))
    annotations = root.at("metadata").at("annotations").mapping()
    checked = annotations.at(CHECKED).text() == "true"
    healthy = _is_healthy(root.at("status"), checked)
    group = name(annotations.at(GROUP))
    return (WorkloadEntry(WorkloadName(ref.namespace, ref.name), whole, healthy, group, checked),)


def _is_healthy(status: Reader, checked: bool) -> bool:
    """What a health check last said. One that is to be checked is not before that, any other is."""
    conditions = [item.mapping() for item in status.mapping().at("conditions").items()]
    said = [c.at("status").value for c in conditions if c.at("type").value == "Healthy"]
    return "False" not in said and ("True" in said or not checked)
