"""A running mesh, handled as a user handles it: by the commands of `sluice`, and by looking at processes.

What it reports is seen from outside (the process list of the pods' network namespaces, Envoy's own counters),
not taken from the mesh's word alone.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from sluice.demo.screen import Screen
from sluice.failure import Failure
from sluice.mesh_directory import MeshDirectory

MANIFESTS = Path(__file__).parent
COMMAND_TIMEOUT = 90.0


class LiveMesh:
    """The mesh called `name`. Commands are shown on `screen` unless they are quiet."""

    def __init__(self, name: str, screen: Screen) -> None:
        self.name = name
        self.directory = MeshDirectory(name)
        self._screen = screen
        # The manifests say `python3`: inside the shop that is the Python which has Sluice.
        search = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
        self._environment = dict(os.environ) | {"PATH": search}

    def sluice(self, command: str, *arguments: str, quiet: bool = False) -> str:
        """Runs `sluice COMMAND --name NAME ...`, returns what it printed. Failure with its last words."""
        shown = ["sluice", command, "--name", self.name, *arguments]
        if not quiet:
            self._screen.command([_short(word) for word in shown])
        with subprocess.Popen(
            [sys.executable, "-m", *shown],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=self._environment,
            start_new_session=True,  # Ctrl-C is for the tour, which then ends the mesh in order
        ) as process:
            try:
                output, errors = process.communicate(timeout=COMMAND_TIMEOUT)
            except subprocess.TimeoutExpired as error:
                process.kill()
                hint = "see `sluice status`"
                raise Failure(f"sluice {command} was not done after {COMMAND_TIMEOUT:.0f} s", hint) from error
            except KeyboardInterrupt:
                if command == "up":  # half a mesh could not be found by `down`
                    process.wait(COMMAND_TIMEOUT)
                process.kill()
                raise
        if process.returncode:
            words = (errors.strip() or output.strip() or "no output").splitlines()[-1]
            raise Failure(f"sluice {command} ended with {process.returncode}: {words}")
        return output

    def apply(self, manifest: str) -> None:
        self._screen.output(self.sluice("apply", "-f", str(MANIFESTS / manifest)))

    def delete(self, manifest: str) -> None:
        self._screen.output(self.sluice("delete", "-f", str(MANIFESTS / manifest)))

    def inside(self, pod: str, *argv: str) -> list[str]:
        """The command line that runs `argv` in a pod."""
        return [sys.executable, "-m", "sluice", "exec", "--name", self.name, pod, "--", *argv]

    def run(self, pod: str, *argv: str) -> str:
        """Runs `argv` in a pod and returns what it printed. Failure with its last words."""
        done = subprocess.run(
            self.inside(pod, *argv),
            capture_output=True,
            text=True,
            timeout=COMMAND_TIMEOUT,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        if done.returncode:
            last = (done.stderr.strip() or "no output").splitlines()[-1]
            raise Failure(f"{' '.join(argv)} in {pod} ended with {done.returncode}: {last}")
        return done.stdout

    @contextlib.contextmanager
    def talk(self, pod: str, *argv: str) -> Iterator[Conversation]:
        """A process in a pod that stays and is spoken to."""
        with subprocess.Popen(
            self.inside(pod, *argv),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=self._environment,
            start_new_session=True,
        ) as process:
            try:
                yield Conversation(process)
            finally:
                process.terminate()

    def explain(self, *arguments: str) -> dict[str, Any]:
        answer: dict[str, Any] = json.loads(self.sluice("explain", "-o", "json", *arguments, quiet=True))
        return answer

    def flows(self, *arguments: str) -> str:
        """The lines of `sluice observe`."""
        return self.sluice("observe", *arguments).strip()

    # --- from outside ---

    def sandboxes(self) -> dict[str, Mapping[str, Any]]:
        """By `namespace/name`: where each pod is."""
        records = (json.loads(file.read_text()) for file in sorted(self.directory.sandboxes.glob("*.json")))
        return {f"{record['namespace']}/{record['name']}": record for record in records}

    def processes(self) -> dict[str, list[str]]:
        """By pod: the names of the processes in its network namespace, as the kernel tells."""
        pods = {os.stat(record["netns"]).st_ino: pod for pod, record in self.sandboxes().items()}
        found: dict[str, list[str]] = {pod: [] for pod in pods.values()}
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                inode = os.stat(process / "ns/net").st_ino
                if inode in pods:
                    found[pods[inode]].append((process / "comm").read_text().strip())
        return found

    def envoys(self) -> list[str]:
        """The pods in whose network namespace an Envoy runs."""
        return sorted(pod for pod, names in self.processes().items() if "envoy" in names)

    def envoy_counters(self, pod: str, matching: str) -> str:
        """Counters of the pod's Envoy whose name matches an expression, asked at Envoy's own admin socket."""
        place = self.directory.run / "p" / self.sandboxes()[pod]["uid"][:8] / "admin.sock"
        argv = ["curl", "-s", "--unix-socket", str(place), f"http://envoy/stats?usedonly&filter={matching}"]
        self._screen.command(argv)
        done = subprocess.run(argv, capture_output=True, text=True, timeout=10)
        return done.stdout.strip()

    def process_of(self, module: str) -> int | None:
        """The process id of this mesh's `python -m MODULE`."""
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                words = (process / "cmdline").read_bytes().decode(errors="replace").split("\0")
                if words[1:3] == ["-m", module] and _follows(words, "--name", self.name):
                    return int(process.name)
        return None

    def kill(self, module: str) -> int | None:
        """`kill -9` of this mesh's `python -m MODULE`; its process id, None if there was none."""
        pid = self.process_of(module)
        if pid is not None:
            os.kill(pid, signal.SIGKILL)
        return pid


class Conversation:
    """Lines to a process, and JSON objects from it."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def say(self, line: str) -> dict[str, Any]:
        """Sends a line and returns the answer."""
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()
        return self.hear()

    def hear(self) -> dict[str, Any]:
        """The next object it prints."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise Failure(f"process {self._process.pid} ended without a word")
        heard: dict[str, Any] = json.loads(line)
        return heard

    def finish(self) -> dict[str, Any]:
        """Ends its input and returns its last word."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        return self.hear()


def _follows(words: Sequence[str], option: str, value: str) -> bool:
    return (option, value) in pairwise(words)


def _short(word: str) -> str:
    return os.path.relpath(word) if word.startswith(str(MANIFESTS)) else word
