"""aiohttp sessions to the mesh's Unix sockets, for the supervisor. The command line uses `admin`."""

from __future__ import annotations

from pathlib import Path

import aiohttp


def unix_session(socket: Path, timeout: float) -> aiohttp.ClientSession:
    """A session whose every request goes to `socket`; `timeout` is seconds for a whole request."""
    return aiohttp.ClientSession(
        "http://localhost",
        connector=aiohttp.UnixConnector(path=str(socket)),
        timeout=aiohttp.ClientTimeout(total=timeout),
    )
