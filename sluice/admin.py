"""Questions to a running mesh over its Unix sockets, as the command line asks them: one at a time."""

from __future__ import annotations

import http.client
import json
import socket
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from sluice.failure import Failure
from sluice.mesh_directory import MeshDirectory, mesh_names
from sluice.supervisor_lock import supervisor_pid

#: Seconds for which a part that is being restarted is waited for.
_RESTART_PATIENCE = 5.0


class Refused(Failure):
    """The mesh answered that it will not, or cannot; `status` is the HTTP status."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


class Admin:
    """One part of a mesh: its control plane or its agent."""

    def __init__(self, mesh: MeshDirectory, socket_path: Path, what: str) -> None:
        self._mesh = mesh
        self._socket = socket_path
        self._what = what

    @classmethod
    def of_control_plane(cls, mesh: MeshDirectory) -> Admin:
        return cls(mesh, mesh.control_plane_admin, "control plane")

    @classmethod
    def of_agent(cls, mesh: MeshDirectory) -> Admin:
        return cls(mesh, mesh.agent_admin, "agent")

    def get(self, path: str, query: Query = (), timeout: float = 30.0) -> Any:
        """The JSON of an answer. Failure when the part is not there, Refused for an error."""
        return _decoded(self._ask("GET", path, query, None, timeout))

    def post(self, path: str, body: bytes, query: Query = (), timeout: float = 60.0) -> Any:
        return _decoded(self._ask("POST", path, query, body, timeout))

    def lines(self, path: str, query: Query = ()) -> Iterator[bytes]:
        """The lines of an answer as they come, without a limit of time."""
        answer = self._ask("GET", path, query, None, None)
        if answer.status != 200:
            _decoded(answer)
        while line := answer.readline():
            yield line

    def _ask(
        self, method: str, path: str, query: Query, body: bytes | None, timeout: float | None
    ) -> http.client.HTTPResponse:
        target = f"{path}?{urlencode(query)}" if query else path
        deadline = time.monotonic() + _RESTART_PATIENCE
        while True:
            connection = UnixConnection(self._socket, timeout or 10.0)
            try:
                connection.connect()
            except (FileNotFoundError, ConnectionRefusedError) as error:
                # A supervised part that is away is back in a moment.
                if supervisor_pid(self._mesh) is None or time.monotonic() > deadline:
                    raise self._absent() from error
                time.sleep(0.05)
                continue
            except PermissionError:
                raise Failure(f"no permission to talk to mesh {self._mesh.name}", "use sudo") from None
            try:
                connection.sock.settimeout(timeout)
                connection.request(method, target, body)
                return connection.getresponse()
            except TimeoutError:
                raise Failure(f"the {self._what} of mesh {self._mesh.name} does not answer") from None
            except (http.client.HTTPException, ConnectionError) as error:
                # Asked twice is as asked once, but that a second delete finds nothing.
                if path == "/delete" or time.monotonic() > deadline:
                    raise Failure(f"the {self._what} ended while it was asked: {error}") from None
                time.sleep(0.05)

    def _absent(self) -> Failure:
        name = self._mesh.name
        if supervisor_pid(self._mesh) is None:
            running = [other for other in mesh_names() if supervisor_pid(MeshDirectory(other)) is not None]
            others = f"of those that run ({', '.join(running)}) choose one by --name or SLUICE_MESH"
            remedy = others if running else f"sluice up --name {name} -f PATH"
            return Failure(f"mesh {name} is not running", remedy)
        part = "xds" if self._what == "control plane" else "agent"
        return Failure(f"the {self._what} of mesh {name} is not there", f"see {self._mesh.logs}/{part}.log")


Query = Mapping[str, str] | tuple[tuple[str, str], ...]


def _decoded(answer: http.client.HTTPResponse) -> Any:
    try:
        text = answer.read()
    except (http.client.HTTPException, ConnectionError) as error:
        raise Failure(f"an answer was cut off: {error!r}") from None
    except TimeoutError:
        raise Failure("an answer did not come in time") from None
    try:
        content = json.loads(text)
    except ValueError:
        raise Refused(answer.status, text.decode(errors="replace").strip()) from None
    if answer.status >= 400:
        message = content.get("error") if isinstance(content, dict) else None
        raise Refused(answer.status, message or f"HTTP status {answer.status}")
    return content
