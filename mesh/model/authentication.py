"""RequestAuthentication: which tokens a workload believes, and with which keys."""

from __future__ import annotations

from dataclasses import dataclass

from mesh.model.names import ObjectRef, ServiceName
from mesh.model.selection import Selector


@dataclass(frozen=True, slots=True, order=True)
class KeySource:
    """Where the control plane gets a key set: from `uri`, or, with `discovery`, from where the OpenID
    configuration at `uri` says (OpenID Connect Discovery 1.0, section 4). It waits `timeout_ms`."""

    uri: str
    discovery: bool = False
    timeout_ms: int = 5_000


@dataclass(frozen=True, slots=True)
class KeySet:
    """What is known of a source: its newest good `keys` (see `mesh.policies.key_set`; empty: none yet), and
    why it cannot be asked now (empty: it can)."""

    source: KeySource
    keys: str = ""
    failure: str = ""


@dataclass(frozen=True, slots=True)
class JwtRule:
    """An issuer whose tokens are believed (istio/api, security/v1beta1 JWTRule). A token is looked for in
    `headers` (lower-case name, what stands before the token), `params` and `cookies`; without any of them
    where Istio does, behind `Authorization: Bearer` and in the parameter `access_token`.

    `keys` is a key set as `mesh.policies.key_set` writes it, or where it comes from. Behind the proxy the
    claims are in `payload_header` and `claim_headers` (lower-case name, claim's path), if those are named,
    the token itself only with `forward`. `space_delimited_claims` are lists that are written as one text.
    """

    field: str
    issuer: str
    keys: str | KeySource
    audiences: tuple[str, ...] = ()
    headers: tuple[tuple[str, str], ...] = ()
    params: tuple[str, ...] = ()
    cookies: tuple[str, ...] = ()
    forward: bool = False
    payload_header: str = ""
    claim_headers: tuple[tuple[str, str], ...] = ()
    space_delimited_claims: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RequestAuthentication:
    """A token that a request brings must be good, and a request may bring none. All that select a workload
    count together: a token needs one of their rules.

    `subject` and `services` select as those of `Authorization` do.
    """

    ref: ObjectRef
    rules: tuple[JwtRule, ...]
    subject: Selector = Selector()
    services: tuple[ServiceName, ...] | None = None
