"""Which of a pod's own labels policy may know, and so which pods are alike.

Written as Cilium's `labels` option is: expressions over keys, matched from the key's start, `!` before
those to leave out. What Kubernetes derives per pod or per rollout is left out by default, or each would
be an identity of its own. This file knows no numbers.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from mesh.expression import Expression, ExpressionError, compile_expression
from mesh.model import NAMESPACE_KEY, NAMESPACE_LABEL_PREFIX, SERVICE_ACCOUNT_KEY, Selector

#: What Cilium leaves out by default, and the labels of Jobs that name a single run.
DEFAULT_EXPRESSIONS = (
    r"app\.kubernetes\.io",
    r"!io\.kubernetes",
    r"!kubernetes\.io",
    r"!.*beta\.kubernetes\.io",
    r"!k8s\.io",
    r"!statefulset\.kubernetes\.io/pod-name",
    r"!apps\.kubernetes\.io/pod-index",
    r"!batch\.kubernetes\.io/(job-name|job-completion-index|controller-uid)",
    r"!(job-name|controller-uid)$",
    r"!pod-template-generation",
    r"!pod-template-hash",
    r"!controller-revision-hash",
    r"!annotation.*",
    r"!etcd_node",
)

#: Derived labels start so; a pod that sets one itself is not believed (threat N45).
RESERVED_PREFIXES = ("io.kubernetes.pod.", "io.cilium.k8s.", "io.sluice.")

_SOURCE = "k8s:"


@dataclass(frozen=True, slots=True)
class LabelFilter:
    """The defaults and `extra` expressions. Once an extra one includes something, only what is included
    counts. Where one includes and one leaves out, the longer match has its way."""

    extra: tuple[str, ...] = ()
    _included: tuple[Expression, ...] = field(init=False, repr=False, compare=False)
    _ignored: tuple[Expression, ...] = field(init=False, repr=False, compare=False)
    _kept: dict[str, bool] = field(init=False, repr=False, compare=False, default_factory=dict)

    def __post_init__(self) -> None:
        """Raises ValueError for what is no expression over label keys."""
        included: list[Expression] = []
        ignored: list[Expression] = []
        for text in (*DEFAULT_EXPRESSIONS, *map(_without_source, self.extra)):
            chosen = ignored if text.startswith("!") else included
            try:
                chosen.append(compile_expression(text.removeprefix("!")))
            except ExpressionError as error:
                raise ValueError(f"identity label {text}: {error}") from None
        object.__setattr__(self, "_included", tuple(included))
        object.__setattr__(self, "_ignored", tuple(ignored))

    @property
    def is_exclusive(self) -> bool:
        """Does only what is included count?"""
        return any(not _without_source(text).startswith("!") for text in self.extra)

    def keeps(self, key: str) -> bool:
        """Is a pod's own label with this key part of its identity?"""
        kept = self._kept.get(key)
        if kept is None:
            if len(self._kept) >= 65536:
                self._kept.clear()
            kept = self._kept[key] = self._decide(key)
        return kept

    def _decide(self, key: str) -> bool:
        if key.startswith(RESERVED_PREFIXES):
            return False
        included = max((e.reach(key) for e in self._included), default=0)
        ignored = min(filter(None, (e.reach(key) for e in self._ignored)), default=0)
        return included > ignored or not (self.is_exclusive or ignored)

    def forgotten(self, selector: Selector) -> tuple[str, ...]:
        """The keys that a selector asks for and no identity has. It cannot mean what it says: a clause that
        wants such a label never holds, one that forbids it always does."""
        return tuple(
            sorted({r.key for r in selector.requirements if not _is_derived(r.key) and not self.keeps(r.key)})
        )


def _is_derived(key: str) -> bool:
    return key in (NAMESPACE_KEY, SERVICE_ACCOUNT_KEY) or key.startswith(NAMESPACE_LABEL_PREFIX)


def _without_source(text: str) -> str:
    """`k8s:app` and `k8s:!app` are what Cilium calls labels of this source; we have no other."""
    return text.removeprefix(_SOURCE)
