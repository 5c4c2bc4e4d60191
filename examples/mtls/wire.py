"""Reads along for three seconds in the pod that runs it, as somebody on the wire could: what the pod sends
to port 8080 of others.
"""

import socket
import struct
import time

SECONDS, PORT, ALL, OUTGOING, TCP = 3, 8080, 3, 4, 6


def parsed(packet: bytes) -> tuple[str, bytes]:
    """To whom, and the TCP segment."""
    if packet[0] >> 4 == 4 and packet[9] == TCP:
        length = int.from_bytes(packet[2:4], "big")
        return socket.inet_ntop(socket.AF_INET, packet[16:20]), packet[(packet[0] & 15) * 4 : length]
    if packet[0] >> 4 == 6 and packet[6] == TCP:
        return socket.inet_ntop(socket.AF_INET6, packet[24:40]), packet[40:]
    return "", b""


def readable(data: bytes) -> str:
    """The first line, if it is text."""
    line = data.split(b"\r\n")[0]
    return line.decode() if line.isascii() and line.decode().isprintable() else "nothing that could be read"


def main() -> None:
    end = time.monotonic() + SECONDS
    with socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(ALL)) as taken:
        taken.bind(("eth0", ALL))
        while (left := end - time.monotonic()) > 0:
            taken.settimeout(left)
            try:
                packet, (_, _, kind, *_) = taken.recvfrom(65536)
            except TimeoutError:
                return
            peer, segment = parsed(packet)
            if kind != OUTGOING or not segment or struct.unpack_from("!H", segment, 2)[0] != PORT:
                continue
            if data := segment[(segment[12] >> 4) * 4 :]:
                print(f"{len(data)} bytes to {peer}: {readable(data)}", flush=True)


main()
