"""What is asked of every request to a port, whoever calls: tokens, limits, and what EnvoyFilters change."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from mesh.model import EnvoyFilter, RateLimit, RequestAuthentication
from mesh.policies.references import AnyCondition
from mesh.proxy import AuthenticationPart, PatchKey, RateLimitPart
from mesh.routes.envoy_filters import inbound, inbound_port


@dataclass(frozen=True, slots=True)
class Every:
    """What is asked at one port."""

    tokens: tuple[AuthenticationPart, ...] = ()
    limits: tuple[RateLimitPart, ...] = ()
    patches: tuple[PatchKey, ...] = ()

    @property
    def keys(self) -> tuple[str, ...]:
        """Those for which connections meet an Envoy."""
        return (
            *(part.key for part in self.tokens),
            *(key for part in self.limits for key in part.keys),
            *(str(key) for key in self.patches if key.steers),
        )


class EveryRequest:
    def __init__(self, policies: Iterable[AnyCondition]) -> None:
        policies = tuple(policies)
        self._all = Every(tuple(token_rules(policies)), tuple(_rate_limits(policies)))
        self._filters = sorted({p.ref: p for p in policies if isinstance(p, EnvoyFilter)}.items())

    def __bool__(self) -> bool:
        """Is anything asked, at some port?"""
        return bool(self._all.keys or self._filters)

    @property
    def ports(self) -> set[int]:
        """Those at which more may be asked than at others."""
        return {inbound_port(patch) for _, found in self._filters for patch in found.patches} - {0}

    def at(self, port: int) -> Every:
        keys = tuple(key for _, found in self._filters for key in inbound(found, port))
        return replace(self._all, patches=keys) if keys else self._all


def token_rules(policies: Iterable[AnyCondition]) -> Iterator[AuthenticationPart]:
    """Every rule about tokens, in the order in which they are tried."""
    found = {p.ref: p for p in policies if isinstance(p, RequestAuthentication)}
    for ref, policy in sorted(found.items()):
        yield from (AuthenticationPart(ref, rule) for rule in policy.rules)


def _rate_limits(policies: Iterable[AnyCondition]) -> Iterator[RateLimitPart]:
    """Every RateLimit, in the order in which they count."""
    found = {p.ref: p for p in policies if isinstance(p, RateLimit)}
    for ref, policy in sorted(found.items()):
        yield RateLimitPart(ref, policy.limits, policy.counted_by)
