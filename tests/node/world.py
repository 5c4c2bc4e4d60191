"""The world outside a mesh, as `python -m ... ADDRESS... -- RECORD...`: each address serves HTTP on port 80,
and the first of them is a name server that knows the records."""

from __future__ import annotations

import asyncio
import sys

from tests.agent.dns.upstream import TinyUpstream


async def main() -> None:
    at = sys.argv.index("--")
    addresses, records = sys.argv[1:at], sys.argv[at + 1 :]
    await TinyUpstream(*records).start(addresses[0], 53)
    for address in addresses:
        await asyncio.start_server(_serve, address, 80)
    print("ready", flush=True)
    await asyncio.Event().wait()


async def _serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
    await writer.drain()
    writer.close()


if __name__ == "__main__":
    asyncio.run(main())
