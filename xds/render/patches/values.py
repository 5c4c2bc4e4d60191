"""Values of patches, which are Envoy's messages in protobuf's JSON form, to messages.

Strict, and with the path to what is wrong: a field, type or enum that Envoy does not have is refused, for a
value that says less than its user thinks is worse than none. Knows no resource.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from functools import cache, lru_cache
from importlib import import_module
from typing import Any

import betterproto2
from envoy_data_plane.envoy.config.cluster.v3 import Cluster
from envoy_data_plane.envoy.config.listener.v3 import Filter, FilterChain, Listener
from envoy_data_plane.envoy.config.route.v3 import Route, RouteConfiguration, VirtualHost
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager.v3 import HttpFilter
from envoy_data_plane.google.protobuf import Any as AnyMessage
from envoy_data_plane.message_pool import default_message_pool

from mesh.model import EnvoyPatch, PatchTarget
from xds.render.encoding import anatomy

#: The message that a patch's value is, or is a part of.
MESSAGES: Mapping[PatchTarget, type[betterproto2.Message]] = {
    "LISTENER": Listener,
    "FILTER_CHAIN": FilterChain,
    "NETWORK_FILTER": Filter,
    "HTTP_FILTER": HttpFilter,
    "ROUTE_CONFIGURATION": RouteConfiguration,
    "VIRTUAL_HOST": VirtualHost,
    "HTTP_ROUTE": Route,
    "CLUSTER": Cluster,
}
_PREFIX = "type.googleapis.com/"
#: Messages by name and fields, as Istio's documentation writes them.
_TYPED_STRUCTS = ("udpa.type.v1.TypedStruct", "xds.type.v3.TypedStruct")
#: Field types by what JSON has in their place.
_WHOLE = frozenset(
    ("int32", "int64", "uint32", "uint64", "sint32", "sint64", "fixed32", "fixed64", "sfixed32", "sfixed64")
)
_WIDTHS = {"int32": (-(2**31), 2**31), "uint32": (0, 2**32), "uint64": (0, 2**64), "int64": (-(2**63), 2**63)}


class Unreadable(ValueError):
    """`path` leads into the value: `.typed_config.inline_code`."""

    def __init__(self, path: str, message: str) -> None:
        self.path, self.message = path, message
        super().__init__(f"{path} {message}")


def value_of(patch: EnvoyPatch) -> betterproto2.Message:
    """A message of one's own. Raises Unreadable."""
    kind = MESSAGES[patch.target]
    return kind.parse(_encoded(kind, patch.value)) if patch.value else kind()


@lru_cache(maxsize=4096)
def _encoded(kind: type[betterproto2.Message], text: str) -> bytes:
    found = message(kind, json.loads(text), "")
    try:
        return bytes(found)
    except Exception as error:  # whatever betterproto2 trips over
        raise Unreadable("", f"is no {kind.__name__}: {error}") from None


def message(kind: type[betterproto2.Message], value: Any, path: str) -> betterproto2.Message:
    """Raises Unreadable."""
    if kind is AnyMessage:
        return _any(value, path)
    if _is_special(kind):
        return _known(kind, value, path)
    if not isinstance(value, Mapping):
        raise Unreadable(path, f"must be a mapping, a {kind.__name__} of Envoy")
    meta = anatomy(kind)
    fields: dict[str, Any] = {}
    groups: dict[str, str] = {}
    for key, item in value.items():
        name = _fields(kind).get(key)
        if name is None:
            raise Unreadable(f"{path}.{key}", f"is no field of {kind.__name__}")
        if item is None:
            continue
        if group := meta.meta_by_field_name[name].group:
            if groups.setdefault(group, name) != name:
                raise Unreadable(f"{path}.{key}", f"does not go with {groups[group]}: one of them may be set")
        fields[name] = _field(kind, name, item, f"{path}.{key}")
    return kind(**fields)


@cache
def _fields(kind: type[betterproto2.Message]) -> dict[str, str]:
    """By protobuf's names and by those of its JSON."""
    found: dict[str, str] = {}
    for name in anatomy(kind).meta_by_field_name:
        plain = name.rstrip("_")
        first, *rest = plain.split("_")
        found[plain] = name
        found[first + "".join(word[:1].upper() + word[1:] for word in rest)] = name
    return found


def _field(kind: type[betterproto2.Message], name: str, value: Any, path: str) -> Any:
    meta = anatomy(kind).meta_by_field_name[name]
    if meta.proto_type == "map":
        if not isinstance(value, Mapping) or meta.map_meta is None:
            raise Unreadable(path, "must be a mapping")
        of = anatomy(kind).cls_by_field[f"{name}.value"]
        pairs = sorted((str(key), item) for key, item in value.items())
        keys = int if meta.map_meta[0].proto_type in _WHOLE else str
        return {keys(key): _one(meta.map_meta[1], of, item, f"{path}[{key!r}]") for key, item in pairs}
    of = anatomy(kind).cls_by_field[name]
    if not meta.repeated:
        return _one(meta, of, value, path)
    if not isinstance(value, list):
        raise Unreadable(path, "must be a list")
    return [_one(meta, of, item, f"{path}[{index}]") for index, item in enumerate(value)]


