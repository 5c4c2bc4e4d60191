"""RequestAuthentication as Envoy's `jwt_authn`.

Whom to believe is a rule like any other, so it travels by route configuration (rule 6): `jwt_authn` has its
providers in the filter and not in the route, so the listener holds an empty `filter_chain`, and the route
fills it. Behind it stands everything that may ask for claims, shadows included.
"""

from __future__ import annotations

from datetime import timedelta

from envoy_data_plane.envoy.config.core.v3 import DataSource, HttpUri, TypedExtensionConfig
from envoy_data_plane.envoy.config.route.v3 import RouteMatch
from envoy_data_plane.envoy.extensions.filters.http.filter_chain.v3 import (
    FilterChain,
    FilterChainConfig,
    FilterChainConfigPerRoute,
)
from envoy_data_plane.envoy.extensions.filters.http.jwt_authn.v3 import (
    JwtAuthentication,
    JwtCacheConfig,
    JwtClaimToHeader,
    JwtHeader,
    JwtProvider,
    JwtProviderNormalizePayload,
    JwtRequirement,
    JwtRequirementAndList,
    JwtRequirementOrList,
    RemoteJwks,
    RequirementRule,
)
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager.v3 import HttpFilter
from envoy_data_plane.google.protobuf import Any, Empty

from mesh.model import JwtRule
from mesh.proxy import AuthenticationPart
from xds.render import naming
from xds.render.encoding import typed

#: Claims that are lists written as one text (RFC 8693; Istio has the same).
_SPACE_DELIMITED = ("permission", "scope")
#: Tokens that one worker remembers as good, for each rule; one that has expired is asked for again.
_REMEMBERED = 1000


def dormant() -> HttpFilter:
    """What the listener holds: no filter at all."""
    return HttpFilter(name=naming.AUTHENTICATION, typed_config=typed(FilterChainConfig()), disabled=True)


def per_route(parts: tuple[AuthenticationPart, ...], *, routed: bool = False) -> Any:
    """An entry of `typed_per_filter_config`; `routed` if the route is chosen anew once claims are known."""
    filters = [TypedExtensionConfig(name=naming.JWT_AUTHN, typed_config=typed(_tokens(parts, routed)))]
    return typed(FilterChainConfigPerRoute(filter_chain=FilterChain(filters=filters)))


def _tokens(parts: tuple[AuthenticationPart, ...], routed: bool) -> JwtAuthentication:
    providers = {naming.rbac_policy(part.origin, part.rule.field): _provider(part, routed) for part in parts}
    return JwtAuthentication(
        providers=dict(sorted(providers.items())),
        rules=[RequirementRule(match=RouteMatch(prefix="/"), requires=_some_or_none(list(providers)))],
        # A preflight brings no token, and a browser cannot make it bring one.
        bypass_cors_preflight=True,
    )


def _some_or_none(names: list[str]) -> JwtRequirement:
    """As Istio's: a good token, or none at all. With several rules their places may be one, so that each
    token fails at all rules but its own: then one good token is enough."""
    providers = [JwtRequirement(provider_name=name) for name in names]
    missing = JwtRequirement(allow_missing=Empty())
    if len(providers) == 1:
        return _any([*providers, missing])
    every = JwtRequirementAndList(requirements=[_any([provider, missing]) for provider in providers])
    return _any([*providers, JwtRequirement(requires_all=every)])


def _any(requirements: list[JwtRequirement]) -> JwtRequirement:
    return JwtRequirement(requires_any=JwtRequirementOrList(requirements=requirements))


def _provider(part: AuthenticationPart, routed: bool) -> JwtProvider:
    rule = part.rule
    found = JwtProvider(
        issuer=rule.issuer,
        audiences=list(rule.audiences),
        forward=rule.forward,
        from_headers=[JwtHeader(name=name, value_prefix=prefix) for name, prefix in rule.headers],
        from_params=list(rule.params),
        from_cookies=list(rule.cookies),
        # Envoy takes these headers from every request, whatever token it brings (rule 20).
        forward_payload_header=rule.payload_header,
        claim_to_headers=[
            JwtClaimToHeader(header_name=header, claim_name=claim) for header, claim in rule.claim_headers
        ],
        payload_in_metadata=naming.PAYLOAD,
        normalize_payload_in_metadata=JwtProviderNormalizePayload(
            space_delimited_claims=sorted({*_SPACE_DELIMITED, *rule.space_delimited_claims})
        ),
        # Routes of a Gateway may ask for claims.
        clear_route_cache=routed,
        # Says in the request's log entry which rule refused it, and why (read by `agent.judgement`).
        failed_status_in_metadata=naming.rbac_policy(part.origin, rule.field),
        jwt_cache_config=JwtCacheConfig(jwt_cache_size=_REMEMBERED),
    )
    return _with_keys(found, rule)


def _with_keys(provider: JwtProvider, rule: JwtRule) -> JwtProvider:
    """Envoy wants at least one key, and no key may stand in for those that are not known (threat N25). So it
    is told to fetch them where nobody answers, and refuses the token."""
    if isinstance(rule.keys, str) and rule.keys:
        provider.local_jwks = DataSource(inline_string=rule.keys)
    else:
        nowhere = HttpUri(uri="http://keys.invalid/", cluster=naming.NO_BACKEND, timeout=timedelta(seconds=1))
        provider.remote_jwks = RemoteJwks(http_uri=nowhere)
    return provider
