"""A tour: a small shop of five services moves between kernel and Envoy as its rules change. Ends clean,
also after Ctrl-C.

Examples:
  sluice demo            the tour; nothing is left afterwards
  sluice demo --keep     leave the shop running, to go on from there
"""

from __future__ import annotations

import argparse
import signal
import types

from rich.console import Console

from sluice.demo.live_mesh import LiveMesh
from sluice.demo.screen import Screen
from sluice.demo.tour import Tour
from sluice.failure import Failure
from sluice.node import check_machine


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--name", default="demo", help="the mesh's name (%(default)s)")
    parser.add_argument("--keep", action="store_true", help="leave the mesh running at the end")


def run(options: argparse.Namespace) -> int:
    """The tour; 0 when every step showed what it promised."""
    check_machine()
    screen = Screen(Console(soft_wrap=True))
    mesh = LiveMesh(options.name, screen)
    if mesh.directory.exists():
        raise Failure(
            f"a mesh called {options.name} is here already",
            f"end it with `sluice down --name {options.name} --purge`, or choose another --name",
        )
    signal.signal(signal.SIGTERM, _interrupt)
    tour = Tour(mesh, screen)
    interrupted = False
    try:
        tour.open()
        tour.run()
    except KeyboardInterrupt:
        interrupted = True
        screen.say("\ninterrupted")
    finally:
        if options.keep and not interrupted:
            screen.say(f"The shop stays: `sluice status --name {options.name}` looks at it, and")
            screen.say(f"`sluice down --name {options.name} --purge` ends it.")
        else:
            _end(mesh, screen)
    if interrupted:
        return 130
    return 1 if screen.failed else 0


def _end(mesh: LiveMesh, screen: Screen) -> None:
    """Purges the mesh; a second Ctrl-C does not stop this half-way."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    with screen.doing("closing the shop"):
        mesh.sluice("down", "--purge")
    screen.say("Nothing is left of it on this machine.")


def _interrupt(number: int, frame: types.FrameType | None) -> None:
    raise KeyboardInterrupt
