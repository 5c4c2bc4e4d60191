"""Pinned attachments: made, adopted, given a newer program in place, and detached.

An attachment never has a gap: a link whose target is still the same only changes its program.
"""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import quote, unquote

from agent.kernel import libbpf
from agent.kernel.program import make_private


class Links:
    """The links pinned in one directory, by name (any text)."""

    def __init__(self, directory: Path) -> None:
        make_private(directory)
        self._directory = directory

    def names(self) -> set[str]:
        return {unquote(path.name) for path in self._directory.iterdir()}

    def attach(self, name: str, program: int, target: int, identity: int, attach_type: int) -> None:
        """Idempotent. `target` is what bpf_link_create takes, `identity` what the link's info will
        say of it: cgroup id, ifindex, or the namespace's inode."""
        path = self._path(name)
        link = libbpf.pinned(path)
        if link is not None:
            try:
                info = libbpf.info(link, libbpf.LinkInfo)
                if _target(info, attach_type) == identity:
                    if info.prog_id != libbpf.info(program, libbpf.ProgInfo).id:
                        libbpf.update_link(link, program, name)
                    return
            finally:
                os.close(link)
            path.unlink()
        link = libbpf.create_link(program, target, attach_type, name)
        try:
            libbpf.pin(link, path)
        finally:
            os.close(link)

    def replace(self, name: str, program: int) -> None:
        """Gives an existing link this program, without a gap."""
        link = libbpf.pinned(self._path(name))
        if link is None:
            return
        try:
            if libbpf.info(link, libbpf.LinkInfo).prog_id != libbpf.info(program, libbpf.ProgInfo).id:
                libbpf.update_link(link, program, name)
        finally:
            os.close(link)

    def detach(self, name: str) -> None:
        """Idempotent."""
        self._path(name).unlink(missing_ok=True)

    def _path(self, name: str) -> Path:
        # A BPF file system reserves dots in names.
        return self._directory / quote(name, safe="").replace(".", "%2E")


def _target(info: libbpf.LinkInfo, attach_type: int) -> int:
    target: int = info.target
    by_number = attach_type in (libbpf.TCX_INGRESS, libbpf.TCX_EGRESS, libbpf.SK_LOOKUP)
    return target & 0xFFFFFFFF if by_number else target
