"""Conditions as Kubernetes writes them, and the object about which they speak."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from mesh.assemble import Mesh
from mesh.model import Fragment, Noun

GROUP = "gateway.networking.k8s.io"


@dataclass(frozen=True, slots=True)
class Condition:
    """`good` is whether it holds, whatever that is worth; `reason` is one word of the API."""

    type: str
    good: bool
    reason: str
    message: str = ""

    def plain(self, generation: int | None) -> dict[str, Any]:
        found: dict[str, Any] = {
            "type": self.type,
            "status": "True" if self.good else "False",
            "reason": self.reason,
            "message": self.message,
        }
        return found if generation is None else found | {"observedGeneration": generation}


@dataclass(frozen=True, slots=True)
class Written:
    """An object as it is stored: its newest version, what was understood of that, and the generation of an
    earlier version that is in force in its place (rule 18). `refused` is why an Envoy does not take what was
    made of it ("": nobody refuses it)."""

    content: Mapping[str, Any]
    fragment: Fragment
    fallen_back: int | None = None
    refused: str = ""

    @property
    def generation(self) -> int | None:
        return generation_of(self.content)

    @property
    def faults(self) -> str:
        """What is wrong in it, in one line."""
        return "; ".join(f"{problem.field}: {problem.message}" for problem in self.fragment.problems)

    def nouns(self, mesh: Mesh) -> tuple[Noun, ...]:
        """Those in force."""
        found = mesh.fragment(self.fragment.ref)
        return found.nouns if found else ()

    def listed(self, *path: str) -> list[Mapping[str, Any]]:
        """The mappings in a list of its spec; what is none is passed over."""
        value: Any = self.content.get("spec")
        for key in path:
            value = value.get(key) if isinstance(value, Mapping) else None
        return [item for item in value if isinstance(item, Mapping)] if isinstance(value, list) else []


def generation_of(content: Mapping[str, Any]) -> int | None:
    metadata = content.get("metadata")
    found = metadata.get("generation") if isinstance(metadata, Mapping) else None
    return found if isinstance(found, int) and not isinstance(found, bool) else None


def plain(conditions: Iterable[Condition], written: Written, in_force: bool = True) -> list[dict[str, Any]]:
    """What is said of an earlier version that is `in_force` was observed of that one."""
    earlier = in_force and not written.fragment.valid
    return [
        condition.plain(
            written.fallen_back if earlier and condition.type != "PartiallyInvalid" else written.generation
        )
        for condition in conditions
    ]


def accepted(written: Written, in_force: bool) -> Iterator[Condition]:
    """What an object says by itself. A version that cannot be read leaves the last valid one in force, if
    there is one: that is the API's Fall Back."""
    if written.fragment.valid:
        yield Condition("Accepted", True, "Accepted")
    elif in_force:
        yield Condition("Accepted", True, "Accepted", "the last valid version")
        text = f"Fall Back: the last valid version stays in force; {written.faults}"
        yield Condition("PartiallyInvalid", True, "UnsupportedValue", text)
    else:
        yield Condition("Accepted", False, "UnsupportedValue", written.faults)
