"""A request of the past, as far as Envoy logged it: method, path and authority. Who asks for its other
headers or for its token gets `Untold`, so that no verdict is made of what nobody knows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NoReturn

from mesh.answers.flow import Request as Logged
from mesh.request import Request


class Untold(Exception):
    """A verdict depends on what was not logged."""


class _LoggedRequest(Request):
    __slots__ = ()

    @property
    def fields(self) -> Mapping[str, str]:
        return _Head(Request(self.method, self.path, self.authority).fields)


class _Head(Mapping[str, str]):
    def __init__(self, known: Mapping[str, str]) -> None:
        self._known = known

    def __getitem__(self, name: str) -> str:
        if name not in self._known:
            raise Untold(name)
        return self._known[name]

    def __iter__(self) -> Iterator[str]:
        raise Untold

    def __len__(self) -> int:
        raise Untold


class _Unlogged(tuple[Any, ...]):
    __slots__ = ()

    def __iter__(self) -> NoReturn:
        raise Untold


def logged_request(logged: Logged) -> Request:
    """For questions of one call: looking into it may raise Untold."""
    return _LoggedRequest(logged.method, logged.path, logged.authority, _Unlogged(), claims=_Unlogged())
