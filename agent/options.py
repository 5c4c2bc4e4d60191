"""What an agent is told at its start, and where it keeps things."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mesh.dns import FOLDER


@dataclass(frozen=True, slots=True)
class Options:
    """One node's agent. `cgroup` is the mesh's own cgroup2 folder, `pin` its folder on bpffs."""

    name: str
    state: Path
    run: Path
    pin: Path
    cgroup: Path
    node: str
    control_plane: str
    envoy: Path

    @property
    def sandboxes(self) -> Path:
        return self.state / "sandboxes"

    @property
    def last_good(self) -> Path:
        return self.state / "agent" / "last-good"

    @property
    def resolver(self) -> Path:
        """What the mesh's resolver is told."""
        return self.run / FOLDER

    @property
    def logs(self) -> Path:
        return self.state / "logs"

    @property
    def admin(self) -> Path:
        return self.run / "agent-admin.sock"
