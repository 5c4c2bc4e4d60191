"""What must happen to a call, by `judge` and the model alone, in every particular that can be seen."""

from __future__ import annotations

from dataclasses import dataclass

from agent.entries import rules_cookie
from bpf.layout import DropReason, EventFlags, EventType, Verdict
from mesh.datapath import Node
from mesh.model import Direction
from mesh.policies.policy import Deny, Party, Steer, judge
from mesh.policies.policy import Verdict as Judged
from tests.agreement.actor import Arrival, Attempt, Outcome
from tests.agreement.generate import World
from tests.agreement.kinds import PORTS
from tests.agreement.test_tables import words
from tests.agreement.town import HOST, OUTSIDE, Who

#: The type of an echo request, which stands where others have a port.
ICMP = {"ICMP": 8, "ICMPv6": 128}
NO_FLAGS = EventFlags(0)


@dataclass(frozen=True, slots=True)
class Question:
    """Who calls what. `service` has the backends that may be chosen, None where no service is dialled;
    `offered` says whether that service has such a port at all."""

    attempt: Attempt
    who: Who
    caller: Party
    protocol: str
    dialled: str
    service: frozenset[tuple[str, int]] | None = None
    offered: bool = True

    def __str__(self) -> str:
        backends = "" if self.service is None else f", a service of {sorted(self.service)}"
        return f"{'/'.join(self.who)} from {self.caller.address}: {self.attempt}{backends}"

    @property
    def hooked(self) -> bool:
        """Do the socket hooks see the call? A lone echo request is a packet only."""
        return self.who[1] != "stranger" and self.attempt.kind != "icmp"


@dataclass(frozen=True, slots=True)
class Told:
    """What an event says of a decision."""

    type: EventType
    verdict: Verdict
    reason: DropReason = DropReason.NONE
    flags: EventFlags = NO_FLAGS
    cookie: int = 0


@dataclass(frozen=True, slots=True)
class Fate:
    """What became of a call: what it returned at once, what the kernel told of it, what its socket met
    later, and who took it in."""

    error: str = ""
    told: frozenset[Told] = frozenset()
    outcome: Outcome = "silence"
    taken: tuple[tuple[str, Arrival], ...] = ()


