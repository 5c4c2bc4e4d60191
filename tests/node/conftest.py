from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.node.manifests import MESH
from tests.node.mesh import RunningMesh, sluice


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningMesh]:
    """One mesh for the tests of a module; each leaves it as it was."""
    yield from running_mesh(tmp_path_factory, MESH)


def running_mesh(
    tmp_path_factory: pytest.TempPathFactory, *texts: str, options: Sequence[str] = ()
) -> Iterator[RunningMesh]:
    """Nothing of it stays behind."""
    running = RunningMesh()
    try:
        running.up(*texts, folder=tmp_path_factory.mktemp("mesh"), options=options)
        yield running
    finally:
        _keep_logs(running, tmp_path_factory.getbasetemp())
        sluice("down", "--name", running.name, "--purge", timeout=60)
    assert running.residue() == []


def _keep_logs(running: RunningMesh, folder: Path) -> None:
    """A purge takes the logs away; a failed test wants them."""
    logs = Path("/var/lib/sluice") / running.name / "logs"
    if logs.is_dir():
        kept = folder / f"logs-{running.name}"
        kept.mkdir(exist_ok=True)
        for log in logs.glob("*.log"):
            (kept / log.name).write_bytes(log.read_bytes())
