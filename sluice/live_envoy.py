"""The Envoy of one pod, asked for what it has at its own admin socket, which only root may open.

Where the socket is the agent says; the answers are Envoy's, untouched.
"""

from __future__ import annotations

import http.client
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mesh.model import WorkloadName
from sluice.admin import Admin, UnixConnection
from sluice.failure import Failure
from sluice.mesh_directory import MeshDirectory
from sluice.text_table import few

#: What is said of a pod that has no Envoy.
UNSTEERED = "kernel path, nothing steers"

#: Seconds for an answer: of a large mesh a dump has many megabytes.
_PATIENCE = 30.0


@dataclass(frozen=True, slots=True)
class LiveEnvoy:
    """Every question raises Failure when Envoy does not answer, or says that it cannot."""

    pod: WorkloadName
    admin: Path

    def config_dump(self) -> dict[str, Any]:
        """All of its configuration, endpoints included."""
        return self._json("/config_dump?include_eds")

    def clusters(self) -> dict[str, Any]:
        """The state of clusters and their endpoints."""
        return self._json("/clusters?format=json")

    def logging(self, query: str) -> str:
        """Its log levels, after `query` (of Envoy's `/logging`) has changed some."""
        return self._ask("POST", f"/logging{query}")

    def _json(self, target: str) -> dict[str, Any]:
        try:
            found: dict[str, Any] = json.loads(self._ask("GET", target))
        except ValueError as error:
            raise Failure(f"read {target} of the Envoy of pod {self.pod} failed: {error}") from None
        return found

    def _ask(self, method: str, target: str) -> str:
        connection = UnixConnection(self.admin, _PATIENCE)
        try:
            connection.request(method, target)
            answer = connection.getresponse()
            text = answer.read().decode(errors="replace")
        except (OSError, http.client.HTTPException) as error:
            raise Failure(
                f"ask the Envoy of pod {self.pod} for {target} failed: {error}",
                "it may just have ended; try again",
            ) from None
        finally:
            connection.close()
        if answer.status != 200:
            said = text.strip().partition("\n")[0]
            raise Failure(f"the Envoy of pod {self.pod} answers {target} with {answer.status}: {said}")
        return text


def envoy_of(mesh: MeshDirectory, pod: WorkloadName) -> LiveEnvoy | None:
    """The pod's Envoy; None where it needs none. Failure without such a pod, or if its Envoy does not run."""
    found = next((entry for entry in Admin.of_agent(mesh).get("/proxies") if entry["pod"] == str(pod)), None)
    if found is None:
        raise Failure(f"mesh {mesh.name} runs no pod {pod}", "`sluice status` names those it runs")
    if found["admin"]:
        return LiveEnvoy(pod, Path(found["admin"]))
    if not found["reasons"]:
        return None
    why = found["error"] or f"it is wanted for {few(found['reasons'])}"
    raise Failure(f"the Envoy of pod {pod} does not run: {why}", "`sluice logs agent` says more")