class Reference:
    """One mesh. Envoy's classes are known by the rules that they hold."""

    def __init__(self, world: World, node: Node) -> None:
        self._world = world
        self._node = node
        self.parties = {party.address: party for party in world.parties()}

    def fate(self, question: Question, target: tuple[str, int]) -> tuple[str, Fate]:
        """The verdict in one word, and what must be seen of it, if that backend was chosen."""
        if question.service is not None:
            untranslated = self._without_backend(question)
            if untranslated is not None:
                return "deny", untranslated
        egress, ingress = self._judge(question, *target)
        callee = self.parties[target[0]]
        if isinstance(egress, Deny):
            reason = DropReason.REGISTRY_ONLY if egress.unnamed else DropReason.POLICY_EGRESS
            return "deny", _refused(question, reason, EventFlags.EGRESS, egress)
        if isinstance(ingress, Deny):
            return "deny", _refused(question, DropReason.POLICY_INGRESS, NO_FLAGS, ingress)
        if isinstance(egress, Steer) and question.who[1] == "stranger":
            return "steer", _refused(question, DropReason.NOT_PROXY, EventFlags.EGRESS, egress)
        if isinstance(egress, Steer) and question.who[1] == "app":
            return "steer", self._redirected(question, egress, target)
        # Rule 4: an Envoy's own connection is judged and never steered.
        word = "steer" if isinstance(egress, Steer) or isinstance(ingress, Steer) else "allow"
        return word, self._passed(question, callee, egress, ingress, target)

    def _judge(self, question: Question, address: str, port: int) -> tuple[Judged, Judged]:
        """Egress of the caller and ingress of the destination."""
        caller, callee, protocol = question.caller, self.parties[address], question.protocol
        port = ICMP.get(protocol, port)
        ours, theirs = map(self._world.policies, (caller, callee))
        egress = judge(ours, "egress", caller, callee, protocol, port)  # type: ignore[arg-type]
        ingress = judge(theirs, "ingress", callee, caller, protocol, port)  # type: ignore[arg-type]
        return egress, ingress

    def _without_backend(self, question: Question) -> Fate | None:
        # Resolvers connect datagram sockets to any port to see whether there is a way: the hooks let them.
        if not question.hooked or (question.protocol == "UDP" and not question.offered):
            told = Told(
                EventType.DROP, Verdict.DENY, DropReason.UNTRANSLATED, _by(question, EventFlags.EGRESS)
            )
            return Fate("", frozenset([told]))
        if not question.service:
            flags = _by(question, EventFlags.EGRESS)
            told = Told(EventType.CONNECT, Verdict.DENY, DropReason.NO_BACKEND, flags)
            return Fate("ECONNREFUSED", frozenset([told]))
        return None

    def _redirected(self, question: Question, egress: Steer, target: tuple[str, int]) -> Fate:
        """To the caller's own Envoy, which learns the backend."""
        place = str(question.caller.workload)
        server = f"outbound {self._class(question, 'egress', egress, target)}"
        flags = EventFlags.EGRESS | EventFlags.REDIRECTED
        told = Told(EventType.CONNECT, Verdict.STEER, flags=flags, cookie=_cookie(egress))
        return Fate("", frozenset([told]), "connected", ((place, Arrival(server, *target)),))

    def _passed(
        self, question: Question, callee: Party, egress: Judged, ingress: Judged, target: tuple[str, int]
    ) -> Fate:
        """To the destination, or to its Envoy."""
        caller = question.caller.workload
        server, verdict, flags = "app", Verdict.ALLOW, EventFlags.EGRESS if caller else NO_FLAGS
        if isinstance(ingress, Steer):
            server = f"inbound {self._class(question, 'ingress', ingress, target)}"
            verdict, flags = Verdict.STEER, EventFlags.REDIRECTED
        cookie = _cookie(ingress) or _cookie(egress)
        told = Told(EventType.FLOW, verdict, flags=_by(question, flags), cookie=cookie)
        # Rule 10: what stays within a pod no hook tells of.
        events = frozenset() if caller and caller == callee.workload else frozenset([told])
        if question.protocol in ICMP:
            return Fate("", events, "answered")
        if server == "app" and target[1] not in PORTS:
            return Fate("", events, "refused")
        place = str(callee.workload) if callee.workload else HOST if callee.host else OUTSIDE
        if question.protocol == "UDP":
            return Fate("", events, "silence", ((place, Arrival(server, "", target[1])),))
        return Fate("", events, "connected", ((place, Arrival(server, *target)),))

    def _class(
        self, question: Question, direction: Direction, verdict: Steer, target: tuple[str, int]
    ) -> int:
        """The class to which the tables lead; it must hold just the rules that the reference names."""
        ends = question.caller, self.parties[target[0]]
        subject, peer = ends if direction == "egress" else ends[::-1]
        record = self._node.state.pods[str(subject.workload)]
        number = record.egress_set if direction == "egress" else record.ingress_set
        listener = self._node.verdict(number, peer.address, question.protocol, target[1]).listener
        view = self._node.proxies[str(subject.workload)]
        (found,) = [l7 for l7 in (*view.egress, *view.ingress) if l7.number == listener]
        assert found.keys >= set(verdict.keys), (question, found, verdict)
        return listener


def _refused(question: Question, reason: DropReason, flags: EventFlags, verdict: Judged) -> Fate:
    """At once by a hook, or in silence."""
    kind = EventType.CONNECT if question.hooked else EventType.DROP
    told = Told(kind, Verdict.DENY, reason, _by(question, flags), _cookie(verdict))
    return Fate("EPERM" if question.hooked else "", frozenset([told]))


def _by(question: Question, flags: EventFlags) -> EventFlags:
    return flags | (EventFlags.BY_PROXY if question.who[1] == "envoy" else NO_FLAGS)


def _cookie(verdict: Judged) -> int:
    return rules_cookie(words(verdict)[1])
