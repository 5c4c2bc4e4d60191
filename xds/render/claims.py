"""Claims of a good token, where `jwt_authn` leaves them: in the request's metadata. A header that is called
like one is just a header."""

from __future__ import annotations

from collections.abc import Iterable

from envoy_data_plane.envoy.type.matcher.v3 import (
    ListMatcher,
    MetadataMatcher,
    MetadataMatcherPathSegment,
    OrMatcher,
    ValueMatcher,
)

from xds.render import naming


def claim(path: Iterable[str], value: ValueMatcher, negated: bool = False) -> MetadataMatcher:
    """A claim may be one value or a list of them. Without a token there is none."""
    either = OrMatcher(value_matchers=[value, ValueMatcher(list_match=ListMatcher(one_of=value))])
    return MetadataMatcher(
        filter=naming.JWT_AUTHN,
        path=[MetadataMatcherPathSegment(key=key) for key in (naming.PAYLOAD, *path)],
        value=ValueMatcher(or_match=either),
        invert=negated,
    )
