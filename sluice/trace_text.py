"""What a trace saw, as people read it. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sluice.access_text import names
from sluice.text_table import text_table

Told = Mapping[str, Any]

_PROTOCOLS = {1: "ICMP", 6: "TCP", 17: "UDP", 58: "ICMPv6", 132: "SCTP"}
_TCP_HEAD = ("POD", "PEER", "RTT MIN", "RTT AVG", "RTT MAX", "RETRANSMITS", "RESETS SENT", "RESETS RECEIVED")


def connect_line(told: Told) -> str:
    """Such as `shop/web (curl) -> shop/api:8080 (Service shop/api:80) 0.183 ms`."""
    took = f"{told['us'] / 1000:.3f} ms"
    ended = "" if told["established"] else f", {told['error'] or 'given up'}"
    return f"{told['pod']} ({told['command']}) -> {end(told['destination'])} {took}{ended}"


def drop_line(told: Told) -> str:
    """Such as `TCP shop/web:39030 -> shop/api:8080 NO_SOCKET at tcp_v4_rcv, seen in shop/api`."""
    protocol = _PROTOCOLS.get(told["protocol"], f"IP protocol {told['protocol']}")
    ends = f"{end(told['source'])} -> {end(told['destination'])}"
    return f"{protocol} {ends} {told['reason']} at {told['at']}, seen in {told['pod']}"


def tcp_table(found: Sequence[Told]) -> str:
    """Connections, those in trouble first."""
    ordered = sorted(found, key=lambda told: (-_troubles(told), -told["samples"], told["pod"]))
    return text_table(_TCP_HEAD, [_tcp_row(told) for told in ordered])


def _troubles(told: Told) -> int:
    return sum(told[key] for key in ("retransmits", "resets_sent", "resets_received"))


def _tcp_row(told: Told) -> tuple[str, ...]:
    rtt = [
        f"{told['rtt_us'][key] / 1000:.3f} ms" if told["samples"] else "-" for key in ("min", "avg", "max")
    ]
    counts = (str(told[key]) for key in ("retransmits", "resets_sent", "resets_received"))
    return f"{told['pod']}:{told['source']['port']}", end(told["destination"]), *rtt, *counts


def end(peer: Told) -> str:
    """One end by its name, else by its address, with the Services that lead there."""
    host = peer["name"] or (f"[{peer['ip']}]" if ":" in peer["ip"] else peer["ip"])
    port = f":{peer['port']}" if peer["port"] else ""
    services = f" (Service {names(peer['services'], 2)})" if peer["services"] else ""
    return f"{host}{port}{services}"
