"""A mesh that sets a field, and one that is the same but for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tests.traffic.shop import Object

Objects = tuple[Object, ...]


@dataclass(frozen=True, slots=True)
class Sample:
    """`alone`: the field with nothing beside it that could need an Envoy."""

    without: Objects
    with_: Objects
    alone: Objects = ()


def same_but_for(base: Object, field: str, value: Any, alone: Objects = (), *beside: Object) -> Sample:
    return Sample((base, *beside), (put(base, field, value), *beside), alone)


def put(base: Any, field: str, value: Any) -> Any:
    """A copy with the field set; `[]` is a list's first element."""
    head, _, rest = field.partition(".")
    if head.endswith("[]"):
        return base | {head[:-2]: [put(base[head[:-2]][0], rest, value), *base[head[:-2]][1:]]}
    return base | {head: put(base[head], rest, value) if rest else value}


def new(*objects: Object) -> Sample:
    return Sample((), objects)
