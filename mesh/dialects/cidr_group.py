"""CiliumCIDRGroup of cilium.io: blocks under a name, to which Cilium's CIDR rules refer."""

from __future__ import annotations

from mesh.dialects.reading import OBJECT, Fields, Reader
from mesh.dialects.syntax import labels, network
from mesh.model import CidrGroup, ObjectRef

SPEC = Fields(("externalCIDRs",))


def read_cidr_group(root: Reader, ref: ObjectRef) -> tuple[CidrGroup, ...]:
    root.fields(OBJECT)
    spec = root.at("spec").fields(SPEC)
    spec.require()
    blocks = [network(item, bare=True) for item in spec.at("externalCIDRs").items()]
    cidrs = tuple(sorted({str(block) for block in blocks if block is not None}))
    return (CidrGroup(ref.name, labels(root.at("metadata").at("labels")), cidrs),)
