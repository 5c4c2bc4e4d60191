"""Predicates over a connection, for the matcher that chooses a filter chain. A predicate may be known: True
or False; what is made of such ones is simplified, for Envoy has no word for them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from ipaddress import ip_network

import betterproto2
from envoy_data_plane.envoy.config.core.v3 import CidrRange
from envoy_data_plane.envoy.extensions.matching.common_inputs.network.v3 import (
    ApplicationProtocolInput,
    DestinationIpInput,
    DirectSourceIpInput,
    ServerNameInput,
    SourceIpInput,
    TransportProtocolInput,
)
from envoy_data_plane.envoy.extensions.matching.input_matchers.consistent_hashing.v3 import ConsistentHashing
from envoy_data_plane.envoy.extensions.matching.input_matchers.ip.v3 import Ip
from envoy_data_plane.google.protobuf import StringValue
from envoy_data_plane.xds.core.v3 import TypedExtensionConfig
from envoy_data_plane.xds.type.matcher.v3 import (
    Matcher,
    MatcherMatcherList,
    MatcherMatcherListFieldMatcher,
    MatcherMatcherListPredicate,
    MatcherMatcherListPredicateSinglePredicate,
    MatcherOnMatch,
    RegexMatcher,
    RegexMatcherGoogleRe2,
    StringMatcher,
)
from envoy_data_plane.xds.type.matcher.v3 import MatcherMatcherListPredicatePredicateList as _List

from xds.render.encoding import typed

Predicate = MatcherMatcherListPredicate | bool

_TRANSPORT, _APPLICATION, _NAME = TransportProtocolInput(), ApplicationProtocolInput(), ServerNameInput()


def destination(blocks: Iterable[str]) -> Predicate:
    """The address that was dialled is in one of the blocks."""
    return _address("destination_ip", DestinationIpInput(), blocks)


def source(blocks: Iterable[str]) -> Predicate:
    """The peer's address is in one of the blocks."""
    return _address("source_ip", DirectSourceIpInput(), blocks)


def tls() -> Predicate:
    """It begins with a TLS hello."""
    return _text("transport_protocol", _TRANSPORT, StringMatcher(exact="tls"))


def http() -> Predicate:
    """It begins as HTTP without TLS. (A hello says by ALPN what it means to speak; that does not count.)"""
    protocols = [
        _text("application_protocol", _APPLICATION, StringMatcher(exact=f"'{protocol}'"))
        for protocol in ("http/1.0", "http/1.1", "h2c")
    ]
    return all_of([negated(tls()), any_of(protocols)])


def http_behind_tls() -> Predicate:
    """The hello offers HTTP by ALPN, as Envoy's does for requests and not for other connections."""
    offered = RegexMatcher(google_re2=RegexMatcherGoogleRe2(), regex=r".*'(h2|http/1\.[01])'.*")
    return _text("application_protocol", _APPLICATION, StringMatcher(safe_regex=offered))


def server_name(regex: str) -> Predicate:
    """The hello asks for a name, the whole of which matches an RE2 expression."""
    matcher = RegexMatcher(google_re2=RegexMatcherGoogleRe2(), regex=regex)
    return _text("server_name", _NAME, StringMatcher(safe_regex=matcher))


def _chain(name: str) -> StringValue:
    return StringValue(value=name)


def all_of(predicates: Iterable[Predicate]) -> Predicate:
    known = list(predicates)
    if False in known:
        return False
    found = [predicate for predicate in known if not isinstance(predicate, bool)]
    if len(found) < 2:
        return found[0] if found else True
    return MatcherMatcherListPredicate(and_matcher=_List(predicate=found))


def any_of(predicates: Iterable[Predicate]) -> Predicate:
    known = list(predicates)
    if True in known:
        return True
    found = [predicate for predicate in known if not isinstance(predicate, bool)]
    if len(found) < 2:
        return found[0] if found else False
    return MatcherMatcherListPredicate(or_matcher=_List(predicate=found))


def negated(predicate: Predicate) -> Predicate:
    return (
        not predicate if isinstance(predicate, bool) else MatcherMatcherListPredicate(not_matcher=predicate)
    )


def hashed_source(threshold: int, modulo: int) -> Predicate:
    """The peer's address is one of those of which a hash, from 0 below `modulo`, is at least `threshold`."""
    # Not the hash by which a cluster chooses.
    matcher = ConsistentHashing(threshold=threshold, modulo=modulo, seed=1)
    name = "consistent_hashing"
    custom = TypedExtensionConfig(name=name, typed_config=typed(matcher))
    return _single("source_ip", SourceIpInput(), custom_match=custom)


def first_of(
    branches: Iterable[tuple[Predicate, str]],
    otherwise: str,
    action: Callable[[str], betterproto2.Message] = _chain,
) -> Matcher:
    """The filter chain, or whatever `action` makes of the name, of the first branch that fits."""

    def take(name: str) -> MatcherOnMatch:
        return MatcherOnMatch(action=TypedExtensionConfig(name=name, typed_config=typed(action(name))))

    matchers: list[MatcherMatcherListFieldMatcher] = []
    for predicate, chain in branches:
        if predicate is True:
            otherwise = chain
            break
        if not isinstance(predicate, bool):
            matchers.append(MatcherMatcherListFieldMatcher(predicate=predicate, on_match=take(chain)))
    # An empty list is none to Envoy.
    found = MatcherMatcherList(matchers=matchers) if matchers else None
    return Matcher(matcher_list=found, on_no_match=take(otherwise))


def _address(name: str, data: betterproto2.Message, blocks: Iterable[str]) -> Predicate:
    networks = [ip_network(block) for block in blocks]
    ranges = [CidrRange(address_prefix=str(n.network_address), prefix_len=n.prefixlen) for n in networks]
    matcher = TypedExtensionConfig(name=name, typed_config=typed(Ip(cidr_ranges=ranges, stat_prefix=name)))
    return _single(name, data, custom_match=matcher)


def _text(name: str, data: betterproto2.Message, matcher: StringMatcher) -> Predicate:
    return _single(name, data, value_match=matcher)


def _single(
    name: str,
    data: betterproto2.Message,
    value_match: StringMatcher | None = None,
    custom_match: TypedExtensionConfig | None = None,
) -> Predicate:
    return MatcherMatcherListPredicate(
        single_predicate=MatcherMatcherListPredicateSinglePredicate(
            input=TypedExtensionConfig(name=name, typed_config=typed(data)),
            value_match=value_match,
            custom_match=custom_match,
        )
    )
