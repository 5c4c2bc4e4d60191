"""The certificates that workloads have now, as Envoy's resources: made when first asked for, exchanged in
time, and in memory only. Who has which identity, and when it is time to look, others know.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from hashlib import blake2b

from mesh.discovery.envoy import SECRET
from mesh.model import ObjectRef, Problem
from xds.authority import Authority, Svid
from xds.authority_files import BadAuthority
from xds.render import downstream_tls, naming
from xds.render.resource import EnvoyResource

_LOG = logging.getLogger(__name__)

#: Of a workload's certificate (Istio, SECRET_TTL).
LIFETIME = timedelta(hours=24)

#: What problems are about.
_AUTHORITY = ObjectRef("CertificateAuthority", "", "mesh")
#: The parts of its life after which a certificate is exchanged: the first for all, and up to the second more,
#: by identity, lest a mesh that started at once renews at once.
_DUE, _SPREAD = 0.5, 0.1


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class _Kept:
    svid: Svid
    resources: tuple[EnvoyResource, ...]
    due: datetime


class Certificates:
    """One certificate for each identity. `clock` tells aware datetimes."""

    def __init__(
        self,
        authority: Authority,
        lifetime: timedelta = LIFETIME,
        clock: Callable[[], datetime] = _now,
    ) -> None:
        self._authority = authority
        self._lifetime = lifetime
        self._clock = clock
        self._kept: dict[str, _Kept] = {}
        #: Who has asked for one in vain, and why.
        self._lacking: dict[str, str] = {}
        #: Why the last renewal was not whole.
        self._trouble = ""
        self._roots: EnvoyResource | None = None

    def resources(self, identity: str) -> tuple[EnvoyResource, ...]:
        """The certificate, and the roots that judge those of others, as SDS names them (Istio: `default`,
        `ROOTCA`). They are the same objects for as long as they are the same. Nothing, if none can be had:
        that is logged, and `renew` tries again."""
        kept = self._kept.get(identity)
        if kept is None:
            try:
                kept = self._kept[identity] = self._issued(identity, self._clock())
            except (BadAuthority, ValueError) as error:
                if identity not in self._lacking:
                    _LOG.error("no certificate for %s, which cannot speak mutual TLS: %s", identity, error)
                self._lacking[identity] = str(error)
                return ()
            self._lacking.pop(identity, None)
        return kept.resources

    @property
    def problems(self) -> tuple[Problem, ...]:
        """Why workloads have none, or will have none soon."""
        texts = [self._trouble] if self._trouble else []
        if self._lacking:
            first, why = min(self._lacking.items())
            count = len(self._lacking)
            texts.append(f"none for {first}{f' and {count - 1} others' if count > 1 else ''}: {why}")
        return tuple(Problem(_AUTHORITY, "certificates", text) for text in texts)

    def renew(self) -> frozenset[str]:
        """Exchange certificates that are past half of their life, and make those that could not be had;
        returns whose. To be called now and then: a lifetime and a tenth, halved, must hold several calls.
        What fails is logged, changes nothing and is tried again by the next call."""
        now = self._clock()
        renewed = {identity for identity in tuple(self._lacking) if self.resources(identity)}
        trouble = ""
        due = sorted(
            (kept.svid.expires, identity) for identity, kept in self._kept.items() if kept.due <= now
        )
        for done, (expires, identity) in enumerate(due):
            try:
                new = self._issued(identity, now)
            except BadAuthority as error:
                ends = expires.isoformat()
                trouble = (
                    f"{len(due) - done} certificates cannot be renewed, the first ends at {ends}: {error}"
                )
                break  # the others' turn would end no better
            if new.svid.expires <= expires:
                # The authority's own end is near: a certificate that lasts no longer is worth no change.
                self._kept[identity] = replace(self._kept[identity], due=_due(identity, now, expires))
                trouble = (
                    f"certificates end at {expires.isoformat()} and cannot be renewed, for so does their "
                    "authority; give it a new certificate and restart the control plane"
                )
                continue
            self._kept[identity] = new
            renewed.add(identity)
        if trouble:
            _LOG.warning("%s", trouble)
        if due:
            self._trouble = trouble
        return frozenset(renewed)

    def forget(self, kept: Collection[str]) -> None:
        """Drop the identities that are not among `kept`: nobody has them any more."""
        wanted = frozenset(kept)
        if self._kept.keys() - wanted:
            self._trouble = ""  # it may have been theirs; another's comes again at the next turn
        self._lacking = {identity: why for identity, why in self._lacking.items() if identity in wanted}
        self._kept = {identity: found for identity, found in self._kept.items() if identity in wanted}

    def _issued(self, identity: str, now: datetime) -> _Kept:
        svid = self._authority.issue(identity, self._lifetime, now)
        body = downstream_tls.certificate(naming.WORKLOAD_CERTIFICATE, svid.certificate_chain, svid.key)
        own = EnvoyResource(SECRET, naming.WORKLOAD_CERTIFICATE, body, ())
        return _Kept(svid, (own, self._authorities(svid.bundle)), _due(identity, now, svid.expires))

    def _authorities(self, bundle: bytes) -> EnvoyResource:
        body = downstream_tls.authorities(naming.ROOTS, bundle)
        found = EnvoyResource(SECRET, naming.ROOTS, body, ())
        if self._roots != found:
            self._roots = found
        return self._roots


def _due(identity: str, begins: datetime, expires: datetime) -> datetime:
    spread = int.from_bytes(blake2b(identity.encode(), digest_size=8).digest()) / 2**64
    return begins + (expires - begins) * (_DUE + _SPREAD * spread)
