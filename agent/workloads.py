"""The pods on this machine as the kernel meets them: where each one is, and that its veth is guarded.

A pod's hooks are attached as soon as its sandbox is known, before anything is known of its policy: a source
that no table knows is dropped. Knows sandboxes and interfaces, no records.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from agent.kernel.error import KernelError
from agent.sandbox import Sandbox
from mesh.model import WorkloadName

log = logging.getLogger(__name__)


class Hooks(Protocol):
    """What this file needs of the kernel."""

    def attach_pod(self, name: str, host_ifindex: int) -> None: ...
    def detach_pod(self, name: str) -> None: ...
    def detach_inbound(self, name: str) -> None: ...
    def attached(self) -> set[str]: ...
    def netns_cookie(self, netns: Path) -> int: ...


@dataclass(frozen=True, slots=True)
class Guarded:
    """A pod whose hooks are attached."""

    sandbox: Sandbox
    cookie: int
    ifindex: int


class Workloads:
    """Follows the sandboxes; `guarded` has those whose hooks are attached."""

    def __init__(self, hooks: Hooks) -> None:
        self._hooks = hooks
        self.guarded: dict[WorkloadName, Guarded] = {}
        self.failing: dict[WorkloadName, str] = {}

    def refresh(self, sandboxes: Mapping[WorkloadName, Sandbox]) -> None:
        """Attach hooks to pods that are new, detach those of pods that are gone, and try again what
        failed before."""
        for pod, guarded in list(self.guarded.items()):
            if sandboxes.get(pod) != guarded.sandbox:
                del self.guarded[pod]
        self.failing = {pod: why for pod, why in self.failing.items() if pod in sandboxes}
        for pod, sandbox in sandboxes.items():
            if pod not in self.guarded:
                self._guard(sandbox)
        keys = {sandbox.key for sandbox in sandboxes.values()}
        for key in self._hooks.attached() - keys:
            self._hooks.detach_inbound(key)
            self._hooks.detach_pod(key)
            log.info("pod of sandbox %s is gone; its hooks are detached", key)

    def _guard(self, sandbox: Sandbox) -> None:
        pod = sandbox.pod
        try:
            ifindex = socket.if_nametoindex(sandbox.interface)
            cookie = self._hooks.netns_cookie(sandbox.netns)
            self._hooks.attach_pod(sandbox.key, ifindex)
        except (OSError, KernelError) as error:
            why = f"attach to {sandbox.interface} of pod {pod} failed: {error}"
            if self.failing.get(pod) != why:
                log.error("%s; its container is not started; trying again", why)
            self.failing[pod] = why
        else:
            self.failing.pop(pod, None)
            self.guarded[pod] = Guarded(sandbox, cookie, ifindex)
            log.info("pod %s is guarded: %s, sandbox %s", pod, sandbox.interface, sandbox.key)
