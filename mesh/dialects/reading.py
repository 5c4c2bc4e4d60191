"""How a dialect walks an object: values with the path that leads to them, and what was wrong.

A `Reader` never raises on what a user wrote. It records a `Problem` and marks itself and all that
holds it as unsound, so that a dialect can ask of any part "did I understand all of this?" and fail
closed where it did not (semantics rule 18). It knows no kind and no API.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from mesh.model import ObjectRef, Problem

_PLAIN_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}")
_SHOWN = 80


def shown(value: object) -> str:
    """A value as it may stand in a message: short, on one line, without control characters."""
    match value:
        case Mapping():
            return "a mapping"
        case str():
            return repr(value if len(value) <= _SHOWN else value[:_SHOWN] + "...")
        case bool():
            return str(value).lower()
        case int():
            return str(value) if abs(value) < 10**20 else "a very large number"
        case float() | None:
            return "null" if value is None else repr(value)
        case Sequence():
            return "a list"
        case _:
            return f"a {type(value).__name__}"


@dataclass(frozen=True, slots=True)
class Fields:
    """The fields of one mapping: those that are read, and those that exist but are refused, and why."""

    read: tuple[str, ...]
    refused: tuple[str, ...] = ()
    why: str = "is not supported yet"


#: What an object has that says what it wants in `spec`.
OBJECT = Fields(("apiVersion", "kind", "metadata", "spec", "status"))


class Reader:
    """One value of an object. `value` is None when it is absent, which in these APIs is what null means.

    `sound` is False once this value, or anything in it, was refused. `strange` is True if the
    value itself is missing, has the wrong shape, or has fields that the API does not know.
    """

    __slots__ = ("_children", "_parent", "_problems", "path", "ref", "sound", "strange", "value")

    def __init__(
        self,
        value: object,
        ref: ObjectRef,
        problems: list[Problem],
        path: str = "",
        parent: Reader | None = None,
    ) -> None:
        self.value: Any = value
        self.ref = ref
        self.path = path
        self.sound = True
        self.strange = False
        self._problems = problems
        self._parent = parent
        self._children: dict[object, Reader] = {}

    @property
    def present(self) -> bool:
        return self.value is not None

    @property
    def rule_field(self) -> str:
        """The path as rules of the model show it: without the `spec.` that all of them share."""
        return self.path.removeprefix("spec.")

    def sound_but_for(self, *keys: str) -> bool:
        """Whether everything that was read in here is sound, whatever became of `keys`."""
        return all(child.sound for key, child in self._children.items() if key not in keys)

    def part(self, value: object, path: str) -> Self:
        """A value that this one holds in another form, such as a text of YAML: what is wrong in it is
        wrong here."""
        return type(self)(value, self.ref, self._problems, path, self)

    # --- what is wrong -----------------------------------------------------------------------

    def refuse(self, message: str) -> None:
        """Records a problem with this value; the object is not valid."""
        self.note(message)
        reader: Reader | None = self
        while reader is not None:
            reader.sound = False
            reader = reader._parent

    def note(self, message: str) -> None:
        """Records a problem that leaves the object valid."""
        self._problems.append(Problem(self.ref, self.path, message))

    def _misshapen(self, wanted: str) -> None:
        self.strange = True
        self.refuse(f"must be {wanted}, not {shown(self.value)}")

    # --- what is inside ----------------------------------------------------------------------

    def at(self, key: str) -> Reader:
        """The value under `key`: absent if this is not a mapping or has no such key."""
        value = self.value.get(key) if isinstance(self.value, Mapping) else None
        return self._child(key, value, self._path_of(key))

    def fields(self, known: Fields) -> Reader:
        """Declares what may stand here: every other field is refused, never ignored."""
        if not self.present:
            return self
        if not isinstance(self.value, Mapping):
            self._misshapen("a mapping")
            return self
        for key, value in self.value.items():
            if value is None or key in known.read:
                continue
            if key in known.refused:
                self.at(key).refuse(f"field {key} {known.why}")
                continue
            self.strange = True
            child = self._child(key, value, self._path_of(key))
            names = ", ".join(known.read) or "none"
            child.refuse(f"unknown field {shown(key)}; the fields here are {names}")
        return self

    def mapping(self) -> Reader:
        """For objects of which only some fields concern us: must be a mapping, the rest is ignored."""
        if self.present and not isinstance(self.value, Mapping):
            self._misshapen("a mapping")
        return self

    def items(self, at_most: int | None = None) -> list[Reader]:
        """The entries of a list; none if it is absent. A null entry is refused, not a default."""
        if not self.present:
            return []
        if not isinstance(self.value, list | tuple):
            self._misshapen("a list")
            return []
        if at_most is not None and len(self.value) > at_most:
            self.refuse(f"has {len(self.value)} entries; at most {at_most} are allowed")
            return []
        readers = [self._child(i, v, f"{self.path}[{i}]") for i, v in enumerate(self.value)]
        for reader in readers:
            if not reader.present:
                self.strange = True
                reader.refuse("must not be null")
        return [reader for reader in readers if reader.present]

    def entries(self, *, numbers: bool = False) -> list[tuple[str, Reader]]:
        """The keys and values of a mapping whose keys are the user's, such as labels. What are `numbers` in
        YAML are text in JSON."""
        if not self.mapping().present or not isinstance(self.value, Mapping):
            return []
        pairs: list[tuple[str, Reader]] = []
        for key, value in self.value.items():
            child = self._child(key, value, self._path_of(key))
            if isinstance(key, str) or (numbers and type(key) is int):
                pairs.append((str(key), child))
            else:
                child.refuse(f"key {shown(key)} must be a string: quote it")
        return pairs

    # --- scalars -----------------------------------------------------------------------------

    def text(self, default: str = "") -> str:
        if not self.present:
            return default
        if not isinstance(self.value, str):
            quoted = f': write "{self.value}"' if type(self.value) is int and abs(self.value) < 10**20 else ""
            self._misshapen("a string" + quoted)
            return default
        return self.value

    def integer(self, low: int, high: int, default: int = 0) -> int:
        if not self.present:
            return default
        if type(self.value) is not int:
            self._misshapen("an integer")
            return default
        if not low <= self.value <= high:
            self.refuse(f"is {shown(self.value)}; must be {low} to {high}")
            return default
        return self.value

    def boolean(self, default: bool = False) -> bool:
        if not self.present:
            return default
        if not isinstance(self.value, bool):
            self._misshapen("true or false")
            return default
        return self.value

    def choice(self, options: Sequence[str], default: str = "", unsupported: Sequence[str] = ()) -> str:
        """One of `options`; those in `unsupported` exist in the API and are refused by name."""
        text = self.text(default)
        if not self.present or text in options or self.strange:
            return text
        if text in unsupported:
            self.refuse(f"{text} is not supported yet; use one of {', '.join(options)}")
        else:
            self.refuse(f"is {shown(text)}; must be one of {', '.join(options)}")
        return default

    def require(self) -> bool:
        """Whether it is present; refuses it if it is not."""
        if not self.present:
            self.strange = True
            self.refuse("is required")
        return self.present

    def _path_of(self, key: object) -> str:
        if isinstance(key, str) and _PLAIN_KEY.fullmatch(key):
            return f"{self.path}.{key}" if self.path else key
        return f"{self.path}[{shown(key)}]"

    def _child(self, key: object, value: object, path: str) -> Reader:
        if key not in self._children:
            self._children[key] = type(self)(value, self.ref, self._problems, path, self)
        return self._children[key]
