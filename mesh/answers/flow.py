"""One observed connection, request or query: what `sluice observe` prints and the agent's admin API serves.

The JSON keys stay near Hubble's, so that people and scripts feel at home. This file knows neither the
kernel's event nor Envoy's access log; the agent builds a `Flow` from either. Text that came from the wire
is escaped before anyone's terminal sees it (threat N43).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from mesh.dns import Answer
from mesh.model import Direction

FlowVerdict = Literal["FORWARDED", "REDIRECTED", "DROPPED"]
FlowPath = Literal["kernel", "envoy", "resolver"]
FlowType = Literal["L3_L4", "L7"]


@dataclass(frozen=True, slots=True)
class Peer:
    """One end of a flow. Empty strings and zeros are "not known"; `service` is `namespace/name` dialled,
    `principal` the SPIFFE identity that mutual TLS has proven."""

    ip: str
    port: int = 0
    namespace: str = ""
    pod: str = ""
    security_id: int = 0
    service: str = ""
    principal: str = ""

    def __str__(self) -> str:
        name = f"{self.namespace}/{self.pod}" if self.pod else self.ip
        if not self.port:
            return name
        return f"[{name}]:{self.port}" if ":" in name else f"{name}:{self.port}"


@dataclass(frozen=True, slots=True)
class Request:
    """What Envoy saw of one HTTP request; the path is as logged, `duration_ms` to the last byte sent."""

    method: str
    path: str
    authority: str
    status: int
    duration_ms: float

    def __str__(self) -> str:
        return f"{self.method} {self.authority}{self.path} {self.status} {self.duration_ms:.1f}ms"


@dataclass(frozen=True, slots=True)
class Flow:
    """One connection or request as one side of it was judged. `time` is RFC 3339 in UTC; `audit` is what
    the verdict would be if policies in audit mode counted, by `audit_policies`; empty: the same. `policy_log`
    is what these policies want to have said."""

    time: str
    source: Peer
    destination: Peer
    verdict: FlowVerdict
    path: FlowPath
    direction: Direction
    protocol: str
    type: FlowType = "L3_L4"
    drop_reason: str = ""
    policies: tuple[str, ...] = ()
    l7: Request | None = None
    audit: FlowVerdict | Literal[""] = ""
    audit_policies: tuple[str, ...] = ()
    dns: Answer | None = None
    policy_log: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The flow as plain JSON values; keys without a value are left out."""
        return _sparse(
            {
                "time": self.time,
                "type": self.type,
                "verdict": self.verdict,
                "path": self.path,
                "direction": self.direction,
                "protocol": self.protocol,
                "source": _peer(self.source),
                "destination": _peer(self.destination),
                "drop_reason": self.drop_reason,
                "policies": list(self.policies),
                "l7": _request(self.l7) if self.l7 else None,
                "audit": self.audit,
                "audit_policies": list(self.audit_policies),
                "dns": self.dns.plain() if self.dns else None,
                "policy_log": list(self.policy_log),
            }
        )

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> Flow:
        """The flow that `to_json` made. Raises KeyError when a key that it always writes is missing."""
        l7 = value.get("l7")
        return Flow(
            time=value["time"],
            source=Peer(**value["source"]),
            destination=Peer(**value["destination"]),
            verdict=value["verdict"],
            path=value["path"],
            direction=value["direction"],
            protocol=value["protocol"],
            type=value["type"],
            drop_reason=value.get("drop_reason", ""),
            policies=tuple(value.get("policies", ())),
            l7=Request(**l7) if l7 else None,
            audit=value.get("audit", ""),
            audit_policies=tuple(value.get("audit_policies", ())),
            dns=Answer.of(value["dns"]) if "dns" in value else None,
            policy_log=tuple(value.get("policy_log", ())),
        )

    def __str__(self) -> str:
        """One line, safe to print on a terminal whatever the peers put into their requests."""
        target = str(self.destination)
        if self.destination.service:
            target += f" ({self.destination.service})"
        words = [self.time, self.verdict, f"{self.source} -> {target}", self.protocol]
        if self.l7:
            words.append(str(self.l7))
        if self.dns:
            words.append(str(self.dns))
        words += [self.direction, f"via {self.path}"]
        if self.source.principal:
            words.append(f"principal={self.source.principal}")
        if self.drop_reason:
            words.append(f"reason={self.drop_reason}")
        if self.policies:
            words.append(f"by {'; '.join(self.policies)}")
        if self.audit:
            words.append(f"audit={self.audit}")
        if self.audit_policies:
            words.append(f"by {'; '.join(self.audit_policies)}")
        words += [f"log={text}" for text in self.policy_log]
        return printable(" ".join(words))


def printable(text: str) -> str:
    """The text with whatever could steer a terminal or forge a second line written as an escape."""
    return "".join(c if c.isprintable() and c != "\\" else c.encode("unicode_escape").decode() for c in text)


def _peer(peer: Peer) -> dict[str, Any]:
    return _sparse(
        {
            "ip": peer.ip,
            "port": peer.port,
            "namespace": peer.namespace,
            "pod": peer.pod,
            "security_id": peer.security_id,
            "service": peer.service,
            "principal": peer.principal,
        }
    ) | {"ip": peer.ip}


def _request(request: Request) -> dict[str, Any]:
    return {
        "method": request.method,
        "path": request.path,
        "authority": request.authority,
        "status": request.status,
        "duration_ms": request.duration_ms,
    }


def _sparse(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value not in ("", 0, None, [])}
