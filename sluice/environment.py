"""The environment and the arguments of a container, with Kubernetes' `$(NAME)` references. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from sluice.pod_spec import Container, FieldRef, PodSpec

_REFERENCE = re.compile(r"\$\$|\$\(([^()=\0]+)\)")

#: What a container inherits from the machine, in the place of what its image would set.
INHERITED = ("PATH", "LANG", "TZ")


def environment(
    pod: PodSpec, container: Container, addresses: Sequence[str], node: str, machine: Mapping[str, str]
) -> dict[str, str]:
    """The variables of a container. A later one may refer to an earlier one."""
    fields = {
        "metadata.name": pod.name.name,
        "metadata.namespace": pod.name.namespace,
        "spec.nodeName": node,
        "spec.serviceAccountName": pod.service_account,
        "status.podIP": addresses[0],
        "status.podIPs": ",".join(addresses),
    }
    own: dict[str, str] = {}
    for name, value in container.env:
        own[name] = fields[value.path] if isinstance(value, FieldRef) else expand(value, own)
    inherited = {name: machine[name] for name in INHERITED if name in machine}
    return inherited | {"HOME": "/root", "HOSTNAME": pod.hostname} | own


def expand(text: str, variables: Mapping[str, str]) -> str:
    """Replace `$(NAME)`; `$$` stands for a dollar; an unknown name stays as it is written."""

    def value(match: re.Match[str]) -> str:
        if match[0] == "$$":
            return "$"
        return variables.get(match[1], match[0])

    return _REFERENCE.sub(value, text)
