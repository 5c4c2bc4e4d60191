"""The head of one HTTP request, or the beginning of one connection, as L7 rules see it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Request:
    """`path` is `:path` with its query, header names are lower case.

    `remote` is the client's address by X-Forwarded-For (empty: the peer's own), `destination` the
    address that was dialled, `sni` what the TLS hello names. `claims` are those of a token that was
    proven valid: path -> values; the principal is the claim `iss`/`sub`.
    """

    method: str = "GET"
    path: str = "/"
    authority: str = ""
    headers: tuple[tuple[str, str], ...] = ()
    remote: str = ""
    destination: str = ""
    sni: str = ""
    claims: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...] = ()

    @property
    def fields(self) -> Mapping[str, str]:
        """What header matches see: repeated ones joined by commas, the authority as `host` too."""
        found: dict[str, str] = {}
        for name, value in self.headers:
            found[name] = f"{found[name]},{value}" if name in found else value
        pseudo = {":method": self.method, ":authority": self.authority, ":scheme": "http"}
        return found | pseudo | {"host": self.authority}
