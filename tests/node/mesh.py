"""A running mesh under test, driven by the command line as a user drives it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from sluice.mesh_directory import cgroup2_mount

HERE = Path(__file__).parent
T = TypeVar("T")
RUN = (sys.executable, "-m", "sluice")


def sluice(*args: str, stdin: str | None = None, timeout: float = 60) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*RUN, *args], input=stdin, capture_output=True, text=True, timeout=timeout)


def until(what: Callable[[], T], why: str, seconds: float = 20) -> T:
    """The first true answer; a generous bound against hanging, not a measurement."""
    end = time.monotonic() + seconds
    while not (found := what()):
        if time.monotonic() > end:
            raise AssertionError(f"{why}: not within {seconds} s; last answer: {found!r}")
        time.sleep(0.02)
    return found


@dataclass
class RunningMesh:
    name: str = field(default_factory=lambda: f"t{uuid.uuid4().hex[:6]}")

    def up(self, *texts: str, folder: Path, options: Sequence[str] = ()) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        for index, text in enumerate(texts):
            (folder / f"{index}.yaml").write_text(text)
        self.run("up", "-f", str(folder), "--detach", *options)
        self.run("status", "--wait")

    def run(self, *args: str, stdin: str | None = None, timeout: float = 60) -> str:
        """A command that must succeed; its standard output."""
        done = sluice(args[0], "--name", self.name, *args[1:], stdin=stdin, timeout=timeout)
        assert done.returncode == 0, (
            f"sluice {' '.join(args)}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        )
        return done.stdout

    def apply(self, *texts: str) -> str:
        return self.run("apply", "-f", "-", stdin="\n---\n".join(texts))

    def delete(self, *texts: str) -> str:
        return self.run("delete", "-f", "-", stdin="\n---\n".join(texts))

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.run("status", "-o", "json"))
        return found

    def pod(self, name: str) -> dict[str, Any]:
        return next(pod for pod in self.status()["pods"] if pod["name"] == name)

    def explain(self, source: str, target: str, *args: str) -> dict[str, Any]:
        text = self.run("explain", "--from", source, "--to", target, *args, "-o", "json")
        found: dict[str, Any] = json.loads(text)
        return found

    def observe(self, *args: str) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.run("observe", "-o", "json", *args).splitlines()]

    def exec(self, pod: str, *command: str, timeout: float = 60) -> subprocess.CompletedProcess[str]:
        return sluice("exec", "--name", self.name, pod, "--", *command, timeout=timeout)

    def python(self, pod: str, code: str, timeout: float = 60) -> str:
        """Run Python in a pod; what it printed."""
        done = self.exec(pod, sys.executable, "-c", code, timeout=timeout)
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
        return done.stdout.strip()

    def get(self, pod: str, url: str, *curl: str) -> tuple[int, dict[str, Any] | str]:
        """Status and body of a request; status 0: refused, -1: timed out."""
        done = self.exec(pod, "curl", "-s", "-m", "3", "-w", "\n%{http_code}", *curl, url)
        if done.returncode == 28:
            return -1, ""
        if done.returncode:
            return 0, f"curl: {done.returncode}"
        body, _, code = done.stdout.rpartition("\n")
        try:
            return int(code), json.loads(body)
        except ValueError:
            return int(code), body

    def processes(self, pod: str) -> list[str]:
        """The names of the processes in the pod's network namespace, by /proc and not by us."""
        own = self.exec(pod, "readlink", "/proc/self/ns/net").stdout.strip()
        found = []
        for process in Path("/proc").iterdir():
            if process.name.isdigit():
                try:
                    if os.readlink(process / "ns/net") == own:
                        found.append(os.readlink(process / "exe").rsplit("/", 1)[-1])
                except OSError:
                    continue
        return found

    def pids(self, *words: str) -> list[int]:
        """Processes whose command line holds the mesh's name and all of these words."""
        found = []
        for process in Path("/proc").iterdir():
            if process.name.isdigit():
                try:
                    line = (process / "cmdline").read_bytes().decode(errors="replace").split("\0")
                except OSError:
                    continue
                if any(self.name in word for word in line) and all(word in line for word in words):
                    found.append(int(process.name))
        return found

    def residue(self) -> list[str]:
        """Everything on this machine that still bears the mesh's name."""
        places = ("/run/netns", "/sys/fs/bpf", "/var/lib/sluice", "/run/sluice", str(cgroup2_mount()))
        files = [
            str(path)
            for place in places
            for path in (Path(place).iterdir() if Path(place).is_dir() else ())
            if self.name in path.name
        ]
        return files + [f"process {pid}" for pid in self.pids()]
