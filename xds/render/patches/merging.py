"""One message merged into another, by protobuf's rules: what is set replaces scalars, messages are merged,
lists appended, maps joined by key, and a oneof has the newest of its fields. A oneof's scalar that is set to
its default counts, any other such scalar is not set.

As in Istio, a `typed_config` is merged inside if both are of one type, and else replaced; so are the values
of a map of such. Durations are one value. Knows no resource.
"""

from __future__ import annotations

from typing import Any, TypeVar

import betterproto2
from envoy_data_plane.google.protobuf import Any as AnyMessage

from xds.render.encoding import anatomy
from xds.render.patches.values import type_of

M = TypeVar("M", bound=betterproto2.Message)


def merge(into: M, other: M) -> M:
    """Changes `into` and returns it."""
    if isinstance(into, AnyMessage) and isinstance(other, AnyMessage):
        return _merge_any(into, other)  # type: ignore[return-value]
    fields = anatomy(type(into)).meta_by_field_name
    for name, meta in fields.items():
        if not other.is_set(name):
            continue
        if meta.group:
            for rival in anatomy(type(into)).oneof_field_by_group[meta.group]:
                if rival.name != name and into.is_set(rival.name):
                    setattr(into, rival.name, None)
        setattr(into, name, _joined(getattr(into, name), getattr(other, name), meta))
    return into


def _joined(old: Any, new: Any, meta: betterproto2.FieldMetadata) -> Any:
    if meta.proto_type == "map":
        joined = {**old, **{key: _entry(old.get(key), value) for key, value in new.items()}}
        return dict(sorted(joined.items()))
    if meta.repeated:
        return [*old, *new]
    if isinstance(old, betterproto2.Message) and isinstance(new, betterproto2.Message):
        return merge(old, new)
    return new


def _entry(old: Any, new: Any) -> Any:
    return merge(old, new) if isinstance(old, AnyMessage) and isinstance(new, AnyMessage) else new


def _merge_any(into: AnyMessage, other: AnyMessage) -> AnyMessage:
    kind = type_of(other.type_url)
    if into.type_url == other.type_url and kind is not None:
        into.value = bytes(merge(kind.parse(into.value), kind.parse(other.value)))
    else:
        into.type_url, into.value = other.type_url, other.value
    return into
