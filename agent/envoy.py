"""One Envoy process: started inside a pod's network namespace, adopted by an agent that comes later, watched
by its pidfd. It is no child that dies with us: the agent comes and goes, Envoy stays.

Knows processes, namespaces and cgroups, nothing of what Envoy serves.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

from mesh.node import Launch

log = logging.getLogger(__name__)

#: Another process holds the pod's lock: an Envoy of an earlier agent that is not in its cgroup yet.
LOCKED = 75

# In the pod's namespace: what the listeners' addresses need. Envoy must not run outside its cgroup, where it
# would be steered into itself. The lock lives as long as Envoy does, so no pod ever has two. Of the agent's
# environment, in which may be what only the operator should know, Envoy gets nothing: tags of spans tell it.
_SCRIPT = """
ip -6 addr replace ::6/128 dev lo; ip -6 route replace local fd51:ce:1::/96 dev lo
exec 9>>"$1" && { flock -n 9 || exit 75; } && echo $$ >"$2/cgroup.procs" && shift 2 && exec env -i "$@"
"""


class Envoy:
    """A running process, ours or an earlier agent's."""

    def __init__(
        self, pid: int, on_exit: Callable[[Envoy], None], child: subprocess.Popen[bytes] | None = None
    ) -> None:
        """Raises ProcessLookupError if it is gone. `on_exit` is called in the event loop, once."""
        self.pid = pid
        self.pidfd = os.pidfd_open(pid)
        self.status: int | None = None
        self._on_exit = on_exit
        self._child = child
        asyncio.get_running_loop().add_reader(self.pidfd, self._exited)

    @classmethod
    def start(
        cls, binary: Path, bootstrap: Path, netns: Path, cgroup: Path, log_file: Path, launch: Launch,
        on_exit: Callable[[Envoy], None],
    ) -> Envoy:  # fmt: skip
        """Start Envoy with a bootstrap file. Raises OSError."""
        cgroup.mkdir(parents=True, exist_ok=True)
        log_file.parent.mkdir(parents=True, exist_ok=True)
        command = [
            "nsenter", f"--net={netns}", "sh", "-c", _SCRIPT, "sh",
            str(bootstrap.with_name("lock")), str(cgroup),
            # Only Envoy itself has these variables, neither the shell nor what it calls.
            *(f"{name}={value}" for name, value in launch.environment),
            str(binary), "-c", str(bootstrap), "--concurrency", str(launch.workers or os.cpu_count() or 1),
            "--disable-hot-restart", "--log-level", "warning", "--drain-time-s", "60",
            # Access logs are read by people: within a second, as with Istio, not ten.
            "--file-flush-interval-msec", "1000",
            # An Envoy older than its resources would skip a matcher that it does not know (threat N20).
            "--reject-unknown-dynamic-fields",
        ]  # fmt: skip
        with log_file.open("ab") as output:
            child = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                cwd="/",
            )
        return cls(child.pid, on_exit, child)

    def terminate(self) -> None:
        """Ask it to end."""
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        self._signal(signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        if self.pidfd >= 0:
            try:
                signal.pidfd_send_signal(self.pidfd, number)
            except ProcessLookupError:
                log.debug("process %d was gone already", self.pid)

    def _exited(self) -> None:
        asyncio.get_running_loop().remove_reader(self.pidfd)
        if self._child is not None:
            self.status = self._child.wait()
        os.close(self.pidfd)
        self.pidfd = -1
        self._on_exit(self)


def running(cgroup: Path) -> Iterator[tuple[int, str]]:
    """Processes in the cgroups below `cgroup`, with the path of their bootstrap file."""
    for procs in cgroup.glob("*/cgroup.procs"):
        try:
            pids = procs.read_text().split()
        except OSError:
            continue
        for pid in pids:
            try:
                words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if b"-c" in words[:-1]:
                yield int(pid), os.fsdecode(words[words.index(b"-c") + 1])
