"""Whose view of the mesh: callers that no route and no DestinationRule can tell apart (rule 3).

Most meshes tell callers apart by namespace only. Where a rule asks for labels of the caller, those labels
are part of the view, and no others, so that there are as many views as there are answers.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from mesh.index import discard
from mesh.model import Callers, Node, Workload, WorkloadName
from mesh.topology import LOCALITY, labels_of


class Caller(NamedTuple):
    """Pods of `namespace` with these values of the labels that some rule asks for, sorted; those of their
    nodes' places count as theirs."""

    namespace: str
    labels: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        """The name of the view in records: the namespace, where nothing more is asked for."""
        if not self.labels:
            return self.namespace
        return f"{self.namespace}{{{','.join(f'{key}={value}' for key, value in self.labels)}}}"

    def is_among(self, callers: Callers) -> bool:
        """Do these belong to whom a match means? (What comes in by gateways is nobody's caller.)"""
        return callers.namespace in ("", self.namespace) and set(callers.labels) <= set(self.labels)


class CallerIndex:
    """Which callers there are."""

    def __init__(self, workloads: Mapping[WorkloadName, Workload], nodes: Mapping[str, Node]) -> None:
        self._workloads = workloads
        self._nodes = nodes
        self._on_node: defaultdict[str, set[WorkloadName]] = defaultdict(set)
        #: Of those that were asked for.
        self._labels: dict[WorkloadName, dict[str, str]] = {}
        self._keys: Counter[str] = Counter()
        self._of: dict[WorkloadName, Caller] = {}
        self._all: Counter[Caller] = Counter()
        self._moves: Counter[Caller] = Counter()

    def __len__(self) -> int:
        return len(self._all)

    def __contains__(self, caller: object) -> bool:
        return caller in self._all

    @property
    def all(self) -> Iterable[Caller]:
        return self._all.keys()

    def of(self, name: WorkloadName) -> Caller:
        return self._of[name]

    def seen_as(self, workload: Workload) -> Caller:
        """The caller that a workload is, whether it is known or not."""
        if not self._keys:
            return Caller(workload.name.namespace)
        kept = tuple(pair for pair in labels_of(workload, self._nodes) if pair[0] in self._keys)
        return Caller(workload.name.namespace, kept)

    def labels(self, workload: Workload) -> Mapping[str, str]:
        """All of a known workload, with those of its place."""
        found = self._labels.get(workload.name)
        if found is None:
            found = self._labels[workload.name] = dict(labels_of(workload, self._nodes))
        return found

    # --- changing ----------------------------------------------------------------------------

    def put(self, workload: Workload) -> None:
        self._on_node[workload.node].add(workload.name)
        self._see([workload])

    def remove(self, workload: Workload) -> None:
        discard(self._on_node, workload.node, workload.name)
        self._lose(workload.name)

    def relocate(self, node: Node) -> list[Workload]:
        """A node came or went. Returns the workloads that are at another place by that."""
        if not any(key in LOCALITY for key, _ in node.labels):
            return []
        found = [self._workloads[name] for name in self._on_node.get(node.name, ())]
        self._see(found)
        return found

    def ask(self, keys: Iterable[str]) -> bool:
        """A rule asks for these labels. True if callers are told apart by others now."""
        fresh = [key for key in keys if self._count(key, 1) == 1]
        if fresh:
            self._see(self._workloads.values())
        return bool(fresh)

    def forget(self, keys: Iterable[str]) -> bool:
        """It does no longer."""
        gone = [key for key in keys if self._count(key, -1) == 0]
        if gone:
            self._see(self._workloads.values())
        return bool(gone)

    def settle(self) -> bool:
        """Have callers come or gone since the last time?"""
        moved = any(self._moves.values())
        self._moves.clear()
        return moved

    def _see(self, workloads: Iterable[Workload]) -> None:
        """Ask anew which callers these are."""
        for workload in workloads:
            self._lose(workload.name)
            caller = self._of[workload.name] = self.seen_as(workload)
            self._all[caller] += 1
            if self._all[caller] == 1:
                self._moves[caller] += 1

    def _lose(self, name: WorkloadName) -> None:
        self._labels.pop(name, None)
        caller = self._of.pop(name, None)
        if caller is not None:
            self._all[caller] -= 1
            if not self._all[caller]:
                del self._all[caller]
                self._moves[caller] -= 1

    def _count(self, key: str, by: int) -> int:
        self._keys[key] += by
        if not self._keys[key]:
            del self._keys[key]
            return 0
        return self._keys[key]
