"""L7 rules that do not judge what their author meant them to judge, and ports that nobody has."""

from __future__ import annotations

from collections.abc import Iterator

from mesh.analysis.cover import Range, audience_of, destinations, ports_cover, ports_meet, ranges_of
from mesh.analysis.finding import Check, Trap, some, where
from mesh.analysis.view import View, Written
from mesh.identity import named_port
from mesh.model import HttpMatch, PortName, PortRange, Protocol, Rule, WorkloadName

_PORTED: tuple[Protocol, ...] = ("TCP", "UDP", "SCTP")


def l4_allow_voids_l7(view: View) -> Iterator[Trap]:
    """Semantics rule 16: an L4 allow is an L7 allow of everything for the same peers and port."""
    plain = [w for w in view.rules() if w.action == "accept" and _kind(w.rule) is None]
    for written in view.rules():
        if written.action == "deny" or _kind(written.rule) is None:
            continue
        for other in plain:
            shared = _shared_subjects(view, written, other)
            if not shared or not _same_ground(view, written, other):
                continue
            whole = audience_of(view, other.rule).covers(audience_of(view, written.rule)) and ports_cover(
                _ranges(view, other), _ranges(view, written)
            )
            extent = "void" if whole else "void for some of its peers or ports"
            yield Trap(
                written.ref,
                where(written.rule.field),
                f"its {_kind(written.rule)} rules are {extent} at {some(shared)}: {other.ref} "
                f"{other.rule.field} allows the same connections without looking into them",
                "take the rule without L7 out, or narrow it to other peers or ports",
            )


def two_l7_types(view: View) -> Iterator[Trap]:
    """HTTP rules and server names (or DNS rules) for the same pods, peers and port."""
    l7 = [w for w in view.rules() if w.action == "accept" and _kind(w.rule) is not None]
    for index, first in enumerate(l7):
        for second in l7[index + 1 :]:
            kinds = {_kind(first.rule), _kind(second.rule)}
            shared = _shared_subjects(view, first, second)
            if len(kinds) == 2 and shared and _same_ground(view, first, second):
                yield Trap(
                    second.ref,
                    where(second.rule.field),
                    f"{' and '.join(sorted(map(str, kinds)))} rules meet on one port at {some(shared)}: see "
                    f"also {first.ref} {first.rule.field}",
                    "give each kind of rule ports of its own",
                )


def nobody_serves_the_port(view: View) -> Iterator[Trap]:
    """An L7 rule for a port that none of the pods it leads to is known to serve."""
    for written in view.rules():
        if written.action == "deny" or _kind(written.rule) in (None, "DNS"):
            continue
        known = {(p, n) for name in _destinations(view, written) for p, n in _served(view, name)}
        served = frozenset((protocol, port, port) for protocol, port in known)
        wanted = _ranges(view, written)
        if served and wanted and not ports_meet(wanted, served) and not _service_port(view, written):
            yield Trap(
                written.ref,
                where(written.rule.field),
                f"no pod that it leads to serves {_ports_text(written.rule)}; known are "
                f"{some(f'{protocol} {port}' for protocol, port in sorted(known))}",
                "name a port that the containers listen on, or declare it in the pod",
            )


def port_of_the_service(view: View) -> Iterator[Trap]:
    """Semantics rule 1: policies see the pod's port, after translation, never the Service's."""
    for written in view.rules():
        if found := _service_port(view, written):
            service, port, target = found
            yield Trap(
                written.ref,
                where(written.rule.field),
                f"port {port} is Service {service}'s; its pods are judged at {target}",
                f"write port {target}, or the name of the container's port",
            )


def named_port_is_unknown(view: View) -> Iterator[Trap]:
    """A named port that no pod the rule leads to has: the rule matches no connection."""
    for written in view.rules():
        pods = _destinations(view, written)
        if not pods:
            continue
        labels = destinations(view, written.rule, written.direction, written.subject)
        for match in written.rule.ports or ():
            if isinstance(match, PortName):
                protocols = [match.protocol] if match.protocol else _PORTED
                if all(named_port(text, match.name, p) is None for text in labels for p in protocols):
                    yield Trap(
                        written.ref,
                        where(written.rule.field),
                        f"none of {some(pods)} has a port named {match.name}",
                        "name the container's port, or write its number",
                    )


def http_on_a_plain_port(view: View) -> Iterator[Trap]:
    """HTTP rules on a port that a Service declares as something else: its bytes are no requests."""
    for written in view.rules():
        if written.rule.http is None:
            continue
        ranges = _ranges(view, written)
        found = [
            (name, port)
            for name in _destinations(view, written)
            for port, kind in sorted(view.mesh.service_table.declared(name).items())
            if kind == "plain" and ports_meet(ranges, frozenset({("TCP", port, port)}))
        ]
        if found:
            yield Trap(
                written.ref,
                where(written.rule.field),
                f"port {found[0][1]} of {some(dict.fromkeys(name for name, _ in found))} is declared as no "
                "HTTP by a Service's port name or appProtocol: connections that are no HTTP are refused",
                "name the Service's port http-..., or take the HTTP rules out",
            )