def _one(meta: betterproto2.FieldMetadata, of: Any, value: Any, path: str) -> Any:
    kind = meta.proto_type
    if kind == "message":
        if meta.unwrap:
            wrapper: Any = _known(meta.unwrap(), value, path)
            return wrapper.to_wrapped()
        return message(of, value, path)
    if kind == "enum":
        return _enum(of, value, path)
    if kind in _WHOLE:
        return _number(kind, value, path)
    if kind in ("double", "float"):
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise Unreadable(path, "must be a number")
        return float(value)
    if kind == "bool":
        if not isinstance(value, bool):
            raise Unreadable(path, "must be true or false")
        return value
    if not isinstance(value, str):
        raise Unreadable(path, "must be a string")
    if kind == "bytes":
        try:
            return base64.b64decode(value, validate=True)
        except binascii.Error:
            raise Unreadable(path, "must be base64") from None
    return value


def _number(kind: str, value: Any, path: str) -> int:
    low, high = _WIDTHS.get(kind, (-(2**63), 2**64))
    try:
        found = int(value) if isinstance(value, str) else value
    except ValueError:
        found = None
    if isinstance(found, float) and found.is_integer():
        found = int(found)
    if isinstance(found, bool) or not isinstance(found, int) or not low <= found < high:
        raise Unreadable(path, f"must be a whole number, {kind}")
    return found


def _enum(of: Any, value: Any, path: str) -> Any:
    names: Mapping[str, int] = of.betterproto_renamed_proto_names_to_value()
    try:
        if isinstance(value, str):
            return of(names[value]) if value in names else of.from_string(value)
        if isinstance(value, int) and not isinstance(value, bool):
            return of(value)
    except (ValueError, KeyError, AttributeError):
        pass
    known = ", ".join(sorted({*names, *(item.name for item in of)})[:12])
    raise Unreadable(path, f"must be one of {known}")


def _any(value: Any, path: str) -> AnyMessage:
    if not isinstance(value, Mapping) or not isinstance(value.get("@type"), str):
        raise Unreadable(path, "needs an @type, such as type.googleapis.com/envoy.config.route.v3.Route")
    url = value["@type"]
    if url.rpartition("/")[2] in _TYPED_STRUCTS:
        return _any(_untied(value, path), path)
    kind = type_of(url)
    if kind is None:
        raise Unreadable(f"{path}.@type", f"{url[:120]!r} is no type of Envoy that is known here")
    rest: Any = {key: item for key, item in value.items() if key != "@type"}
    inside = message(kind, rest.get("value") if _is_special(kind) else rest, path)
    return AnyMessage(type_url=_PREFIX + url.rpartition("/")[2], value=bytes(inside))


def _untied(value: Mapping[str, Any], path: str) -> dict[str, Any]:
    """The message that a TypedStruct describes: Envoy makes that of it, too."""
    url, fields = value.get("type_url", value.get("typeUrl")), value.get("value", {})
    if unknown := value.keys() - {"@type", "type_url", "typeUrl", "value"}:
        raise Unreadable(f"{path}.{min(map(str, unknown))}", "is no field of a TypedStruct")
    if not isinstance(url, str) or url.rpartition("/")[2] in _TYPED_STRUCTS:
        raise Unreadable(f"{path}.type_url", "must be a type of Envoy")
    if not isinstance(fields, Mapping):
        raise Unreadable(f"{path}.value", "must be a mapping")
    return {**fields, "@type": url}


def _is_special(kind: type[betterproto2.Message]) -> bool:
    """Has it a JSON form of its own?"""
    own: Any = kind.from_dict
    usual: Any = betterproto2.Message.from_dict
    return own.__func__ is not usual.__func__


def type_of(url: str) -> type[betterproto2.Message] | None:
    """The message of a type URL; None if Envoy's API, as it is known here, has none such."""
    name = url.rpartition("/")[2]
    package, _, _ = name.rpartition(".")
    known = default_message_pool.url_to_type
    full = _PREFIX + name
    if full not in known and package and package.replace(".", "").replace("_", "").isalnum():
        try:
            import_module(f"envoy_data_plane.{package}")
        except ImportError:
            return None
    return known.get(full)


def _known(kind: type[betterproto2.Message], value: Any, path: str) -> betterproto2.Message:
    """Durations, wrapped scalars and the like, which have a JSON form of their own."""
    name = kind.__name__
    try:
        if name == "BoolValue" and not isinstance(value, bool):
            raise ValueError("true or false")
        if name.endswith(("Int32Value", "Int64Value")):
            value = _number(name.removesuffix("Value").lower(), value, path)
        if name in ("StringValue", "Duration", "Timestamp") and not isinstance(value, str):
            raise ValueError("a string, such as 5s" if name == "Duration" else "a string")
        if name == "Struct" and not isinstance(value, Mapping):
            raise ValueError("a mapping")
        found = kind.from_dict(value)
        bytes(found)
        return found
    except Unreadable:
        raise
    except Exception as error:  # what betterproto2 has against a text is its own business
        raise Unreadable(path, f"is no {name}: {error}") from None
