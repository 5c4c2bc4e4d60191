"""Gateways, where traffic enters the mesh: what they listen to, who may attach to them and who may refer
to what across namespaces. Those of Gateway API and Istio's are the same nouns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

from mesh.model.names import ObjectRef, Protocol
from mesh.model.selection import Selector

#: The controller that a GatewayClass names if its Gateways are ours.
GATEWAY_CONTROLLER = "sluice.io/gateway-controller"

TlsMode = Literal["SIMPLE", "MUTUAL", "OPTIONAL_MUTUAL", "ISTIO_MUTUAL", "PASSTHROUGH", "AUTO_PASSTHROUGH"]

TlsVersion = Literal["", "1.0", "1.1", "1.2", "1.3"]

ListenerProtocol = Literal["HTTP", "HTTPS", "TLS", "TCP", "UDP"]

#: What a listener's protocol is carried by.
Transport = Literal["TCP", "UDP"]


# --- what listens ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class GatewayClass:
    """Which controller implements the Gateways that name this class."""

    name: str
    controller: str


@dataclass(frozen=True, slots=True)
class ServerTls:
    """What becomes of TLS: it is ended here, by Istio's modes, or passed on as it is. ISTIO_MUTUAL has
    certificates and authorities from the mesh; `names` are the trust domains then.

    `certificates` are Secrets, in namespace "" if it is that of the pods that serve. Clients of the two
    mutual modes are judged by `authorities`, Secrets or ConfigMaps; without any by those in the
    certificate's Secret, or in the one that is called like it with `-cacert` behind. With `names` a
    client's certificate must hold one of them. "" of versions and () of ciphers are Envoy's own choice.
    """

    mode: TlsMode
    certificates: tuple[ObjectRef, ...] = ()
    authorities: tuple[ObjectRef, ...] = ()
    names: tuple[str, ...] = ()
    min_version: TlsVersion = ""
    max_version: TlsVersion = ""
    ciphers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ServedHost:
    """A DNS name, `*.` and one, or `*`, for which routes may attach from those namespaces whose identity
    labels (their own and their name) the selector fits."""

    host: str
    namespaces: Selector


@dataclass(frozen=True, slots=True)
class Listener:
    """One listener of a Gateway, or one server of Istio's.

    TLS that is passed on is of protocol TLS. `kinds` are those of the routes that may attach; `bind` is the
    one address it listens at ("": each); with `https_redirect` every request is answered 301.
    """

    name: str
    port: int
    protocol: ListenerProtocol
    hosts: tuple[ServedHost, ...]
    kinds: tuple[str, ...]
    tls: ServerTls | None = None
    bind: str = ""
    https_redirect: bool = False

    @property
    def transport(self) -> Transport:
        return "UDP" if self.protocol == "UDP" else "TCP"

    @property
    def speaks_http(self) -> bool:
        """Is it requests that it takes, once TLS has ended?"""
        return self.protocol in ("HTTP", "HTTPS")


@dataclass(frozen=True, slots=True)
class Gateway:
    """Served by what its class stands for, asking for these `addresses` (canonical text); or, Istio's, by the
    pods of any namespace that `subject` selects."""

    ref: ObjectRef
    created: str
    listeners: tuple[Listener, ...]
    class_name: str = ""
    addresses: tuple[str, ...] = ()
    subject: Selector | None = None

    def listens(self, port: int, protocol: Protocol) -> bool:
        return any((found.port, found.transport) == (port, protocol) for found in self.listeners)


@dataclass(frozen=True, slots=True)
class GatewayParent:
    """The Gateway (Gateway API) to which a route attaches: at the listener called `section` and those on
    `port`; "" and None are all of them, and with both a listener must fit both."""

    gateway: ObjectRef
    section: str = ""
    port: int | None = None


# --- references to other namespaces --------------------------------------------------------------


class GrantFrom(NamedTuple):
    """Objects of one kind in one namespace, that may refer."""

    group: str
    kind: str
    namespace: str


class GrantTo(NamedTuple):
    """What may be referred to; "" is every name."""

    group: str
    kind: str
    name: str = ""


@dataclass(frozen=True, slots=True)
class ReferenceGrant:
    """Leave to refer from other namespaces to objects of its own; grants add up."""

    ref: ObjectRef
    froms: tuple[GrantFrom, ...]
    tos: tuple[GrantTo, ...]

    @property
    def namespace(self) -> str:
        return self.ref.namespace

    def permits(self, source: GrantFrom, target: GrantTo) -> bool:
        """May objects like `source` refer to `target`, of the grant's namespace?"""
        return source in self.froms and (target in self.tos or target._replace(name="") in self.tos)
