"""Label selectors of every API, lowered to one `Selector` over identity labels.

Namespaces, their labels and service accounts become identity labels under keys that no user can
set (threat N45), so a selector is always a conjunction over one mapping.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Literal, cast

from mesh.dialects.reading import Fields, Reader, shown
from mesh.dialects.syntax import is_label_key, label_value
from mesh.model import NAMESPACE_KEY, NAMESPACE_LABEL_PREFIX, Requirement, Selector

#: Lowers the key of a label, as the user wrote it, to the key of an identity label.
Lowering = Callable[[Reader, str], str]

SELECTOR = Fields(("matchLabels", "matchExpressions"))
EXPRESSION = Fields(("key", "operator", "values"))

_WITH_VALUES = ("In", "NotIn")
_OPERATORS = (*_WITH_VALUES, "Exists", "DoesNotExist")


def pod_key(reader: Reader, key: str) -> str:
    """A label of the pod itself."""
    if not is_label_key(key):
        reader.refuse(f"{shown(key)} is not a label key")
    return key


def namespace_key(reader: Reader, key: str) -> str:
    """A label of the pod's namespace."""
    return NAMESPACE_LABEL_PREFIX + pod_key(reader, key)


def in_namespace(namespace: str) -> Requirement:
    return Requirement(NAMESPACE_KEY, "In", (namespace,))


def selector(requirements: Iterable[Requirement]) -> Selector:
    """The conjunction of `requirements` in its normal form."""
    return Selector(tuple(sorted(set(requirements))))


def requirements(reader: Reader, lower: Lowering) -> list[Requirement]:
    """The clauses of a LabelSelector; it means nothing unless `reader` is still sound afterwards."""
    reader.fields(SELECTOR)
    found = [
        Requirement(lower(value, key), "In", (label_value(value),))
        for key, value in reader.at("matchLabels").entries()
    ]
    return found + [_expression(item, lower) for item in reader.at("matchExpressions").items()]


def _expression(reader: Reader, lower: Lowering) -> Requirement:
    reader.fields(EXPRESSION)
    key, operator, values = reader.at("key"), reader.at("operator"), reader.at("values")
    key.require()
    operator.require()
    chosen = operator.choice(_OPERATORS)
    found = [label_value(item) for item in values.items()]
    if chosen in _WITH_VALUES and not found and values.sound:
        values.refuse(f"operator {chosen} needs at least one value")
    if chosen not in _WITH_VALUES and found:
        values.refuse(f"operator {shown(chosen)} takes no values")
    lowered = lower(key, key.text()) if key.present else ""
    kind = cast(Literal["In", "NotIn", "Exists", "DoesNotExist"], chosen)
    return Requirement(lowered, kind, tuple(sorted(set(found))))
