"""The metrics of this node's pods: takes in what is seen, and tells it. Knows no socket and no schedule."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

from agent.access_log import LoggedRequest
from agent.names import Names
from agent.records import Change
from agent.telemetry import requests, traffic
from agent.telemetry.carried import Count
from agent.telemetry.registry import Registry, exposition
from agent.telemetry.shape import STANDARD, Shape
from bpf.layout import TrafficKey, TrafficValue
from mesh.model import WorkloadName
from mesh.node import MetricsRecord


class Telemetry:
    """A registry for each pod of which something was seen."""

    def __init__(self, names: Names) -> None:
        self._names = names
        self._registries: dict[WorkloadName, Registry] = {}
        self._shapes: dict[WorkloadName, Shape] = {}

    def follow(self, change: Change) -> None:
        """One record changed. Where the metrics of a pod have other labels from now on, they begin anew: what
        was counted before could not be told with those."""
        match change.old:
            case MetricsRecord(pod=pod):
                self._shapes.pop(pod, None)
                self._registries.pop(pod, None)
        match change.new:
            case MetricsRecord(pod=pod) as record:
                self._shapes[pod] = Shape(record)
                self._registries.pop(pod, None)

    def add_request(self, pod: WorkloadName, addresses: tuple[str, ...], request: LoggedRequest) -> None:
        """Take in one entry of the access log of a pod's Envoy."""
        said = requests.conversation(self._names, addresses, request)
        if said is None:
            return
        self._registry(pod).add_request(
            said,
            request.lasted * 1000,
            request.received,
            request.sent,
            request.messages,
            partial(requests.attribute, request),
        )

    def add_traffic(self, rows: Iterable[tuple[TrafficKey, TrafficValue]]) -> None:
        """Take in what the kernel has counted. Rows of pods that are gone belong to nobody."""
        for row, more in rows:
            owner = self._names.workload(row.pod)
            if owner is None:
                continue
            # What the end that opened received was sent to it, in Istio's words.
            received, sent = (more.sent, more.received) if row.opener else (more.received, more.sent)
            said = traffic.conversation(self._names, row)
            self._registry(owner.name).add_connections(said, more.opened, more.closed, received, sent)

    def add(self, counts: Iterable[Count]) -> None:
        """Take in connections that Envoys carry."""
        for count in counts:
            self._registry(count.pod).add_connections(*count[1:])

    def keep(self, pods: Iterable[WorkloadName]) -> None:
        """Forget all others."""
        kept = set(pods)
        for pod in self._registries.keys() - kept:
            del self._registries[pod]

    @property
    def pods(self) -> set[WorkloadName]:
        """Those of which there is something to tell."""
        return set(self._registries)

    @property
    def series(self) -> int:
        return sum(map(len, self._registries.values()))

    @property
    def dropped(self) -> int:
        """Observations that were not counted because a pod had too many series."""
        return sum(registry.dropped for registry in self._registries.values())

    def text(self, pod: WorkloadName) -> str:
        """The metrics of one pod; "" if nothing was seen of it."""
        return exposition([((), self._registries[pod])]) if pod in self._registries else ""

    def texts(self) -> str:
        """Those of all pods, told apart by the labels that Prometheus adds when it finds a pod by itself."""
        return exposition(
            ((("namespace", pod.namespace), ("pod", pod.name)), registry)
            for pod, registry in sorted(self._registries.items())
        )

    def _registry(self, pod: WorkloadName) -> Registry:
        if pod not in self._registries:
            self._registries[pod] = Registry(self._shapes.get(pod, STANDARD))
        return self._registries[pod]
