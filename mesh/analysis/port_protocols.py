"""What Services say of the protocol of a port, and what follows for rules about requests (rule 21). The codes
are those of Istio's own messages."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from mesh.analysis.finding import Check, Trap, some
from mesh.analysis.view import View
from mesh.model import ObjectRef
from mesh.protocols import selected

#: Istio leaves them out, too.
_SYSTEM = frozenset({"kube-system", "kube-public", "kube-node-lease", "istio-system"})


def services_disagree(view: View) -> Iterator[Trap]:
    """Two Services call one port of a pod by different protocols, so that neither counts."""
    for name in sorted(view.mesh.workloads):
        said: defaultdict[int, dict[str, str]] = defaultdict(dict)
        for service, port, target in view.service_ports(name):
            if port.protocol == "TCP" and (word := selected(port)):
                said[target].setdefault(word, service)
        for target, words in sorted(said.items()):
            if len(words) > 1:
                named = some([f"{service} says {word}" for word, service in sorted(words.items())])
                yield Trap(
                    ObjectRef("Pod", *name),
                    "metadata.labels",
                    f"its port {target} has several protocols ({named}): nothing is declared, and the first "
                    "bytes decide",
                    "give the ports of both Services one protocol",
                )


def nothing_is_declared(view: View) -> Iterator[Trap]:
    """A port whose name and appProtocol are no protocol: the first bytes of each connection decide."""
    for name, service in sorted(view.mesh.services.items()):
        for index, port in enumerate(service.ports):
            if port.protocol == "TCP" and name.namespace not in _SYSTEM and not selected(port):
                yield Trap(
                    ObjectRef("Service", *name),
                    f"spec.ports[{index}].name",
                    f"port {port.port} is named {port.name!r}, which is no protocol: the first bytes decide",
                    "name it http-..., grpc-..., tls-... or tcp-..., or set appProtocol",
                )


def no_token_is_looked_for(view: View) -> Iterator[Trap]:
    """Rule 20: a RequestAuthentication leaves ports alone that are declared as no HTTP."""
    for policy in view.authentications:
        if not policy.rules:
            continue
        for name in view.bound(policy):
            plain = [port for port, kind in view.mesh.service_table.declared(name).items() if kind == "plain"]
            if plain:
                yield Trap(
                    policy.ref,
                    "spec.jwtRules",
                    f"port {some(plain)} of {name} is declared as no HTTP: there no token is looked for",
                    "name the Service's port http-..., if it is HTTP",
                )


CHECKS = (
    Check("IST0116", "Warning", "Services call one port by several protocols", services_disagree),
    Check("IST0118", "Info", "the name of a Service's port is no protocol", nothing_is_declared),
    Check("IST0119", "Warning", "tokens are wanted at a port that is no HTTP", no_token_is_looked_for),
)
