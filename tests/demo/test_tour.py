"""`sluice demo` as a user runs it: every step shows what it promises, and it always cleans up."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator

import pytest

from sluice.mesh_directory import MeshDirectory
from sluice.namespaces import netns_names


@pytest.fixture
def name() -> Iterator[str]:
    """A mesh's name; whatever a failing test leaves of it is removed."""
    name = f"tour-{uuid.uuid4().hex[:6]}"
    yield name
    subprocess.run([sys.executable, "-m", "sluice", "down", "--name", name, "--purge"], capture_output=True)


def start(name: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-u", "-m", "sluice", "demo", "--name", name],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | {"COLUMNS": "160"},
    )


def assert_gone(name: str) -> None:
    mesh = MeshDirectory(name)
    assert not [place for place in (mesh.state, mesh.run, mesh.pins, mesh.cgroup) if place.exists()]
    assert not [netns for netns in netns_names() if netns.startswith(mesh.node_netns)]


@pytest.mark.timeout(300)
def test_every_step_of_the_tour_shows_what_it_promises(name: str) -> None:
    with start(name) as demo:
        output, _ = demo.communicate(timeout=280)
    assert demo.returncode == 0, output
    assert "✗" not in output
    assert "What it cost" in output
    assert_gone(name)


def test_an_interrupted_tour_leaves_nothing_behind(name: str) -> None:
    with start(name) as demo:
        assert demo.stdout is not None
        seen = []
        for line in demo.stdout:  # the first answer means that the shop is open
            seen.append(line)
            if "✓" in line:
                demo.send_signal(signal.SIGINT)
                break
        seen += demo.stdout.readlines()
        assert demo.wait(60) == 130, "".join(seen)
    assert_gone(name)
