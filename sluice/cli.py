"""The `sluice` command: which commands there are, and how every one of them ends.

Exit status 0: done; 1: failed, with one line on stderr; 2: wrong usage. A command's module is
imported when it is used, so that `--help` and `exec` start at once.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence

from sluice.failure import Failure

COMMANDS = {
    "doctor": "what this machine offers, and what it lacks",
    "up": "start a mesh on this machine",
    "down": "stop a mesh; --purge removes all of it",
    "apply": "create or change objects of a running mesh",
    "delete": "delete objects of a running mesh",
    "register": "a machine outside, by its WorkloadGroup",
    "get": "stored objects, with the status that the mesh gives them",
    "status": "generation, pods, their proxies, problems",
    "exec": "run a command inside a pod",
    "logs": "what a pod's containers printed",
    "explain": "what would happen to a connection, and why",
    "matrix": "who can reach whom on what: table, JSON or picture",
    "analyze": "traps in policies, routes and Services",
    "diff": "what applying manifests would change",
    "render": "what Envoy and the kernel are told",
    "observe": "the connections and requests that were seen",
    "describe": "a pod or a Service: what binds it, and where each rule is enforced",
    "proxy-config": "what a pod's Envoy has, as it says itself",
    "proxy-status": "does each Envoy have what it was sent, and what did it refuse",
    "trace": "a look into the kernel: connect times, round trips and resets, drops",
    "metrics": "Istio's standard metrics of pods, and those of the agent",
    "demo": "a tour with a small shop",
}

#: Second names, which are istioctl's.
ALIASES = {"describe": ("des",), "proxy-config": ("pc",), "proxy-status": ("ps",)}

_EPILOG = """\
Start here:
  sluice doctor
  sluice up -f shop.yaml --detach
  sluice status --wait
  sluice exec shop/web -- curl http://catalog:8080/
  sluice observe --last 5
  sluice down --purge
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit status."""
    argv = list(sys.argv[1:] if arguments is None else arguments)
    options, unknown = _parser(argv).parse_known_args(argv)
    if unknown:
        # By itself argparse would show how to use `sluice`, not the command.
        options.wrong_usage(f"unrecognized arguments: {' '.join(unknown)}")
    try:
        status: int = options.run(options)
        sys.stdout.flush()
        return status
    except Failure as failure:
        return _fail(str(failure))
    except BrokenPipeError:
        # Whoever read our output has seen enough; Python must not complain of it at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        return 130
    except OSError as error:
        return _fail(f"{error.filename}: {error.strerror}" if error.filename else str(error))
    except Exception as error:
        if os.environ.get("SLUICE_TRACEBACK"):
            raise
        hint = "this is a fault of ours; SLUICE_TRACEBACK=1 shows where"
        return _fail(f"{type(error).__name__}: {error}; {hint}")


def _parser(argv: Sequence[str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="sluice",
        description="A service mesh in which a connection meets a proxy only when a rule needs one.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, summary in COMMANDS.items():
        aliases = ALIASES.get(name, ())
        command = commands.add_parser(
            name, aliases=aliases, help=summary, formatter_class=argparse.RawDescriptionHelpFormatter
        )
        if not {name, *aliases}.isdisjoint(argv):
            module = importlib.import_module(f"sluice.commands.{name.replace('-', '_')}")
            command.description = module.__doc__
            command.set_defaults(run=module.run, wrong_usage=command.error)
            module.configure(command)
    return parser


def _fail(line: str) -> int:
    print(f"sluice: {line}", file=sys.stderr)
    return 1
