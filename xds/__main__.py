"""`python -m xds`: the control plane as a process.

Wires sources, pipeline, discovery server and admin together, and says on stderr what happens, one
line an event. Killed at any moment it starts again with the same content and numbers; SIGTERM is
not different from SIGKILL but for the exit status.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from mesh.change import Change
from mesh.discovery.resource import Snapshot
from mesh.dns import FOLDER, LEARNED, RECORDS
from xds import garbage
from xds.admin import Admin
from xds.allocations import Locked, lock
from xds.allowed import Allowed
from xds.health import checkups
from xds.jwks import FetchedKeys, ask
from xds.modules import FetchedModules
from xds.modules import ask as modules_ask
from xds.pipeline import Pipeline
from xds.render import preload
from xds.resolver import LearnedSource, RecordsFile
from xds.sandbox import sandboxes
from xds.server import AdsServer
from xds.source import FileSource, Source
from xds.status import NODE_PREFIX, Status, node_of
from xds.tracing import seen

_LOG = logging.getLogger("xds")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run until a signal; 0 then, 1 with one line on stderr when it cannot start."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(
        stream=sys.stderr, level=logging.INFO, format=f"%(asctime)s {options.name} %(name)s: %(message)s"
    )
    try:
        asyncio.run(_serve(options))
    except (OSError, ValueError, Locked) as error:
        print(f"xds: {error}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m xds", description="The control plane of a Sluice mesh.")
    parser.add_argument("--name", required=True, help="the mesh's name, for logs and process lists")
    parser.add_argument("--state", required=True, type=Path, help="folder of what must be remembered")
    parser.add_argument("--run", required=True, type=Path, help="folder of xds.sock and xds-admin.sock")
    parser.add_argument("--node", default="local", help="the node whose pods run here (default: local)")
    parser.add_argument(
        "--listen",
        nargs="+",
        default=[],
        metavar="ADDRESS",
        help="serve discovery here too: host:port or unix:/path",
    )
    parser.add_argument(
        "-f",
        "--file",
        action="append",
        nargs="+",
        default=[],
        type=Path,
        metavar="PATH",
        help="manifests: a file or a folder, watched",
    )
    parser.add_argument(
        "--node-address",
        action="append",
        default=[],
        metavar="ADDRESS",
        help="an address of the node itself, which reaches its own pods; repeatable",
    )
    parser.add_argument(
        "--service-cidr",
        default="10.128.0.0/16,fd51:ce00:0:2::/112",
        metavar="V4,V6",
        help="where addresses of Services come from (default: %(default)s)",
    )
    parser.add_argument(
        "--identity-labels",
        nargs="+",
        default=[],
        metavar="EXPRESSION",
        help="which labels of a Pod policies can know, beside the defaults: expressions that match from the "
        "start of a key, ! before those to leave out; with one that is not left out, only such count",
    )
    parser.add_argument(
        "--jwks-allow",
        action="append",
        default=[],
        metavar="CIDR|HOST",
        help="fetch keys of RequestAuthentications from here, too, and not only from public addresses; "
        "repeatable",
    )
    parser.add_argument(
        "--wasm-allow",
        action="append",
        default=[],
        metavar="CIDR|HOST",
        help="fetch modules of WasmPlugins from here, too, and not only from public addresses; repeatable",
    )
    parser.add_argument(
        "--wasm-folder",
        type=Path,
        metavar="FOLDER",
        help="read modules of WasmPlugins (file:///FOLDER/...) below this folder; without it none",
    )
    return parser


async def _serve(options: argparse.Namespace) -> None:
    options.run.mkdir(parents=True, exist_ok=True)
    lock(options.state)
    server: AdsServer
    work = seen(options.name)
    pipeline = Pipeline(
        options.state,
        options.node,
        options.service_cidr.split(","),
        options.node_address,
        publish=lambda node: server.publish(NODE_PREFIX + node),
        identity_labels=options.identity_labels,
        follow=lambda change: follow(change),
        work=work,
    )
    records = RecordsFile(options.run / FOLDER / RECORDS, pipeline.mesh)
    allowed = Allowed.of(options.jwks_allow)
    keys = FetchedKeys(options.state / "jwks", pipeline.mesh, lambda source: ask(source, allowed))

    welcome = Allowed.of(options.wasm_allow, "--wasm-allow")
    modules = FetchedModules(
        options.state / "wasm",
        pipeline.mesh,
        lambda source: modules_ask(source, welcome, options.wasm_folder),
    )

    def follow(change: Change) -> None:
        records.follow(change)
        keys.follow(change)
        modules.follow(change)

    paths = [path for group in options.file for path in group]
    sources: list[Source] = [
        sandboxes(options.state / "sandboxes"),
        checkups(options.state / "health"),
        LearnedSource(options.state / FOLDER / LEARNED),
        keys,
        modules,
        FileSource(paths, pipeline.bundles.digests),
    ]
    pipeline.start(change for source in sources for change in source.initial())

    def snapshot_for(node_id: str) -> Snapshot | None:
        node = node_of(node_id)
        return pipeline.snapshot_for(node) if node is not None else None

    status = Status(pipeline, lambda node, type_url: server.accepted(node, type_url), work.applied)
    server = AdsServer(snapshot_for, status.observe)
    admin = Admin(pipeline, status)
    await server.start([f"unix:{options.run / 'xds.sock'}", *options.listen])
    await admin.start(options.run / "xds-admin.sock")
    _LOG.info(
        "serving generation %d: %d objects, %d problems",
        pipeline.generations.number,
        len(pipeline.store.refs()),
        len(pipeline.problems),
    )
    garbage.settle()
    threading.Thread(target=preload, daemon=True).start()
    await _until_signal(pipeline, sources)
    await admin.stop()
    await server.stop()


async def _until_signal(pipeline: Pipeline, sources: Sequence[Source]) -> None:
    """Run the loops. One that fails ends the process: a supervisor starts it afresh."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    tasks = [asyncio.create_task(pipeline.run()), *(asyncio.create_task(_feed(pipeline, s)) for s in sources)]
    stopped = asyncio.create_task(stop.wait())
    done, pending = await asyncio.wait([stopped, *tasks], return_when=asyncio.FIRST_COMPLETED)
    for task in pending:
        task.cancel()
    await asyncio.gather(*pending, return_exceptions=True)
    for task in done:
        task.result()


async def _feed(pipeline: Pipeline, source: Source) -> None:
    async for changes in source.changes():
        pipeline.offer(changes)


if __name__ == "__main__":
    sys.exit(main())
