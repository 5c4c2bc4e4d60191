"""How something is asked whether it can serve (Kubernetes, Probe; istio/api, ReadinessProbe)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Exec:
    command: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class HttpGet:
    """`host` "" is the address of what is asked."""

    port: int
    path: str = "/"
    host: str = ""
    scheme: Literal["HTTP", "HTTPS"] = "HTTP"
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class TcpSocket:
    port: int
    host: str = ""


@dataclass(frozen=True, slots=True)
class Probe:
    """Times are seconds."""

    action: Exec | HttpGet | TcpSocket
    initial_delay: float = 0.0
    period: float = 10.0
    timeout: float = 1.0
    failure_threshold: int = 3
    success_threshold: int = 1
