"""The examples as a user runs them: each shows what it says, and leaves nothing, whatever ends it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from sluice.mesh_directory import MeshDirectory
from tests.node.mesh import RunningMesh, sluice, until

ROOT = Path(__file__).parents[2]


@pytest.fixture
def mesh() -> Iterator[RunningMesh]:
    """A name for a mesh; whatever a failing test leaves of it is removed."""
    mesh = RunningMesh()
    yield mesh
    sluice("down", "--name", mesh.name, "--purge")


def start(example: str, mesh: RunningMesh, *options: str, path: str = "") -> subprocess.Popen[str]:
    """In a process group of its own, as a shell starts it."""
    return subprocess.Popen(
        [ROOT / "examples" / example / "run", "--name", mesh.name, *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | {"PATH": f"{path}:{os.environ['PATH']}"},
        start_new_session=True,
    )


def shown(example: str, mesh: RunningMesh, *options: str) -> list[tuple[str, str]]:
    """The commands of a run to the end, and what each printed."""
    with start(example, mesh, *options) as run:
        output, _ = run.communicate(timeout=150)
    assert run.returncode == 0, output
    assert mesh.residue() == []
    steps = output.replace(f"--name {mesh.name} ", "").split("\n$ ")[1:]
    return [(command, rest.partition("\n# ")[0]) for command, _, rest in (s.partition("\n") for s in steps)]


def outputs(steps: list[tuple[str, str]], words: str) -> list[str]:
    return [printed for command, printed in steps if words in command]


def counts(text: str) -> dict[str, int]:
    """What `uniq -c` printed."""
    return {what: int(count) for count, what in re.findall(r"^ *(\d+) (.*)$", text, re.MULTILINE)}


def versions(text: str) -> dict[str, int]:
    return {re.findall('"(v[12])"', what)[0]: count for what, count in counts(text).items()}


@pytest.mark.timeout(180)
def test_the_canary_is_asked_by_a_share_and_then_by_all(mesh: RunningMesh) -> None:
    steps = shown("canary", mesh)
    plain, split, tester, promoted = map(versions, outputs(steps, "curl"))
    assert list(plain.values()) == [100], "one connection, one backend"
    assert 70 < split["v1"] < 100 and split["v1"] + split["v2"] == 100
    assert tester == {"v2": 20}
    assert promoted == {"v2": 100}
    paths = [text.partition("\n")[0] for text in outputs(steps, "sluice explain")]
    assert paths == ["allow, by the kernel path", "allow, through Envoy", "allow, by the kernel path"]
    assert "shares are of requests" in outputs(steps, "sluice describe")[0]


@pytest.mark.timeout(180)
def test_faults_hit_whom_they_are_for(mesh: RunningMesh) -> None:
    steps = shown("fault", mesh)
    before, faulty, ann, bob, after = outputs(steps, "curl")
    assert counts(before) == counts(after) == {"200": 100}
    assert set(counts(faulty)) == {"200", "503"} and 3 < counts(faulty)["503"] < 50
    status, _, seconds, _ = ann.split()
    assert status == "200" and 1 <= float(seconds) < 3
    assert bob.startswith("418 ")
    assert "answers 100% with 418 itself" in outputs(steps, "sluice explain")[0]


@pytest.mark.timeout(180)
def test_tokens_decide_who_may_read_and_write(mesh: RunningMesh) -> None:
    steps = shown("jwt", mesh)
    statuses = [text.split()[-1] for text in outputs(steps, "curl")]
    assert statuses == ["200", "403", "200", "401", "401", "403", "200"]
    assert "tokens stand in requests" in outputs(steps, "sluice describe")[0]


@pytest.mark.timeout(180)
def test_who_reads_along_learns_nothing_of_mutual_tls(mesh: RunningMesh) -> None:
    steps = shown("mtls", mesh)
    clear, secret, outside, after = outputs(steps, "curl")
    assert "GET / HTTP/1.1" in clear and "nothing that could be read" not in clear
    assert "nothing that could be read" in secret and "GET /" not in secret
    assert [text.split()[-1] for text in (clear, secret, outside, after)] == ["200", "200", "000", "200"]
    assert "principal=spiffe://cluster.local/ns/shop/sa/default" in outputs(steps, "sluice observe")[0]
    assert [text.partition(",")[0] for text in outputs(steps, "sluice explain")] == ["allow", "deny"]


def test_one_request_through_three_services_is_drawn(mesh: RunningMesh, tmp_path: Path) -> None:
    picture = tmp_path / "trace.svg"
    (asked,) = outputs(shown("trace", mesh, str(picture)), "http://front/")
    assert asked.strip() == "front > middle > back"
    drawn = picture.read_text()
    assert "client.shop  egress front" in drawn and "middle.shop  TCP back.shop.svc.cluster.local:80" in drawn


def test_an_interrupted_example_leaves_nothing(mesh: RunningMesh) -> None:
    with start("canary", mesh) as run:
        assert run.stdout is not None
        for line in run.stdout:
            if line.startswith("# No rule"):
                os.killpg(run.pid, signal.SIGINT)  # as the terminal does it
                break
        rest = run.stdout.read()
        assert run.wait(60) == 130, rest
    assert mesh.residue() == []


def test_an_example_interrupted_while_its_mesh_comes_up_leaves_nothing(mesh: RunningMesh) -> None:
    with start("canary", mesh) as run:
        until(MeshDirectory(mesh.name).run.exists, "the mesh comes up")
        os.killpg(run.pid, signal.SIGINT)
        output, _ = run.communicate(timeout=100)
    assert run.returncode == 130, output
    assert mesh.residue() == []


def test_an_example_that_fails_says_so_and_leaves_nothing(mesh: RunningMesh, tmp_path: Path) -> None:
    (tmp_path / "sort").write_text("#!/bin/sh\nexit 3\n")
    (tmp_path / "sort").chmod(0o755)
    with start("canary", mesh, path=str(tmp_path)) as run:
        output, _ = run.communicate(timeout=100)
    assert run.returncode == 3, output
    assert "# stopped (3)" in output
    assert mesh.residue() == []


def test_an_example_does_not_touch_a_mesh_that_is_there(mesh: RunningMesh) -> None:
    place = MeshDirectory(mesh.name).state
    place.mkdir(parents=True)
    with start("canary", mesh) as run:
        output, _ = run.communicate(timeout=60)
    assert (run.returncode, place.exists()) == (1, True)
    assert f"sluice down --name {mesh.name} --purge" in output


def test_an_example_that_is_kept_goes_on(mesh: RunningMesh) -> None:
    with start("jwt", mesh, "--keep") as run:
        output, _ = run.communicate(timeout=100)
    assert run.returncode == 0, output
    assert mesh.exec("shop/catalog", "curl", "-s", "http://reviews/").stdout == "RBAC: access denied"