def http_that_fits_all(view: View) -> Iterator[Trap]:
    """An HTTP rule that fits every request: it steers connections through Envoy and refuses nothing."""
    for written in view.rules():
        if HttpMatch() in (written.rule.http or ()):
            yield Trap(
                written.ref,
                where(written.rule.field),
                "its HTTP rules fit every request: connections go through Envoy and none is refused",
                "take `rules` out for the kernel path, unless you want the requests logged",
            )


def accept_voids_l7(view: View) -> Iterator[Trap]:
    """Semantics rule 15: an Accept of the Admin tier also voids Cilium's L7 rules."""
    accepts = [w for w in view.ranked("admin") if w.action == "accept"]
    for written in view.rules():
        if written.action == "deny" or _kind(written.rule) is None:
            continue
        for accept in accepts:
            shared = _shared_subjects(view, written, accept)
            if shared and _same_ground(view, written, accept):
                yield Trap(
                    written.ref,
                    where(written.rule.field),
                    f"its {_kind(written.rule)} rules are not asked at {some(shared)} where "
                    f"{accept.ref} {accept.rule.field} accepts the connection",
                    "let the tier pass instead of accept, so that the policies behind it decide",
                )


def _kind(rule: Rule) -> str | None:
    if rule.http is not None:
        return "HTTP"
    if rule.server_names is not None:
        return "server name"
    return "DNS" if rule.dns is not None else None


def _shared_subjects(view: View, first: Written, second: Written) -> list[WorkloadName]:
    """Pods that both bind in the same direction; policies in audit mode bind none."""
    select = view.mesh.identities.select
    if first.direction != second.direction or first.audit or second.audit:
        return []
    if select(first.subject).isdisjoint(select(second.subject)):
        return []
    others = set(view.selected(second.subject))
    return [name for name in view.selected(first.subject) if name in others]


def _same_ground(view: View, first: Written, second: Written) -> bool:
    return ports_meet(_ranges(view, first), _ranges(view, second)) and audience_of(view, first.rule).meets(
        audience_of(view, second.rule)
    )


def _ranges(view: View, written: Written) -> frozenset[Range]:
    return ranges_of(view, written.rule, written.direction, written.subject)


def _destinations(view: View, written: Written) -> list[WorkloadName]:
    """The pods that a rule leads to: its subjects, or for egress its peers."""
    if written.direction == "ingress":
        return list(view.selected(written.subject))
    members = view.mesh.identities.members
    return sorted(n for number in audience_of(view, written.rule).identities for n in members[number])


def _served(view: View, name: WorkloadName) -> set[tuple[Protocol, int]]:
    """The ports of a pod that it names or that Services lead to."""
    own: set[tuple[Protocol, int]] = {(p.protocol, p.port) for p in view.mesh.workloads[name].ports}
    return own | {(port.protocol, target) for _, port, target in view.service_ports(name)}


def _service_port(view: View, written: Written) -> tuple[str, int, int] | None:
    """Service, its port, and the pods' port behind it, if a rule names the former and no pod serves it."""
    if written.rule.peers is None and written.direction == "egress":
        return None
    pods = _destinations(view, written)
    for match in written.rule.ports or ():
        if isinstance(match, PortRange) and match.first == match.last:
            if any(port == match.first for name in pods for _, port in _served(view, name)):
                continue
            for name in pods:
                for service, port, target in view.service_ports(name):
                    if port.port == match.first and match.protocol in (None, port.protocol):
                        return service, port.port, target
    return None


def _ports_text(rule: Rule) -> str:
    texts = []
    for match in rule.ports or ():
        if isinstance(match, PortName):
            texts.append(match.name)
        else:
            span = str(match.first) if match.first == match.last else f"{match.first}-{match.last}"
            texts.append(f"{match.protocol or 'any protocol'} {span}")
    return some(texts)


CHECKS = (
    Check("SL0201", "Warning", "an L4 allow makes an L7 rule void", l4_allow_voids_l7),
    Check("SL0202", "Warning", "two kinds of L7 rule meet on one port", two_l7_types),
    Check("SL0203", "Warning", "an L7 rule is about a port that no pod serves", nobody_serves_the_port),
    Check("SL0204", "Warning", "a rule names a Service's port, not the pod's", port_of_the_service),
    Check("SL0205", "Warning", "no selected pod has the named port", named_port_is_unknown),
    Check("SL0206", "Warning", "HTTP rules on a port declared as no HTTP", http_on_a_plain_port),
    Check("SL0207", "Info", "an HTTP rule fits every request", http_that_fits_all),
    Check("SL0208", "Warning", "an accept of the Admin tier makes an L7 rule void", accept_voids_l7),
)
