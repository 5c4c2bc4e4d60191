"""What a pod asks for and has not got: an address that is another's, or a security id."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from mesh.identities import Identities
from mesh.model import ObjectRef, Problem, Workload, WorkloadName


def workload_problems(
    workload: Workload, identities: Identities, owners: Mapping[str, WorkloadName]
) -> Iterator[Problem]:
    ref = ObjectRef("Pod", *workload.name)
    for address in workload.addresses:
        if owners[address] != workload.name:
            yield Problem(ref, "status.podIPs", f"{address} already belongs to Pod {owners[address]}")
    if workload.name not in identities.of:
        # It is nobody then: no policy allows it (fail closed).
        yield Problem(ref, "metadata.labels", "no security id is left; the pod stays cut off")
