"""The agent of one node: one loop that brings what the control plane says into force, in the right order.

Everything that happens (an update, a sandbox, an Envoy that is ready or dead, a deadline) only wakes the
loop; each round looks at the whole and does what is due. Nothing is cleaned up at the end: the kernel, the
Envoys and the files on disk are what the next agent adopts, however this one ended.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import compress
from operator import ne
from typing import Any, TypeVar

from agent import last_good
from agent.access_log import Logged, LoggedConnection, LoggedRequest, Refusal
from agent.client import DiscoveryClient
from agent.connection_logs.connection_logging import ConnectionLogging
from agent.enforcement import Enforcement, is_full
from agent.flows import FlowLog, FlowTeller
from agent.kernel import Kernel, KernelError
from agent.last_good import LastGood, Saver
from agent.log_rotation import LogRotation
from agent.maglev_store import StoreFullError
from agent.names import Names
from agent.node_report import problem, refusals
from agent.options import Options
from agent.proxies import Proxies
from agent.proxy import Places
from agent.records import Change, Overtaken, Records
from agent.resolving import Resolving
from agent.sandbox import Sandbox, SandboxFolder
from agent.telemetry.measuring import Measuring
from agent.tracing.spanning import Spanning
from agent.workloads import Workloads
from bpf.layout import Event as RingEvent
from mesh.discovery.envoy import LISTENER
from mesh.discovery.resource import Resource, Table
from mesh.discovery.session import Acked, Event, Nacked
from mesh.discovery.subscriber import Update
from mesh.model import WorkloadName
from mesh.node import Launch, PodRecord, WorkloadRecord
from mesh.resources import BODY_TYPE, GENERATION_TYPE, MANIFEST_TYPE, NODE_TYPES
from mesh.rollout import Rollout, Serving

log = logging.getLogger(__name__)

#: Seconds until something that failed is tried again.
RETRY = 1.0
#: Seconds between looks at the ring of events: the kernel wakes nobody for a single one.
EVENT_LOOK = 0.05

_ROUTING_LISTENER = "virtualOutbound"
_T = TypeVar("_T")


class NodeAgent:
    """Made once per process; `run` returns only by an exception."""

    def __init__(self, options: Options) -> None:
        """Opens the kernel: loads programs and attaches them, or adopts those that are. Raises
        KernelError, OSError."""
        self._options = options
        self._kernel = Kernel.open(options.pin, options.cgroup)
        self._enforcement = Enforcement(self._kernel)
        self._records = Records()
        self._rollout = Rollout()
        self._names = Names()
        self.flows = FlowLog()
        self._teller = FlowTeller(self._names, self.flows)
        self._resolving = Resolving(options.resolver)
        self._folder = SandboxFolder(options.sandboxes, options.node)
        self._workloads = Workloads(self._kernel)
        places = Places(options.envoy, options.run / "p", options.cgroup / "proxies", options.logs)
        self._proxies = Proxies(
            places,
            self._kernel,
            launch=lambda pod: self._launches.get(pod, Launch()),
            on_event=self._envoy_said,
            on_ready=self._envoy_is_ready,
            on_down=self._envoy_is_down,
            on_logged=self._envoy_logged,
            on_stopped=self._envoy_has_ended,
        )
        self.metrics = Measuring(
            self._names,
            self._kernel.table("sl_traffic"),
            self._kernel.table("sl_flow"),
            self._in_kernel,
            self._proxies.metrics,
        )
        self._spanning = Spanning(
            self._names, self._kernel.table("sl_flow"), self._teller.telling, self._in_kernel
        )
        self._logging = ConnectionLogging(
            self._names, places.log, partial(self._in_kernel, self._kernel.tell_closes)
        )
        self._sandboxes: dict[WorkloadName, Sandbox] = {}
        #: How Envoys are started that are not started as always; of the newest generation under way.
        self._launches: dict[WorkloadName, Launch] = {}
        self._routed: set[WorkloadName] = set()
        self._unanswered: list[Update] = []
        self._answering: list[Update] = []
        self._newest_manifests: Update | None = None
        self._wanted = 0
        self._number: int | None = None
        self._applied = 0
        #: When generations came that are not in force yet; seconds that all others took, and how many.
        self._received: dict[int, float] = {}
        self._applying = (0.0, 0)
        #: The generation under way may stand in the desired tables in part: it must go through.
        self._committed = False
        #: The generation to begin with is what the kernel enforces already.
        self._adopting = False
        self._problem = ""
        self._retry_at: float | None = None
        self._wake = asyncio.Event()
        #: Pods whose Envoys cannot be served for want of a body.
        self._lacking: set[WorkloadName] = set()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="kernel")
        self._saver = Saver(options.last_good)
        self._client: DiscoveryClient | None = None

    async def run(self) -> None:
        """Do the node's work until the process ends."""
        self._sandboxes = self._folder.read()
        await self._in_kernel(self._workloads.refresh, self._sandboxes)
        self._routed = self._enforcement.routed(self._workloads.guarded)
        text = "agent of node %s begins with %d pods; the kernel is at its generation %d"
        log.info(text, self._options.node, len(self._sandboxes), self._enforcement.generation)
        self._restore()
        await self._resolving.listen(self._teller.tell_query)
        await self._proxies.adopt(self._sandboxes)
        self._client = DiscoveryClient(
            self._options.control_plane,
            f"node~{self._options.node}",
            NODE_TYPES,
            self._receive,
            self._records.versions(),
        )
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._client.run())
            tasks.create_task(self._follow_sandboxes())
            tasks.create_task(self._follow_events())
            tasks.create_task(self._conduct())
            tasks.create_task(self.metrics.run(lambda: self._sandboxes))
            tasks.create_task(self._spanning.run())
            tasks.create_task(self._logging.run())
            tasks.create_task(LogRotation(self._options.logs).run())

    def status(self) -> dict[str, Any]:
        """The state of the node, as the admin interface shows it."""
        pods = set(self._sandboxes) | set(self._enforcement.pods)
        problems = refusals(self._rollout.refusals())
        problems += [problem(pod, why) for pod, why in sorted(self._workloads.failing.items())]
        problems += [problem(None, why) for why in (*self._records.unread, self._problem) if why]
        return {
            "generation": self._applied,
            "wanted": self._wanted,
            "connected": bool(self._client and self._client.connected),
            "kernel_generation": self._enforcement.generation,
            "pods": [self._pod_status(pod) for pod in sorted(pods)],
            "problems": problems,
            "applying": {"seconds": self._applying[0], "count": self._applying[1]},
            "counters": {
                **self._kernel.counters(),
                "flows_untold": self.flows.lost,
                "spans_untold": self._spanning.dropped,
                "connection_logs_dropped": self._logging.dropped,
            },
        }

    def proxies(self) -> list[dict[str, Any]]:
        """Each pod's Envoy, where its admin socket is and what it has accepted; the refusals."""
        refused, pods = refusals(self._rollout.refusals()), self._enforcement.pods
        return [
            {
                "pod": str(pod),
                "reasons": list(record.reasons) if (record := pods.get(pod)) else [],
                "error": self._proxies.error(pod),
                "admin": str(admin) if (admin := self._proxies.admin(pod)) else None,
                "accepted": self._proxies.accepted(pod),
                "refused": [found for found in refused if found["pod"] == str(pod)],
            }
            for pod in sorted(self._sandboxes)
        ]

    def has(self, pod: WorkloadName) -> bool:
        """Is the pod on this node?"""
        return pod in self._sandboxes

    def is_enforced(self, pod: WorkloadName) -> bool:
        """May the pod's processes start? Its sandbox is known, its hooks attached, its policy in force."""
        return pod in self._workloads.guarded and self._enforcement.enforced(pod)

    # --- what happens ----------------------------------------------------------------------------

    def _restore(self) -> None:
        path = self._options.last_good
        try:
            saved = last_good.load(path)
        except ValueError as error:
            log.error("read %s failed: %s; waiting for the control plane instead", path, error)
            return
        if saved is None:
            return
        if saved.kernel_generation < self._enforcement.generation:
            log.warning("%s is older than what the kernel enforces; waiting for the control plane", path)
            return
        self._records.restore(saved.records)
        self._adopting = 0 < saved.kernel_generation == self._enforcement.generation

    def _receive(self, update: Update) -> None:
        assert self._client
        try:
            generation = self._records.receive(update)
        except ValueError as error:
            log.error("the control plane sent what cannot be read: %s", error)
            self._client.nack(update, str(error))
            return
        if update.type_url == GENERATION_TYPE:
            self._unanswered.append(update)  # Answered when it is in force.
        else:
            self._client.ack(update)
        if update.type_url == MANIFEST_TYPE:
            self._newest_manifests = update
        if generation is not None:
            self._wanted = generation.number
            self._received[generation.number] = _now()
            self._wake.set()
        elif update.type_url == BODY_TYPE and self._lacking:
            self._wake.set()  # of an earlier life keys were not kept

    def _envoy_said(self, pod: WorkloadName, event: Event) -> None:
        match event:
            case Acked(type_url=type_url, versions=versions):
                self._rollout.accepted(pod, type_url, versions)
            case Nacked(type_url=type_url, names=(name,), message=message):
                kind = type_url.rpartition(".")[2]
                log.error("Envoy of pod %s refuses %s %s: %s", pod, kind, name, message)
                self._rollout.refused(pod, type_url, name, message)
                self._wake.set()

    def _envoy_logged(self, sandbox: Sandbox, logged: Logged) -> None:
        match logged:
            case LoggedConnection():
                self.metrics.add_connection(sandbox, logged)
            case Refusal():
                self._teller.tell_refusal(sandbox.addresses, logged)
            case LoggedRequest():
                self._teller.tell_request(sandbox.addresses, logged)
                self.metrics.add_request(sandbox, logged)
                self._spanning.add_request(logged)

    def _envoy_is_ready(self, pod: WorkloadName, revision: int) -> None:
        if not self._rollout.is_ready(pod):
            log.info("Envoy of pod %s is ready", pod)
        self._rollout.ready(pod, revision)
        serving = self._rollout.serving(pod)
        if serving and _ROUTING_LISTENER in serving.resources.get(LISTENER, {}):
            self._routed.add(pod)
        self._wake.set()

    def _envoy_is_down(self, sandbox: Sandbox) -> None:
        self._rollout.down(sandbox.pod)
        self.metrics.end_connections(sandbox)
        self._wake.set()

    def _envoy_has_ended(self, pod: WorkloadName) -> None:
        self._rollout.down(pod)
        self._rollout.forget(pod)
        self._routed.discard(pod)
        self._wake.set()

    async def _follow_sandboxes(self) -> None:
        async for _ in self._folder.changes():
            self._sandboxes = self._folder.read()
            self._wake.set()

    async def _follow_events(self) -> None:
        ring = self._kernel.events()
        while True:
            records = ring.drain()
            self._logging.add_events(records)
            records = [record for record in records if not RingEvent.is_close(record)]
            self._teller.tell(records)
            self._spanning.add_events(records)
            await asyncio.sleep(EVENT_LOOK)

    # --- what is done about it -------------------------------------------------------------------

    async def _conduct(self) -> None:
        while True:
            try:
                await self._round()
                self._problem, self._retry_at = "", None
                if not self._wake.is_set():
                    await self._in_kernel(self._enforcement.rest)
            except (KernelError, StoreFullError, OSError) as error:
                if self._problem != str(error):
                    log.error("%s; what was in force stays; trying again every %g s", error, RETRY)
                self._problem = str(error)
                self._retry_at = _now() + RETRY
                if self._committed and is_full(error):
                    self._give_up(error)
            try:
                async with asyncio.timeout(self._patience()):
                    await self._wake.wait()
            except TimeoutError:
                log.debug("a deadline has passed")
            self._wake.clear()

    def _give_up(self, error: Exception) -> None:
        """It stands in the desired tables in part, so who hears of a newer one begins anew; and that is sent
        once there is an answer to this one."""
        if self._records.overtaken:
            raise Overtaken(f"generation {self._number} does not fit, and a newer one is here") from error
        self._answer(str(error))

    def _patience(self) -> float | None:
        # After a failure the deadline of the rollout may long have passed.
        due = self._rollout.deadline() if self._retry_at is None else self._retry_at
        deadlines = [] if due is None else [due]
        if self._workloads.failing or self._proxies.failing or self._enforcement.failing:
            deadlines.append(_now() + RETRY)
        return max(0.0, min(deadlines) - _now()) if deadlines else None

    async def _round(self) -> None:
        await self._in_kernel(self._workloads.refresh, self._sandboxes)
        self._rollout.tick(_now())
        number = self._begin()
        if number is None and not self._enforcement.began:
            return  # Nothing is known yet, and that is no reason to take anything away.
        guarded = self._workloads.guarded
        wanted = {pod: guarded[pod].sandbox for pod in self._rollout.needed if pod in guarded}
        await self._proxies.want(wanted, self._sandboxes)
        self._serve()
        if number is not None and (self._committed or self._rollout.may_flip(_now(), wanted.keys())):
            self._committed = True
            await self._enforce_generation(number)
        elif self._enforcement.began:
            await self._enforce()

    def _begin(self) -> int | None:
        """The number of the generation that is under way, if any is."""
        begun = self._records.begin()
        if begun is not None:
            generation, manifests = begun
            self._number = generation.number
            for change in self._records.begun():
                self._note_launch(change)
            self._answering, self._unanswered = self._unanswered, []
            if self._adopting:
                self._committed = True
                self._rollout.adopt(manifests)
            else:
                self._rollout.want(generation.number, manifests, _now())
        return self._number

    def _note_launch(self, change: Change) -> None:
        if isinstance(change.old, PodRecord):
            self._launches.pop(change.old.name, None)
        if isinstance(change.new, PodRecord) and change.new.launch is not None:
            self._launches[change.new.name] = change.new.launch

    def _serve(self) -> None:
        lacking: set[WorkloadName] = set()
        for pod in self._proxies.running():
            serving = self._rollout.serving(pod)
            known, before = self._proxies.served(pod)
            if serving is None or serving.revision == known.revision:
                continue
            try:
                self._proxies.serve(pod, serving, self._snapshot(serving, known, before))
            except KeyError as error:
                lacking.add(pod)
                if pod not in self._lacking:
                    text = "the Envoy of pod %s waits for the control plane: resource %s is not here"
                    log.warning(text, pod, error)
        self._lacking = lacking

    def _snapshot(self, serving: Serving, known: Serving, before: Mapping[str, Table]) -> dict[str, Table]:
        """What stays is the same object as in `before`, which is what `known` names; by that the stream knows
        what is new."""
        snapshot: dict[str, Table] = {}
        for type_url, names in serving.resources.items():
            old, table = known.resources.get(type_url, {}), before.get(type_url, Table())
            if names is not old:
                changed = compress(names, map(ne, map(old.get, names), names.values()))
                news = {name: self._resource(name, names[name]) for name in changed}
                table = table.after(news, old.keys() - names.keys())
            snapshot[type_url] = table
        return snapshot

    def _resource(self, name: str, version: str) -> Resource:
        body = self._records.body(version)
        if body is None:
            raise KeyError(version)
        return Resource(name, version, body.any)

    async def _enforce_generation(self, number: int) -> None:
        changes = list(self._records.begun())
        await self._in_kernel(self._enforcement.take, changes)
        if any(isinstance(change.old, WorkloadRecord) for change in changes):
            await self.metrics.look()
        for change in changes:
            self._names.follow(change)
            self._resolving.follow(change)
            self._spanning.follow(change)
            self._logging.follow(change)
            self.metrics.follow(change)
        await self._logging.settle()
        await self._enforce(always=True)
        # Before anyone hears that it is in force, and before a new pod may begin.
        self._resolving.settle()
        self._spanning.settle()
        self._records.finish()
        if self._rollout.warming is not None:
            self._rollout.flipped(_now())
        self._applied, self._number = number, None
        self._note_applied(number)
        self._adopting = self._committed = False
        log.info("generation %d is in force: %d records changed", number, len(changes))
        self._answer()
        self._serve()
        self._records.forget_bodies(self._rollout.in_use())
        self._save()
        # What came meanwhile is begun in the next round.
        self._wake.set()

    def _note_applied(self, number: int) -> None:
        """How long it took since it had come; generations that were skipped are nobody's."""
        came = self._received.get(number)
        self._received = {later: at for later, at in self._received.items() if later > number}
        if came is not None:
            self._applying = (self._applying[0] + _now() - came, self._applying[1] + 1)

    async def _enforce(self, *, always: bool = False) -> None:
        proxied = self._proxies.running() | self._rollout.needed
        guarded = dict(self._workloads.guarded)
        self._enforcement.place(guarded, proxied, self._routed)
        if not always and not self._enforcement.is_due():
            return
        before = self._enforcement.generation
        applied = await self._in_kernel(self._enforcement.bring_into_force, guarded)
        if applied.swept:
            log.info("%d live connections were ended: policy no longer allows them", applied.swept)
        if not always and applied.generation != before:
            self._save()

    def _answer(self, error: str = "") -> None:
        """To what is in force, or (`error`) cannot be."""
        assert self._client
        refused = refusals(self._rollout.refusals())
        # Before the generation: who hears that it is in force knows then what is wrong with it.
        if refused and self._newest_manifests is not None:
            self._client.nack(self._newest_manifests, json.dumps(refused))
        for update in self._answering:
            if error:
                self._client.nack(update, error)
            else:
                self._client.ack(update)
        self._answering = []

    def _save(self) -> None:
        self._saver.save(LastGood(self._enforcement.generation, self._records.applied()))

    def _pod_status(self, pod: WorkloadName) -> dict[str, Any]:
        record = self._enforcement.pods.get(pod)
        pid = self._proxies.pid(pod)
        return {
            "name": str(pod),
            "enforced": self.is_enforced(pod),
            "proxy": {
                "running": pid is not None,
                "pid": pid,
                "ready": self._rollout.is_ready(pod),
                "reasons": list(record.reasons) if record else [],
                "error": self._proxies.error(pod),
            },
        }

    async def _in_kernel(self, function: Callable[..., _T], *arguments: Any) -> _T:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, partial(function, *arguments))


def _now() -> float:
    return asyncio.get_running_loop().time()
