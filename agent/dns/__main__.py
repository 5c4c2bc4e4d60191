"""`python -m agent.dns`: the resolver of a mesh. It listens once it knows records and policy, and answers
until it is killed; the next one goes on with what this one learned."""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
from pathlib import Path

from agent.dns.files import Document
from agent.dns.following import Following
from agent.dns.learning import Learning
from agent.dns.policy import Policy
from agent.dns.resolver import Resolver
from agent.dns.server import Server
from agent.dns.telling import Limit, Teller
from agent.dns.upstream import Server as UpstreamServer
from agent.dns.upstream import Upstream
from agent.dns.zone import Authority
from mesh.dns import ENFORCED, FLOWS, LEARNED, POLICY, RECORDS

log = logging.getLogger("agent.dns")

#: Seconds between looks for what must be known before the first question.
_LOOK = 0.05


def main() -> int:
    """Run until the process is ended; 1 if it cannot begin."""
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(Limit())
    logging.basicConfig(
        handlers=[handler], level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    options = _parser().parse_args()
    try:
        asyncio.run(_run(options))
    except OSError as error:
        log.error("start the resolver failed: %s", error)
        return 1
    return 0


async def _run(options: argparse.Namespace) -> None:
    options.state.mkdir(parents=True, exist_ok=True)
    options.run.mkdir(parents=True, exist_ok=True)
    zone = Document(options.run / RECORDS, Authority.from_json)
    policy = Document(options.run / POLICY, Policy.from_json)
    servers = options.upstream or machine_servers(Path("/etc/resolv.conf"))
    learning = Learning(
        options.state / LEARNED, options.run / ENFORCED, options.minimum_ttl, options.patience
    )
    teller = Teller(options.run / FLOWS)
    resolver = Resolver(zone, policy, Upstream(servers), learning, teller.tell)
    server = Server(resolver)
    while zone.read() is None or policy.read() is None:
        await asyncio.sleep(_LOOK)
    addresses = [address for group in options.listen for address in group.split(",")]
    await server.listen(addresses, options.port)
    upstreams = ", ".join(map(str, servers)) or "none"
    log.info("listening on %s port %d; upstreams: %s", " ".join(addresses), options.port, upstreams)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(learning.run())
        tasks.create_task(Following(zone, resolver, learning).run())


def machine_servers(resolv_conf: Path) -> list[UpstreamServer]:
    """The name servers of a resolv.conf(5); none where there is no such file."""
    try:
        lines = resolv_conf.read_text().splitlines()
    except FileNotFoundError:
        return []
    words = [line.split() for line in lines]
    return [UpstreamServer(found[1]) for found in words if len(found) > 1 and found[0] == "nameserver"]


def _server(text: str) -> UpstreamServer:
    address, bracket, port = text.rpartition("]:")
    if bracket:
        return UpstreamServer(address.removeprefix("["), int(port))
    if text.count(":") == 1:
        address, _, port = text.partition(":")
        return UpstreamServer(address, int(port))
    return UpstreamServer(text)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m agent.dns", description="The resolver of a Sluice mesh.")
    parser.add_argument("--run", required=True, type=Path, help="records and policy, written by others")
    parser.add_argument("--state", required=True, type=Path, help="what is learned")
    parser.add_argument(
        "--listen", required=True, nargs="+", metavar="ADDRESS", help="own addresses; commas may join them"
    )
    parser.add_argument("--port", type=int, default=53)
    parser.add_argument(
        "--upstream",
        type=_server,
        nargs="+",
        metavar="ADDRESS[:PORT]",
        help="who knows all other names; else those of /etc/resolv.conf",
    )
    parser.add_argument(
        "--minimum-ttl",
        type=float,
        default=3600,
        metavar="SECONDS",
        help="how long a learned address is good at least (default: %(default)s)",
    )
    parser.add_argument(
        "--patience",
        type=float,
        default=2,
        metavar="SECONDS",
        help="how long an answer waits for its addresses to be enforced (default: %(default)s)",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
