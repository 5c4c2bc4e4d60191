"""The number of the mesh's generation, which only grows, also across restarts.

A generation is new when some node's resources differ from what they were; a node remembers the
number of its own last change. Content is known by a digest, so a process that starts with the
same content goes on with the same numbers and has nothing to send.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from xds import atomic

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Stamp:
    """A node's content and the generation that brought it."""

    number: int
    digest: str


class Generations:
    """`generation.json`. A number is on disk before anybody is told of it."""

    def __init__(self, state: Path) -> None:
        self._path = state / "generation.json"
        self.number = 0
        self.nodes: dict[str, Stamp] = {}
        try:
            document = json.loads(self._path.read_bytes())
            self.nodes = {name: Stamp(int(n), str(d)) for name, (n, d) in document["nodes"].items()}
            self.number = int(document["number"])
        except FileNotFoundError:
            return
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            _LOG.error("%s is damaged, generations count from 1 again: %r", self._path, error)

    def settle(self, digests: Mapping[str, str]) -> set[str]:
        """Take in what these nodes hold now; the nodes for which that is a new generation.

        Raises OSError."""
        changed = {name for name, digest in digests.items() if self._digest(name) != digest}
        if changed:
            number = self.number + 1
            nodes = self.nodes | {name: Stamp(number, digests[name]) for name in changed}
            document = {"number": number, "nodes": {n: [s.number, s.digest] for n, s in nodes.items()}}
            atomic.write(self._path, json.dumps(document, separators=(",", ":")))
            self.number, self.nodes = number, nodes
        return changed

    def _digest(self, node: str) -> str:
        stamp = self.nodes.get(node)
        return stamp.digest if stamp else ""
