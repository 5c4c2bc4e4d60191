"""Certificates, keys and authorities, and which of them a backend must show."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

from mesh.model.names import ObjectRef, ServiceName


class PrivateKey(bytes):
    """Bytes that never become text by accident, in a log or a report."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "[redacted]"

    __str__ = __repr__


_NO_KEY = PrivateKey()


@dataclass(frozen=True, slots=True)
class Secret:
    """A certificate (with its chain) and its key, authorities that judge others' certificates, and lists of
    what those have taken back (`revoked`): PEM, and b"" where the Secret has none."""

    ref: ObjectRef
    certificate: bytes = b""
    key: PrivateKey = _NO_KEY
    authorities: bytes = b""
    revoked: bytes = b""


@dataclass(frozen=True, slots=True)
class TrustBundle:
    """The authorities in a ConfigMap, likewise."""

    ref: ObjectRef
    authorities: bytes
    revoked: bytes = b""


class TlsTarget(NamedTuple):
    """A Service, or the port of it that is called `port`."""

    service: ServiceName
    port: str = ""


class SubjectName(NamedTuple):
    """A Subject Alternative Name: a DNS name, which may begin with `*.`, or a URI."""

    kind: Literal["dns", "uri"]
    value: str


@dataclass(frozen=True, slots=True)
class BackendTls:
    """A BackendTLSPolicy: backends of `targets` are spoken to in TLS, asking for `hostname`. Their
    certificate must hold one of `names` and come from one of `authorities` (ConfigMaps or Secrets; ():
    the system's)."""

    ref: ObjectRef
    created: str
    targets: tuple[TlsTarget, ...]
    hostname: str
    names: tuple[SubjectName, ...]
    authorities: tuple[ObjectRef, ...] = ()
