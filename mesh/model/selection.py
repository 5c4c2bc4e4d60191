"""Which workloads a rule is about: requirements over identity labels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from mesh.model.names import NAMESPACE_KEY, SERVICE_ACCOUNT_KEY


@dataclass(frozen=True, slots=True, order=True)
class Requirement:
    """One clause over identity labels, as in Kubernetes' LabelSelectorRequirement."""

    key: str
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist"]
    values: tuple[str, ...] = ()

    def matches(self, labels: Mapping[str, str]) -> bool:
        value = labels.get(self.key)
        match self.operator:
            case "In":
                return value is not None and value in self.values
            case "NotIn":
                return value is None or value not in self.values
            case "Exists":
                return value is not None
            case "DoesNotExist":
                return value is None


@dataclass(frozen=True, slots=True, order=True)
class Selector:
    """A conjunction of requirements over identity labels; without any it selects every workload."""

    requirements: tuple[Requirement, ...] = ()

    def matches(self, labels: Mapping[str, str]) -> bool:
        return all(r.matches(labels) for r in self.requirements)


@dataclass(frozen=True, slots=True)
class Callers:
    """Whose requests and connections a rule is for: pods of `namespace` ("": any) whose own labels hold
    all of `labels`, or what comes in by `gateways` (None: as the route says)."""

    namespace: str = ""
    labels: tuple[tuple[str, str], ...] = ()
    gateways: tuple[str, ...] | None = None


#: The mesh's own resolver. No pod of a user carries these without leave to use that account.
RESOLVER = Selector(
    (
        Requirement(SERVICE_ACCOUNT_KEY, "In", ("sluice-dns",)),
        Requirement(NAMESPACE_KEY, "In", ("kube-system",)),
    )
)


@dataclass(frozen=True, slots=True)
class Identity:
    """What policy may know of a workload: its policy-relevant labels, its namespace's, its
    service account. Numbered by `SecurityId`; two workloads alike share one."""

    labels: tuple[tuple[str, str], ...]
    mapping: Mapping[str, str] = field(init=False, compare=False, repr=False, default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "mapping", dict(self.labels))
