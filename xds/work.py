"""What the control plane does for one change, step by step, for whoever wants to see it. Knows no
OpenTelemetry.

`UNSEEN` sees nothing and costs nothing; `xds.tracing` makes a trace of each generation.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol


class Work(Protocol):
    """Told in the order in which it happens."""

    def begin(self, since: int) -> None:
        """Changes are taken up of which the first came at `since`, nanoseconds since the epoch."""

    def step(self, name: str) -> AbstractContextManager[None]:
        """One thing that is done, while the context lasts."""

    def published(self, number: int, trace: str, what: str, nodes: Iterable[str]) -> None:
        """It has become a generation, of which these nodes must hear. Without this it came to nothing."""

    def applied(self, node: str, number: int) -> None:
        """A node says that this generation is in force there, and so everything before it."""


class _Unseen:
    """Nobody looks."""

    def begin(self, since: int) -> None:
        pass

    def step(self, name: str) -> AbstractContextManager[None]:
        return nullcontext()

    def published(self, number: int, trace: str, what: str, nodes: Iterable[str]) -> None:
        pass

    def applied(self, node: str, number: int) -> None:
        pass


UNSEEN: Work = _Unseen()
